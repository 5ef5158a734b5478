//! Names of networks, such as `Osaka` or `PragueToOsakaAtTime15k`, as chain specifications.

use crate::{devnet, fixture::Config};
use alloy_eips::{
    eip4844::BLOB_TX_MIN_BLOB_GASPRICE, eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS,
    eip7840::BlobParams,
};
use alloy_genesis::ChainConfig;
use alloy_primitives::U256;
use multilane::state::ChainSpec;

/// The timestamp, in seconds, that `AtTime15k` stands for.
const TRANSITION_TIME: u64 = 15_000;

/// The forks in order, by the names that the tests use.
const FORKS: [&str; 20] = [
    "Frontier",
    "Homestead",
    "EIP150",
    "EIP158",
    "Byzantium",
    "ConstantinopleFix",
    "Istanbul",
    "Berlin",
    "London",
    "Paris",
    "Shanghai",
    "Cancun",
    "Prague",
    "Osaka",
    "BPO1",
    "BPO2",
    "BPO3",
    "BPO4",
    "BPO5",
    "Amsterdam",
];

/// The chain on which a test plays.
pub(crate) fn chain_spec(config: &Config) -> Result<ChainSpec, String> {
    let unknown = || format!("the network \"{}\" is not known", config.network);
    let position = |name| FORKS.iter().position(|fork| *fork == name).ok_or_else(unknown);
    let (from, to) = match config.network.strip_suffix("AtTime15k") {
        Some(transition) => {
            let (from, to) = transition.split_once("To").ok_or_else(unknown)?;
            (position(from)?, Some(position(to)?))
        }
        None => (position(&config.network)?, None),
    };
    // A chain need not have every blob-parameter fork that lies before its latest fork.
    let active = |name: &str| {
        let index = FORKS.iter().position(|fork| *fork == name);
        let scheduled = !name.starts_with("BPO") || config.blob_schedule.contains_key(name);
        index.is_some_and(|index| index <= from) && scheduled
    };
    let block = |name| active(name).then_some(0);
    let time = |name| match to {
        Some(to) if FORKS[to] == name => Some(TRANSITION_TIME),
        _ => active(name).then_some(0),
    };

    let mut genesis = ChainConfig {
        chain_id: config.chainid.to(),
        homestead_block: block("Homestead"),
        eip150_block: block("EIP150"),
        eip155_block: block("EIP158"),
        eip158_block: block("EIP158"),
        byzantium_block: block("Byzantium"),
        constantinople_block: block("ConstantinopleFix"),
        petersburg_block: block("ConstantinopleFix"),
        istanbul_block: block("Istanbul"),
        berlin_block: block("Berlin"),
        london_block: block("London"),
        terminal_total_difficulty: active("Paris").then_some(U256::ZERO),
        shanghai_time: time("Shanghai"),
        cancun_time: time("Cancun"),
        prague_time: time("Prague"),
        osaka_time: time("Osaka"),
        bpo1_time: time("BPO1"),
        bpo2_time: time("BPO2"),
        bpo3_time: time("BPO3"),
        bpo4_time: time("BPO4"),
        bpo5_time: time("BPO5"),
        amsterdam_time: time("Amsterdam"),
        deposit_contract_address: Some(MAINNET_DEPOSIT_CONTRACT_ADDRESS),
        ..ChainConfig::default()
    };
    for (fork, schedule) in &config.blob_schedule {
        let max_blob_count = schedule.max.to();
        let params = BlobParams {
            target_blob_count: schedule.target.to(),
            max_blob_count,
            update_fraction: schedule.base_fee_update_fraction.to(),
            min_blob_fee: BLOB_TX_MIN_BLOB_GASPRICE,
            max_blobs_per_tx: max_blob_count,
            blob_base_cost: 0,
        };
        genesis.blob_schedule.insert(fork.clone(), params);
    }
    ChainSpec::from_config(&genesis)
        .map(|chain| chain.with_evm_rules(devnet::rules))
        .map_err(|error| error.to_string())
}

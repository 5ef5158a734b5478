//! Which rules apply to which block of a chain.

use crate::StateError;
use alloy_consensus::Header;
use alloy_eips::{eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS, eip7840::BlobParams};
use alloy_evm::{EvmEnv, eth::spec::EthExecutorSpec};
use alloy_genesis::ChainConfig;
use alloy_hardforks::{EthereumChainHardforks, EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::{Address, U256};
use revm::{context::CfgEnv, primitives::hardfork::SpecId};

/// A chain's id, fork schedule, blob schedule and deposit contract.
///
/// [`ChainSpec::mainnet`] covers every Ethereum block including the blob-parameter forks
/// (EIP-7892); any other chain comes from the `config` object of its genesis JSON.
#[derive(Clone, Debug)]
pub struct ChainSpec {
    chain_id: u64,
    hardforks: EthereumChainHardforks,
    deposit_contract: Option<Address>,
    /// Blob parameters by the fork that brings them, latest fork first.
    blob_schedule: Vec<(EthereumHardfork, BlobParams)>,
    /// Where the EVM departs from Ethereum's.
    evm_rules: Option<EvmRules>,
}

/// Changes the EVM's configuration for a block.
type EvmRules = fn(&Header, &mut CfgEnv<SpecId>);

impl ChainSpec {
    /// Ethereum mainnet, chain id 1.
    pub fn mainnet() -> Self {
        Self {
            chain_id: 1,
            hardforks: EthereumChainHardforks::mainnet(),
            deposit_contract: Some(MAINNET_DEPOSIT_CONTRACT_ADDRESS),
            blob_schedule: default_blob_schedule(),
            evm_rules: None,
        }
    }

    /// The chain that a genesis `config` object describes, in geth's form.
    ///
    /// A fork that the config does not name never activates. `blobSchedule` entries override the
    /// values that Ethereum mainnet uses for the same fork.
    ///
    /// # Errors
    ///
    /// [`StateError::ChainConfig`] if a blob-parameter fork has a time but no `blobSchedule` entry
    /// and no well-known parameters.
    pub fn from_config(config: &ChainConfig) -> Result<Self, StateError> {
        use EthereumHardfork as Fork;
        let block = |number: Option<u64>| number.map_or(ForkCondition::Never, ForkCondition::Block);
        let time = |time: Option<u64>| time.map_or(ForkCondition::Never, ForkCondition::Timestamp);
        let dao = config.dao_fork_block.filter(|_| config.dao_fork_support);
        let paris = match config.terminal_total_difficulty {
            // With difficulty zero every block after genesis is a proof-of-stake block. The block
            // number is what execution asks for; a chain that merges later names its
            // `mergeNetsplitBlock`.
            Some(total_difficulty) => ForkCondition::TTD {
                activation_block_number: config
                    .merge_netsplit_block
                    .unwrap_or(if total_difficulty == U256::ZERO { 0 } else { u64::MAX }),
                fork_block: config.merge_netsplit_block,
                total_difficulty,
            },
            None => block(config.merge_netsplit_block),
        };
        let hardforks = EthereumChainHardforks::new([
            (Fork::Frontier, ForkCondition::Block(0)),
            (Fork::Homestead, block(config.homestead_block)),
            (Fork::Dao, block(dao)),
            (Fork::Tangerine, block(config.eip150_block)),
            (Fork::SpuriousDragon, block(config.eip155_block.max(config.eip158_block))),
            (Fork::Byzantium, block(config.byzantium_block)),
            (Fork::Constantinople, block(config.constantinople_block)),
            (Fork::Petersburg, block(config.petersburg_block.or(config.constantinople_block))),
            (Fork::Istanbul, block(config.istanbul_block)),
            (Fork::MuirGlacier, block(config.muir_glacier_block)),
            (Fork::Berlin, block(config.berlin_block)),
            (Fork::London, block(config.london_block)),
            (Fork::ArrowGlacier, block(config.arrow_glacier_block)),
            (Fork::GrayGlacier, block(config.gray_glacier_block)),
            (Fork::Paris, paris),
            (Fork::Shanghai, time(config.shanghai_time)),
            (Fork::Cancun, time(config.cancun_time)),
            (Fork::Prague, time(config.prague_time)),
            (Fork::Osaka, time(config.osaka_time)),
            (Fork::Bpo1, time(config.bpo1_time)),
            (Fork::Bpo2, time(config.bpo2_time)),
            (Fork::Bpo3, time(config.bpo3_time)),
            (Fork::Bpo4, time(config.bpo4_time)),
            (Fork::Bpo5, time(config.bpo5_time)),
            (Fork::Amsterdam, time(config.amsterdam_time)),
        ]);

        let mut blob_schedule = default_blob_schedule();
        for (name, params) in &config.blob_schedule {
            let fork: EthereumHardfork = name.parse().map_err(|_| {
                StateError::ChainConfig(format!("blobSchedule names the unknown fork \"{name}\""))
            })?;
            // The genesis form has no per-transaction limit nor reserve price: those two come with
            // Osaka (EIP-7594, EIP-7918) and hold for every later fork.
            let params = if fork >= Fork::Osaka {
                let osaka = BlobParams::osaka();
                params
                    .with_max_blobs_per_tx(osaka.max_blobs_per_tx)
                    .with_blob_base_cost(osaka.blob_base_cost)
            } else {
                *params
            };
            blob_schedule.retain(|(known, _)| *known != fork);
            blob_schedule.push((fork, params));
        }
        for fork in EthereumHardfork::bpo_variants() {
            let scheduled = hardforks.ethereum_fork_activation(*fork) != ForkCondition::Never;
            if scheduled && !blob_schedule.iter().any(|(known, _)| known == fork) {
                return Err(StateError::ChainConfig(format!(
                    "{fork} has an activation time but no blobSchedule entry"
                )));
            }
        }
        blob_schedule.sort_by_key(|(fork, _)| core::cmp::Reverse(*fork));

        Ok(Self {
            chain_id: config.chain_id,
            hardforks,
            deposit_contract: config.deposit_contract_address,
            blob_schedule,
            evm_rules: None,
        })
    }

    /// Lets `rules` change the EVM's configuration of every block, by its header: its gas table, its
    /// limits, the parts of a fork that are switched on. For drafts of forks, and chains with rules
    /// of their own.
    #[must_use]
    pub const fn with_evm_rules(mut self, rules: fn(&Header, &mut CfgEnv<SpecId>)) -> Self {
        self.evm_rules = Some(rules);
        self
    }

    /// EIP-155 chain id.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The blob parameters in force at a timestamp in seconds, or `None` before Cancun.
    pub fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        self.blob_schedule
            .iter()
            .find(|(fork, _)| self.is_ethereum_fork_active_at_timestamp(*fork, timestamp))
            .map(|(_, params)| *params)
    }

    /// The execution environment of a block: revm's configuration and block environment.
    pub fn evm_env(&self, header: &Header) -> EvmEnv<SpecId> {
        let blob_params = self.blob_params(header.timestamp);
        let mut env = EvmEnv::for_eth_block(header, self, self.chain_id, blob_params);
        if let Some(change) = self.evm_rules {
            change(header, &mut env.cfg_env);
        }
        env
    }

    /// The rules in force at a block.
    pub fn spec_id(&self, header: &Header) -> SpecId {
        alloy_evm::spec(self, header)
    }
}

/// The blob parameters that Ethereum mainnet uses, latest fork first.
fn default_blob_schedule() -> Vec<(EthereumHardfork, BlobParams)> {
    vec![
        (EthereumHardfork::Bpo2, BlobParams::bpo2()),
        (EthereumHardfork::Bpo1, BlobParams::bpo1()),
        (EthereumHardfork::Osaka, BlobParams::osaka()),
        (EthereumHardfork::Prague, BlobParams::prague()),
        (EthereumHardfork::Cancun, BlobParams::cancun()),
    ]
}

impl EthereumHardforks for ChainSpec {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        self.hardforks.ethereum_fork_activation(fork)
    }
}

impl EthExecutorSpec for ChainSpec {
    fn deposit_contract_address(&self) -> Option<Address> {
        self.deposit_contract
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mainnet_blob_parameters_follow_the_forks() {
        let mainnet = ChainSpec::mainnet();
        let fraction = |timestamp| mainnet.blob_params(timestamp).map(|p| p.update_fraction);
        assert_eq!(fraction(1_710_338_134), None);
        assert_eq!(fraction(1_710_338_135), Some(3_338_477));
        assert_eq!(fraction(1_746_612_311), Some(5_007_716));
        assert_eq!(fraction(1_764_798_551), Some(5_007_716));
        assert_eq!(fraction(1_765_290_071), Some(8_346_193));
        assert_eq!(fraction(1_767_747_671), Some(11_684_671));
    }

    #[test]
    fn genesis_config_gives_the_schedule_it_names() {
        let config: ChainConfig = serde_json::from_str(
            r#"{"chainId": 31337, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
                "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0,
                "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0,
                "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
                "shanghaiTime": 0, "cancunTime": 100, "pragueTime": 200,
                "blobSchedule": {"prague": {"target": 7, "max": 10, "baseFeeUpdateFraction": 42}}}"#,
        )
        .unwrap();
        let chain = ChainSpec::from_config(&config).unwrap();
        let spec_at =
            |timestamp| chain.spec_id(&Header { number: 1, timestamp, ..Header::default() });
        assert_eq!(chain.chain_id(), 31337);
        assert_eq!(spec_at(99), SpecId::SHANGHAI);
        assert_eq!(spec_at(100), SpecId::CANCUN);
        assert_eq!(spec_at(200), SpecId::PRAGUE);
        assert_eq!(chain.blob_params(99), None);
        assert_eq!(chain.blob_params(200).unwrap().update_fraction, 42);
    }

    #[test]
    fn an_unknown_blob_fork_is_an_error() {
        let config: ChainConfig = serde_json::from_str(
            r#"{"chainId": 1, "bpo4Time": 5, "osakaTime": 1, "pragueTime": 1, "cancunTime": 1}"#,
        )
        .unwrap();
        let error = ChainSpec::from_config(&config).unwrap_err();
        assert!(error.to_string().contains("BPO4") || error.to_string().contains("Bpo4"));
    }
}

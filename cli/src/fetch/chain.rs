//! Which chain the node is on, and by which rules its blocks execute.

use alloy::{
    genesis::{ChainConfig, Genesis},
    primitives::{Address, address},
};
use alloy_hardforks::{EthereumHardfork, ForkCondition};
use anyhow::{Context, bail, ensure};
use multilane::state::ChainSpec;
use serde_json::Value;
use std::{fs, path::Path};

const MAINNET: u64 = 1;

/// The rules of a chain, and the genesis that an archive needs to know them again.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) spec: ChainSpec,
    /// `None` for Ethereum mainnet, whose rules every reader knows.
    pub(super) genesis: Option<Value>,
}

impl Chain {
    /// The rules of the chain with this id: from a genesis file where one is given, else those of a
    /// public chain.
    pub(super) fn new(chain_id: u64, genesis: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = genesis {
            return Self::from_file(chain_id, path)
                .with_context(|| format!("--genesis {}", path.display()));
        }
        if chain_id == MAINNET {
            return Ok(Self { spec: ChainSpec::mainnet(), genesis: None });
        }
        let Some(config) = public_chain(chain_id) else {
            bail!(
                "the node is on chain {chain_id}, whose fork schedule is not known: give it with \
                 --genesis FILE (the chain's genesis.json, whose \"config\" names the forks)"
            );
        };
        // Only `config` is true of the chain. Nothing else of a genesis matters to blocks after it.
        let genesis = Genesis { config, ..Genesis::default() };
        let spec = ChainSpec::from_config(&genesis.config)?;
        Ok(Self { spec, genesis: Some(serde_json::to_value(genesis)?) })
    }

    fn from_file(chain_id: u64, path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).context("reading it")?;
        let json: Value = serde_json::from_slice(&text).context("it is not JSON")?;
        let config = json.get("config").context("there is no \"config\" in it")?;
        let config: ChainConfig =
            serde_json::from_value(config.clone()).context("its \"config\" cannot be read")?;
        ensure!(
            config.chain_id == chain_id,
            "it describes chain {}, but the node is on chain {chain_id}",
            config.chain_id
        );
        Ok(Self { spec: ChainSpec::from_config(&config)?, genesis: Some(json) })
    }
}

/// The configuration of a public test chain.
fn public_chain(chain_id: u64) -> Option<ChainConfig> {
    const SEPOLIA_DEPOSITS: Address = address!("0x7f02C3E3c98b133055B8B348B2Ac625669Ed295D");
    const HOLESKY_DEPOSITS: Address = address!("0x4242424242424242424242424242424242424242");
    const HOODI_DEPOSITS: Address = address!("0x00000000219ab540356cBB839Cbe05303d7705Fa");
    match chain_id {
        11_155_111 => Some(config(chain_id, SEPOLIA_DEPOSITS, &EthereumHardfork::sepolia())),
        17_000 => Some(config(chain_id, HOLESKY_DEPOSITS, &EthereumHardfork::holesky())),
        560_048 => Some(config(chain_id, HOODI_DEPOSITS, &EthereumHardfork::hoodi())),
        _ => None,
    }
}

/// A fork schedule in the form of a genesis. The blob parameters are mainnet's, as on all public
/// test chains, and are therefore not named.
fn config(
    chain_id: u64,
    deposit_contract: Address,
    forks: &[(EthereumHardfork, ForkCondition)],
) -> ChainConfig {
    use EthereumHardfork as Fork;
    let mut config = ChainConfig {
        chain_id,
        deposit_contract_address: Some(deposit_contract),
        ..ChainConfig::default()
    };
    for &(fork, condition) in forks {
        if let ForkCondition::TTD { activation_block_number, total_difficulty, .. } = condition {
            config.terminal_total_difficulty = Some(total_difficulty);
            config.terminal_total_difficulty_passed = true;
            // Readers of a genesis know the Merge by this block only. The rules must change with
            // the first block without proof of work, not with the later fork of the network's name.
            config.merge_netsplit_block = Some(activation_block_number);
            continue;
        }
        let (block, time) = (condition.block_number(), condition.as_timestamp());
        match fork {
            Fork::Homestead => config.homestead_block = block,
            Fork::Tangerine => config.eip150_block = block,
            Fork::SpuriousDragon => {
                config.eip155_block = block;
                config.eip158_block = block;
            }
            Fork::Byzantium => config.byzantium_block = block,
            Fork::Constantinople => config.constantinople_block = block,
            Fork::Petersburg => config.petersburg_block = block,
            Fork::Istanbul => config.istanbul_block = block,
            Fork::MuirGlacier => config.muir_glacier_block = block,
            Fork::Berlin => config.berlin_block = block,
            Fork::London => config.london_block = block,
            Fork::ArrowGlacier => config.arrow_glacier_block = block,
            Fork::GrayGlacier => config.gray_glacier_block = block,
            Fork::Shanghai => config.shanghai_time = time,
            Fork::Cancun => config.cancun_time = time,
            Fork::Prague => config.prague_time = time,
            Fork::Osaka => config.osaka_time = time,
            Fork::Bpo1 => config.bpo1_time = time,
            Fork::Bpo2 => config.bpo2_time = time,
            Fork::Bpo3 => config.bpo3_time = time,
            Fork::Bpo4 => config.bpo4_time = time,
            Fork::Bpo5 => config.bpo5_time = time,
            Fork::Amsterdam => config.amsterdam_time = time,
            // Frontier is where every chain starts, and no test chain had a DAO to rescue.
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::consensus::Header;
    use revm::primitives::hardfork::SpecId;

    fn spec_id(chain: &Chain, number: u64, timestamp: u64) -> SpecId {
        chain.spec.spec_id(&Header { number, timestamp, ..Header::default() })
    }

    #[test]
    fn public_chains_need_no_genesis_and_survive_the_archive() {
        assert!(Chain::new(1, None).unwrap().genesis.is_none());
        for id in [11_155_111, 17_000, 560_048] {
            let known = Chain::new(id, None).unwrap();
            let genesis: Genesis = serde_json::from_value(known.genesis.clone().unwrap()).unwrap();
            let reread =
                Chain { spec: ChainSpec::from_config(&genesis.config).unwrap(), genesis: None };
            assert_eq!(reread.spec.chain_id(), id);
            for (number, timestamp) in [(1, 1), (1_500_000, 1_660_000_000), (9_000_000, u64::MAX)] {
                let expected = spec_id(&known, number, timestamp);
                assert_eq!(spec_id(&reread, number, timestamp), expected, "chain {id}");
            }
        }
    }

    #[test]
    fn sepolia_merges_with_its_first_block_without_proof_of_work() {
        let sepolia = Chain::new(11_155_111, None).unwrap();
        assert_eq!(spec_id(&sepolia, 1_450_408, 1_655_000_000), SpecId::LONDON);
        assert_eq!(spec_id(&sepolia, 1_450_410, 1_655_000_000), SpecId::MERGE);
        assert_eq!(spec_id(&sepolia, 2_990_908, 1_677_557_088), SpecId::SHANGHAI);
    }

    #[test]
    fn errors_say_what_to_give() {
        let unknown = Chain::new(31_337, None).unwrap_err().to_string();
        assert!(unknown.contains("chain 31337") && unknown.contains("--genesis"), "{unknown}");

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("genesis.json");
        fs::write(&file, r#"{"config": {"chainId": 5}}"#).unwrap();
        let other = format!("{:#}", Chain::new(31_337, Some(&file)).unwrap_err());
        assert!(other.contains("describes chain 5"), "{other}");
        fs::write(&file, "{}").unwrap();
        let empty = format!("{:#}", Chain::new(31_337, Some(&file)).unwrap_err());
        assert!(empty.contains("no \"config\""), "{empty}");
    }
}

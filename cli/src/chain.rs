//! The rules of the chain that blocks belong to, and what people call them.

use alloy_consensus::Header;
use alloy_genesis::{ChainConfig, Genesis};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks};
use anyhow::Context;
use flate2::read::MultiGzDecoder;
use multilane::state::ChainSpec;
use std::{fs, io::Read, path::Path};

/// Reads chain rules from a geth genesis file (plain, gzip or zstd), or from its `config` alone.
pub(crate) fn read_genesis(path: &Path) -> anyhow::Result<ChainSpec> {
    let file = || path.display().to_string();
    let text = fs::read(path).and_then(decompress).with_context(file)?;
    let config = serde_json::from_slice::<Genesis>(&text)
        .map(|genesis| genesis.config)
        .or_else(|error| {
            // Of two errors the one about the whole file says more, unless there is no such file.
            serde_json::from_slice::<ConfigFile>(&text).map(|file| file.config).map_err(|_| error)
        })
        .with_context(file)?;
    ChainSpec::from_config(&config).with_context(file)
}

#[derive(serde::Deserialize)]
struct ConfigFile {
    config: ChainConfig,
}

/// Recognizes a compression by its first bytes.
fn decompress(bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match &bytes[..] {
        [0x1f, 0x8b, ..] => MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(&bytes[..])?.read_to_end(&mut text)?,
        _ => return Ok(bytes),
    };
    Ok(text)
}

/// The name of the latest fork that is active at a block.
///
/// Forks without rules of their own (the ice ages) count: a reader looks the block up by them.
pub(crate) fn fork_name(chain: &ChainSpec, header: &Header) -> &'static str {
    EthereumHardfork::VARIANTS
        .iter()
        .rev()
        .find(|fork| {
            chain
                .ethereum_fork_activation(**fork)
                .active_at_timestamp_or_number(header.timestamp, header.number)
        })
        .unwrap_or(&EthereumHardfork::Frontier)
        .name()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn forks_are_named_by_the_latest_one() {
        let name = |number, timestamp| {
            let header = Header { number, timestamp, ..Header::default() };
            fork_name(&ChainSpec::mainnet(), &header)
        };
        assert_eq!(name(0, 0), "Frontier");
        assert_eq!(name(1_920_000, 0), "Dao");
        assert_eq!(name(7_280_000, 0), "Petersburg");
        assert_eq!(name(15_537_394, 1_663_224_179), "Paris");
        assert_eq!(name(19_426_587, 1_710_338_135), "Cancun");
        assert_eq!(name(24_200_000, 1_767_747_671), "Bpo2");
    }

    #[test]
    fn genesis_files_may_be_compressed_and_errors_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let text = br#"{"config": {"chainId": 1337, "homesteadBlock": 0}}"#;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        let forms =
            [text.to_vec(), gzip.finish().unwrap(), zstd::encode_all(&text[..], 1).unwrap()];
        for (index, form) in forms.iter().enumerate() {
            let path = folder.path().join(format!("genesis-{index}"));
            fs::write(&path, form).unwrap();
            assert_eq!(read_genesis(&path).unwrap().chain_id(), 1337);
        }

        let path = folder.path().join("bad.json");
        fs::write(&path, "{\"config\": {\"chainId\": ").unwrap();
        let error = format!("{:#}", read_genesis(&path).unwrap_err());
        assert!(error.contains("bad.json") && error.contains("EOF"), "{error}");
    }
}

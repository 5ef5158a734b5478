//! The JSON form of blockchain tests, as far as it is used.

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One test: a chain on top of a complete state.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpecTest {
    pub(crate) config: Config,
    pub(crate) pre: BTreeMap<Address, Account>,
    #[serde(rename = "genesisRLP")]
    pub(crate) genesis_rlp: Bytes,
    pub(crate) blocks: Vec<Block>,
    /// The state after the last valid block, or its root in `post_state_hash`.
    pub(crate) post_state: Option<BTreeMap<Address, Account>>,
    pub(crate) post_state_hash: Option<B256>,
    #[serde(rename = "lastblockhash")]
    pub(crate) last_block_hash: B256,
}

/// The rules of a test's chain.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) network: String,
    pub(crate) chainid: U64,
    #[serde(default)]
    pub(crate) blob_schedule: BTreeMap<String, BlobSchedule>,
}

/// Blob parameters of one fork.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlobSchedule {
    pub(crate) target: U64,
    pub(crate) max: U64,
    pub(crate) base_fee_update_fraction: U64,
}

/// One account with all of its storage.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Account {
    pub(crate) nonce: U64,
    pub(crate) balance: U256,
    pub(crate) code: Bytes,
    pub(crate) storage: BTreeMap<U256, U256>,
}

/// One block in its network form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block {
    pub(crate) rlp: Bytes,
    /// Why the block must be refused: alternatives separated by `|`.
    pub(crate) expect_exception: Option<String>,
}

/// Reads a file of tests by name.
pub(crate) fn parse(content: &[u8]) -> serde_json::Result<BTreeMap<String, SpecTest>> {
    serde_json::from_slice(content)
}

//! Whole tries built by alloy-trie, which shares no code with ours beyond nibbles and RLP: the
//! roots that tests compare with, and every node as a witness.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount, proof::ProofRetainer};
use std::collections::BTreeMap;

/// An account with all its storage.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReferenceAccount {
    pub(crate) balance: U256,
    pub(crate) nonce: u64,
    pub(crate) code_hash: B256,
    pub(crate) storage: BTreeMap<U256, U256>,
}

pub(crate) type ReferenceState = BTreeMap<Address, ReferenceAccount>;

/// The root of a trie over these keys and values, and all its nodes.
pub(crate) fn trie(entries: &BTreeMap<B256, Vec<u8>>) -> (B256, Vec<Bytes>) {
    let keys = entries.keys().map(Nibbles::unpack).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(keys));
    for (key, value) in entries {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().into_inner().into_values();
    // A node that is embedded in its parent is listed as well: no part of a witness.
    (root, nodes.filter(|node| node.len() >= 32 || keccak256(node) == root).collect())
}

/// The root of a state, and each node of its account trie and storage tries once.
pub(crate) fn state(accounts: &ReferenceState) -> (B256, Vec<Bytes>) {
    let mut nodes = Vec::new();
    let mut entries = BTreeMap::new();
    for (address, account) in accounts {
        let slots = account
            .storage
            .iter()
            .map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), alloy_rlp::encode(value)));
        let (storage_root, storage_nodes) = trie(&slots.collect());
        nodes.extend(storage_nodes);
        let leaf =
            TrieAccount::new(account.nonce, account.balance, storage_root, account.code_hash);
        entries.insert(keccak256(address), alloy_rlp::encode(leaf));
    }
    let (root, account_nodes) = trie(&entries);
    nodes.extend(account_nodes);
    // Equal parts of storage tries are the same nodes.
    nodes.sort_unstable();
    nodes.dedup();
    (root, nodes)
}

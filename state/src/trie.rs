//! The Merkle Patricia trie over a witness: proven reads, and the state root after changes.
//!
//! A [`WitnessTrie`] is a *partial* state trie. It holds the nodes that a witness brings; a subtrie
//! that no operation enters is represented by its hash alone. Since every node is found by the
//! keccak-256 hash that its parent states for it, whatever is read is proven against the state
//! root, and whatever the witness cannot prove is an error.
//!
//! It does not know blocks, transactions or rules of any fork: whether an empty account is deleted
//! (EIP-161) is decided by whoever produced the changes.

mod apply;
mod node;
#[cfg(test)]
pub(crate) mod reference;
mod store;

use crate::{StateError, StateLocation};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use node::Link;
use std::collections::BTreeMap;
use store::{Found, NodeStore, malformed, root_link};

/// A partial state trie over the nodes of a witness.
///
/// Reads take `&self` and see every change made before. Changes are hashed by
/// [`root`](Self::root), which costs one keccak-256 for each node on a changed path, so that it can
/// be called after each transaction (pre-Byzantium receipts carry that root).
///
/// A change that fails leaves the trie as it was before that change.
///
/// [`Default`] is the trie of an empty state.
#[derive(Clone, Debug, Default)]
pub struct WitnessTrie {
    nodes: NodeStore,
    accounts: Link,
    /// Storage tries with changes that their accounts do not carry yet. Ordered, so that the first
    /// of several errors is always the same one.
    storages: BTreeMap<Address, Link>,
}

impl WitnessTrie {
    /// Indexes the nodes of a witness by their hash.
    ///
    /// Nodes may come in any order and more than once. An empty trie's node (RLP `0x80`) is
    /// accepted and not needed. What no path from the root reaches proves nothing and is ignored,
    /// well-formed or not: real witnesses list nodes of the state after the block, and leaf values,
    /// as well. A node that is reached and malformed is an error of the operation that reaches it.
    ///
    /// # Errors
    ///
    /// [`StateError::MissingNode`] if the root's node is not there, [`StateError::MalformedNode`] if
    /// it is not one.
    pub fn new(
        state_root: B256,
        nodes: impl IntoIterator<Item = Bytes>,
    ) -> Result<Self, StateError> {
        let mut trie = Self { accounts: root_link(state_root), ..Self::default() };
        trie.insert_nodes(nodes);
        if !trie.accounts.is_empty() {
            trie.nodes.check_root(state_root)?;
        }
        Ok(trie)
    }

    /// Adds nodes, as [`new`](Self::new) takes them.
    ///
    /// Whoever keeps nodes elsewhere adds the one that a [`StateError::MissingNode`] names, and does
    /// the failed operation again.
    pub fn insert_nodes(&mut self, nodes: impl IntoIterator<Item = Bytes>) {
        self.nodes.insert(nodes);
    }

    /// The account at an address, or `None` where the trie proves that there is none.
    ///
    /// Its `storage_root` is the one of the last [`root`](Self::root): it does not yet reflect slots
    /// that were set since.
    ///
    /// # Errors
    ///
    /// [`StateError::MissingNode`] if the witness proves neither, [`StateError::MalformedNode`] if
    /// the node found there holds no account.
    pub fn account(&self, address: Address) -> Result<Option<TrieAccount>, StateError> {
        let what = StateLocation::Account(address);
        let found = self.nodes.get(&self.accounts, keccak256(address), &what)?;
        found.map(decode_account).transpose()
    }

    /// The value of a storage slot; zero where the trie proves that the slot or its account does
    /// not exist.
    ///
    /// # Errors
    ///
    /// As for [`account`](Self::account).
    pub fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        match self.storages.get(&address) {
            Some(trie) => self.slot_in(trie, address, slot),
            None => match self.account(address)? {
                Some(account) => self.slot_in(&root_link(account.storage_root), address, slot),
                None => Ok(U256::ZERO),
            },
        }
    }

    fn slot_in(&self, trie: &Link, address: Address, slot: U256) -> Result<U256, StateError> {
        let what = StateLocation::Slot(address, slot);
        let Some(found) = self.nodes.get(trie, slot_key(slot), &what)? else {
            return Ok(U256::ZERO);
        };
        alloy_rlp::decode_exact(found.value).map_err(|cause| malformed(found.node, &cause))
    }

    /// Creates an account, or changes its balance (in wei), nonce and code hash. Its storage stays.
    ///
    /// # Errors
    ///
    /// As for [`account`](Self::account).
    pub fn set_account(
        &mut self,
        address: Address,
        balance: U256,
        nonce: u64,
        code_hash: B256,
    ) -> Result<(), StateError> {
        let storage_root =
            self.account(address)?.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        self.write_account(address, &TrieAccount::new(nonce, balance, storage_root, code_hash))
    }

    fn write_account(&mut self, address: Address, account: &TrieAccount) -> Result<(), StateError> {
        let what = StateLocation::Account(address);
        let value = alloy_rlp::encode(account).into();
        self.nodes.set(&mut self.accounts, keccak256(address), Some(value), &what)
    }

    /// Deletes an account with its storage. Deleting one that does not exist changes nothing.
    ///
    /// # Errors
    ///
    /// As for [`account`](Self::account). The missing node may also be the one beside the deleted
    /// account's, which a deletion can move.
    pub fn delete_account(&mut self, address: Address) -> Result<(), StateError> {
        let what = StateLocation::Account(address);
        self.nodes.set(&mut self.accounts, keccak256(address), None, &what)?;
        self.storages.remove(&address);
        Ok(())
    }

    /// Sets a storage slot; zero deletes it.
    ///
    /// # Errors
    ///
    /// As for [`delete_account`](Self::delete_account), and [`StateError::NoAccount`] for a value in
    /// an account that does not exist.
    pub fn set_storage(
        &mut self,
        address: Address,
        slot: U256,
        value: U256,
    ) -> Result<(), StateError> {
        let mut trie = match self.storages.get_mut(&address) {
            Some(trie) => core::mem::take(trie),
            None => match self.account(address)? {
                Some(account) => root_link(account.storage_root),
                None if value.is_zero() => return Ok(()),
                None => return Err(StateError::NoAccount(StateLocation::Slot(address, slot))),
            },
        };
        let what = StateLocation::Slot(address, slot);
        let value = (!value.is_zero()).then(|| alloy_rlp::encode(value).into());
        let result = self.nodes.set(&mut trie, slot_key(slot), value, &what);
        self.storages.insert(address, trie);
        result
    }

    /// Removes all storage of an account and needs none of its nodes.
    ///
    /// # Errors
    ///
    /// As for [`account`](Self::account).
    pub fn wipe_storage(&mut self, address: Address) -> Result<(), StateError> {
        if self.account(address)?.is_some() {
            self.storages.insert(address, Link::Empty);
        }
        Ok(())
    }

    /// The state root with every change so far.
    ///
    /// # Errors
    ///
    /// None that an earlier operation on the same account has not reported.
    pub fn root(&mut self) -> Result<B256, StateError> {
        self.root_with_nodes(&mut |_, _| {})
    }

    /// The state root with every change so far. `made` sees each node that came into being since the
    /// last root, children before parents: its keccak-256 and its RLP.
    ///
    /// Whoever keeps these beside the nodes of the state before has the nodes of the state after.
    /// A node that is shorter than 32 bytes is a part of its parent and not seen.
    ///
    /// # Errors
    ///
    /// As for [`root`](Self::root).
    pub fn root_with_nodes(
        &mut self,
        made: &mut dyn FnMut(B256, &[u8]),
    ) -> Result<B256, StateError> {
        while let Some((address, mut trie)) = self.storages.pop_first() {
            let storage_root = self.nodes.commit(&mut trie, made);
            if let Some(account) = self.account(address)? {
                self.write_account(address, &TrieAccount { storage_root, ..account })?;
            }
        }
        Ok(self.nodes.commit(&mut self.accounts, made))
    }
}

fn decode_account(found: Found<'_>) -> Result<TrieAccount, StateError> {
    alloy_rlp::decode_exact(found.value).map_err(|cause| malformed(found.node, &cause))
}

fn slot_key(slot: U256) -> B256 {
    keccak256(slot.to_be_bytes::<32>())
}

#[cfg(test)]
mod tests;

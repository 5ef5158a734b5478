//! A complete state in memory: what is not there does not exist.

use crate::fixture::Account;
use alloy_primitives::{Address, B256, U64, U256, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;
use multilane::state::{StateError, WitnessTrie};
use revm::{
    DatabaseRef,
    database::BundleState,
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

/// The state of a chain, as plain values and as a trie.
///
/// The two are kept apart on purpose: execution reads the values, the root comes from the trie,
/// and the header decides.
#[derive(Clone, Debug)]
pub(crate) struct CompleteState {
    accounts: HashMap<Address, (AccountInfo, HashMap<U256, U256>)>,
    codes: HashMap<B256, Bytecode>,
    block_hashes: HashMap<u64, B256>,
    trie: WitnessTrie,
}

impl CompleteState {
    /// The state of a genesis block.
    pub(crate) fn new(accounts: &BTreeMap<Address, Account>) -> Result<Self, StateError> {
        let mut state = Self {
            accounts: HashMap::new(),
            codes: HashMap::from([(KECCAK_EMPTY, Bytecode::default())]),
            block_hashes: HashMap::new(),
            trie: WitnessTrie::new(EMPTY_ROOT_HASH, [])?,
        };
        for (address, account) in accounts {
            let code_hash = keccak256(&account.code);
            state.codes.entry(code_hash).or_insert_with(|| Bytecode::new_raw(account.code.clone()));
            let info = AccountInfo {
                balance: account.balance,
                nonce: account.nonce.to(),
                code_hash,
                ..AccountInfo::default()
            };
            state.trie.set_account(*address, info.balance, info.nonce, code_hash)?;
            let storage: HashMap<_, _> = account
                .storage
                .iter()
                .filter(|(_, value)| !value.is_zero())
                .map(|(slot, value)| (*slot, *value))
                .collect();
            for (slot, value) in &account.storage {
                state.trie.set_storage(*address, *slot, *value)?;
            }
            state.accounts.insert(*address, (AccountInfo { code: None, ..info }, storage));
        }
        Ok(state)
    }

    /// The state's trie.
    pub(crate) const fn trie(&self) -> &WitnessTrie {
        &self.trie
    }

    /// The state root.
    pub(crate) fn root(&self) -> Result<B256, StateError> {
        self.trie.clone().root()
    }

    /// Notes the hash of a block, for BLOCKHASH.
    pub(crate) fn insert_block_hash(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
    }

    /// The state after a block, with its trie.
    pub(crate) fn after(&self, bundle: &BundleState, trie: WitnessTrie) -> Self {
        let mut state = self.clone();
        state.trie = trie;
        state.codes.extend(bundle.contracts.iter().map(|(hash, code)| (*hash, code.clone())));
        bundle.state.iter().for_each(|(address, account)| {
            let Some(info) = &account.info else {
                state.accounts.remove(address);
                return;
            };
            let entry = state.accounts.entry(*address).or_default();
            entry.0 = AccountInfo { code: None, ..info.clone() };
            if account.was_destroyed() {
                entry.1.clear();
            }
            entry.1.extend(account.storage.iter().map(|(slot, v)| (*slot, v.present_value)));
            entry.1.retain(|_, value| !value.is_zero());
        });
        state
    }

    /// Every account, in the form of the tests.
    pub(crate) fn accounts(&self) -> BTreeMap<Address, Account> {
        let account = |(info, storage): &(AccountInfo, HashMap<U256, U256>)| Account {
            nonce: U64::from(info.nonce),
            balance: info.balance,
            code: self.codes.get(&info.code_hash).map(Bytecode::original_bytes).unwrap_or_default(),
            storage: storage.iter().map(|(slot, value)| (*slot, *value)).collect(),
        };
        self.accounts.iter().map(|(address, values)| (*address, account(values))).collect()
    }
}

impl DatabaseRef for CompleteState {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.accounts.get(&address).map(|(info, _)| info.clone()))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.codes.get(&code_hash).cloned().unwrap_or_default())
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        let storage = self.accounts.get(&address).map(|(_, storage)| storage);
        Ok(storage.and_then(|storage| storage.get(&slot)).copied().unwrap_or_default())
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        Ok(self.block_hashes.get(&number).copied().unwrap_or_default())
    }
}

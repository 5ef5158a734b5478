//! Parent state proven by trie nodes.
//!
//! A witness either vouches for a [`Prestate`] listing ([`Witness::verify`]), or it is the state
//! itself ([`WitnessState`]). This module does not know where witnesses come from.

use crate::{Prestate, PrestateAccount, StateError, StateLocation, WitnessTrie, analyse_code};
use alloy_primitives::{
    Address, B256, Bytes, U256, keccak256,
    map::{B256Map, HashMap},
};
use alloy_trie::TrieAccount;
use core::fmt::Display;
use revm::{
    DatabaseRef,
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};

/// Nodes of the state trie before a block: what proves the state that the block reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// State root of the parent block.
    pub state_root: B256,
    /// RLP of trie nodes, of the account trie and of storage tries alike, in any order.
    pub nodes: Vec<Bytes>,
    /// Whether the nodes also suffice to compute the state root after the block. A deletion may
    /// need a node that no read needs.
    pub complete: bool,
}

impl Witness {
    /// The trie that the nodes make up.
    ///
    /// # Errors
    ///
    /// See [`WitnessTrie::new`].
    pub fn trie(&self) -> Result<WitnessTrie, StateError> {
        WitnessTrie::new(self.state_root, self.nodes.iter().cloned())
    }

    /// Proves a prestate: balance, nonce and code hash of every account, every listed slot, and the
    /// non-existence of every absent address.
    ///
    /// An account of all zeros is stated to exist, as it may before EIP-161 state clearing; it is
    /// not the same as an absent one. Code bodies and block hashes are not in the trie and not
    /// looked at.
    ///
    /// # Errors
    ///
    /// [`StateError::NotProven`] if the trie holds another value, [`StateError::MissingNode`] if it
    /// proves none, [`StateError::MalformedNode`] if it is broken. Accounts are looked at before
    /// absent addresses, both in ascending order, and the first error is returned.
    pub fn verify(&self, prestate: &Prestate) -> Result<(), StateError> {
        let trie = self.trie()?;
        let mut accounts: Vec<_> = prestate.accounts().collect();
        accounts.sort_unstable_by_key(|(address, _)| **address);
        for (address, stated) in accounts {
            verify_account(&trie, *address, stated)?;
        }
        let mut absent: Vec<_> = prestate.absent().collect();
        absent.sort_unstable();
        for address in absent {
            if let Some(proven) = trie.account(*address)? {
                return Err(StateError::NotProven {
                    location: StateLocation::Account(*address),
                    stated: "no account".into(),
                    proven: describe(proven.balance, proven.nonce, proven.code_hash),
                });
            }
        }
        Ok(())
    }
}

fn verify_account(
    trie: &WitnessTrie,
    address: Address,
    stated: &PrestateAccount,
) -> Result<(), StateError> {
    let stated_fields = (stated.balance, stated.nonce, stated.code_hash);
    let proven = trie.account(address)?;
    let proven_fields = proven.map(|proven| (proven.balance, proven.nonce, proven.code_hash));
    if proven_fields != Some(stated_fields) {
        let describe = |(balance, nonce, code_hash)| describe(balance, nonce, code_hash);
        return Err(StateError::NotProven {
            location: StateLocation::Account(address),
            stated: describe(stated_fields),
            proven: proven_fields.map_or_else(|| "no account".into(), describe),
        });
    }
    let mut slots: Vec<_> = stated.storage.iter().collect();
    slots.sort_unstable();
    for (slot, stated) in slots {
        let proven = trie.storage(address, *slot)?;
        if proven != *stated {
            return Err(StateError::NotProven {
                location: StateLocation::Slot(address, *slot),
                stated: format!("{stated:#x}"),
                proven: format!("{proven:#x}"),
            });
        }
    }
    Ok(())
}

fn describe(balance: impl Display, nonce: u64, code_hash: B256) -> String {
    format!("balance {balance}, nonce {nonce}, code hash {code_hash}")
}

/// Parent state read straight from a witness, for a witness that comes without a prestate listing.
///
/// Accounts and slots are proven as they are read; codes are held by their hash, block hashes by
/// number. It can be read from several threads at once.
#[derive(Clone, Debug)]
pub struct WitnessState {
    trie: WitnessTrie,
    codes: B256Map<Bytecode>,
    block_hashes: HashMap<u64, B256>,
}

impl WitnessState {
    /// The state of a trie, without codes and block hashes.
    pub fn new(trie: WitnessTrie) -> Self {
        Self { trie, codes: B256Map::default(), block_hashes: HashMap::default() }
    }

    /// Adds code under the hash that its source states, analysed once here.
    ///
    /// # Errors
    ///
    /// [`StateError::CodeHash`] if the code has another keccak-256.
    pub fn insert_code(&mut self, stated: B256, code: Bytes) -> Result<(), StateError> {
        let actual = keccak256(&code);
        if actual != stated {
            return Err(StateError::CodeHash { stated, actual });
        }
        self.codes.insert(stated, analyse_code(code));
        Ok(())
    }

    /// Notes the hash of a block, for BLOCKHASH.
    pub fn insert_block_hash(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
    }

    /// The trie that the state is read from.
    pub const fn trie(&self) -> &WitnessTrie {
        &self.trie
    }
}

impl DatabaseRef for WitnessState {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let account = self.trie.account(address)?;
        Ok(account.map(|TrieAccount { balance, nonce, code_hash, .. }| AccountInfo {
            balance,
            nonce,
            code_hash,
            account_id: None,
            code: (code_hash == KECCAK_EMPTY).then(Bytecode::default),
        }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, StateError> {
        if code_hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        self.codes.get(&code_hash).cloned().ok_or(StateError::MissingCode(code_hash))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.trie.storage(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.block_hashes.get(&number).copied().ok_or(StateError::MissingBlockHash(number))
    }
}

#[cfg(test)]
mod tests;

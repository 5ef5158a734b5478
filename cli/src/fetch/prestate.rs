//! What a block read of the state before it, in the form of `prestate.json`.

use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U64, U256};
use revm::state::{AccountInfo, Bytecode};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Recorded reads. Ordered, so that the same block always gives the same file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordedPrestate {
    accounts: BTreeMap<Address, RecordedAccount>,
    /// Accounts that were read and do not exist.
    absent: BTreeSet<Address>,
    /// What the source did not know. A node knows everything.
    unknown: BTreeMap<Address, String>,
    /// What BLOCKHASH read.
    block_hashes: BTreeMap<u64, B256>,
    /// Codes that were executed or copied, by hash: kept in the archive's shared store.
    #[serde(skip)]
    codes: BTreeMap<B256, Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordedAccount {
    balance: U256,
    nonce: U64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code_hash: Option<B256>,
    storage: BTreeMap<U256, U256>,
}

impl RecordedPrestate {
    /// What was recorded of an account: `None` if it was not read, `Some(None)` if it does not
    /// exist.
    pub(super) fn account(&self, address: Address) -> Option<Option<AccountInfo>> {
        if self.absent.contains(&address) {
            return Some(None);
        }
        self.accounts.get(&address).map(|account| {
            let code_hash = account.code_hash.unwrap_or(KECCAK256_EMPTY);
            Some(AccountInfo {
                balance: account.balance,
                nonce: account.nonce.to(),
                code_hash,
                account_id: None,
                code: account.code_hash.is_none().then(Bytecode::default),
            })
        })
    }

    /// Records an account, or that there is none.
    pub(super) fn note_account(&mut self, address: Address, info: Option<&AccountInfo>) {
        let Some(info) = info else {
            self.absent.insert(address);
            return;
        };
        let account = RecordedAccount {
            balance: info.balance,
            nonce: U64::from(info.nonce),
            code_hash: (info.code_hash != KECCAK256_EMPTY).then_some(info.code_hash),
            storage: BTreeMap::new(),
        };
        self.accounts.insert(address, account);
    }

    /// What was recorded of a slot.
    pub(super) fn slot(&self, address: Address, slot: U256) -> Option<U256> {
        self.accounts.get(&address)?.storage.get(&slot).copied()
    }

    /// Records a slot of an account that is recorded.
    pub(super) fn note_slot(&mut self, address: Address, slot: U256, value: U256) {
        if let Some(account) = self.accounts.get_mut(&address) {
            account.storage.insert(slot, value);
        }
    }

    /// Records code.
    pub(super) fn note_code(&mut self, hash: B256, code: Bytes) {
        self.codes.insert(hash, code);
    }

    /// Records the hash of a block.
    pub(super) fn note_block_hash(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
    }

    /// Number of accounts, and of slots.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.accounts.len(), self.accounts.values().map(|account| account.storage.len()).sum())
    }

    /// The recorded codes by hash.
    pub(super) fn take_codes(&mut self) -> BTreeMap<B256, Bytes> {
        std::mem::take(&mut self.codes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::address;

    #[test]
    fn the_form_is_that_of_the_archive() {
        let mut record = RecordedPrestate::default();
        let held = address!("0x00000000000000000000000000000000000000Aa");
        let info = AccountInfo {
            balance: U256::from(255),
            nonce: 1,
            code_hash: B256::with_last_byte(7),
            ..AccountInfo::default()
        };
        record.note_account(held, Some(&info));
        record.note_slot(held, U256::from(16), U256::ZERO);
        record.note_account(Address::ZERO, None);
        record.note_block_hash(12, B256::with_last_byte(9));
        record.note_code(info.code_hash, Bytes::new());
        let expected = serde_json::json!({
            "accounts": {"0x00000000000000000000000000000000000000aa": {
                "balance": "0xff", "nonce": "0x1", "codeHash": B256::with_last_byte(7),
                "storage": {"0x10": "0x0"},
            }},
            "absent": [Address::ZERO],
            "unknown": {},
            "blockHashes": {"12": B256::with_last_byte(9)},
        });
        assert_eq!(serde_json::to_value(&record).unwrap(), expected);
        assert_eq!(record.counts(), (1, 1));
        assert_eq!(record.account(Address::ZERO), Some(None));
        assert_eq!(record.account(Address::with_last_byte(1)), None);
        assert_eq!(record.account(held).unwrap().unwrap().nonce, 1);
        assert_eq!(record.slot(held, U256::from(16)), Some(U256::ZERO));
    }
}

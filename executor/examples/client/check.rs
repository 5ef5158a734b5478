//! The state root from everything in the database, by another way than block after block.

use crate::store::{ACCOUNTS, CODES, SLOTS, Store};
use alloy_primitives::{Address, B256, U256};
use alloy_trie::{
    TrieAccount,
    root::{state_root_unhashed, storage_root_unhashed},
};
use anyhow::ensure;
use redb::ReadableTable;
use revm::primitives::KECCAK_EMPTY;

/// The root over every account and slot. It knows nothing of the trie nodes in the database.
pub(crate) fn state_root_of_all(store: &Store) -> anyhow::Result<B256> {
    let transaction = store.begin_read()?;
    let (accounts, slots) = (transaction.open_table(ACCOUNTS)?, transaction.open_table(SLOTS)?);
    let codes = transaction.open_table(CODES)?;
    let mut leaves = Vec::new();
    for entry in accounts.iter()? {
        let (address, row) = entry?;
        let (address, (nonce, balance, code_hash)) = (address.value(), row.value());
        let storage = slots
            .range((address, &[0; 32])..=(address, &[0xff; 32]))?
            .map(|entry| {
                let (key, value) = entry?;
                Ok((B256::from(key.value().1), U256::from_be_bytes(*value.value())))
            })
            .collect::<Result<Vec<_>, redb::StorageError>>()?;
        let address = Address::from(address);
        ensure!(
            *code_hash == KECCAK_EMPTY || codes.get(code_hash)?.is_some(),
            "the code of {address} is missing"
        );
        let storage_root = storage_root_unhashed(storage);
        let balance = U256::from_be_bytes(*balance);
        leaves.push((address, TrieAccount::new(nonce, balance, storage_root, code_hash.into())));
    }
    Ok(state_root_unhashed(leaves))
}

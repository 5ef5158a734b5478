//! Reading the state, for whoever executes: one read transaction for each worker.
//!
//! This is the whole of what Multilane asks of a database: a [`Database`] that a closure opens.

use crate::store::{ACCOUNTS, AccountRow, AddressBytes, BLOCK_HASHES, CODES, SLOTS, Word};
use alloy_primitives::{Address, B256, Bytes, U256};
use multilane::state::analyse_code;
use redb::{ReadOnlyTable, ReadTransaction};
use revm::{
    Database,
    context::DBErrorMarker,
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};

/// The state as of one block, whatever is written meanwhile.
pub(crate) struct StateReader {
    accounts: ReadOnlyTable<AddressBytes, AccountRow>,
    slots: ReadOnlyTable<(AddressBytes, Word), Word>,
    codes: ReadOnlyTable<Word, &'static [u8]>,
    block_hashes: ReadOnlyTable<u64, Word>,
}

/// Why the state could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The database has failed.
    #[error(transparent)]
    Database(#[from] redb::StorageError),
    /// An account names code that is not there.
    #[error("the database has no code with hash {0}")]
    MissingCode(B256),
    /// BLOCKHASH asks for no block that is older than the last 256.
    #[error("the database has no hash of block {0}")]
    MissingBlockHash(u64),
}

impl DBErrorMarker for ReadError {}

impl StateReader {
    pub(crate) fn open(transaction: &ReadTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            accounts: transaction.open_table(ACCOUNTS)?,
            slots: transaction.open_table(SLOTS)?,
            codes: transaction.open_table(CODES)?,
            block_hashes: transaction.open_table(BLOCK_HASHES)?,
        })
    }
}

impl Database for StateReader {
    type Error = ReadError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        let account = self.accounts.get(&address.0.0)?;
        Ok(account.map(|account| {
            let (nonce, balance, code_hash) = account.value();
            AccountInfo {
                balance: U256::from_be_bytes(*balance),
                nonce,
                code_hash: code_hash.into(),
                code: None,
                account_id: None,
            }
        }))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, ReadError> {
        if code_hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        let code = self.codes.get(&code_hash.0)?.ok_or(ReadError::MissingCode(code_hash))?;
        Ok(analyse_code(Bytes::copy_from_slice(code.value())))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, ReadError> {
        let value = self.slots.get((&address.0.0, &slot.to_be_bytes()))?;
        Ok(value.map_or(U256::ZERO, |value| U256::from_be_bytes(*value.value())))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ReadError> {
        let hash = self.block_hashes.get(number)?.ok_or(ReadError::MissingBlockHash(number))?;
        Ok(hash.value().into())
    }
}

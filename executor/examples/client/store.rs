//! The database: the state after the newest block, and what its root is computed from.
//!
//! | table | key | value |
//! |---|---|---|
//! | head | - | header of the newest block (RLP), root of the state after it |
//! | accounts | address | nonce, balance, code hash |
//! | slots | address, slot | value; zeros are not held |
//! | codes | keccak-256 | code |
//! | nodes | keccak-256 | trie node (RLP), those of old states included |
//! | block_hashes | number | hash, of the last 256 blocks |
//!
//! A block is one transaction over all of them. It does not know what is right to write.

use crate::{reader::StateReader, trie::NewNodes};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, U256};
use anyhow::Context;
use redb::{Database, ReadTransaction, ReadableDatabase, Table, TableDefinition, WriteTransaction};
use revm::database::{BundleState, OriginalValuesKnown, states::PlainStorageChangeset};
use std::path::Path;

pub(crate) type AddressBytes = &'static [u8; 20];
pub(crate) type Word = &'static [u8; 32];
/// Nonce, balance (big-endian, in wei), code hash.
pub(crate) type AccountRow = (u64, Word, Word);

const HEAD: TableDefinition<'_, (), (&[u8], Word)> = TableDefinition::new("head");
pub(crate) const ACCOUNTS: TableDefinition<'_, AddressBytes, AccountRow> =
    TableDefinition::new("accounts");
pub(crate) const SLOTS: TableDefinition<'_, (AddressBytes, Word), Word> =
    TableDefinition::new("slots");
pub(crate) const CODES: TableDefinition<'_, Word, &[u8]> = TableDefinition::new("codes");
const NODES: TableDefinition<'_, Word, &[u8]> = TableDefinition::new("nodes");
pub(crate) const BLOCK_HASHES: TableDefinition<'_, u64, Word> =
    TableDefinition::new("block_hashes");

/// How far back BLOCKHASH can see.
const BLOCK_HASHES_MAX: u64 = 256;

/// The newest block in the database.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) header: Header,
    /// keccak-256 of the header.
    pub(crate) hash: B256,
    /// The root of the state after the block. anvil's genesis header states another one.
    pub(crate) state_root: B256,
}

impl Head {
    pub(crate) fn new(header: Header, state_root: B256) -> Self {
        Self { hash: header.hash_slow(), header, state_root }
    }
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Store(Database);

impl Store {
    /// Opens a file, or makes one.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let store = Self(Database::create(path)?);
        // Readers may then take every table for granted.
        let transaction = store.begin_write()?;
        transaction.open_table(HEAD)?;
        transaction.open_table(ACCOUNTS)?;
        transaction.open_table(SLOTS)?;
        transaction.open_table(CODES)?;
        transaction.open_table(NODES)?;
        transaction.open_table(BLOCK_HASHES)?;
        transaction.commit()?;
        Ok(store)
    }

    fn begin_write(&self) -> anyhow::Result<WriteTransaction> {
        let mut transaction = self.0.begin_write()?;
        // After a crash the file is then open at once, and not only when all of it has been read.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        Ok(self.0.begin_read()?)
    }

    /// The newest block, once there is one.
    pub(crate) fn head(&self) -> anyhow::Result<Option<Head>> {
        let table = self.begin_read()?.open_table(HEAD)?;
        let Some(entry) = table.get(())? else { return Ok(None) };
        let (header, state_root) = entry.value();
        let header = alloy_rlp::decode_exact(header).context("the head in the database")?;
        Ok(Some(Head::new(header, state_root.into())))
    }

    /// A handle on the state after the newest block.
    pub(crate) fn reader(&self) -> Result<StateReader, redb::Error> {
        Ok(StateReader::open(&self.begin_read()?)?)
    }

    /// Looks trie nodes up by their hash.
    pub(crate) fn nodes(
        &self,
    ) -> anyhow::Result<impl Fn(B256) -> anyhow::Result<Option<Bytes>> + use<>> {
        let table = self.begin_read()?.open_table(NODES)?;
        Ok(move |hash: B256| {
            let node = table.get(&hash.0)?;
            Ok(node.map(|node| Bytes::copy_from_slice(node.value())))
        })
    }

    /// Writes a block's changes and makes it the head: all of that, or nothing.
    pub(crate) fn commit(
        &self,
        head: &Head,
        changes: &BundleState,
        nodes: &NewNodes,
    ) -> anyhow::Result<()> {
        let transaction = self.begin_write()?;
        write_state(&transaction, changes)?;
        let mut table = transaction.open_table(NODES)?;
        for (hash, node) in nodes {
            table.insert(&hash.0, node.as_slice())?;
        }
        drop(table);

        let number = head.header.number;
        let mut hashes = transaction.open_table(BLOCK_HASHES)?;
        hashes.insert(number, &head.hash.0)?;
        hashes.retain_in(..number.saturating_sub(BLOCK_HASHES_MAX), |_, _| false)?;
        drop(hashes);
        let header = alloy_rlp::encode(&head.header);
        transaction.open_table(HEAD)?.insert((), (header.as_slice(), &head.state_root.0))?;
        transaction.commit()?;
        Ok(())
    }
}

fn write_state(transaction: &WriteTransaction, changes: &BundleState) -> anyhow::Result<()> {
    let changes = changes.to_plain_state(OriginalValuesKnown::Yes);
    let mut codes = transaction.open_table(CODES)?;
    for (hash, code) in changes.contracts {
        codes.insert(&hash.0, code.original_byte_slice())?;
    }
    let mut accounts = transaction.open_table(ACCOUNTS)?;
    for (address, info) in changes.accounts {
        match info {
            Some(info) => {
                let balance = info.balance.to_be_bytes();
                accounts.insert(&address.0.0, (info.nonce, &balance, &info.code_hash.0))?;
            }
            None => {
                accounts.remove(&address.0.0)?;
            }
        }
    }
    let mut slots = transaction.open_table(SLOTS)?;
    changes.storage.into_iter().try_for_each(|changed| write_slots(&mut slots, changed))
}

fn write_slots(
    slots: &mut Table<'_, (AddressBytes, Word), Word>,
    PlainStorageChangeset { address, wipe_storage, storage }: PlainStorageChangeset,
) -> anyhow::Result<()> {
    let address = &address.0.0;
    if wipe_storage {
        slots.retain_in((address, &[0; 32])..=(address, &[0xff; 32]), |_, _| false)?;
    }
    for (slot, value) in storage {
        let slot = slot.to_be_bytes();
        if value == U256::ZERO {
            slots.remove((address, &slot))?;
        } else {
            slots.insert((address, &slot), &value.to_be_bytes())?;
        }
    }
    Ok(())
}

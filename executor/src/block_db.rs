//! The state that alloy-evm's block executor works on outside of the block's transactions.
//!
//! System calls, withdrawals and rewards read the committed values of the multi-version state and
//! commit to them, so that the transactions in between find what was written before them, and what
//! comes after finds what they wrote. *Must not know*: threads. Nobody else works on the state
//! while this does.

use crate::{
    error::{SourceError, SourceFailure},
    pipeline::BlockContext,
    worker::{Accesses, Reads, WorkerDb, finalized, touched_slots},
};
use alloy_primitives::{Address, B256, U256, map::AddressMap};
use core::fmt;
use multilane_state::{TxIndex, access_list::AccessJournal, multi_version::CommittedChanges};
use revm::{
    Database, DatabaseCommit,
    state::{Account, AccountId, AccountInfo, Bytecode},
};
use std::error::Error;

/// Reads from and commits to the block's multi-version state.
pub(crate) struct BlockDb<'block, DB> {
    block: &'block BlockContext,
    reads: WorkerDb<'block, DB>,
    changes: CommittedChanges<'block>,
    /// Who writes: nobody before the first transaction, the position after the last one then.
    writer: Option<TxIndex>,
    failure: SourceFailure,
}

impl<'block, DB> BlockDb<'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    /// The state before the first transaction. `failure` learns of reads that fail.
    pub(crate) fn new(block: &'block BlockContext, source: DB, failure: SourceFailure) -> Self {
        let mut reads = WorkerDb::new(block, source);
        reads.begin(TxIndex::FIRST, Reads::Final, Accesses::default());
        Self { block, reads, changes: block.no_changes(), writer: None, failure }
    }

    /// Takes the changes so far, for the transactions to add theirs.
    pub(crate) fn take_changes(&mut self) -> CommittedChanges<'block> {
        std::mem::take(&mut self.changes)
    }

    /// Goes on after the last of so many transactions, with their changes.
    pub(crate) fn resume(&mut self, transactions: usize, changes: CommittedChanges<'block>) {
        let end = TxIndex::new(transactions);
        self.reads.begin(end, Reads::Final, Accesses::default());
        self.writer = Some(end);
        self.changes = changes;
    }

    fn note<T>(&self, result: Result<T, SourceError>) -> Result<T, SourceError> {
        result.inspect_err(|error| self.failure.report(error.clone()))
    }
}

impl<DB> Database for BlockDb<'_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    type Error = SourceError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, SourceError> {
        let read = self.reads.basic(address);
        self.note(read)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, SourceError> {
        let read = self.reads.code_by_hash(code_hash);
        self.note(read)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, SourceError> {
        let read = self.reads.storage(address, slot);
        self.note(read)
    }

    fn storage_by_account_id(
        &mut self,
        address: Address,
        account_id: AccountId,
        slot: U256,
    ) -> Result<U256, SourceError> {
        let read = self.reads.storage_by_account_id(address, account_id, slot);
        self.note(read)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, SourceError> {
        let read = self.reads.block_hash(number);
        self.note(read)
    }
}

impl<DB> DatabaseCommit for BlockDb<'_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    fn commit(&mut self, changes: AddressMap<Account>) {
        let block = self.block;
        if let Some(journal) = self.changes.journal() {
            note_accesses(journal, block, self.writer, &changes);
        }
        // In the order of addresses, since that of the map is arbitrary.
        let mut touched: Vec<_> =
            changes.into_iter().filter(|(_, account)| account.is_touched()).collect();
        touched.sort_unstable_by_key(|(address, _)| *address);
        for (address, account) in touched {
            let entry = block.state.account(address);
            let before = entry.committed().flatten();
            let (write, slots) = finalized(block, self.writer, address, &account, before.as_ref());
            let keep_empty = block.rules.keep_empty_accounts;
            self.changes.commit(self.writer, entry, write, slots, keep_empty);
        }
        // What was read so far has been dealt with.
        self.reads.begin(self.writer.unwrap_or(TxIndex::FIRST), Reads::Final, Accesses::default());
    }
}

/// Notes what a system call, or a payment by the protocol, accessed.
#[expect(clippy::iter_over_hash_type, reason = "the list that is made of them is sorted")]
fn note_accesses<'block>(
    journal: &mut AccessJournal<'block>,
    block: &'block BlockContext,
    writer: Option<TxIndex>,
    changes: &AddressMap<Account>,
) {
    for (address, account) in changes {
        journal.account(writer, *address);
        for (slot, write) in touched_slots(block, *address, account) {
            journal.slot(writer, slot, write);
        }
    }
}

impl<DB> fmt::Debug for BlockDb<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockDb").field("writer", &self.writer).finish_non_exhaustive()
    }
}

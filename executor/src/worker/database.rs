//! What a worker's EVM reads from: the block's multi-version state, over the worker's own source.

use super::{Accesses, Reads};
use crate::{
    backend::Recorder,
    error::{SourceError, SourceRead},
    keccak_cache::KeccakCache,
    pipeline::BlockContext,
};
use alloy_primitives::{
    Address, B256, U256,
    map::{B256Map, HashMap},
};
use core::fmt;
use multilane_state::{
    StateLocation, TxIndex,
    multi_version::{AccountEntry, AccountRead, AccountValue, BalanceUse, SlotEntry, SlotRead},
    unshared_code,
};
use revm::{
    Database,
    primitives::KECCAK_EMPTY,
    state::{AccountId, AccountInfo, Bytecode},
};
use std::error::Error;

/// How many hashes of mapping keys a worker keeps: about 100 KiB.
const MAPPING_HASHES: usize = 1024;

/// Serves one transaction after another, and records what each of them reads.
pub(crate) struct WorkerDb<'block, DB> {
    pub(super) block: &'block BlockContext,
    source: DB,
    /// This worker's own copies of the codes it has met.
    codes: B256Map<Bytecode>,
    /// This worker's own copy of no code at all.
    no_code: Bytecode,
    block_hashes: HashMap<u64, B256>,
    mapping_hashes: KeccakCache<64>,
    pub(super) reader: TxIndex,
    /// What the reader is served.
    reads: Reads,
    pub(crate) accesses: Accesses<'block>,
}

impl<'block, DB> WorkerDb<'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    pub(crate) fn new(block: &'block BlockContext, source: DB) -> Self {
        Self {
            block,
            source,
            codes: B256Map::default(),
            no_code: unshared_code(&Bytecode::default()),
            block_hashes: HashMap::default(),
            mapping_hashes: KeccakCache::new(MAPPING_HASHES),
            reader: TxIndex::FIRST,
            reads: Reads::Final,
            accesses: Accesses::default(),
        }
    }

    /// Starts recording for a transaction, in vectors that are empty.
    pub(crate) fn begin(&mut self, reader: TxIndex, reads: Reads, accesses: Accesses<'block>) {
        self.reader = reader;
        self.reads = reads;
        self.accesses = accesses;
    }

    /// Whether every transaction before the reader is committed, so that nothing is a guess.
    fn is_final(&self) -> bool {
        self.reads == Reads::Final
    }

    /// Whether somebody wants to see the finalized changes of the transaction.
    pub(super) fn keeps_changes(&self) -> bool {
        self.block.keeps_changes_of(self.reader)
    }

    fn read_of(&mut self, address: Address) -> Option<&mut AccountRead<'block>> {
        self.accesses.account_reads.iter_mut().find(|read| read.entry.address() == address)
    }

    /// Makes sure that an account's committed value is known, and returns it.
    pub(crate) fn committed_account(
        &mut self,
        entry: &AccountEntry,
    ) -> Result<Option<AccountValue>, SourceError> {
        match entry.committed() {
            Some(value) => Ok(value),
            None => self.load_account(entry),
        }
    }

    /// Reads an account, as far as the EVM knows it without its code, and records the read.
    pub(super) fn account(
        &mut self,
        address: Address,
    ) -> Result<&mut AccountRead<'block>, SourceError> {
        if !self.is_final() && self.block.is_ordered(&address) {
            let read = SourceRead::Location(StateLocation::Account(address));
            return Err(SourceError::new(read, OutOfOrder));
        }
        let entry = self.block.state.account(address);
        let mut served = match entry.guess(self.reader) {
            Some(value) => value,
            None => {
                let value = self.load_account(entry)?;
                entry.guess(self.reader).unwrap_or(value)
            }
        };
        if !self.is_final() {
            if let Some(foretold) = self.block.foretold() {
                // It knows nonces better than the order of the senders does: an account may be the
                // authority of a delegation as well (EIP-7702).
                served = foretold.account(address, self.reader, served);
            } else if let Some(nonce) = self.block.nonces.before(address, self.reader)
                && let Some(value) = &mut served
            {
                value.nonce = nonce;
            }
        }
        let exact = !self.block.rules.balances_commute;
        let balance = if exact { BalanceUse::Exact } else { BalanceUse::UNUSED };
        let reads = &mut self.accesses.account_reads;
        reads.push(AccountRead { entry, served, balance, exact_nonce: exact });
        let last = reads.len() - 1;
        Ok(&mut reads[last])
    }

    /// The worker's source, for a read that may take its time, unless the execution is to end.
    fn source(&mut self) -> Result<&mut DB, SourceError> {
        if self.block.is_cancelled() {
            return Err(SourceError::stopped());
        }
        Ok(&mut self.source)
    }

    fn load_account(&mut self, entry: &AccountEntry) -> Result<Option<AccountValue>, SourceError> {
        let address = entry.address();
        let info = self.source()?.basic(address).map_err(|cause| {
            SourceError::new(SourceRead::Location(StateLocation::Account(address)), cause)
        })?;
        let value = info.as_ref().map(AccountValue::from);
        if let Some(AccountInfo { code: Some(code), code_hash, .. }) = info
            && !code.is_empty()
        {
            self.codes.entry(code_hash).or_insert_with(|| unshared_code(&code));
        }
        entry.load(value);
        Ok(value)
    }

    /// Code that is new in the block, as far as the reader may know of it.
    fn new_code(&self, hash: &B256) -> Option<Bytecode> {
        self.block.new_code_before(hash, self.reader, self.is_final())
    }

    /// An account as the EVM knows it, which was read at a position of the read set.
    fn info(&self, position: usize, value: AccountValue) -> AccountInfo {
        // Code that is new in the block travels with the account, as it does in revm's state: the
        // bundle lists new code by it, that of accounts without any included. All other code is
        // loaded when it is run.
        let code = if value.code_hash == KECCAK_EMPTY {
            Some(self.no_code.clone())
        } else {
            self.new_code(&value.code_hash)
        };
        AccountInfo { account_id: AccountId::new(position), ..value.info(code) }
    }

    /// Takes the reader's turn at a slot that others are changing.
    #[cold]
    fn line_up(&mut self, entry: &'block SlotEntry) -> Result<(), SourceError> {
        self.accesses.lines.push(entry);
        if entry.enter(self.reader, self.reads == Reads::Guess { can_wait: true }) {
            return Ok(());
        }
        self.accesses.waits = true;
        let read = SourceRead::Location(StateLocation::Slot(entry.address(), entry.slot()));
        Err(SourceError::new(read, OutOfOrder))
    }

    fn storage_of(
        &mut self,
        account: &'block AccountEntry,
        key: U256,
    ) -> Result<U256, SourceError> {
        let entry = self.block.state.slot(account.address(), key);
        let foretold = self.block.foretold().filter(|_| !self.is_final());
        let foretold = foretold.and_then(|it| it.slot(account.address(), key, self.reader));
        if foretold.is_none() && entry.is_contended() {
            self.line_up(entry)?;
        }
        let served = match foretold.or_else(|| entry.guess(account, self.reader)) {
            Some(value) => value,
            None => {
                let address = account.address();
                let value = self.source()?.storage(address, key).map_err(|cause| {
                    SourceError::new(SourceRead::Location(StateLocation::Slot(address, key)), cause)
                })?;
                entry.load(value);
                // Somebody may have written it in the meantime.
                entry.guess(account, self.reader).unwrap_or(value)
            }
        };
        self.accesses.slot_reads.push(SlotRead { entry, account, served });
        Ok(served)
    }
}

impl<'block, DB> Database for WorkerDb<'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    type Error = SourceError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, SourceError> {
        let position = self.accesses.account_reads.len();
        let served = self.account(address)?.served;
        Ok(served.map(|value| self.info(position, value)))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, SourceError> {
        if code_hash == KECCAK_EMPTY {
            return Ok(self.no_code.clone());
        }
        if let Some(code) = self.codes.get(&code_hash) {
            return Ok(code.clone());
        }
        // Not kept: it is known to a speculation, and may not be at the frontier.
        let foretold = || {
            let list = self.block.foretold().filter(|_| !self.is_final())?;
            list.code(&code_hash).cloned()
        };
        if let Some(code) = self.new_code(&code_hash).or_else(foretold) {
            return Ok(code);
        }
        let code = self
            .source()?
            .code_by_hash(code_hash)
            .map_err(|cause| SourceError::new(SourceRead::CodeHash(code_hash), cause))?;
        let code = unshared_code(&code);
        self.codes.insert(code_hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, SourceError> {
        self.storage_of(self.block.state.account(address), slot)
    }

    fn storage_by_account_id(
        &mut self,
        address: Address,
        account_id: AccountId,
        slot: U256,
    ) -> Result<U256, SourceError> {
        match self.accesses.account_reads.get(account_id.get()) {
            Some(read) if read.entry.address() == address => {
                let account = read.entry;
                self.storage_of(account, slot)
            }
            _ => self.storage(address, slot),
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, SourceError> {
        if let Some(hash) = self.block_hashes.get(&number) {
            return Ok(*hash);
        }
        let hash = self
            .source()?
            .block_hash(number)
            .map_err(|cause| SourceError::new(SourceRead::BlockHash(number), cause))?;
        self.block_hashes.insert(number, hash);
        Ok(hash)
    }
}

impl<DB> Recorder for WorkerDb<'_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    fn basic_once(&mut self, address: Address) -> Result<Option<AccountInfo>, SourceError> {
        let reads = &self.accesses.account_reads;
        match reads.iter().position(|read| read.entry.address() == address) {
            Some(position) => Ok(reads[position].served.map(|value| self.info(position, value))),
            None => self.basic(address),
        }
    }

    fn balance_was_seen(&mut self, address: Address) {
        if let Some(read) = self.read_of(address) {
            read.balance = BalanceUse::Exact;
        }
    }

    fn balance_was_checked(&mut self, address: Address, balance: U256, needed: U256) {
        if let Some(read) = self.read_of(address) {
            read.balance.require(balance, needed);
        }
    }

    fn nonce_was_seen(&mut self, address: Address) {
        if let Some(read) = self.read_of(address) {
            read.exact_nonce = true;
        }
    }

    fn mapping_hash(&mut self, input: &[u8; 64]) -> B256 {
        self.mapping_hashes.hash(input)
    }
}

/// Why a speculative execution ends where it would look at a precompile with state of its own, or at
/// a slot where others have their turn. The transaction is executed when its turn comes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not before its turn")]
struct OutOfOrder;

impl<DB> fmt::Debug for WorkerDb<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerDb")
            .field("reader", &self.reader)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

//! Does a speculative result stand in the client's block?
//!
//! The engine has validated it against the state that its source shows. Whether that is the state
//! that the client has is asked of the client's database here: what a transaction found is in the
//! changes that it results in, all accounts and slots that were only read included. The hashes of
//! earlier blocks are not, so the source's handles note them.

use super::Counts;
use crate::{CancellationToken, StateSource, admission::GasAdmission};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256};
use core::fmt;
use revm::{
    Database,
    context_interface::result::{ExecutionResult, HaltReason, ResultAndState},
    primitives::KECCAK_EMPTY,
    state::{Account, AccountInfo, Bytecode, EvmState},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

/// Judges the results of one block.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    counts: &'a Counts,
    /// The block's gas, as the committed transactions used it up.
    admission: GasAdmission,
    hashes: BlockHashes,
    /// Whether the source's blocks are not the client's.
    is_elsewhere: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn new(env: &EvmEnv, counts: &'a Counts) -> Self {
        Self {
            counts,
            admission: GasAdmission::new(env),
            hashes: BlockHashes::default(),
            is_elsewhere: false,
        }
    }

    /// Where the source's handles are to note block hashes.
    pub(super) fn hashes(&self) -> BlockHashes {
        self.hashes.clone()
    }

    /// Counts a transaction that is committed.
    pub(super) fn record(&mut self, result: &ExecutionResult<HaltReason>) {
        self.admission.record(result);
    }

    /// Notes that a transaction has to be executed.
    pub(super) fn count_serial(&self) {
        self.counts.serial.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the result is the one that executing the transaction on `db` would have.
    ///
    /// A database that fails says no: the execution that follows runs into the failure again. A
    /// result that stands gets the codes that the database gives with its accounts, as it would
    /// have them had it been executed there.
    pub(super) fn stands<DB: Database>(
        &mut self,
        db: &mut DB,
        gas_limit: u64,
        result: &mut ResultAndState<HaltReason>,
    ) -> bool {
        self.is_elsewhere |= !self.hashes.agree(db);
        let stands = !self.is_elsewhere
            && self.admission.admit(gas_limit).is_ok()
            && was_found(db, &mut result.state).unwrap_or(false);
        if stands {
            self.counts.speculative.fetch_add(1, Ordering::Relaxed);
        }
        stands
    }
}

/// Whether a database holds everything that a transaction with these changes found.
#[expect(clippy::iter_over_hash_type, reason = "each account is compared on its own")]
fn was_found<DB: Database>(db: &mut DB, changes: &mut EvmState) -> Result<bool, DB::Error> {
    for (address, account) in changes {
        if !account_was_found(db, *address, account)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[expect(clippy::iter_over_hash_type, reason = "each slot is compared on its own")]
fn account_was_found<DB: Database>(
    db: &mut DB,
    address: Address,
    account: &mut Account,
) -> Result<bool, DB::Error> {
    let Some(info) = db.basic(address)? else {
        // What does not exist has no slots that anybody would ask for.
        return Ok(account.is_loaded_as_not_existing());
    };
    let found = account.original_info();
    if account.is_loaded_as_not_existing()
        || info.balance != found.balance
        || info.nonce != found.nonce
        || info.code_hash != found.code_hash
    {
        return Ok(false);
    }
    if account.is_created() {
        // Nothing is read of the slots of an account that begins anew.
        return Ok(true);
    }
    // Code has no other value than that of its hash. But whoever keeps a record of what a block
    // needs (a witness) has to see that it was run.
    if found.code_hash != KECCAK_EMPTY && account.info.code.is_some() && info.code.is_none() {
        db.code_by_hash(found.code_hash)?;
    }
    for (key, slot) in &account.storage {
        if db.storage(address, *key)? != slot.original_value {
            return Ok(false);
        }
    }
    if account.info.code.is_none() && account.info.code_hash == info.code_hash {
        account.info.code = info.code;
    }
    Ok(true)
}

/// Hashes of earlier blocks that speculative executions read, until somebody has looked at them.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockHashes(Arc<Mutex<BTreeMap<u64, B256>>>);

impl BlockHashes {
    fn note(&self, number: u64, hash: B256) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, hash);
    }

    /// Whether a database has the same hashes.
    fn agree<DB: Database>(&self, db: &mut DB) -> bool {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        noted.into_iter().all(|(number, hash)| db.block_hash(number).is_ok_and(|it| it == hash))
    }
}

/// A source whose handles note the block hashes that they give.
#[derive(Debug)]
pub(super) struct NotedSource<S> {
    source: S,
    hashes: BlockHashes,
}

impl<S> NotedSource<S> {
    pub(super) const fn new(source: S, hashes: BlockHashes) -> Self {
        Self { source, hashes }
    }
}

impl<S: StateSource> StateSource for NotedSource<S> {
    type Db = NotedDb<S::Db>;
    type Error = S::Error;

    fn open(&self) -> Result<Self::Db, S::Error> {
        Ok(NotedDb { db: self.source.open()?, hashes: self.hashes.clone() })
    }

    fn cancellation(&self) -> Option<&CancellationToken> {
        self.source.cancellation()
    }
}

/// A handle on a [`NotedSource`].
pub(super) struct NotedDb<DB> {
    db: DB,
    hashes: BlockHashes,
}

impl<DB: Database> Database for NotedDb<DB> {
    type Error = DB::Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, DB::Error> {
        self.db.basic(address)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, DB::Error> {
        self.db.code_by_hash(code_hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, DB::Error> {
        self.db.storage(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, DB::Error> {
        let hash = self.db.block_hash(number)?;
        self.hashes.note(number, hash);
        Ok(hash)
    }
}

impl<DB> fmt::Debug for NotedDb<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotedDb").finish_non_exhaustive()
    }
}

//! Where the parent state comes from.

use crate::{
    CancellationToken,
    error::{SourceError, SourceFailure, SourceRead},
};
use alloy_primitives::{Address, B256, U256};
use multilane_state::StateLocation;
use revm::{
    Database, DatabaseRef,
    database::WrapDatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::{error::Error, fmt};

/// A source of parent state that gives each worker a read handle of its own.
///
/// State providers are often `Send` but seldom `Sync`, so the executor never shares a handle: it
/// opens one in each worker thread. A source is
///
/// - any `Fn() -> Result<DB, E> + Sync` that opens a database;
/// - [`Shared`], for a database that all threads may read through a reference.
pub trait StateSource: Sync {
    /// The handle that one worker reads from.
    type Db: Database<Error: Error + Send + Sync + 'static>;
    /// Why a handle could not be opened.
    type Error: Error + Send + Sync + 'static;

    /// Opens a handle, in the thread that will use it.
    ///
    /// # Errors
    ///
    /// Whatever keeps the source from being read; the block then fails with
    /// [`ExecutionError::State`](crate::ExecutionError::State).
    fn open(&self) -> Result<Self::Db, Self::Error>;

    /// What tells whoever executes over this source to stop, if anything does.
    ///
    /// Given by [`Cancellable`](crate::Cancellable); a source around another one hands it on.
    fn cancellation(&self) -> Option<&CancellationToken> {
        None
    }
}

impl<F, DB, E> StateSource for F
where
    F: Fn() -> Result<DB, E> + Sync,
    DB: Database<Error: Error + Send + Sync + 'static>,
    E: Error + Send + Sync + 'static,
{
    type Db = DB;
    type Error = E;

    fn open(&self) -> Result<DB, E> {
        self()
    }
}

/// A [`StateSource`] over a database that all workers read through one reference.
#[derive(Debug)]
pub struct Shared<'a, DB>(pub &'a DB);

// Not derived: a reference can be copied whatever it refers to.
impl<DB> Clone for Shared<'_, DB> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<DB> Copy for Shared<'_, DB> {}

impl<'a, DB> StateSource for Shared<'a, DB>
where
    DB: DatabaseRef<Error: Error + Send + Sync + 'static> + Sync,
{
    type Db = WrapDatabaseRef<&'a DB>;
    type Error = std::convert::Infallible;

    fn open(&self) -> Result<Self::Db, Self::Error> {
        Ok(WrapDatabaseRef(self.0))
    }
}

/// A source that is lent.
pub(crate) struct Lent<'a, S>(pub(crate) &'a S);

impl<S: StateSource> StateSource for Lent<'_, S> {
    type Db = S::Db;
    type Error = S::Error;

    fn open(&self) -> Result<S::Db, S::Error> {
        self.0.open()
    }

    fn cancellation(&self) -> Option<&CancellationToken> {
        self.0.cancellation()
    }
}

/// A handle whose errors name what was read, and which remembers that it failed.
pub(crate) struct SourceDb<DB> {
    db: DB,
    failure: SourceFailure,
}

impl<DB> SourceDb<DB> {
    pub(crate) const fn new(db: DB, failure: SourceFailure) -> Self {
        Self { db, failure }
    }
}

impl<DB: Database<Error: Error + Send + Sync + 'static>> SourceDb<DB> {
    fn name<T>(&self, read: SourceRead, result: Result<T, DB::Error>) -> Result<T, SourceError> {
        result.map_err(|cause| {
            let error = SourceError::new(read, cause);
            self.failure.report(error.clone());
            error
        })
    }
}

impl<DB> fmt::Debug for SourceDb<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceDb").field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl<DB: Database<Error: Error + Send + Sync + 'static>> Database for SourceDb<DB> {
    type Error = SourceError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, SourceError> {
        let result = self.db.basic(address);
        self.name(SourceRead::Location(StateLocation::Account(address)), result)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, SourceError> {
        let result = self.db.code_by_hash(code_hash);
        self.name(SourceRead::CodeHash(code_hash), result)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, SourceError> {
        let result = self.db.storage(address, slot);
        self.name(SourceRead::Location(StateLocation::Slot(address, slot)), result)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, SourceError> {
        let result = self.db.block_hash(number);
        self.name(SourceRead::BlockHash(number), result)
    }
}

//! Giving up on a block that is being executed.
//!
//! The token travels with the source of the parent state, so that every door that takes a source can
//! be told to stop. Workers ask it before each transaction and before each read from the source: at
//! the commit frontier the block then ends there, as it does at a transaction that is invalid.
//! *Must not know*: why the caller gives up.

use crate::source::StateSource;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Tells an execution to stop, from any thread.
///
/// Clones are the same token. It is given to an execution by a [`Cancellable`] source; a token that
/// was cancelled stays so.
#[derive(Clone, Debug, Default)]
pub struct CancellationToken(Arc<AtomicBool>);

impl CancellationToken {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops every execution that has this token.
    ///
    /// Returns at once. Each worker ends the transaction that it is at, or its next read from the
    /// source, whatever comes first; the call then returns
    /// [`ExecutionError::Cancelled`](crate::ExecutionError::Cancelled), unless all transactions were
    /// final by then.
    pub fn cancel(&self) {
        // Relaxed: the flag is all there is to see.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A source whose executions end when a token says so.
///
/// ```
/// # use multilane::{Cancellable, CancellationToken, ExecutionError, ExecutorConfig, OrderedError};
/// # use multilane::{ParallelExecutor, Shared};
/// # use revm::{context::TxEnv, database::{CacheDB, EmptyDB}};
/// # let db = CacheDB::new(EmptyDB::new());
/// # let executor = ParallelExecutor::new(ExecutorConfig::new()).unwrap();
/// let token = CancellationToken::new();
/// let source = Cancellable::new(Shared(&db), token.clone());
/// // In practice another thread does this, at a deadline or when a better block has come.
/// token.cancel();
/// let ended = executor.execute_ordered(
///     &Default::default(),
///     &[TxEnv::default()],
///     &source,
///     |_, _| Ok::<_, std::convert::Infallible>(()),
/// );
/// let cancelled = ExecutionError::Cancelled { transaction: Some(0) };
/// assert_eq!(ended.unwrap_err().to_string(), cancelled.to_string());
/// ```
#[derive(Clone, Debug)]
pub struct Cancellable<S> {
    source: S,
    token: CancellationToken,
}

impl<S> Cancellable<S> {
    /// Gives a token to whatever is executed over `source`.
    pub const fn new(source: S, token: CancellationToken) -> Self {
        Self { source, token }
    }
}

impl<S: StateSource> StateSource for Cancellable<S> {
    type Db = S::Db;
    type Error = S::Error;

    fn open(&self) -> Result<S::Db, S::Error> {
        self.source.open()
    }

    fn cancellation(&self) -> Option<&CancellationToken> {
        Some(&self.token)
    }
}

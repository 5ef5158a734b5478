//! The three ways in which executing a block fails, and the one in which it is given up.

use alloy_evm::block::{BlockExecutionError, BlockValidationError};
use multilane_state::StateLocation;
use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Why a block was not executed. Nothing of a failed block is committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// The block breaks a rule of the chain.
    #[error("invalid block{}: {cause}", At(*.transaction))]
    InvalidBlock {
        /// Index of the transaction that breaks the rule, or `None` for a rule of the whole block.
        transaction: Option<usize>,
        /// The broken rule.
        #[source]
        cause: BlockValidationError,
    },
    /// The state source failed, so the block could not be judged.
    #[error("state source failed{}: {cause}", At(*.transaction))]
    State {
        /// Index of the transaction that read, or `None` outside of transactions.
        transaction: Option<usize>,
        /// What was read, and the source's own error.
        #[source]
        cause: SourceError,
    },
    /// An invariant of the executor is broken: a bug, never the block's fault.
    #[error("internal error{}: {cause}", At(*.transaction))]
    Internal {
        /// Index of the transaction in progress, if any.
        transaction: Option<usize>,
        /// What happened.
        cause: String,
    },
    /// The caller has [cancelled](crate::CancellationToken) the execution.
    #[error("cancelled{}", At(*.transaction))]
    Cancelled {
        /// Index of the first transaction that was not executed, or `None` outside of transactions.
        transaction: Option<usize>,
    },
}

/// " at transaction 7", or nothing.
struct At(Option<usize>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => write!(f, " at transaction {index}"),
            None => Ok(()),
        }
    }
}

impl ExecutionError {
    /// Sorts an alloy-evm error into ours. A failure that the source reported in the meantime is
    /// the cause of whatever alloy-evm made of it.
    pub(crate) fn from_block_error(
        error: BlockExecutionError,
        transaction: Option<usize>,
        failure: &SourceFailure,
    ) -> Self {
        if let Some(cause) = failure.take() {
            return Self::of_read(transaction, cause);
        }
        match error {
            BlockExecutionError::Validation(cause) => Self::InvalidBlock { transaction, cause },
            BlockExecutionError::Internal(cause) => {
                Self::Internal { transaction, cause: cause.to_string() }
            }
        }
    }

    /// A read that ended a block.
    pub(crate) fn of_read(transaction: Option<usize>, cause: SourceError) -> Self {
        match cause.read {
            SourceRead::Stopped => Self::Cancelled { transaction },
            _ => Self::State { transaction, cause },
        }
    }
}

/// A read that the state source could not answer.
#[derive(Clone, Debug)]
pub struct SourceError {
    read: SourceRead,
    cause: Arc<dyn Error + Send + Sync + 'static>,
}

/// What was asked of the source.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SourceRead {
    /// The source was opened for a worker.
    Open,
    /// An account, its code or a slot.
    Location(StateLocation),
    /// Code by its hash.
    CodeHash(alloy_primitives::B256),
    /// The hash of a block.
    BlockHash(u64),
    /// Nothing any more: the execution is to end here.
    Stopped,
}

impl SourceError {
    pub(crate) fn new(read: SourceRead, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { read, cause: Arc::new(cause) }
    }

    /// Ends an execution that nobody wants to go on.
    pub(crate) fn stopped() -> Self {
        Self::new(SourceRead::Stopped, Stopped)
    }

    /// The location that was read, where the read was of a location.
    pub const fn location(&self) -> Option<StateLocation> {
        match self.read {
            SourceRead::Location(location) => Some(location),
            SourceRead::Open
            | SourceRead::CodeHash(_)
            | SourceRead::BlockHash(_)
            | SourceRead::Stopped => None,
        }
    }

    /// The source's own error.
    pub fn cause(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.cause
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read {
            SourceRead::Open => write!(f, "opening it: {}", self.cause),
            SourceRead::Location(location) => write!(f, "reading {location}: {}", self.cause),
            SourceRead::CodeHash(hash) => write!(f, "reading code {hash}: {}", self.cause),
            SourceRead::BlockHash(number) => {
                write!(f, "reading the hash of block {number}: {}", self.cause)
            }
            SourceRead::Stopped => write!(f, "{}", self.cause),
        }
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

impl revm::context::DBErrorMarker for SourceError {}

/// Why a read was not made.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the execution was stopped")]
struct Stopped;

/// Where a database leaves the failure of its source.
///
/// alloy-evm turns some database errors into strings on their way out (system calls), so the error
/// itself is kept beside the call stack.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceFailure(Arc<Mutex<Option<SourceError>>>);

impl SourceFailure {
    /// Notes a failure. The first one is kept: later ones follow from it.
    pub(crate) fn report(&self, error: SourceError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// The failure, if there was one.
    pub(crate) fn take(&self) -> Option<SourceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

//! Why a block is not in the archive.

use super::node::NodeError;
use multilane::ExecutionError;
use std::{fmt, path::PathBuf};

/// Why one block could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum BlockError {
    /// The node did not give what was asked of it.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The node answers that it has no such block.
    #[error("the node has no such block")]
    NotThere,
    /// The node's answer has not the form that JSON-RPC prescribes.
    #[error("the node's {what} is malformed: {cause}")]
    Malformed {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The block contradicts its own header.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The block does not execute on the state that the node states.
    #[error("the block does not execute: {0}")]
    Execution(ExecutionError),
    /// The archive could not be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The task that fetched the block panicked: a bug, never the block's fault.
    #[error("internal error: {0}")]
    Internal(String),
}

impl BlockError {
    /// Sorts an execution error: a failed read of the node's state is the node's failure, and
    /// neither the block's nor the executor's.
    pub(super) fn from_execution(error: ExecutionError) -> Self {
        if let ExecutionError::State { cause, .. } = &error
            && let Some(node) = cause.cause().downcast_ref::<NodeError>()
        {
            return Self::Node(node.clone());
        }
        Self::Execution(error)
    }

    /// Whether the block itself is at fault, and not the way to it.
    pub(super) const fn is_verdict(&self) -> bool {
        matches!(self, Self::Mismatch(_) | Self::Execution(_))
    }

    /// Whether other blocks of the run would fail in the same way.
    pub(super) const fn is_fatal(&self) -> bool {
        match self {
            Self::Node(error) => error.is_fatal(),
            Self::Archive(_) | Self::Internal(_) => true,
            Self::NotThere | Self::Malformed { .. } | Self::Mismatch(_) | Self::Execution(_) => {
                false
            }
        }
    }
}

/// A value of a block that is not what its header, or its own statement, says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{check} does not match: the block states {stated}, computed is {computed}")]
pub(super) struct Mismatch {
    check: String,
    stated: String,
    computed: String,
}

impl Mismatch {
    /// Compares a stated value with the computed one.
    pub(super) fn check<T: PartialEq + fmt::Debug>(
        check: impl fmt::Display,
        stated: T,
        computed: T,
    ) -> Result<(), Self> {
        if stated == computed {
            return Ok(());
        }
        Err(Self {
            check: check.to_string(),
            stated: format!("{stated:?}"),
            computed: format!("{computed:?}"),
        })
    }
}

/// Why the archive directory could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// A file or directory could not be read or written.
    #[error("{action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// The system's own error.
        #[source]
        cause: std::io::Error,
    },
    /// A file of the archive is not what it should be.
    #[error("{}: {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Another process is writing to the archive.
    #[error("another fetch is writing to {}", .0.display())]
    Locked(PathBuf),
    /// The archive has blocks of another chain.
    #[error(
        "{} holds blocks of chain {held}, the node is on chain {offered}: choose another directory",
        path.display()
    )]
    OtherChain {
        /// The archive.
        path: PathBuf,
        /// Chain id of its blocks.
        held: u64,
        /// Chain id of the node.
        offered: u64,
    },
}

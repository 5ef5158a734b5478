//! Multilane: a parallel EVM block executor.
pub mod block_rules;
mod config;
mod error;
mod parallel;
pub mod sequential;
mod source;
mod stats;
pub mod verification;

pub use config::ExecutorConfig;
pub use error::{ExecutionError, SourceError};
pub use multilane_state as state;
pub use parallel::ParallelExecutor;
pub use source::{Shared, StateSource};
pub use stats::{ExecutionMode, ExecutionStats, SequentialReason};

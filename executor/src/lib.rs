//! Multilane: a parallel EVM block executor.
mod admission;
pub mod analyzer;
pub mod block_rules;
mod config;
pub mod conflict_graph;
mod engine;
mod error;
mod executor;
mod merger;
mod parallel_map;
pub mod partitioner;
mod pipeline;
mod scheduler;
pub mod sequential;
mod source;
mod stats;
mod validation;
pub mod verification;
mod worker;

pub use config::ExecutorConfig;
pub use error::{ExecutionError, SourceError};
pub use executor::{OrderedError, ParallelExecutor};
pub use multilane_state as state;
pub use source::{Shared, StateSource};
pub use stats::{ExecutionMode, ExecutionStats, SequentialReason};

//! What observers are told of a block: spans for it and its stages, an event at its end, and, with
//! the feature `metrics`, counters and histograms.
//!
//! All of that happens once a block or once a stage, never once a transaction, and where nobody
//! listens it is a few loads. The figures come from [`ExecutionStats`] alone. *Must not know*: any
//! result.

#[cfg(feature = "metrics")]
mod recorder;

#[cfg(feature = "metrics")]
pub use recorder::describe_metrics;

use crate::stats::{ExecutionMode, ExecutionStats, SequentialReason};
use std::{
    fmt::Display,
    time::{Duration, Instant},
};
use tracing::{debug, debug_span, span::EnteredSpan};

/// The target of the span around a block, and of the event at its end.
const BLOCK: &str = "multilane::block";
/// The target of the spans around stages.
const STAGE: &str = "multilane::stage";

/// Enters the span of a block. `door` is the method that was called.
pub(crate) fn enter_block(
    door: &'static str,
    number: impl Display,
    transactions: Option<usize>,
) -> EnteredSpan {
    debug_span!(target: BLOCK, "block", door, %number, transactions).entered()
}

/// A part of the work on a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Predicting, building the graph, partitioning.
    Plan,
    /// From the first transaction to the last commit.
    Execute,
    /// From there to the output.
    Finish,
    /// Learning from the block, within the finish or behind the execution.
    Learn,
    /// Running a user's inspector over the executed transactions.
    Inspect,
}

impl Stage {
    /// Starts the stage's clock, and enters its span.
    pub(crate) fn enter(self) -> RunningStage {
        let span = match self {
            Self::Plan => debug_span!(target: STAGE, "plan"),
            Self::Execute => debug_span!(target: STAGE, "execute"),
            Self::Finish => debug_span!(target: STAGE, "finish"),
            Self::Learn => debug_span!(target: STAGE, "learn"),
            Self::Inspect => debug_span!(target: STAGE, "inspect"),
        };
        RunningStage { _span: span.entered(), start: Instant::now() }
    }
}

/// A stage that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RunningStage {
    _span: EnteredSpan,
    start: Instant,
}

impl RunningStage {
    /// Time since the stage began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Tells of a block that was executed to its end.
pub(crate) fn executed(stats: &ExecutionStats) {
    debug!(
        target: BLOCK,
        mode = mode_name(stats.mode),
        transactions = stats.transactions,
        executions = stats.executions,
        put_off = stats.put_off,
        conflicts = stats.conflicts,
        lanes = stats.lanes,
        plan_us = micros(stats.plan_time),
        execution_us = micros(stats.execution_time),
        finish_us = micros(stats.finish_time),
        learn_us = micros(stats.learn_time),
        "executed"
    );
    #[cfg(feature = "metrics")]
    recorder::record(stats);
}

const fn mode_name(mode: ExecutionMode) -> &'static str {
    match mode {
        ExecutionMode::Parallel => "parallel",
        ExecutionMode::Sequential(SequentialReason::OneThread) => "one_thread",
        ExecutionMode::Sequential(SequentialReason::SmallBlock) => "small_block",
        ExecutionMode::Sequential(SequentialReason::OneChain) => "one_chain",
        ExecutionMode::Sequential(SequentialReason::MostlyTransfers) => "mostly_transfers",
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

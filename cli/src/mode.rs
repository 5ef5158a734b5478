//! What the executor's own judgement of a block is called.

use multilane::{ExecutionMode, SequentialReason};

/// Why a block ran sequentially by the parallel executor's own judgement, or `None` if it did not.
pub(crate) fn sequential_reason(mode: ExecutionMode) -> Option<&'static str> {
    match mode {
        ExecutionMode::Sequential(SequentialReason::OneThread) => Some("one thread"),
        ExecutionMode::Sequential(SequentialReason::SmallBlock) => Some("small block"),
        ExecutionMode::Sequential(SequentialReason::OneChain) => Some("one chain"),
        ExecutionMode::Sequential(SequentialReason::MostlyTransfers) => Some("transfers"),
        ExecutionMode::Sequential(_) => Some("no gain expected"),
        _ => None,
    }
}

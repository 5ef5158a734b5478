//! One transaction after another, on the calling thread, each on final state.
//!
//! What the executor does where threads are no gain: the same workers and the same merger as the
//! [engine](crate::engine)'s, without anything that two threads would need.

use crate::{
    ExecutionError,
    engine::panic_message,
    executor::open,
    frontier::{End, FinalError, Frontier},
    pipeline::BlockContext,
    scheduler::WorkerId,
    source::StateSource,
    worker::{Reads, Worker},
    workers::Busy,
};
use alloy_evm::EvmEnv;
use multilane_state::TxIndex;
use revm::{
    context::TxEnv,
    context_interface::{
        Transaction,
        result::{HaltReason, ResultAndState},
    },
};
use std::{
    ops::ControlFlow,
    panic::{self, AssertUnwindSafe},
};

/// Runs until everything is final, and delivered if `deliver` is there; or `deliver` breaks, or a
/// transaction has no result.
pub(crate) fn run<'block, S: StateSource>(
    block: &'block BlockContext,
    env: &EvmEnv,
    transactions: &[TxEnv],
    mut frontier: Frontier<'block>,
    source: &S,
    mut deliver: Option<impl FnMut(usize, ResultAndState<HaltReason>) -> ControlFlow<()>>,
) -> Result<(usize, End<'block>), ExecutionError> {
    let _busy = Busy::mark();
    let mut worker = Worker::new(WorkerId::new(0), block, env, open(source)?);
    for (index, tx) in transactions.iter().enumerate() {
        // Unwind safety: after a panic nothing more is executed.
        let committed = panic::catch_unwind(AssertUnwindSafe(|| {
            let outcome = worker.execute(TxIndex::new(index), tx, Reads::Final);
            frontier.commit(&mut worker, tx.gas_limit(), outcome)
        }));
        let committed =
            committed.unwrap_or_else(|payload| Err(FinalError::Panic(panic_message(&*payload))));
        match (committed, &mut deliver) {
            (Ok(last), Some(deliver)) => {
                if deliver(index, last).is_break() {
                    break;
                }
            }
            (Ok(last), None) => frontier.keep(last),
            (Err(error), _) => {
                frontier.fail(error);
                break;
            }
        }
    }
    Ok((worker.executions(), frontier.into_end()))
}

//! One transaction after another, on the calling thread, each on final state.
//!
//! What the executor does where threads are no gain: the same workers and the same merger as the
//! [engine](crate::engine)'s, without anything that two threads would need.

use crate::{
    ExecutionError,
    engine::panic_message,
    executor::open,
    frontier::{Final, FinalError, Frontier},
    pipeline::BlockContext,
    source::StateSource,
    worker::Worker,
    workers::Busy,
};
use alloy_evm::EvmEnv;
use multilane_state::{TxIndex, multi_version::CommittedChanges};
use revm::{context::TxEnv, context_interface::Transaction};
use std::{
    ops::ControlFlow,
    panic::{self, AssertUnwindSafe},
};

/// Runs until everything is delivered, `deliver` breaks, or a transaction has no result. Gives the
/// number of executions, and the changes.
pub(crate) fn run<'block, S: StateSource>(
    block: &'block BlockContext,
    env: &EvmEnv,
    transactions: &[TxEnv],
    mut frontier: Frontier<'block>,
    source: &S,
    mut deliver: impl FnMut(usize, Final) -> ControlFlow<()>,
) -> Result<(usize, CommittedChanges<'block>), ExecutionError> {
    let _busy = Busy::mark();
    let mut worker = Worker::new(block, env, open(source)?);
    let mut executions = 0;
    for (index, tx) in transactions.iter().enumerate() {
        let last = frontier.admit(tx.gas_limit()).and_then(|()| {
            executions += 1;
            // Unwind safety: after a panic nothing more is executed.
            panic::catch_unwind(AssertUnwindSafe(|| {
                let outcome = worker.execute(TxIndex::new(index), tx, true);
                frontier.commit(&mut worker, outcome)
            }))
            .unwrap_or_else(|payload| Err(FinalError::Panic(panic_message(&*payload))))
        });
        frontier.advance(&last);
        if deliver(index, last).is_break() || frontier.failed() {
            break;
        }
    }
    Ok((executions, frontier.into_changes()))
}

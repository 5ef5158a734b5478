//! Inspectors over the transactions of a block.
//!
//! Two passes. The first executes the block as ever, and keeps what each transaction changed; that
//! settles whether the block is valid. In the second nothing depends on anything: each transaction
//! is executed once more, with its inspector, on the state that the first pass says it found.

use super::{OrderedError, ParallelExecutor, final_error, open, unless_cancelled};
use crate::{
    ExecutionError, ExecutionStats, StateSource,
    engine::panic_message,
    error::SourceFailure,
    frontier::FinalError,
    inspection::{Inspected, InspectionContext, InspectionEvm},
    ordered_map::ordered_map,
    sequential,
    source::SourceDb,
    source_cache::CachedSource,
    state_history::StateHistory,
    telemetry::Stage,
    tx_envs::tx_env,
};
use alloy_evm::{
    EvmFactory,
    block::{BlockExecutor, BlockExecutorFactory},
    eth::EthEvmFactory,
};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use revm::{Inspector, database::State};
use std::{
    ops::ControlFlow,
    panic::{self, AssertUnwindSafe},
};

impl ParallelExecutor {
    /// Executes an Ethereum block, and shows each of its transactions to an inspector of its own.
    ///
    /// `inspector` makes the inspector of the transaction at an index; it is called on the workers,
    /// in any order. Each transaction runs on exactly the state that it finds in a serial run, and
    /// `sink` gets the inspectors in block order, on the calling thread, while later transactions
    /// are still inspected. The workers run a few transactions ahead of the sink and then wait for
    /// it, so that traces do not pile up.
    ///
    /// The block is executed first, without inspectors: an invalid block shows none of its
    /// transactions to anybody, and an inspector that changes what its transaction does (by
    /// answering a call itself, for instance) changes neither the output nor what later
    /// transactions find.
    ///
    /// # Errors
    ///
    /// [`OrderedError::Sink`] with the sink's own error, after which nothing more comes. Otherwise
    /// the errors of [`execute_block`](Self::execute_block); and [`ExecutionError::Internal`] with
    /// the index of the first transaction whose inspector panicked, after those before it have been
    /// handed over.
    pub fn inspect_block<S, I, E>(
        &self,
        chain: &ChainSpec,
        block: &BlockInput,
        source: &S,
        inspector: impl Fn(usize) -> I + Sync,
        mut sink: impl FnMut(usize, Inspected<I>) -> Result<(), E>,
    ) -> Result<(BlockOutput, ExecutionStats), OrderedError<E>>
    where
        S: StateSource,
        I: for<'db> Inspector<InspectionContext<'db, S::Db>> + Send,
    {
        let source = CachedSource::new(source);
        let cached = &source;
        let mut history = history_before(chain, block, cached).map_err(OrderedError::Execution)?;
        let executed = self
            .execute_block_observed(chain, block, &cached, |index, changes| {
                history.record(index + 1, changes);
            })
            .map_err(OrderedError::Execution)?;

        let _stage = Stage::Inspect.enter();
        let (history, env) = (&history, chain.evm_env(&block.header));
        let start = || {
            guarded(None, || {
                let parent = SourceDb::new(open(&cached)?, SourceFailure::default());
                Ok(InspectionEvm::new(&env, history, parent))
            })
        };
        let mut refused = None;
        let deliver = |index, inspected| match sink(index, inspected) {
            Ok(()) => ControlFlow::Continue(()),
            Err(cause) => {
                refused = Some(cause);
                ControlFlow::Break(())
            }
        };
        // Written here and not above: the type of its argument has a lifetime of this call alone.
        ordered_map(
            self.workers(),
            block.transactions.len(),
            start,
            |evm, index: usize| {
                guarded(Some(index), || {
                    unless_cancelled(&cached, Some(index))?;
                    let tx = &block.transactions[index];
                    evm.inspect(index, tx_env(tx), inspector(index))
                        .map_err(|error| final_error(index, FinalError::Evm(error), *tx.hash()))
                })
            },
            deliver,
        )
        .map_err(OrderedError::Execution)?;
        match refused {
            Some(cause) => Err(OrderedError::Sink(cause)),
            None => Ok(executed),
        }
    }
}

/// The history of a block in which only the protocol's calls before the first transaction happened.
fn history_before<S: StateSource>(
    chain: &ChainSpec,
    block: &BlockInput,
    source: &CachedSource<'_, S>,
) -> Result<StateHistory, ExecutionError> {
    let failure = SourceFailure::default();
    let parent = SourceDb::new(open(&source)?, failure.clone());
    let mut state = State::builder().with_database(parent).build();
    let evm = EthEvmFactory::default().create_evm(&mut state, chain.evm_env(&block.header));
    sequential::block_executor_factory(chain)
        .create_executor(evm, sequential::execution_context(block))
        .apply_pre_execution_changes()
        .map_err(|error| ExecutionError::from_block_error(error, None, &failure))?;
    Ok(StateHistory::before(&state.cache))
}

/// Runs what may run a user's code. A panic is an error.
fn guarded<T>(
    transaction: Option<usize>,
    job: impl FnOnce() -> Result<T, ExecutionError>,
) -> Result<T, ExecutionError> {
    // Unwind safety: what the job owns is gone after a panic, and what is shared it only reads.
    panic::catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|payload| {
        Err(ExecutionError::Internal { transaction, cause: panic_message(&*payload) })
    })
}

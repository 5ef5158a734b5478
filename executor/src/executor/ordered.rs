//! Transactions without a block around them.

use super::{ParallelExecutor, final_error};
use crate::{
    ExecutionError, ExecutionStats, StateSource,
    engine::Handover,
    frontier::Final,
    merger,
    pipeline::{BlockContext, Execution},
    source::Shared,
};
use alloy_evm::EvmEnv;
use multilane_state::multi_version::CommittedChanges;
use revm::{
    DatabaseRef,
    context::TxEnv,
    context_interface::result::{ExecutionResult, HaltReason, ResultAndState},
    database::BundleState,
};
use std::{convert::Infallible, error::Error, ops::ControlFlow};

impl ParallelExecutor {
    /// Executes transactions and hands each final result to `sink`, in order, on the calling
    /// thread, while later ones still run.
    ///
    /// The result of a transaction is what revm's `transact` gives in a serial run where each
    /// transaction is committed before the next. Up to a few thousand results wait for a slow
    /// sink; then the workers wait for it.
    ///
    /// # Errors
    ///
    /// [`OrderedError::Sink`] with the sink's own error, after which no more results come;
    /// [`OrderedError::Execution`] otherwise. Results before the failing transaction have been
    /// handed over.
    pub fn execute_ordered<S, E>(
        &self,
        env: &EvmEnv,
        transactions: &[TxEnv],
        source: &S,
        mut sink: impl FnMut(usize, ResultAndState<HaltReason>) -> Result<(), E>,
    ) -> Result<ExecutionStats, OrderedError<E>>
    where
        S: StateSource,
    {
        let block = BlockContext::new(env, transactions, true);
        let ran =
            self.run(&block, env, transactions, source, Handover::Streamed, |index, result| {
                sink(index, result).map_err(OrderedError::Sink)
            });
        ran.map(|(_, stats)| stats)
    }

    /// Executes transactions over a database that all threads can read.
    ///
    /// The simple door: no chain specification and no system calls, only transactions in an
    /// environment. Gives their results in order and the net state changes with reverts.
    ///
    /// # Errors
    ///
    /// See [`ExecutionError`].
    pub fn execute_block_ref<DB>(
        &self,
        db: &DB,
        env: &EvmEnv,
        transactions: &[TxEnv],
    ) -> Result<(Vec<ExecutionResult>, BundleState), ExecutionError>
    where
        DB: DatabaseRef<Error: Error + Send + Sync + 'static> + Sync,
    {
        let block = BlockContext::new(env, transactions, false);
        let mut results = Vec::with_capacity(transactions.len());
        let ran =
            self.run(&block, env, transactions, &Shared(db), Handover::AtTheEnd, |_, last| {
                results.push(last.result);
                Ok::<_, OrderedError<Infallible>>(())
            });
        match ran {
            Ok((changes, _)) => Ok((results, merger::bundle(self.workers(), &block, changes))),
            Err(OrderedError::Execution(error)) => Err(error),
            Err(OrderedError::Sink(never)) => match never {},
        }
    }

    /// Plans and executes transactions, and hands their results to `accept` until it fails.
    fn run<'block, S, E>(
        &'block self,
        block: &'block BlockContext,
        env: &'block EvmEnv,
        transactions: &'block [TxEnv],
        source: &S,
        handover: Handover,
        mut accept: impl FnMut(usize, ResultAndState<HaltReason>) -> Result<(), OrderedError<E>>,
    ) -> Result<(CommittedChanges<'block>, ExecutionStats), OrderedError<E>>
    where
        S: StateSource,
    {
        let mut planned = self.plan(transactions, env, source);
        let mut learner = self.learner(&mut planned, Some(block), env, transactions);
        let mut error = None;
        let deliver = |index: usize, last: Final| {
            if let (Ok(result), Some(learner)) = (&last, &mut learner) {
                learner.consider(index, result);
            }
            let accepted = last
                .map_err(|cause| {
                    OrderedError::Execution(final_error(index, cause, Default::default()))
                })
                .and_then(|result| accept(index, result));
            match accepted {
                Ok(()) => ControlFlow::Continue(()),
                Err(cause) => {
                    error = Some(cause);
                    ControlFlow::Break(())
                }
            }
        };
        let execution = Execution {
            workers: self.workers(),
            block,
            env,
            transactions,
            changes: CommittedChanges::default(),
            admission: None,
            handover,
        };
        let ran = execution.run(&mut planned, source, deliver);
        match (error, ran) {
            (Some(error), _) => Err(error),
            (None, Ok(changes)) => {
                if let Some(learner) = learner {
                    learner.learn(self.workers());
                }
                Ok((changes, planned.stats))
            }
            (None, Err(error)) => Err(OrderedError::Execution(error)),
        }
    }
}

/// Why [`ParallelExecutor::execute_ordered`] ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderedError<E> {
    /// A transaction could not be executed.
    #[error(transparent)]
    Execution(ExecutionError),
    /// The sink refused a result.
    #[error("the sink failed: {0}")]
    Sink(E),
}

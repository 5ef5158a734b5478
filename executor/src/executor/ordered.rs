//! Transactions without a block around them.

use super::{ParallelExecutor, final_error};
use crate::{
    ExecutionError, ExecutionStats, StateSource, merger,
    pipeline::{BlockContext, Execution},
    prefetch::Prefetch,
    source::Shared,
    telemetry::{self, Stage},
};
use alloy_evm::EvmEnv;
use alloy_primitives::B256;
use multilane_state::multi_version::CommittedChanges;
use revm::{
    DatabaseRef,
    context::TxEnv,
    context_interface::result::{ExecutionResult, HaltReason, ResultAndState},
    database::BundleState,
};
use std::{error::Error, num::NonZeroUsize, ops::ControlFlow};

impl<B> ParallelExecutor<B> {
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
        let _block = telemetry::enter_block(
            "execute_ordered",
            env.block_env.number,
            Some(transactions.len()),
        );
        let block = self.context(env, transactions, source, true);
        let mut planned = self.plan(transactions, env, source);
        let mut learner = self.learner(&mut planned, Some(&block), env, transactions);
        let mut refused = None;
        let mut deliver = |index: usize, last| {
            if let Some(learner) = &mut learner {
                learner.consider(index, &last);
            }
            match sink(index, last) {
                Ok(()) => ControlFlow::Continue(()),
                Err(cause) => {
                    refused = Some(cause);
                    ControlFlow::Break(())
                }
            }
        };
        let ran =
            self.execution(&block, env, transactions).stream(&mut planned, source, &mut deliver);
        if let Some(cause) = refused {
            return Err(OrderedError::Sink(cause));
        }
        match ran.map(|end| (end.contention, end.failure)) {
            Ok((contention, None)) => {
                if let Some(learner) = learner {
                    planned.stats.learn_time = learner.learn(self.workers(), source, &contention);
                }
                telemetry::executed(&planned.stats);
                Ok(planned.stats)
            }
            Ok((_, Some((index, cause)))) => Err(final_error(index, cause, B256::ZERO)),
            Err(error) => Err(error),
        }
        .map_err(OrderedError::Execution)
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
        let _block = telemetry::enter_block(
            "execute_block_ref",
            env.block_env.number,
            Some(transactions.len()),
        );
        let block = self.context(env, transactions, &Shared(db), false);
        let mut planned = self.plan(transactions, env, &Shared(db));
        let learner = self.learner(&mut planned, Some(&block), env, transactions);
        let end = self.execution(&block, env, transactions).run(&mut planned, &Shared(db))?;
        if let Some((index, cause)) = end.failure {
            return Err(final_error(index, cause, B256::ZERO));
        }
        let stage = Stage::Finish.enter();
        if let Some(mut learner) = learner {
            learner.consider_all(end.gas.total(), &end.results, end.studied);
            planned.stats.learn_time = learner.learn(self.workers(), &Shared(db), &end.contention);
        }
        let bundle = merger::bundle(self.workers(), &block, end.changes);
        planned.stats.finish_time = stage.elapsed();
        drop(stage);
        telemetry::executed(&planned.stats);
        Ok((end.results, bundle))
    }

    /// Transactions with nothing around them.
    pub(crate) fn execution<'run, 'block>(
        &'run self,
        block: &'block BlockContext,
        env: &'run EvmEnv,
        transactions: &'run [TxEnv],
    ) -> Execution<'run, 'block> {
        Execution {
            workers: self.workers(),
            block,
            env,
            transactions,
            changes: CommittedChanges::default(),
            admission: None,
            prefetch: NonZeroUsize::new(self.config.prefetch_threads)
                .map(|threads| Prefetch { threads, profile: self.profile.as_deref() }),
        }
    }
}

/// Why [`ParallelExecutor::execute_ordered`] or [`ParallelExecutor::inspect_block`] ended early.
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

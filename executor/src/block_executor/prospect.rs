//! A block that can be executed on several threads: what that takes besides its transactions.

use super::{
    Listener, Lookahead,
    ahead::Ahead,
    judge::{BlockHashes, NotedSource},
};
use crate::{
    ExecutionMode, ExecutionStats, ParallelExecutor, StateSource,
    error::SourceFailure,
    source::{Lent, SourceDb},
    telemetry,
};
use alloy_evm::{
    Evm, EvmEnv, EvmFactory,
    block::{BlockExecutor, BlockExecutorFactory},
};
use core::fmt;
use revm::{
    context::{BlockEnv, TxEnv},
    context_interface::result::{HaltReason, ResultAndState},
    database::{CacheState, State},
    primitives::hardfork::SpecId,
};
use std::{
    ops::ControlFlow,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

/// What speculating on a block takes.
pub(super) struct Prospect<'a, F: BlockExecutorFactory, S, B> {
    pub(super) factory: &'a F,
    pub(super) executor: &'a Arc<ParallelExecutor<B>>,
    pub(super) context: F::ExecutionCtx<'a>,
    pub(super) env: EvmEnv,
    pub(super) known: Lookahead<S>,
    pub(super) listener: Option<Listener>,
}

/// The environment that an EVM executes in.
pub(super) fn env_of<E>(evm: &E) -> EvmEnv
where
    E: Evm<Spec = SpecId, BlockEnv = BlockEnv>,
{
    EvmEnv { cfg_env: evm.cfg_env().clone(), block_env: evm.block().clone() }
}

impl<F, S, B> Prospect<'_, F, S, B>
where
    F: BlockExecutorFactory<
        EvmFactory: EvmFactory<
            Tx = TxEnv,
            HaltReason = HaltReason,
            Spec = SpecId,
            BlockEnv = BlockEnv,
        >,
    >,
    S: StateSource,
{
    /// Executes transactions, and hands over their results in order, as far as it gets.
    pub(super) fn run(
        self,
        transactions: &[TxEnv],
        hashes: BlockHashes,
        deliver: &mut dyn FnMut(usize, ResultAndState<HaltReason>) -> ControlFlow<()>,
    ) {
        let source = NotedSource::new(Lent(&self.known.source), hashes);
        let before = || self.state_before();
        let stats = speculate(self.executor, &self.env, transactions, &source, before, deliver);
        tell(self.listener.as_ref(), stats);
    }

    /// Starts executing the transactions that are known, if there is anything to gain.
    pub(super) fn start(self, hashes: BlockHashes) -> Option<Ahead>
    where
        S: Send + 'static,
        B: 'static,
    {
        if self.known.transactions.is_empty() || self.executor.workers().threads() == 1 {
            return None;
        }
        let before = self.state_before()?;
        let Self { executor, env, known: Lookahead { source, transactions }, listener, .. } = self;
        let source = NotedSource::new(source, hashes);
        Ahead::start(Arc::clone(executor), env, before, transactions, source, listener)
    }

    /// What the block changes before its first transaction, or `None` if that cannot be told.
    fn state_before(&self) -> Option<CacheState> {
        // Unwind safety: what a panic of the source interrupts is made for this and dropped.
        panic::catch_unwind(AssertUnwindSafe(|| self.try_state_before())).ok().flatten()
    }

    fn try_state_before(&self) -> Option<CacheState> {
        let parent = SourceDb::new(self.known.source.open().ok()?, SourceFailure::default());
        let mut state = State::builder().with_database(parent).build();
        let evm = self.factory.evm_factory().create_evm(&mut state, self.env.clone());
        let mut executor = self.factory.create_executor(evm, self.context.clone());
        executor.apply_pre_execution_changes().ok()?;
        drop(executor);
        Some(state.cache)
    }
}

/// Executes transactions after the changes that come before the first of them, and hands over their
/// results in order, as far as it gets. Where threads are not worth it, or nobody can tell `before`,
/// that is nowhere. Gives the statistics of a block that was executed to its end, or not at all.
pub(super) fn speculate<S: StateSource, B>(
    executor: &ParallelExecutor<B>,
    env: &EvmEnv,
    transactions: &[TxEnv],
    source: &NotedSource<S>,
    before: impl FnOnce() -> Option<CacheState>,
    deliver: &mut dyn FnMut(usize, ResultAndState<HaltReason>) -> ControlFlow<()>,
) -> Option<ExecutionStats> {
    let number = env.block_env.number;
    let _block = telemetry::enter_block("block_executor", number, Some(transactions.len()));
    let mut planned = executor.plan(transactions, env, source);
    if let ExecutionMode::Sequential(_) = planned.stats.mode {
        return Some(planned.stats);
    }
    let before = before()?;
    let block = executor.context(env, transactions, source, true);
    block.seed(&before);
    let mut learner = executor.learner(&mut planned, None, env, transactions);
    let mut delivered = 0;
    let mut deliver = |index, last| {
        if let Some(learner) = &mut learner {
            learner.consider(index, &last);
        }
        delivered += 1;
        deliver(index, last)
    };
    // Whatever fails here, the client runs into by itself if it is real.
    let run = executor.execution(&block, env, transactions);
    let end = run.stream(&mut planned, source, &mut deliver).ok()?;
    if delivered < transactions.len() {
        return None;
    }
    if let Some(learner) = learner {
        planned.stats.learn_time = learner.learn(executor.workers(), source, &end.contention);
    }
    telemetry::executed(&planned.stats);
    Some(planned.stats)
}

/// Tells whoever listens how a block went.
pub(super) fn tell(listener: Option<&Listener>, stats: Option<ExecutionStats>) {
    if let (Some(listener), Some(stats)) = (listener, stats) {
        listener(&stats);
    }
}

impl<F: BlockExecutorFactory, S, B> fmt::Debug for Prospect<'_, F, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prospect").field("env", &self.env).finish_non_exhaustive()
    }
}

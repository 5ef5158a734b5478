//! The parallel executor: its threads, and the doors to it.

mod build;
mod ethereum;
mod factory;
mod inspect;
mod ordered;

pub use build::{BuiltBlock, SkipReason, Skipped};
pub use ordered::OrderedError;

use crate::{
    AccessHints, ExecutionError, ExecutorConfig,
    analyzer::{AccessPrediction, Learner, Profile, excerpt},
    backend::{EvmBackend, Mainnet},
    error::{SourceError, SourceRead},
    frontier::FinalError,
    pipeline::{self, BlockContext, Foresight, Planned, Predictor, Rules},
    source::StateSource,
    workers::Workers,
};
use alloy_evm::{EvmEnv, block::BlockExecutionError};
use alloy_primitives::B256;
use revm::{context::TxEnv, context_interface::result::EVMError};
use std::{fmt, marker::PhantomData, sync::Arc};

/// Executes blocks on several threads, with the result of one.
///
/// It keeps its worker threads between blocks. The calling thread works too, so `threads` of them
/// are busy during a call and none between calls. A call from inside another one, from a sink for
/// instance, uses the calling thread alone.
///
/// `B` says what executes the transactions: mainnet's EVM, or a
/// [backend](ParallelExecutor::with_backend)'s.
pub struct ParallelExecutor<B = Mainnet> {
    config: ExecutorConfig,
    pool: rayon::ThreadPool,
    predictor: Option<Box<Predictor>>,
    profile: Option<Arc<Profile>>,
    backend: Option<Arc<dyn EvmBackend>>,
    kind: PhantomData<fn() -> B>,
}

impl ParallelExecutor {
    /// Starts the worker threads.
    ///
    /// # Errors
    ///
    /// [`ExecutionError::Internal`] if the system refuses to start threads.
    pub fn new(config: ExecutorConfig) -> Result<Self, ExecutionError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads((config.threads.get() - 1).max(1))
            .thread_name(|index| format!("multilane-{index}"))
            .build()
            .map_err(|cause| ExecutionError::Internal {
                transaction: None,
                cause: format!("cannot start worker threads: {cause}"),
            })?;
        let (predictor, profile, backend) = (None, None, None);
        Ok(Self { config, pool, predictor, profile, backend, kind: PhantomData })
    }
}

impl<B> ParallelExecutor<B> {
    /// Executes transactions with the EVMs of a backend instead of mainnet's.
    ///
    /// What is left are the doors that do not make the rules of Ethereum their own:
    /// [`execute_ordered`](Self::execute_ordered), [`execute_block_ref`](Self::execute_block_ref),
    /// [`execute_block_with`](Self::execute_block_with), and the
    /// [drop-in factory](crate::ParallelBlockExecutorFactory).
    #[must_use]
    pub fn with_backend<C: EvmBackend + 'static>(self, backend: C) -> ParallelExecutor<C> {
        let Self { config, pool, predictor, profile, .. } = self;
        let backend: Option<Arc<dyn EvmBackend>> = Some(Arc::new(backend));
        ParallelExecutor { config, pool, predictor, profile, backend, kind: PhantomData }
    }

    /// Replaces the analyzer.
    ///
    /// The predictor gets a block's transactions, and whether payments commute under its rules; it
    /// gives one prediction a transaction. What it says changes how long a block takes, never what
    /// comes out.
    #[must_use]
    pub fn with_predictor(
        mut self,
        predictor: impl Fn(&[TxEnv], bool) -> Vec<AccessPrediction> + Send + Sync + 'static,
    ) -> Self {
        self.predictor = Some(Box::new(predictor));
        self
    }

    /// Lets the executor learn about the contracts that it runs, and predict by what is learned.
    ///
    /// Executors may share a profile. Without one nothing is learned: templates foresee nearly every
    /// conflict, but working out a prediction still takes longer than most conflicts do.
    #[must_use]
    pub fn with_profile(mut self, profile: Arc<Profile>) -> Self {
        self.profile = Some(profile);
        self
    }

    /// What the executor predicts by, and learns into, if it does.
    pub fn profile(&self) -> Option<&Arc<Profile>> {
        self.profile.as_ref()
    }

    /// The settings.
    pub const fn config(&self) -> &ExecutorConfig {
        &self.config
    }

    /// The threads that a call on this thread may use.
    pub(crate) fn workers(&self) -> Workers<'_> {
        Workers::for_this_thread(&self.pool, self.config.threads.get())
    }

    /// Decides how to execute transactions.
    pub(crate) fn plan<S: StateSource>(
        &self,
        transactions: &[TxEnv],
        env: &EvmEnv,
        source: &S,
    ) -> Planned {
        self.plan_hinted(transactions, env, source, None, &AccessHints::None)
    }

    /// Decides how to execute the transactions of a block of which more is known: the gas that it
    /// is said to use, and what it is said to access.
    fn plan_hinted<S: StateSource>(
        &self,
        transactions: &[TxEnv],
        env: &EvmEnv,
        source: &S,
        claimed_gas: Option<u64>,
        hints: &AccessHints,
    ) -> Planned {
        let foresight = match (&self.predictor, hints.list()) {
            (Some(predictor), _) => Foresight::Predictor(predictor.as_ref()),
            (None, Some(_)) => Foresight::AccessList,
            (None, None) => Foresight::Analyzer(self.profile.as_deref()),
        };
        let commute = Rules::of(env, self.backend.as_deref()).balances_commute;
        pipeline::plan(
            transactions,
            (env, commute),
            self.workers(),
            foresight,
            source,
            claimed_gas,
            &self.config,
        )
    }

    /// What the workers of a block share.
    pub(crate) fn context<S: StateSource>(
        &self,
        env: &EvmEnv,
        transactions: &[TxEnv],
        source: &S,
        keeps_changes: bool,
    ) -> BlockContext {
        BlockContext::new(env, transactions, keeps_changes)
            .with_backend(env, self.backend.as_ref())
            .with_cancellation(source.cancellation())
            .with_learning(
                self.learns_into()
                    .map_or(0..0, |_| excerpt(env.block_env.number, transactions.len())),
            )
    }

    /// What the executor learns into, if it does.
    fn learns_into(&self) -> Option<&Profile> {
        self.profile.as_deref().filter(|_| self.predictor.is_none())
    }

    /// Who learns from a block, if anybody is to.
    pub(crate) fn learner<'a>(
        &'a self,
        planned: &mut Planned,
        block: Option<&BlockContext>,
        env: &'a EvmEnv,
        transactions: &'a [TxEnv],
    ) -> Option<Learner<'a>> {
        let profile = self.learns_into()?;
        let predictions = std::mem::take(&mut planned.predictions);
        let learner = Learner::new(profile, env, transactions, predictions);
        if let Some(block) = block {
            block.study(learner.chosen());
        }
        Some(learner)
    }
}

impl<B> fmt::Debug for ParallelExecutor<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelExecutor").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Opens a handle of the source on the calling thread.
pub(crate) fn open<S: StateSource>(source: &S) -> Result<S::Db, ExecutionError> {
    source.open().map_err(|cause| ExecutionError::State {
        transaction: None,
        cause: SourceError::new(SourceRead::Open, cause),
    })
}

/// Refuses to begin, or to go on with, what nobody wants any more.
pub(crate) fn unless_cancelled<S: StateSource>(
    source: &S,
    transaction: Option<usize>,
) -> Result<(), ExecutionError> {
    match source.cancellation() {
        Some(token) if token.is_cancelled() => Err(ExecutionError::Cancelled { transaction }),
        _ => Ok(()),
    }
}

/// Sorts an engine's last word on a transaction into the errors of a serial run.
fn final_error(index: usize, error: FinalError, hash: B256) -> ExecutionError {
    let transaction = Some(index);
    match error {
        FinalError::Gas(cause) => ExecutionError::InvalidBlock { transaction, cause },
        FinalError::Source(cause) | FinalError::Evm(EVMError::Database(cause)) => {
            ExecutionError::of_read(transaction, cause)
        }
        FinalError::Evm(error) => match BlockExecutionError::evm(error, hash) {
            BlockExecutionError::Validation(cause) => {
                ExecutionError::InvalidBlock { transaction, cause }
            }
            BlockExecutionError::Internal(cause) => {
                ExecutionError::Internal { transaction, cause: cause.to_string() }
            }
        },
        FinalError::Panic(cause) => ExecutionError::Internal { transaction, cause },
    }
}

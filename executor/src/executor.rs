//! The parallel executor's front: whole blocks, ordered results, and the simple door.

use crate::{
    ExecutionError, ExecutionStats, ExecutorConfig, StateSource,
    admission::GasAdmission,
    analyzer::{AccessPrediction, Learner, Profile},
    engine::{EngineError, Final, FinalError},
    error::{SourceError, SourceFailure, SourceRead},
    parallel_map::parallel_map,
    pipeline::{self, Foresight, Planned, Predictor},
    sequential,
    source::{Shared, SourceDb},
    stats::ExecutionMode,
    workers::Workers,
};
use alloy_consensus::{Transaction, TransactionEnvelope, transaction::Recovered};
use alloy_eips::Encodable2718;
use alloy_evm::{
    Evm, EvmEnv, EvmFactory, FromRecoveredTx, FromTxWithEncoded, RecoveredTx,
    block::{
        BlockExecutionError, BlockExecutionResult, BlockExecutor, BlockExecutorFactory,
        BlockValidationError,
    },
    eth::EthTxResult,
};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use revm::{
    DatabaseCommit, DatabaseRef, ExecuteEvm,
    context::{BlockEnv, TxEnv},
    context_interface::result::{EVMError, ExecutionResult, HaltReason, ResultAndState},
    database::{BundleState, CacheState, State, states::bundle_state::BundleRetention},
    primitives::hardfork::SpecId,
    state::EvmState,
};
use std::{error::Error, fmt, ops::ControlFlow, sync::Arc};

/// Executes blocks on several threads, with the result of one.
///
/// It keeps its worker threads between blocks. The calling thread works too, so `threads` of them
/// are busy during a call and none between calls. A call from inside another one, from a sink for
/// instance, uses the calling thread alone.
pub struct ParallelExecutor {
    config: ExecutorConfig,
    pool: rayon::ThreadPool,
    predictor: Option<Box<Predictor>>,
    profile: Arc<Profile>,
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
        Ok(Self { config, pool, predictor: None, profile: Arc::default() })
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

    /// Replaces the executor's own profile, in which it keeps what it learns about contracts, by one
    /// that others may share.
    #[must_use]
    pub fn with_profile(mut self, profile: Arc<Profile>) -> Self {
        self.profile = profile;
        self
    }

    /// What the executor has learned.
    pub const fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// The settings.
    pub const fn config(&self) -> &ExecutorConfig {
        &self.config
    }

    /// Executes an Ethereum block.
    ///
    /// # Errors
    ///
    /// See [`ExecutionError`]; the same error as [`sequential::execute_block`].
    pub fn execute_block<S: StateSource>(
        &self,
        chain: &ChainSpec,
        block: &BlockInput,
        source: &S,
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        self.execute_block_observed(chain, block, source, |_, _| {})
    }

    /// Executes an Ethereum block and shows `observe` the finalized state changes of each
    /// transaction, in order, on the calling thread, before they are committed.
    ///
    /// # Errors
    ///
    /// As [`execute_block`](Self::execute_block).
    pub fn execute_block_observed<S: StateSource>(
        &self,
        chain: &ChainSpec,
        block: &BlockInput,
        source: &S,
        observe: impl FnMut(usize, &EvmState),
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        let factory = sequential::block_executor_factory(chain);
        let (result, bundle, stats) = self.execute_block_with(
            &factory,
            chain.evm_env(&block.header),
            sequential::execution_context(block),
            &block.transactions,
            source,
            observe,
        )?;
        let output = BlockOutput {
            receipts: result.receipts,
            requests: result.requests,
            gas_used: result.gas_used,
            blob_gas_used: result.blob_gas_used,
            bundle,
        };
        Ok((output, stats))
    }

    /// Executes a whole block through an alloy-evm [`BlockExecutorFactory`].
    ///
    /// The factory's executor does what it does in a serial run (changes before the first
    /// transaction, commits in order, receipts, changes after the last one); the transactions
    /// themselves run on all workers. Gas admission, which alloy-evm does in
    /// `execute_transaction_without_commit`, is repeated before each commit. `observe` sees the
    /// finalized state changes of each transaction before they are committed.
    ///
    /// The workers run mainnet's EVM under the rules of `env`, whatever EVM the factory builds: a
    /// factory with precompiles, instructions or a handler of its own is not supported.
    ///
    /// # Errors
    ///
    /// See [`ExecutionError`].
    pub fn execute_block_with<'a, F, S, T>(
        &self,
        factory: &'a F,
        env: EvmEnv,
        context: F::ExecutionCtx<'a>,
        transactions: &[Recovered<T>],
        source: &S,
        mut observe: impl FnMut(usize, &EvmState),
    ) -> Result<(BlockExecutionResult<F::Receipt>, BundleState, ExecutionStats), ExecutionError>
    where
        F: BlockExecutorFactory<
                Transaction = T,
                TxExecutionResult = EthTxResult<HaltReason, T::TxType>,
                EvmFactory: EvmFactory<
                    Tx = TxEnv,
                    HaltReason = HaltReason,
                    Spec = SpecId,
                    BlockEnv = BlockEnv,
                >,
            >,
        T: TransactionEnvelope + Transaction + Encodable2718 + Sync,
        T::TxType: Send + 'static,
        TxEnv: FromRecoveredTx<T> + FromTxWithEncoded<T>,
        S: StateSource,
    {
        let failure = SourceFailure::default();
        let db = source.open().map_err(open_failed)?;
        let mut state = State::builder()
            .with_database(SourceDb::new(db, failure.clone()))
            .with_bundle_update()
            .build();
        let evm = factory.evm_factory().create_evm(&mut state, env.clone());
        let mut executor = factory.create_executor(evm, context);
        let outside = |error| ExecutionError::from_block_error(error, None, &failure);
        executor.apply_pre_execution_changes().map_err(outside)?;

        let tx_envs = parallel_map(self.workers(), transactions, |_, tx| to_tx_env(tx));
        let mut planned = self.plan(&tx_envs, &env, source);
        let mut learner = self.learner(&mut planned, &env, &tx_envs);
        if let ExecutionMode::Sequential(_) = planned.stats.mode {
            for (index, transaction) in transactions.iter().enumerate() {
                let result = executor
                    .execute_transaction_without_commit(transaction)
                    .map_err(|e| ExecutionError::from_block_error(e, Some(index), &failure))?;
                observe(index, &result.result.state);
                if let Some(learner) = &mut learner {
                    learner.consider(index, &result.result);
                }
                executor.commit_transaction(result);
            }
            planned.stats.executions = transactions.len();
        } else {
            let before = executor.evm().db().cache.clone();
            let mut admission = GasAdmission::new(&env);
            let mut error = None;
            let deliver = |index: usize, last: Final| {
                let tx = transactions[index].inner();
                let result = admission
                    .admit(tx.gas_limit())
                    .map_err(|cause| invalid(index, cause))
                    .and_then(|()| last.map_err(|cause| final_error(index, cause, tx.trie_hash())));
                match result {
                    Ok(result) => {
                        admission.record(&result.result);
                        observe(index, &result.state);
                        if let Some(learner) = &mut learner {
                            learner.consider(index, &result);
                        }
                        executor.commit_transaction(EthTxResult {
                            result,
                            blob_gas_used: tx.blob_gas_used().unwrap_or_default(),
                            tx_type: tx.tx_type(),
                        });
                        ControlFlow::Continue(())
                    }
                    Err(cause) => {
                        error = Some(cause);
                        ControlFlow::Break(())
                    }
                }
            };
            self.run(&mut planned, &env, &tx_envs, &before, source, deliver)?;
            if let Some(error) = error {
                return Err(error);
            }
        }

        let (_, result) = executor.finish().map_err(outside)?;
        if let Some(learner) = learner {
            learner.learn(self.workers());
        }
        state.merge_transitions(BundleRetention::Reverts);
        Ok((result, state.take_bundle(), planned.stats))
    }

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
        let mut planned = self.plan(transactions, env, source);
        let mut learner = self.learner(&mut planned, env, transactions);
        let mut error = None;
        let mut deliver = |index: usize, last: Final| {
            if let (Ok(result), Some(learner)) = (&last, &mut learner) {
                learner.consider(index, result);
            }
            let result = last
                .map_err(|cause| {
                    OrderedError::Execution(final_error(index, cause, Default::default()))
                })
                .and_then(|result| sink(index, result).map_err(OrderedError::Sink));
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(cause) => {
                    error = Some(cause);
                    ControlFlow::Break(())
                }
            }
        };
        if let ExecutionMode::Sequential(_) = planned.stats.mode {
            let db = source.open().map_err(open_failed).map_err(OrderedError::Execution)?;
            planned.stats.executions = serially(env, transactions, db, &mut deliver);
        } else {
            self.run(&mut planned, env, transactions, &CacheState::new(), source, deliver)
                .map_err(OrderedError::Execution)?;
        }
        if let Some(error) = error {
            return Err(error);
        }
        if let Some(learner) = learner {
            learner.learn(self.workers());
        }
        Ok(planned.stats)
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
        let mut state = State::builder().with_database_ref(db).with_bundle_update().build();
        let mut results = Vec::with_capacity(transactions.len());
        let sink = |_, ResultAndState { result, state: changes }| {
            results.push(result);
            state.commit(changes);
            Ok::<_, std::convert::Infallible>(())
        };
        self.execute_ordered(env, transactions, &Shared(db), sink).map_err(
            |error| match error {
                OrderedError::Execution(error) => error,
                OrderedError::Sink(never) => match never {},
            },
        )?;
        state.merge_transitions(BundleRetention::Reverts);
        Ok((results, state.take_bundle()))
    }

    fn workers(&self) -> Workers<'_> {
        Workers::for_this_thread(&self.pool, self.config.threads.get())
    }

    fn plan<S: StateSource>(&self, transactions: &[TxEnv], env: &EvmEnv, source: &S) -> Planned {
        let foresight = match &self.predictor {
            Some(predictor) => Foresight::Predictor(predictor.as_ref()),
            None => Foresight::Analyzer(self.config.learning.then_some(&*self.profile)),
        };
        pipeline::plan(transactions, env, self.workers(), foresight, source, &self.config)
    }

    /// Who learns from a block, if anybody is to.
    fn learner<'a>(
        &'a self,
        planned: &mut Planned,
        env: &'a EvmEnv,
        transactions: &'a [TxEnv],
    ) -> Option<Learner<'a>> {
        let learns = self.config.learning && self.predictor.is_none();
        let predictions = std::mem::take(&mut planned.learned);
        learns.then(|| Learner::new(&self.profile, env, transactions, predictions))
    }

    fn run<S: StateSource>(
        &self,
        planned: &mut Planned,
        env: &EvmEnv,
        transactions: &[TxEnv],
        before: &CacheState,
        source: &S,
        deliver: impl FnMut(usize, Final) -> ControlFlow<()>,
    ) -> Result<(), ExecutionError> {
        pipeline::execute(self.workers(), planned, env, transactions, before, source, deliver)
            .map_err(|error| match error {
                EngineError::Open(cause) => open_failed(cause),
                EngineError::Panic(cause) => ExecutionError::Internal { transaction: None, cause },
            })
    }
}

impl fmt::Debug for ParallelExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelExecutor").field("config", &self.config).finish_non_exhaustive()
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

/// Executes one transaction after another on the calling thread.
fn serially<DB>(
    env: &EvmEnv,
    transactions: &[TxEnv],
    db: DB,
    deliver: &mut impl FnMut(usize, Final) -> ControlFlow<()>,
) -> usize
where
    DB: revm::Database<Error: Error + Send + Sync + 'static>,
{
    let mut state =
        State::builder().with_database(SourceDb::new(db, SourceFailure::default())).build();
    let factory = alloy_evm::eth::EthEvmFactory::default();
    let mut evm = factory.create_evm(&mut state, env.clone()).into_inner();
    for (index, tx) in transactions.iter().enumerate() {
        let last = evm.transact(tx.clone()).map_err(|error| FinalError::Evm(unwrap_state(error)));
        let changes = last.as_ref().ok().map(|result| result.state.clone());
        if deliver(index, last).is_break() {
            return index + 1;
        }
        if let Some(changes) = changes {
            evm.ctx.journaled_state.database.commit(changes);
        }
    }
    transactions.len()
}

/// Takes revm's `State` out of an error's type.
fn unwrap_state(
    error: EVMError<revm::database_interface::bal::EvmDatabaseError<SourceError>>,
) -> EVMError<SourceError> {
    use revm::database_interface::bal::EvmDatabaseError;
    match error {
        EVMError::Transaction(error) => EVMError::Transaction(error),
        EVMError::Header(error) => EVMError::Header(error),
        EVMError::Database(EvmDatabaseError::Database(error)) => EVMError::Database(error),
        EVMError::Database(EvmDatabaseError::Bal(error)) => EVMError::Custom(error.to_string()),
        EVMError::Custom(error) => EVMError::Custom(error),
        other => EVMError::Custom(other.to_string()),
    }
}

fn to_tx_env<T>(tx: &Recovered<T>) -> TxEnv
where
    TxEnv: FromRecoveredTx<T>,
{
    TxEnv::from_recovered_tx(tx.tx(), *RecoveredTx::signer(tx))
}

fn open_failed(cause: impl Error + Send + Sync + 'static) -> ExecutionError {
    ExecutionError::State { transaction: None, cause: SourceError::new(SourceRead::Open, cause) }
}

const fn invalid(index: usize, cause: BlockValidationError) -> ExecutionError {
    ExecutionError::InvalidBlock { transaction: Some(index), cause }
}

/// Sorts an engine's last word on a transaction into the errors of a serial run.
fn final_error(index: usize, error: FinalError, hash: alloy_primitives::B256) -> ExecutionError {
    let transaction = Some(index);
    match error {
        FinalError::Source(cause) | FinalError::Evm(EVMError::Database(cause)) => {
            ExecutionError::State { transaction, cause }
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

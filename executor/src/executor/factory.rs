//! Whole blocks through any alloy-evm block executor that speaks Ethereum's transactions.

use super::{ParallelExecutor, final_error, open, unless_cancelled};
use crate::{
    EthereumFactory, ExecutionError, ExecutionStats, StateSource,
    admission::GasAdmission,
    analyzer::Contention,
    error::SourceFailure,
    parallel_map::parallel_map,
    pipeline::Execution,
    source::SourceDb,
    stats::ExecutionMode,
    telemetry::{self, Stage},
    tx_envs::tx_env,
};
use alloy_consensus::{TransactionEnvelope, transaction::Recovered};
use alloy_evm::{
    Evm, EvmEnv, EvmFactory, FromRecoveredTx, FromTxWithEncoded,
    block::{BlockExecutionResult, BlockExecutor},
    eth::EthTxResult,
};
use revm::{
    context::TxEnv,
    context_interface::result::{HaltReason, ResultAndState},
    database::{BundleState, State, states::bundle_state::BundleRetention},
    state::EvmState,
};
use std::ops::ControlFlow;

impl<B> ParallelExecutor<B> {
    /// Executes a whole block through an alloy-evm `BlockExecutorFactory`, an [`EthereumFactory`].
    ///
    /// The factory's executor does what it does in a serial run (changes before the first
    /// transaction, commits in order, receipts, changes after the last one); the transactions
    /// themselves run on all workers. Gas admission, which alloy-evm does in
    /// `execute_transaction_without_commit`, is repeated before each commit. `observe` sees the
    /// finalized state changes of each transaction before they are committed.
    ///
    /// The workers run mainnet's EVM under the rules of `env`, whatever EVM the factory builds. For
    /// a factory with precompiles, instructions or a handler of its own, give the executor a
    /// [backend](Self::with_backend) that has them too.
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
        F: EthereumFactory<Transaction = T>,
        T: TransactionEnvelope + Sync,
        TxEnv: FromRecoveredTx<T> + FromTxWithEncoded<T>,
        S: StateSource,
    {
        let _block = telemetry::enter_block(
            "execute_block_with",
            env.block_env.number,
            Some(transactions.len()),
        );
        let failure = SourceFailure::default();
        let mut state = State::builder()
            .with_database(SourceDb::new(open(source)?, failure.clone()))
            .with_bundle_update()
            .build();
        let evm = factory.evm_factory().create_evm(&mut state, env.clone());
        let mut executor = factory.create_executor(evm, context);
        let outside = |error| ExecutionError::from_block_error(error, None, &failure);
        executor.apply_pre_execution_changes().map_err(outside)?;

        let tx_envs = parallel_map(self.workers(), transactions, |_, tx| tx_env(tx));
        let mut planned = self.plan(&tx_envs, &env, source);
        let mut learner = self.learner(&mut planned, None, &env, &tx_envs);
        let block;
        let mut contention = Contention::default();
        if let ExecutionMode::Sequential(_) = planned.stats.mode {
            let stage = Stage::Execute.enter();
            for (index, transaction) in transactions.iter().enumerate() {
                unless_cancelled(source, Some(index))?;
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
            planned.stats.execution_time = stage.elapsed();
        } else {
            block = self.context(&env, &tx_envs, source, true);
            block.seed(&executor.evm().db().cache);
            let mut deliver = |index: usize, result: ResultAndState<HaltReason>| {
                let tx = transactions[index].inner();
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
            };
            let execution = Execution {
                admission: Some(GasAdmission::new(&env)),
                ..self.execution(&block, &env, &tx_envs)
            };
            let end = execution.stream(&mut planned, source, &mut deliver)?;
            contention = end.contention;
            if let Some((index, cause)) = end.failure {
                return Err(final_error(index, cause, transactions[index].inner().trie_hash()));
            }
        }

        let stage = Stage::Finish.enter();
        let (_, result) = executor.finish().map_err(outside)?;
        if let Some(learner) = learner {
            planned.stats.learn_time = learner.learn(self.workers(), source, &contention);
        }
        state.merge_transitions(BundleRetention::Reverts);
        let bundle = state.take_bundle();
        planned.stats.finish_time = stage.elapsed();
        drop(stage);
        telemetry::executed(&planned.stats);
        Ok((result, bundle, planned.stats))
    }
}

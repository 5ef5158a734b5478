//! Whole Ethereum blocks.
//!
//! What the protocol does before the first transaction and after the last one is alloy-evm's; the
//! transactions in between, their receipts and the bundle are ours.

use super::{ParallelExecutor, final_error, open, to_tx_env};
use crate::{
    ExecutionError, ExecutionStats, StateSource,
    admission::GasAdmission,
    block_db::BlockDb,
    engine::Handover,
    error::SourceFailure,
    frontier::Final,
    merger,
    parallel_map::parallel_map,
    pipeline::{BlockContext, Execution},
    receipts::{BlockReceipts, receipts},
    sequential,
};
use alloy_consensus::Transaction;
use alloy_evm::{
    Evm, EvmFactory,
    block::BlockExecutor,
    eth::{EthBlockExecutor, EthEvmFactory, receipt_builder::AlloyReceiptBuilder},
};
use alloy_hardforks::EthereumHardforks;
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use revm::state::EvmState;
use std::ops::ControlFlow;

impl ParallelExecutor {
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
        self.execute_ethereum(chain, block, source, None)
    }

    /// Executes an Ethereum block and shows `observe` the finalized state changes of each
    /// transaction, in order, on the calling thread.
    ///
    /// # Errors
    ///
    /// As [`execute_block`](Self::execute_block).
    pub fn execute_block_observed<S: StateSource>(
        &self,
        chain: &ChainSpec,
        block: &BlockInput,
        source: &S,
        mut observe: impl FnMut(usize, &EvmState),
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        self.execute_ethereum(chain, block, source, Some(&mut observe))
    }

    fn execute_ethereum<S: StateSource>(
        &self,
        chain: &ChainSpec,
        input: &BlockInput,
        source: &S,
        mut observe: Option<&mut dyn FnMut(usize, &EvmState)>,
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        let env = chain.evm_env(&input.header);
        let transactions = &input.transactions;
        let tx_envs = parallel_map(self.workers(), transactions, |_, tx| to_tx_env(tx));
        let block = BlockContext::new(&env, &tx_envs, observe.is_some());

        let failure = SourceFailure::default();
        let outside = |error| ExecutionError::from_block_error(error, None, &failure);
        let mut db = BlockDb::new(&block, open(source)?, failure.clone());
        let mut executor = EthBlockExecutor::new(
            EthEvmFactory::default().create_evm(&mut db, env.clone()),
            sequential::execution_context(input),
            chain,
            AlloyReceiptBuilder::default(),
        );
        executor.apply_pre_execution_changes().map_err(outside)?;

        let mut planned = self.plan(&tx_envs, &env, source);
        let mut learner = self.learner(&mut planned, Some(&block), &env, &tx_envs);
        let mut results = Vec::with_capacity(transactions.len());
        let mut error = None;
        let handover = if observe.is_some() { Handover::Streamed } else { Handover::AtTheEnd };
        let deliver = |index: usize, last: Final| match last {
            Ok(last) => {
                if let Some(observe) = &mut observe {
                    observe(index, &last.state);
                }
                if let Some(learner) = &mut learner {
                    learner.consider(index, &last);
                }
                results.push(last.result);
                ControlFlow::Continue(())
            }
            Err(cause) => {
                error = Some(final_error(index, cause, *transactions[index].hash()));
                ControlFlow::Break(())
            }
        };
        let execution = Execution {
            workers: self.workers(),
            block: &block,
            env: &env,
            transactions: &tx_envs,
            changes: executor.evm_mut().db_mut().take_changes(),
            admission: Some(GasAdmission::new(&env)),
            handover,
        };
        let changes = execution.run(&mut planned, source, deliver)?;
        if let Some(error) = error {
            return Err(error);
        }

        let BlockReceipts { receipts, gas_used, regular_gas_used, state_gas_used } =
            receipts(self.workers(), transactions, results);
        executor.receipts = receipts;
        executor.cumulative_tx_gas_used = gas_used;
        executor.block_regular_gas_used = regular_gas_used;
        executor.block_state_gas_used = state_gas_used;
        if chain.is_cancun_active_at_timestamp(input.header.timestamp) {
            let blob_gas = transactions.iter().filter_map(|tx| tx.blob_gas_used());
            executor.blob_gas_used = blob_gas.fold(0, u64::saturating_add);
        }
        executor.evm_mut().db_mut().resume(transactions.len(), changes);
        let (_, result) = executor.finish().map_err(outside)?;

        if let Some(learner) = learner {
            learner.learn(self.workers());
        }
        let changes = db.take_changes();
        let output = BlockOutput {
            receipts: result.receipts,
            requests: result.requests,
            gas_used: result.gas_used,
            blob_gas_used: result.blob_gas_used,
            bundle: merger::bundle(self.workers(), &block, changes),
        };
        Ok((output, planned.stats))
    }
}

//! Whole Ethereum blocks.
//!
//! What the protocol does before the first transaction and after the last one is alloy-evm's; the
//! transactions in between, their receipts and the bundle are ours.

use super::{ParallelExecutor, final_error, open, unless_cancelled};
use crate::{
    AccessHints, ExecutionError, ExecutionMode, ExecutionStats, SequentialReason, StateSource,
    access_list::Foretold,
    admission::GasAdmission,
    block_db::BlockDb,
    error::SourceFailure,
    frontier::End,
    judgement, merger,
    pipeline::{BlockContext, Execution},
    receipts::receipts,
    sequential,
    telemetry::{self, Stage},
    tx_envs::tx_envs,
};
use alloy_consensus::Transaction;
use alloy_eips::eip7928::BlockAccessList;
use alloy_evm::{
    Evm, EvmFactory,
    block::BlockExecutor,
    eth::{EthBlockExecutor, EthEvmFactory, receipt_builder::AlloyReceiptBuilder},
};
use alloy_hardforks::EthereumHardforks;
use multilane_state::{BlockInput, BlockOutput, ChainSpec, access_list::AccessJournal};
use revm::state::EvmState;
use std::{ops::ControlFlow, sync::Arc};

/// Looks at the finalized state changes of a transaction.
type Observe<'a> = &'a mut dyn FnMut(usize, &EvmState);

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
        self.execute_ethereum(chain, block, source, &AccessHints::None, None)
    }

    /// Executes an Ethereum block of which an access list (EIP-7928) is known.
    ///
    /// With [`AccessHints::Enforced`] the output has the block's own list, which is then the same.
    ///
    /// # Errors
    ///
    /// As [`execute_block`](Self::execute_block). Besides, an enforced list that is not exactly that
    /// of the block is [`ExecutionError::InvalidBlock`], with the first transaction that differs and
    /// an [`AccessListError`](crate::state::access_list::AccessListError) that names the location. A
    /// list that no block could have is refused before anything is executed; one that misleads an
    /// execution ends the block there. What else is wrong with it shows in the end.
    pub fn execute_block_hinted<S: StateSource>(
        &self,
        chain: &ChainSpec,
        block: &BlockInput,
        source: &S,
        hints: &AccessHints,
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        self.execute_ethereum(chain, block, source, hints, None)
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
        self.execute_ethereum(chain, block, source, &AccessHints::None, Some(&mut observe))
    }

    fn execute_ethereum<S: StateSource>(
        &self,
        chain: &ChainSpec,
        input: &BlockInput,
        source: &S,
        hints: &AccessHints,
        observe: Option<Observe<'_>>,
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        let (number, transactions) = (input.header.number, input.transactions.len());
        let _block = telemetry::enter_block("execute_block", number, Some(transactions));
        hints.check_form(transactions)?;
        self.execute_listed(chain, input, source, (hints, hints.enforced().is_some()), observe)
    }

    /// Executes a block, of whose list `ends_early` says whether the execution is to end where it
    /// turns out wrong.
    fn execute_listed<S: StateSource>(
        &self,
        chain: &ChainSpec,
        input: &BlockInput,
        source: &S,
        (hints, ends_early): (&AccessHints, bool),
        observe: Option<Observe<'_>>,
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        let transactions = &input.transactions;
        unless_cancelled(source, None)?;
        let records = self.config.access_lists
            || hints.enforced().is_some()
            || sequential::commits_to_access_list(chain, input);
        let claimed_gas = judgement::claimed_gas(input.header.gas_used, transactions.len());
        if self.config.allow_sequential && !records {
            // Before anything is made for the whole block: a small one is over by then.
            let gas_limits = transactions.iter().map(|tx| tx.gas_limit());
            let threads = self.workers().threads();
            let spec = || chain.spec_id(&input.header);
            let reason = judgement::at_a_glance(gas_limits, claimed_gas, spec, threads);
            if reason == Some(SequentialReason::SmallBlock) {
                let mode = ExecutionMode::Sequential(SequentialReason::SmallBlock);
                let stats = ExecutionStats { threads, mode, ..ExecutionStats::default() };
                return execute_small(chain, input, source, observe, stats);
            }
        }
        let env = chain.evm_env(&input.header);
        let tx_envs = tx_envs(self.workers(), transactions);
        let mut planned = self.plan_hinted(&tx_envs, &env, source, claimed_gas, hints);
        let mode = planned.stats.mode;
        if mode == ExecutionMode::Sequential(SequentialReason::SmallBlock) && !records {
            return execute_small(chain, input, source, observe, planned.stats);
        }

        let foretold = hints.list().filter(|_| mode == ExecutionMode::Parallel);
        let foretold = foretold.map(|list| Foretold::new(Arc::clone(list), ends_early));
        let block = self
            .context(&env, &tx_envs, source, observe.is_some())
            .with_access_lists(records, foretold);
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

        let mut learner = self.learner(&mut planned, Some(&block), &env, &tx_envs);
        let execution = Execution {
            changes: executor.evm_mut().db_mut().take_changes(),
            admission: Some(GasAdmission::new(&env)),
            ..self.execution(&block, &env, &tx_envs)
        };
        let End { mut changes, gas, results, studied, contention, failure } = match observe {
            None => execution.run(&mut planned, source)?,
            Some(observe) => {
                let mut observed = Vec::with_capacity(transactions.len());
                let mut end = execution.stream(&mut planned, source, &mut |index, last| {
                    observe(index, &last.state);
                    if let Some(learner) = &mut learner {
                        learner.consider(index, &last);
                    }
                    observed.push(last.result);
                    ControlFlow::Continue(())
                })?;
                end.results = observed;
                end
            }
        };
        if let Some((index, cause)) = failure {
            let journal = changes.take_journal();
            access_list(&block, journal, hints, transactions.len(), Some(index))?;
            if block.was_list_refuted() {
                // Not by anything that it says: it does not tell an empty account from an absent
                // one, nor what the end of a contract wipes. The whole block has to decide. Nobody
                // has observed anything: where there is a list there is no observer.
                return self.execute_listed(chain, input, source, (hints, false), None);
            }
            return Err(final_error(index, cause, *transactions[index].hash()));
        }

        let stage = Stage::Finish.enter();
        if let Some(learner) = &mut learner
            && !block.keeps_changes
        {
            learner.consider_all(gas.total(), &results, studied);
        }

        executor.receipts = receipts(self.workers(), transactions, results, &gas);
        executor.cumulative_tx_gas_used = gas.total();
        executor.block_regular_gas_used = gas.regular;
        executor.block_state_gas_used = gas.state;
        if chain.is_cancun_active_at_timestamp(input.header.timestamp) {
            let blob_gas = transactions.iter().filter_map(|tx| tx.blob_gas_used());
            executor.blob_gas_used = blob_gas.fold(0, u64::saturating_add);
        }
        executor.evm_mut().db_mut().resume(transactions.len(), changes);
        let finished = executor.finish().map(|(_, result)| result);
        let mut changes = db.take_changes();
        let failed = finished.is_err().then_some(transactions.len());
        let journal = changes.take_journal();
        let access_list = access_list(&block, journal, hints, transactions.len(), failed)?;
        let result = finished.map_err(outside)?;

        if let Some(learner) = learner {
            planned.stats.learn_time = learner.learn(self.workers(), source, &contention);
        }
        let output = BlockOutput {
            receipts: result.receipts,
            requests: result.requests,
            gas_used: result.gas_used,
            blob_gas_used: result.blob_gas_used,
            bundle: merger::bundle(self.workers(), &block, changes),
            access_list,
        };
        block.dispose(transactions.len(), self.workers());
        planned.stats.finish_time = stage.elapsed();
        drop(stage);
        telemetry::executed(&planned.stats);
        Ok((output, planned.stats))
    }
}

/// Executes a block for which nothing that is set up for a whole block would pay.
fn execute_small<S: StateSource>(
    chain: &ChainSpec,
    input: &BlockInput,
    source: &S,
    observe: Option<Observe<'_>>,
    mut stats: ExecutionStats,
) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
    stats.transactions = input.transactions.len();
    stats.executions = stats.transactions;
    let stage = Stage::Execute.enter();
    let db = open(source)?;
    let output = match observe {
        None => sequential::execute_block(chain, input, db),
        Some(observe) => sequential::execute_block_observed(chain, input, db, observe),
    }?;
    stats.execution_time = stage.elapsed();
    drop(stage);
    telemetry::executed(&stats);
    Ok((output, stats))
}

/// The list that a journal amounts to, where there is one, held against what `hints` demand of it.
/// `failed` is the transaction that ended the block, if one did.
fn access_list(
    block: &BlockContext,
    journal: Option<AccessJournal<'_>>,
    hints: &AccessHints,
    transactions: usize,
    failed: Option<usize>,
) -> Result<Option<BlockAccessList>, ExecutionError> {
    let (Some(journal), true) = (journal, failed.is_none() || hints.enforced().is_some()) else {
        return Ok(None);
    };
    let list = journal.list(|hash| block.new_code(hash));
    hints.check(&journal, &list, transactions, failed)?;
    Ok(Some(list))
}

//! The executor of one block.

use super::{ahead::Ahead, judge::Judge, prospect::Prospect};
use crate::{EthereumFactory, StateSource};
use alloy_consensus::TransactionEnvelope;
use alloy_evm::{
    Evm, EvmFactory, FromRecoveredTx, FromTxWithEncoded, RecoveredTx,
    block::{
        BlockExecutionError, BlockExecutionResult, BlockExecutor, BlockExecutorFactory,
        ExecutableTx, ExecutableTxParts, GasOutput, StateDB,
    },
    eth::EthTxResult,
};
use core::fmt;
use revm::{
    Inspector,
    context::TxEnv,
    context_interface::result::{HaltReason, ResultAndState},
};
use std::ops::ControlFlow;

/// What a [`ParallelBlockExecutorFactory`](super::ParallelBlockExecutorFactory) creates: another
/// executor, with results from several threads in front of it.
pub struct ParallelBlockExecutor<'a, F, S, B, DB, I>
where
    F: BlockExecutorFactory,
    DB: StateDB,
    I: Inspector<<F::EvmFactory as EvmFactory>::Context<DB>>,
{
    inner: F::Executor<'a, DB, I>,
    /// What can be done ahead, until it is begun.
    prospect: Option<Prospect<'a, F, S, B>>,
    ahead: Option<Ahead>,
    judge: Judge<'a>,
}

impl<'a, F, S, B, DB, I> ParallelBlockExecutor<'a, F, S, B, DB, I>
where
    F: BlockExecutorFactory,
    DB: StateDB,
    I: Inspector<<F::EvmFactory as EvmFactory>::Context<DB>>,
{
    pub(super) const fn new(
        inner: F::Executor<'a, DB, I>,
        prospect: Option<Prospect<'a, F, S, B>>,
        judge: Judge<'a>,
    ) -> Self {
        Self { inner, prospect, ahead: None, judge }
    }
}

impl<F, S, B, DB, I, T> ParallelBlockExecutor<'_, F, S, B, DB, I>
where
    F: EthereumFactory<Transaction = T>,
    T: TransactionEnvelope,
    TxEnv: FromRecoveredTx<T> + FromTxWithEncoded<T>,
    S: StateSource + Send + 'static,
    B: 'static,
    DB: StateDB,
    I: Inspector<<F::EvmFactory as EvmFactory>::Context<DB>>,
{
    /// The result of a transaction: the one that was speculated, if it stands, or that of the
    /// wrapped executor.
    fn result(
        &mut self,
        tx_env: impl FnOnce() -> TxEnv,
        tx: &impl RecoveredTx<T>,
        speculated: Option<ResultAndState<HaltReason>>,
    ) -> Result<EthTxResult<HaltReason, T::TxType>, BlockExecutionError> {
        let envelope = tx.tx();
        if let Some(mut result) = speculated
            && self.judge.stands(self.inner.evm_mut().db_mut(), envelope.gas_limit(), &mut result)
        {
            return Ok(EthTxResult {
                result,
                blob_gas_used: envelope.blob_gas_used().unwrap_or_default(),
                tx_type: envelope.tx_type(),
            });
        }
        self.judge.count_serial();
        self.inner.execute_transaction_without_commit((tx_env(), tx))
    }

    /// Executes and commits all transactions of the block.
    fn execute_all<R: RecoveredTx<T>>(
        &mut self,
        prospect: Prospect<'_, F, S, B>,
        tx_envs: &[TxEnv],
        transactions: &[R],
    ) -> Result<(), BlockExecutionError> {
        let mut committed = 0;
        let mut refused = Ok(());
        let hashes = self.judge.hashes();
        prospect.run(tx_envs, hashes, &mut |index, speculated| {
            let tx_env = || tx_envs[index].clone();
            match self.result(tx_env, &transactions[index], Some(speculated)) {
                Ok(result) => {
                    self.commit_transaction(result);
                    committed += 1;
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    refused = Err(error);
                    ControlFlow::Break(())
                }
            }
        });
        refused?;
        for (tx_env, tx) in tx_envs.iter().zip(transactions).skip(committed) {
            let result = self.result(|| tx_env.clone(), tx, None)?;
            self.commit_transaction(result);
        }
        Ok(())
    }
}

impl<F, S, B, DB, I, T> BlockExecutor for ParallelBlockExecutor<'_, F, S, B, DB, I>
where
    F: EthereumFactory<Transaction = T>,
    T: TransactionEnvelope,
    TxEnv: FromRecoveredTx<T> + FromTxWithEncoded<T>,
    S: StateSource + Send + 'static,
    B: 'static,
    DB: StateDB,
    I: Inspector<<F::EvmFactory as EvmFactory>::Context<DB>>,
{
    type Transaction = T;
    type Receipt = F::Receipt;
    type Evm = <F::EvmFactory as EvmFactory>::Evm<DB, I>;
    type Result = F::TxExecutionResult;

    /// As the wrapped executor does it. From here on the transactions that are known in advance are
    /// executed.
    fn apply_pre_execution_changes(&mut self) -> Result<(), BlockExecutionError> {
        self.inner.apply_pre_execution_changes()?;
        let hashes = self.judge.hashes();
        self.ahead = self.prospect.take().and_then(|prospect| prospect.start(hashes));
        Ok(())
    }

    fn execute_transaction_without_commit(
        &mut self,
        tx: impl ExecutableTx<Self>,
    ) -> Result<Self::Result, BlockExecutionError> {
        let (tx_env, tx) = tx.into_parts();
        let speculated = self.ahead.as_mut().and_then(|ahead| ahead.take(&tx_env));
        self.result(|| tx_env, &tx, speculated)
    }

    fn commit_transaction(&mut self, output: Self::Result) -> GasOutput {
        self.judge.record(&output.result.result);
        self.inner.commit_transaction(output)
    }

    fn finish(
        self,
    ) -> Result<(Self::Evm, BlockExecutionResult<Self::Receipt>), BlockExecutionError> {
        self.inner.finish()
    }

    fn evm_mut(&mut self) -> &mut Self::Evm {
        self.inner.evm_mut()
    }

    fn evm(&self) -> &Self::Evm {
        self.inner.evm()
    }

    fn receipts(&self) -> &[Self::Receipt] {
        self.inner.receipts()
    }

    /// Executes the block on all workers, where its parent state can be had.
    ///
    /// The transactions are taken from the iterator before the first one is executed.
    fn execute_block(
        mut self,
        transactions: impl IntoIterator<Item = impl ExecutableTx<Self>>,
    ) -> Result<BlockExecutionResult<Self::Receipt>, BlockExecutionError> {
        let Some(prospect) = self.prospect.take() else {
            self.inner.apply_pre_execution_changes()?;
            for tx in transactions {
                self.execute_transaction(tx)?;
            }
            return self.apply_post_execution_changes();
        };
        self.inner.apply_pre_execution_changes()?;
        let (tx_envs, transactions): (Vec<_>, Vec<_>) =
            transactions.into_iter().map(ExecutableTxParts::into_parts).unzip();
        self.execute_all(prospect, &tx_envs, &transactions)?;
        self.apply_post_execution_changes()
    }
}

impl<F, S, B, DB, I> fmt::Debug for ParallelBlockExecutor<'_, F, S, B, DB, I>
where
    F: BlockExecutorFactory,
    DB: StateDB,
    I: Inspector<<F::EvmFactory as EvmFactory>::Context<DB>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelBlockExecutor")
            .field("prospect", &self.prospect)
            .field("ahead", &self.ahead)
            .field("judge", &self.judge)
            .finish_non_exhaustive()
    }
}

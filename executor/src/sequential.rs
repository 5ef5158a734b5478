//! The oracle: alloy-evm's Ethereum block executor on revm's [`State`], one transaction at a time.

use crate::{ExecutionError, error::SourceFailure, source::SourceDb};
use alloy_evm::{
    EvmFactory,
    block::{BlockExecutor, BlockExecutorFactory, TxResult},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutorFactory, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder,
    },
};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use revm::{
    Database,
    database::{State, states::bundle_state::BundleRetention},
    state::EvmState,
};
use std::{borrow::Cow, error::Error};

/// Executes a block on the calling thread.
///
/// # Errors
///
/// See [`ExecutionError`]. The output is complete or absent: nothing of a failed block is returned.
pub fn execute_block<DB>(
    chain: &ChainSpec,
    block: &BlockInput,
    db: DB,
) -> Result<BlockOutput, ExecutionError>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    execute_block_observed(chain, block, db, |_, _| {})
}

/// Executes a block on the calling thread and shows `observe` the finalized state changes of each
/// transaction, in order, before they are committed.
///
/// # Errors
///
/// As [`execute_block`].
pub fn execute_block_observed<DB>(
    chain: &ChainSpec,
    block: &BlockInput,
    db: DB,
    mut observe: impl FnMut(usize, &EvmState),
) -> Result<BlockOutput, ExecutionError>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    let failure = SourceFailure::default();
    let mut state = State::builder()
        .with_database(SourceDb::new(db, failure.clone()))
        .with_bundle_update()
        .build();
    let factory = block_executor_factory(chain);
    let evm = EthEvmFactory::default().create_evm(&mut state, chain.evm_env(&block.header));
    let mut executor = factory.create_executor(evm, execution_context(block));
    let outside = |error| ExecutionError::from_block_error(error, None, &failure);

    executor.apply_pre_execution_changes().map_err(outside)?;
    for (index, transaction) in block.transactions.iter().enumerate() {
        let result = executor
            .execute_transaction_without_commit(transaction)
            .map_err(|error| ExecutionError::from_block_error(error, Some(index), &failure))?;
        observe(index, &result.result().state);
        executor.commit_transaction(result);
    }
    let (_, result) = executor.finish().map_err(outside)?;

    state.merge_transitions(BundleRetention::Reverts);
    Ok(BlockOutput {
        receipts: result.receipts,
        requests: result.requests,
        gas_used: result.gas_used,
        blob_gas_used: result.blob_gas_used,
        bundle: state.take_bundle(),
    })
}

/// alloy-evm's executor factory for a chain.
pub(crate) fn block_executor_factory(
    chain: &ChainSpec,
) -> EthBlockExecutorFactory<AlloyReceiptBuilder, ChainSpec, EthEvmFactory> {
    EthBlockExecutorFactory::new(
        AlloyReceiptBuilder::default(),
        chain.clone(),
        EthEvmFactory::default(),
    )
}

/// What alloy-evm's executor needs of a block besides its environment and its transactions.
pub(crate) fn execution_context(block: &BlockInput) -> EthBlockExecutionCtx<'_> {
    EthBlockExecutionCtx {
        parent_hash: block.header.parent_hash,
        parent_beacon_block_root: block.header.parent_beacon_block_root,
        ommers: &block.ommers,
        withdrawals: block.withdrawals.as_deref().map(Cow::Borrowed),
        extra_data: block.header.extra_data.clone(),
        tx_count_hint: Some(block.transactions.len()),
        slot_number: block.header.slot_number,
    }
}

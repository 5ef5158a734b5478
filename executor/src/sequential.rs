//! The oracle: alloy-evm's Ethereum block executor on revm's [`State`], one transaction at a time.

use crate::{ExecutionError, error::SourceFailure, source::SourceDb};
use alloy_evm::{
    Evm, EvmFactory,
    block::{BlockExecutor, BlockExecutorFactory, TxResult},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutorFactory, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder,
    },
};
use alloy_hardforks::EthereumHardforks;
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

/// Executes a block on the calling thread and records its access list (EIP-7928), also where the
/// block's fork does not ask for one.
///
/// # Errors
///
/// As [`execute_block`].
pub fn execute_block_with_access_list<DB>(
    chain: &ChainSpec,
    block: &BlockInput,
    db: DB,
) -> Result<BlockOutput, ExecutionError>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    execute(chain, block, db, true, |_, _| {})
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
    observe: impl FnMut(usize, &EvmState),
) -> Result<BlockOutput, ExecutionError>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    let records = commits_to_access_list(chain, block);
    execute(chain, block, db, records, observe)
}

/// Whether headers of the block's fork commit to an access list (EIP-7928).
pub(crate) fn commits_to_access_list(chain: &ChainSpec, block: &BlockInput) -> bool {
    chain.is_amsterdam_active_at_timestamp(block.header.timestamp)
}

/// `records` says whether the access list is wanted.
fn execute<DB>(
    chain: &ChainSpec,
    block: &BlockInput,
    db: DB,
    records: bool,
    mut observe: impl FnMut(usize, &EvmState),
) -> Result<BlockOutput, ExecutionError>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    let failure = SourceFailure::default();
    let mut state = State::builder()
        .with_database(SourceDb::new(db, failure.clone()))
        .with_bundle_update()
        .with_bal_builder_if(records)
        .build();
    let factory = block_executor_factory(chain);
    let evm = EthEvmFactory::default().create_evm(&mut state, chain.evm_env(&block.header));
    let mut executor = factory.create_executor(evm, execution_context(block));
    let outside = |error| ExecutionError::from_block_error(error, None, &failure);

    executor.apply_pre_execution_changes().map_err(outside)?;
    for (index, transaction) in block.transactions.iter().enumerate() {
        // Index 0 of the list is what comes before the first transaction.
        executor.evm_mut().db_mut().bump_bal_index();
        let result = executor
            .execute_transaction_without_commit(transaction)
            .map_err(|error| ExecutionError::from_block_error(error, Some(index), &failure))?;
        observe(index, &result.result().state);
        executor.commit_transaction(result);
    }
    executor.evm_mut().db_mut().bump_bal_index();
    let (_, result) = executor.finish().map_err(outside)?;

    state.merge_transitions(BundleRetention::Reverts);
    Ok(BlockOutput {
        receipts: result.receipts,
        requests: result.requests,
        gas_used: result.gas_used,
        blob_gas_used: result.blob_gas_used,
        bundle: state.take_bundle(),
        access_list: state.take_built_alloy_bal(),
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

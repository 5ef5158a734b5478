//! Receipts of Ethereum transactions, made on all workers.
//!
//! The same receipts as alloy-evm's builder makes one after another. Most of the work is hashing
//! logs for the bloom, which needs nothing but the transaction's own result.

use crate::{parallel_map::parallel_map_into, workers::Workers};
use alloy_consensus::{
    Eip658Value, Receipt, ReceiptEnvelope, TxEnvelope, TxType, transaction::Recovered,
};
use revm::context_interface::result::{ExecutionResult, HaltReason};

/// What the results of a block's transactions amount to.
#[derive(Debug, Default)]
pub(crate) struct BlockReceipts {
    pub(crate) receipts: Vec<ReceiptEnvelope>,
    /// Gas used, refunds taken off.
    pub(crate) gas_used: u64,
    /// EIP-8037: the two dimensions of a block's gas.
    pub(crate) regular_gas_used: u64,
    pub(crate) state_gas_used: u64,
}

/// Makes the receipts of all transactions of a block.
pub(crate) fn receipts(
    workers: Workers<'_>,
    transactions: &[Recovered<TxEnvelope>],
    results: Vec<ExecutionResult<HaltReason>>,
) -> BlockReceipts {
    let mut block = BlockReceipts::default();
    let mut cumulative = Vec::with_capacity(results.len());
    for result in &results {
        let gas = result.gas();
        block.gas_used += gas.tx_gas_used();
        block.regular_gas_used += gas.block_regular_gas_used();
        block.state_gas_used += gas.block_state_gas_used();
        cumulative.push(block.gas_used);
    }
    block.receipts = parallel_map_into(workers, results, |index, result| {
        receipt(transactions[index].tx_type(), result, cumulative[index])
    });
    block
}

fn receipt(
    tx_type: TxType,
    result: ExecutionResult<HaltReason>,
    cumulative_gas_used: u64,
) -> ReceiptEnvelope {
    let receipt = Receipt {
        status: Eip658Value::Eip658(result.is_success()),
        cumulative_gas_used,
        logs: result.into_logs(),
    }
    .with_bloom();
    match tx_type {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    }
}

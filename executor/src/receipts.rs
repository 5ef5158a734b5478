//! Receipts of Ethereum transactions, made on all workers.
//!
//! The same receipts as alloy-evm's builder makes one after another. Most of the work is hashing
//! logs for the bloom, which needs nothing but the transaction's own result.

use crate::{frontier::GasUsed, parallel_map::parallel_map, workers::Workers};
use alloy_consensus::{
    Eip658Value, Receipt, ReceiptEnvelope, TxEnvelope, TxType, transaction::Recovered,
};
use alloy_primitives::Log;
use revm::context_interface::result::{ExecutionResult, HaltReason};
use std::sync::{Mutex, PoisonError};

/// Makes the receipts of all transactions of a block from their results.
pub(crate) fn receipts(
    workers: Workers<'_>,
    transactions: &[Recovered<TxEnvelope>],
    results: Vec<ExecutionResult<HaltReason>>,
    gas: &GasUsed,
) -> Vec<ReceiptEnvelope> {
    // Each is taken once, by the worker that has its position.
    let logs = results.into_iter().map(|result| (result.is_success(), result.into_logs()));
    let logs: Vec<_> = logs.map(Mutex::new).collect();
    parallel_map(workers, &logs, |index, logs| {
        let (succeeded, logs) =
            std::mem::take(&mut *logs.lock().unwrap_or_else(PoisonError::into_inner));
        receipt(transactions[index].tx_type(), succeeded, logs, gas.cumulative[index])
    })
}

fn receipt(
    tx_type: TxType,
    succeeded: bool,
    logs: Vec<Log>,
    cumulative_gas_used: u64,
) -> ReceiptEnvelope {
    let status = Eip658Value::Eip658(succeeded);
    let receipt = Receipt { status, cumulative_gas_used, logs }.with_bloom();
    match tx_type {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    }
}

//! Receipts of Ethereum transactions, made on all workers.
//!
//! The same receipts as alloy-evm's builder makes one after another. Most of the work is hashing
//! logs for the bloom, which needs nothing but the transaction's own result.

use crate::{
    frontier::GasUsed,
    keccak_cache::KeccakCache,
    parallel_map::{PARALLEL_FROM, parallel_map_with},
    workers::Workers,
};
use alloy_consensus::{
    Eip658Value, Receipt, ReceiptEnvelope, ReceiptWithBloom, TxEnvelope, TxType,
    transaction::Recovered,
};
use alloy_primitives::{Bloom, Log};
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
    parallel_map_with(workers, PARALLEL_FROM, &logs, LogHashes::default, |hashes, index, logs| {
        let (succeeded, logs) =
            std::mem::take(&mut *logs.lock().unwrap_or_else(PoisonError::into_inner));
        let logs_bloom = hashes.bloom(&logs);
        let status = Eip658Value::Eip658(succeeded);
        let receipt = Receipt { status, cumulative_gas_used: gas.cumulative[index], logs };
        envelope(transactions[index].tx_type(), ReceiptWithBloom { receipt, logs_bloom })
    })
}

/// Hashes of what logs name most: contracts, events, accounts.
#[derive(Debug)]
struct LogHashes {
    addresses: KeccakCache<20>,
    topics: KeccakCache<32>,
}

impl Default for LogHashes {
    fn default() -> Self {
        Self { addresses: KeccakCache::new(256), topics: KeccakCache::new(1024) }
    }
}

impl LogHashes {
    /// The bloom of a receipt's logs (yellow paper, 4.3.1).
    fn bloom(&mut self, logs: &[Log]) -> Bloom {
        let mut bloom = Bloom::ZERO;
        for log in logs {
            bloom.m3_2048_hashed(&self.addresses.hash(&log.address.0.0));
            for topic in log.topics() {
                bloom.m3_2048_hashed(&self.topics.hash(&topic.0));
            }
        }
        bloom
    }
}

fn envelope(tx_type: TxType, receipt: ReceiptWithBloom<Receipt>) -> ReceiptEnvelope {
    match tx_type {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256, Bytes, LogData};

    #[test]
    fn blooms_are_those_of_alloy() {
        let mut hashes = LogHashes::default();
        for count in 0..60_u8 {
            let topics = (0..count % 5).map(|topic| B256::repeat_byte(topic ^ count)).collect();
            let data = LogData::new_unchecked(topics, Bytes::new());
            let logs = vec![Log { address: Address::repeat_byte(count / 7), data }; 2];
            assert_eq!(hashes.bloom(&logs), alloy_primitives::logs_bloom(&logs));
        }
    }
}

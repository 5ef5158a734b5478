//! What executing a block gave, against the block's header.

use super::error::Mismatch;
use alloy::{
    consensus::{TxReceipt, proofs::calculate_receipt_root},
    primitives::Bloom,
};
use alloy_hardforks::EthereumHardforks;
use multilane::state::{BlockInput, BlockOutput, ChainSpec};

/// Compares every header field that execution determines and that needs no state trie.
pub(super) fn check_output(
    chain: &ChainSpec,
    block: &BlockInput,
    output: &BlockOutput,
) -> Result<(), Mismatch> {
    let header = &block.header;
    Mismatch::check("gas used", header.gas_used, output.gas_used)?;
    // Earlier receipts hold a state root each, which only the whole trie can give.
    if chain.is_byzantium_active_at_block(header.number) {
        let receipts_root = calculate_receipt_root(&output.receipts);
        Mismatch::check("receipts root", header.receipts_root, receipts_root)?;
    }
    let logs_bloom = output.receipts.iter().fold(Bloom::ZERO, |all, one| all | one.bloom());
    Mismatch::check("logs bloom", header.logs_bloom, logs_bloom)?;
    if let Some(blob_gas_used) = header.blob_gas_used {
        Mismatch::check("blob gas used", blob_gas_used, output.blob_gas_used)?;
    }
    if let Some(requests_hash) = header.requests_hash {
        Mismatch::check("requests hash", requests_hash, output.requests.requests_hash())?;
    }
    Ok(())
}

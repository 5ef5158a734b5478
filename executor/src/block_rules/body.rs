//! A body against its own header.

use super::{BlockRuleError, HeaderField};
use alloy_consensus::{
    Signed, Transaction, TxEip4844Variant, TxEnvelope,
    proofs::{calculate_ommers_root, calculate_transaction_root, calculate_withdrawals_root},
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::B256;
use alloy_rlp::{Encodable, length_of_length, list_length};
use multilane_state::{BlockInput, ChainSpec};

/// The longest RLP that a block may have from Osaka on, in bytes (EIP-7934): 10 MiB, less the 2 MiB
/// that a beacon block needs around it.
pub const MAX_RLP_BLOCK_SIZE: usize = 8_388_608;
/// The most ommers that a block may have.
const MAX_OMMERS: usize = 2;

/// Checks transactions, ommers and withdrawals against the header of their block.
///
/// Ommers are checked by number, and by hash where their headers are there.
///
/// # Errors
///
/// The first broken rule.
pub fn check_body(chain: &ChainSpec, block: &BlockInput) -> Result<(), BlockRuleError> {
    let header = &block.header;
    check_size(chain, block)?;
    check_sidecars(block)?;
    commitment(
        HeaderField::TransactionsRoot,
        header.transactions_root,
        calculate_transaction_root(&block.transactions),
    )?;
    if block.ommer_count > MAX_OMMERS {
        return Err(BlockRuleError::TooManyOmmers(block.ommer_count));
    }
    if block.ommers.len() == block.ommer_count {
        commitment(
            HeaderField::OmmersHash,
            header.ommers_hash,
            calculate_ommers_root(&block.ommers),
        )?;
    }
    check_withdrawals(chain, block)?;
    check_replay_protection(chain, block)?;
    check_blob_gas(chain, block)
}

fn commitment(field: HeaderField, stated: B256, actual: B256) -> Result<(), BlockRuleError> {
    if stated == actual {
        Ok(())
    } else {
        Err(BlockRuleError::BodyCommitment { field, stated, actual })
    }
}

/// EIP-7934. Ommers have no part in it: there are none at the forks that have the rule.
fn check_size(chain: &ChainSpec, block: &BlockInput) -> Result<(), BlockRuleError> {
    if !chain.is_osaka_active_at_timestamp(block.header.timestamp) {
        return Ok(());
    }
    let withdrawals = block.withdrawals.as_deref().map_or(0, list_length);
    let payload = block.header.length()
        + list_length(&block.transactions)
        + list_length(&block.ommers)
        + withdrawals;
    let bytes = payload + length_of_length(payload);
    if bytes > MAX_RLP_BLOCK_SIZE {
        return Err(BlockRuleError::BlockTooLarge { bytes, maximum: MAX_RLP_BLOCK_SIZE });
    }
    Ok(())
}

/// A block holds the hashes of blobs alone (EIP-4844). The transactions root does not tell: it is
/// computed over the transactions without their blobs.
fn check_sidecars(block: &BlockInput) -> Result<(), BlockRuleError> {
    let carries_blobs = |transaction: &TxEnvelope| {
        let blob_transaction = transaction.as_eip4844().map(Signed::tx);
        matches!(blob_transaction, Some(TxEip4844Variant::TxEip4844WithSidecar(_)))
    };
    match block.transactions.iter().position(|transaction| carries_blobs(transaction.inner())) {
        Some(transaction) => Err(BlockRuleError::BlobSidecar { transaction }),
        None => Ok(()),
    }
}

fn check_withdrawals(chain: &ChainSpec, block: &BlockInput) -> Result<(), BlockRuleError> {
    let exist = chain.is_shanghai_active_at_timestamp(block.header.timestamp);
    if exist != block.withdrawals.is_some() {
        return Err(BlockRuleError::Withdrawals { present: block.withdrawals.is_some() });
    }
    if let (Some(stated), Some(withdrawals)) =
        (block.header.withdrawals_root, block.withdrawals.as_deref())
    {
        let actual = calculate_withdrawals_root(withdrawals);
        commitment(HeaderField::WithdrawalsRoot, stated, actual)?;
    }
    Ok(())
}

/// Before EIP-155 a signature over a chain id is no valid signature.
fn check_replay_protection(chain: &ChainSpec, block: &BlockInput) -> Result<(), BlockRuleError> {
    if chain.is_spurious_dragon_active_at_block(block.header.number) {
        return Ok(());
    }
    let protected = block
        .transactions
        .iter()
        .position(|transaction| transaction.is_legacy() && transaction.chain_id().is_some());
    match protected {
        Some(transaction) => Err(BlockRuleError::ProtectedTransaction { transaction }),
        None => Ok(()),
    }
}

fn check_blob_gas(chain: &ChainSpec, block: &BlockInput) -> Result<(), BlockRuleError> {
    let (Some(stated), Some(params)) =
        (block.header.blob_gas_used, chain.blob_params(block.header.timestamp))
    else {
        return Ok(());
    };
    let blob_gas = |transaction: &_| Transaction::blob_gas_used(transaction).unwrap_or_default();
    let actual = block.transactions.iter().map(|transaction| blob_gas(transaction.inner())).sum();
    let maximum = params.max_blob_gas_per_block();
    if actual > maximum {
        return Err(BlockRuleError::BlobGasAboveMaximum { blob_gas_used: actual, maximum });
    }
    if stated != actual {
        return Err(BlockRuleError::BlobGasUsed { stated, actual });
    }
    Ok(())
}

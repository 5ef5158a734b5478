//! An execution's output against the block's own header.

use super::{Check, CheckKind, StateRoots};
use alloy_consensus::{
    Eip658Value, ReceiptEnvelope,
    proofs::{
        calculate_ommers_root, calculate_receipt_root, calculate_transaction_root,
        calculate_withdrawals_root,
    },
};
use alloy_eips::eip7928::{ITEM_COST, compute_block_access_list_hash, total_bal_items};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{B256, Bloom};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use std::borrow::Cow;

const NO_ACCESS_LIST: &str = "the execution recorded no block access list";

/// Checks everything that a block's header commits to.
///
/// The list has one entry for each commitment that exists at the block's fork, in the order of
/// [`CheckKind::ALL`]; what cannot be checked is listed as unavailable. A block without a sealed
/// header commits to nothing, so all of its checks are unavailable.
pub fn verify_block(
    chain: &ChainSpec,
    block: &BlockInput,
    output: &BlockOutput,
    roots: &StateRoots,
) -> Vec<Check> {
    CheckKind::ALL
        .into_iter()
        .filter(|kind| exists(chain, block, *kind))
        .map(|kind| check(chain, block, output, roots, kind))
        .collect()
}

/// Whether headers of the block's fork make the commitment.
fn exists(chain: &ChainSpec, block: &BlockInput, kind: CheckKind) -> bool {
    let timestamp = block.header.timestamp;
    match kind {
        CheckKind::WithdrawalsRoot => chain.is_shanghai_active_at_timestamp(timestamp),
        CheckKind::BlobGasUsed => chain.is_cancun_active_at_timestamp(timestamp),
        CheckKind::RequestsHash => chain.is_prague_active_at_timestamp(timestamp),
        CheckKind::BlockAccessListHash | CheckKind::BlockAccessListItems => {
            chain.is_amsterdam_active_at_timestamp(timestamp)
        }
        CheckKind::HeaderHash
        | CheckKind::TransactionsRoot
        | CheckKind::OmmersHash
        | CheckKind::GasUsed
        | CheckKind::ReceiptsRoot
        | CheckKind::LogsBloom
        | CheckKind::StateRoot => true,
    }
}

fn check(
    chain: &ChainSpec,
    block: &BlockInput,
    output: &BlockOutput,
    roots: &StateRoots,
    kind: CheckKind,
) -> Check {
    let Some(stated_hash) = block.hash else {
        return Check::unavailable(kind, "the block has no sealed header");
    };
    let header = &block.header;
    match kind {
        CheckKind::HeaderHash => Check::compare(kind, Some(stated_hash), Some(header.hash_slow())),
        CheckKind::TransactionsRoot => Check::compare(
            kind,
            Some(header.transactions_root),
            Some(calculate_transaction_root(&block.transactions)),
        ),
        CheckKind::OmmersHash if block.ommers.len() != block.ommer_count => {
            Check::unavailable(kind, "the source lists ommers by hash, without their headers")
        }
        CheckKind::OmmersHash => Check::compare(
            kind,
            Some(header.ommers_hash),
            Some(calculate_ommers_root(&block.ommers)),
        ),
        CheckKind::GasUsed => Check::compare(kind, Some(header.gas_used), Some(output.gas_used)),
        CheckKind::ReceiptsRoot => match receipts_root(chain, block, output, roots) {
            Ok(root) => Check::compare(kind, Some(header.receipts_root), Some(root)),
            Err(reason) => Check::unavailable(kind, reason),
        },
        CheckKind::LogsBloom => {
            let mut bloom = Bloom::ZERO;
            for receipt in &output.receipts {
                bloom |= *receipt.logs_bloom();
            }
            Check::compare(kind, Some(header.logs_bloom), Some(bloom))
        }
        CheckKind::WithdrawalsRoot => Check::compare(
            kind,
            header.withdrawals_root,
            block.withdrawals.as_deref().map(calculate_withdrawals_root),
        ),
        CheckKind::BlobGasUsed => {
            Check::compare(kind, header.blob_gas_used, Some(output.blob_gas_used))
        }
        CheckKind::RequestsHash => {
            Check::compare(kind, header.requests_hash, Some(output.requests.requests_hash()))
        }
        CheckKind::BlockAccessListHash => match &output.access_list {
            Some(list) => Check::compare(
                kind,
                header.block_access_list_hash,
                Some(compute_block_access_list_hash(list)),
            ),
            None => Check::unavailable(kind, NO_ACCESS_LIST),
        },
        CheckKind::BlockAccessListItems => match &output.access_list {
            Some(list) => {
                Check::at_most(kind, header.gas_limit / ITEM_COST as u64, total_bal_items(list))
            }
            None => Check::unavailable(kind, NO_ACCESS_LIST),
        },
        CheckKind::StateRoot => match &roots.after_block {
            Ok(root) => Check::compare(kind, Some(header.state_root), Some(*root)),
            Err(reason) => Check::unavailable(kind, reason.clone()),
        },
    }
}

/// The root of the receipts' trie, with receipts as the block's fork encodes them.
fn receipts_root(
    chain: &ChainSpec,
    block: &BlockInput,
    output: &BlockOutput,
    roots: &StateRoots,
) -> Result<B256, Cow<'static, str>> {
    if chain.is_byzantium_active_at_block(block.header.number) || output.receipts.is_empty() {
        return Ok(calculate_receipt_root(&output.receipts));
    }
    let post_states = roots.after_transactions.as_ref().map_err(Clone::clone)?;
    if post_states.len() != output.receipts.len() {
        return Err(Cow::Owned(format!(
            "there are {} intermediate state roots for {} receipts",
            post_states.len(),
            output.receipts.len()
        )));
    }
    let receipts: Vec<_> = output
        .receipts
        .iter()
        .zip(post_states)
        .map(|(receipt, root)| with_post_state(receipt, *root))
        .collect();
    Ok(calculate_receipt_root(&receipts))
}

/// A receipt in its form before EIP-658: the state root after the transaction, not its status.
fn with_post_state(receipt: &ReceiptEnvelope, root: B256) -> ReceiptEnvelope {
    let mut receipt = receipt.clone();
    if let Some(inner) = receipt.as_receipt_with_bloom_mut() {
        inner.receipt.status = Eip658Value::PostState(root);
    }
    receipt
}

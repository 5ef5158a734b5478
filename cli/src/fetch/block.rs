//! A block as the node gives it, checked against itself.

use super::{
    error::{BlockError, Mismatch},
    node::Node,
};
use alloy::{
    consensus::{
        Header, Transaction as _, TxEnvelope,
        constants::EMPTY_OMMER_ROOT_HASH,
        proofs::{calculate_ommers_root, calculate_transaction_root, calculate_withdrawals_root},
        transaction::{Recovered, SignerRecoverable},
    },
    eips::{Encodable2718, eip4895::Withdrawal},
    primitives::{B256, keccak256},
    rpc::types::{Block as RpcBlock, Header as RpcHeader, Transaction as RpcTransaction},
};
use alloy_hardforks::EthereumHardforks;
use multilane::state::{BlockInput, ChainSpec};
use serde::Deserialize;
use serde_json::Value;

/// The member of `block.json` that holds the full headers of the uncles.
const UNCLE_HEADERS: &str = "uncleHeaders";

/// Asks the node for a block with its transactions, and for the headers of its uncles, which are
/// added to the node's JSON as `uncleHeaders`.
pub(super) async fn download(node: &Node, number: u64) -> Result<Value, BlockError> {
    let mut block = node.block(number).await?;
    if block.is_null() {
        return Err(BlockError::NotThere);
    }
    let uncles = block.get("uncles").and_then(Value::as_array).map_or(0, Vec::len);
    let mut headers = Vec::with_capacity(uncles);
    for index in 0..uncles {
        headers.push(node.uncle(number, index).await?);
    }
    if let (Some(block), false) = (block.as_object_mut(), headers.is_empty()) {
        block.insert(UNCLE_HEADERS.to_owned(), headers.into());
    }
    Ok(block)
}

/// Reads a downloaded block, and checks everything that needs no execution: the header's hash, the
/// roots over transactions, uncles and withdrawals, and each transaction's hash, chain and sender.
///
/// Recovers signatures: some milliseconds of work for a full block.
pub(super) fn read(json: &Value, number: u64, chain: &ChainSpec) -> Result<BlockInput, BlockError> {
    let block = RpcBlock::<RpcTransaction>::deserialize(json)
        .map_err(|cause| malformed(format!("block {number}"), cause))?;
    let RpcBlock { header, uncles, transactions, withdrawals } = block;
    let (hash, header) = (header.hash, header.inner);
    Mismatch::check("block number", number, header.number)?;
    Mismatch::check("block hash", hash, header.hash_slow())?;

    let ommers = read_uncles(json, &uncles)?;
    let ommers_hash =
        if ommers.is_empty() { EMPTY_OMMER_ROOT_HASH } else { calculate_ommers_root(&ommers) };
    Mismatch::check("uncles hash", header.ommers_hash, ommers_hash)?;
    let withdrawals: Option<Vec<Withdrawal>> = withdrawals.map(|list| list.into_inner());
    let withdrawals_root = withdrawals.as_deref().map(calculate_withdrawals_root);
    Mismatch::check("withdrawals root", header.withdrawals_root, withdrawals_root)?;

    let count = transactions.len();
    let transactions = transactions.into_transactions_vec();
    if transactions.len() != count {
        return Err(malformed(format!("block {number}"), "its transactions are hashes only"));
    }
    let transactions: Vec<Recovered<TxEnvelope>> = transactions
        .into_iter()
        .enumerate()
        .map(|(index, transaction)| check_transaction(transaction.inner, index, &header, chain))
        .collect::<Result<_, _>>()?;
    let transactions_root = calculate_transaction_root(&transactions);
    Mismatch::check("transactions root", header.transactions_root, transactions_root)?;

    Ok(BlockInput {
        header,
        hash: Some(hash),
        transactions,
        ommers,
        ommer_count: uncles.len(),
        withdrawals,
    })
}

/// Checks what a transaction states about itself against what was signed.
fn check_transaction(
    transaction: Recovered<TxEnvelope>,
    index: usize,
    header: &Header,
    chain: &ChainSpec,
) -> Result<Recovered<TxEnvelope>, BlockError> {
    let (transaction, stated_sender) = transaction.into_parts();
    let hash = keccak256(transaction.encoded_2718());
    let of_transaction = |what: &str| format!("{what} of transaction {index}");
    Mismatch::check(of_transaction("hash"), *transaction.tx_hash(), hash)?;
    // Without a chain id (before EIP-155) a transaction is valid on every chain.
    let chain_id = transaction.chain_id().unwrap_or(chain.chain_id());
    Mismatch::check(of_transaction("chain id"), chain_id, chain.chain_id())?;
    // Before Homestead (EIP-2) the whole range of signatures is valid.
    let sender = if chain.is_homestead_active_at_block(header.number) {
        transaction.recover_signer()
    } else {
        transaction.recover_signer_unchecked()
    }
    .map_err(|cause| malformed(of_transaction("signature"), cause))?;
    Mismatch::check(of_transaction("sender"), stated_sender, sender)?;
    Ok(Recovered::new_unchecked(transaction, sender))
}

/// The headers of the uncles, which must be the uncles that the block lists.
fn read_uncles(json: &Value, listed: &[B256]) -> Result<Vec<Header>, BlockError> {
    let Some(headers) = json.get(UNCLE_HEADERS) else {
        return Ok(Vec::new());
    };
    let headers: Vec<Option<RpcHeader>> =
        Deserialize::deserialize(headers).map_err(|cause| malformed("uncle headers", cause))?;
    let uncle = |(index, (header, listed)): (usize, (Option<RpcHeader>, &B256))| {
        let header = header
            .ok_or_else(|| malformed(format!("header of uncle {index}"), "there is none"))?
            .inner;
        Mismatch::check(format_args!("hash of uncle {index}"), *listed, header.hash_slow())?;
        Ok(header)
    };
    headers.into_iter().zip(listed).enumerate().map(uncle).collect()
}

fn malformed(what: impl Into<String>, cause: impl ToString) -> BlockError {
    BlockError::Malformed { what: what.into(), cause: cause.to_string() }
}

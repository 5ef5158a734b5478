//! The two ends of the pipeline: a block to execute, and what executing it produced.

use alloy_consensus::{Header, ReceiptEnvelope, TxEnvelope, transaction::Recovered};
use alloy_eips::{eip4895::Withdrawal, eip7685::Requests, eip7928::BlockAccessList};
use alloy_primitives::B256;
use revm::database::BundleState;

/// A block with recovered senders: everything that execution needs besides the parent state.
#[derive(Clone, Debug)]
pub struct BlockInput {
    /// The block's header.
    ///
    /// Where [`hash`](Self::hash) is `None` only the fields that form the execution environment
    /// (number, timestamp, beneficiary, gas limit, base fee, difficulty, mix hash, blob fields,
    /// parent hash and parent beacon block root) carry meaning.
    pub header: Header,
    /// The hash that the source states for the header, or `None` for a block without a sealed
    /// header (some archives keep the environment and the transactions only).
    pub hash: Option<B256>,
    /// The transactions in block order, with their senders.
    pub transactions: Vec<Recovered<TxEnvelope>>,
    /// Full uncle headers. Needed for uncle rewards before the Merge; may be empty where a source
    /// lists uncles by hash only.
    pub ommers: Vec<Header>,
    /// Number of uncles that the block lists, whether or not their headers are in
    /// [`ommers`](Self::ommers).
    pub ommer_count: usize,
    /// Withdrawals (EIP-4895), from Shanghai on.
    pub withdrawals: Option<Vec<Withdrawal>>,
}

/// What executing a block produces. Byte for byte the same for every engine and thread count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockOutput {
    /// One receipt a transaction, in block order.
    pub receipts: Vec<ReceiptEnvelope>,
    /// EIP-7685 requests, from Prague on.
    pub requests: Requests,
    /// Gas used by all transactions, in gas.
    pub gas_used: u64,
    /// Blob gas used by all transactions, in gas. Zero before Cancun.
    pub blob_gas_used: u64,
    /// The block's net state changes with the reverts to undo them.
    pub bundle: BundleState,
    /// What each part of the block accessed and changed (EIP-7928), in canonical order. From
    /// Amsterdam on, where headers commit to it; before that, where it was asked for.
    pub access_list: Option<BlockAccessList>,
}

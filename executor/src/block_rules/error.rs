//! The broken rule, by name.

use alloy_primitives::B256;
use core::fmt;

/// Why a block is invalid before any of its transactions runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockRuleError {
    /// The parent has values that no valid parent has, so nothing can be derived from it.
    #[error("the parent header is not valid: {0}")]
    InvalidParent(&'static str),
    /// The block names another parent.
    #[error("parent hash {stated}, the parent's hash is {actual}")]
    ParentHash {
        /// The block's field.
        stated: B256,
        /// keccak-256 of the parent.
        actual: B256,
    },
    /// The number is not the parent's plus one.
    #[error("block number {number} after parent {parent}")]
    Number {
        /// The block's number.
        number: u64,
        /// The parent's number.
        parent: u64,
    },
    /// The timestamp is not later than the parent's.
    #[error("timestamp {timestamp} is not after the parent's {parent}")]
    Timestamp {
        /// The block's timestamp, in seconds.
        timestamp: u64,
        /// The parent's timestamp, in seconds.
        parent: u64,
    },
    /// The gas limit changed by 1/1024 of the parent's or more.
    #[error("gas limit {gas_limit} is too far from the parent's {parent}")]
    GasLimitChange {
        /// The block's gas limit.
        gas_limit: u64,
        /// The parent's gas limit, doubled at London.
        parent: u64,
    },
    /// The gas limit is below 5000 or above 2^63 - 1.
    #[error("gas limit {0} is out of bounds")]
    GasLimitBounds(u64),
    /// The block states more gas used than its limit.
    #[error("gas used {gas_used} exceeds the gas limit {gas_limit}")]
    GasUsedAboveLimit {
        /// The header's gas used.
        gas_used: u64,
        /// The header's gas limit.
        gas_limit: u64,
    },
    /// The extra data has more than 32 bytes.
    #[error("extra data of {0} bytes, at most 32 are allowed")]
    ExtraDataTooLong(usize),
    /// One of the first ten blocks of the DAO fork does not carry its mark (EIP-779).
    #[error("extra data of a DAO fork block must be \"dao-hard-fork\"")]
    DaoExtraData,
    /// The base fee is not the one that follows from the parent (EIP-1559).
    #[error("base fee {stated} wei, expected {expected} wei")]
    BaseFee {
        /// The header's base fee, in wei.
        stated: u64,
        /// The base fee that follows from the parent, in wei.
        expected: u64,
    },
    /// A field that exists at the block's fork is absent.
    #[error("{0} is missing")]
    MissingField(HeaderField),
    /// A field that does not exist at the block's fork is present.
    #[error("{0} does not exist at this fork")]
    UnexpectedField(HeaderField),
    /// A field that the Merge froze has another value (EIP-3675).
    #[error("{0} has a value that proof of stake does not allow")]
    NotProofOfStake(HeaderField),
    /// The difficulty of a proof-of-work block is zero.
    #[error("a proof-of-work block has difficulty zero")]
    ZeroDifficulty,
    /// The excess blob gas is not the one that follows from the parent (EIP-4844, EIP-7918).
    #[error("excess blob gas {stated}, expected {expected}")]
    ExcessBlobGas {
        /// The header's excess blob gas.
        stated: u64,
        /// The excess blob gas that follows from the parent.
        expected: u64,
    },
    /// More blob gas than a block may use (EIP-4844, EIP-7691, EIP-7892).
    #[error("blob gas used {blob_gas_used} exceeds the maximum {maximum}")]
    BlobGasAboveMaximum {
        /// Blob gas of the header or of all transactions.
        blob_gas_used: u64,
        /// The maximum in force.
        maximum: u64,
    },
    /// The blob gas used is not that of the block's transactions.
    #[error("blob gas used {stated}, the transactions use {actual}")]
    BlobGasUsed {
        /// The header's value.
        stated: u64,
        /// The sum over the transactions.
        actual: u64,
    },
    /// A root or hash of the body does not match the body.
    #[error("{field} {stated}, the body has {actual}")]
    BodyCommitment {
        /// The header field.
        field: HeaderField,
        /// The header's value.
        stated: B256,
        /// The value computed from the body.
        actual: B256,
    },
    /// The body has withdrawals before Shanghai, or none from Shanghai on.
    #[error("the body {} withdrawals", if *.present { "must not have" } else { "lacks" })]
    Withdrawals {
        /// Whether the body has a list of withdrawals.
        present: bool,
    },
    /// More ommers than a block may have.
    #[error("{0} ommers, at most 2 are allowed")]
    TooManyOmmers(usize),
    /// A transaction with replay protection before Spurious Dragon (EIP-155).
    #[error("transaction {transaction} is protected by a chain id before EIP-155")]
    ProtectedTransaction {
        /// Index of the transaction.
        transaction: usize,
    },
    /// A blob transaction with its blobs, as it travels before it is in a block (EIP-4844).
    #[error("transaction {transaction} carries its blobs")]
    BlobSidecar {
        /// Index of the transaction.
        transaction: usize,
    },
    /// The RLP of the block is too long (EIP-7934).
    #[error("the block has {bytes} bytes, at most {maximum} are allowed")]
    BlockTooLarge {
        /// Length of the block's RLP, in bytes.
        bytes: usize,
        /// The maximum, in bytes.
        maximum: usize,
    },
}

/// A header field that some fork brought, froze or computes from the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HeaderField {
    /// Root of the transactions' trie.
    TransactionsRoot,
    /// Hash of the ommers.
    OmmersHash,
    /// Difficulty.
    Difficulty,
    /// Nonce.
    Nonce,
    /// Base fee (EIP-1559), from London on.
    BaseFee,
    /// Root of the withdrawals' trie (EIP-4895), from Shanghai on.
    WithdrawalsRoot,
    /// Blob gas used (EIP-4844), from Cancun on.
    BlobGasUsed,
    /// Excess blob gas (EIP-4844), from Cancun on.
    ExcessBlobGas,
    /// Parent beacon block root (EIP-4788), from Cancun on.
    ParentBeaconBlockRoot,
    /// Hash of the requests (EIP-7685), from Prague on.
    RequestsHash,
    /// Hash of the block access list (EIP-7928), from Amsterdam on.
    BlockAccessListHash,
    /// Slot number (EIP-7843), from Amsterdam on.
    SlotNumber,
}

impl fmt::Display for HeaderField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TransactionsRoot => "transactions root",
            Self::OmmersHash => "ommers hash",
            Self::Difficulty => "difficulty",
            Self::Nonce => "nonce",
            Self::BaseFee => "base fee",
            Self::WithdrawalsRoot => "withdrawals root",
            Self::BlobGasUsed => "blob gas used",
            Self::ExcessBlobGas => "excess blob gas",
            Self::ParentBeaconBlockRoot => "parent beacon block root",
            Self::RequestsHash => "requests hash",
            Self::BlockAccessListHash => "block access list hash",
            Self::SlotNumber => "slot number",
        })
    }
}

//! Errors of prestates, witnesses and chain specifications.

use crate::StateLocation;
use alloy_primitives::B256;

/// Why a piece of parent state could not be served, proven or updated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The source does not hold the location, so its value is not known.
    #[error("the prestate has no value for {0}")]
    Missing(StateLocation),
    /// The source does not hold code with this keccak-256 hash.
    #[error("the prestate has no code with hash {0}")]
    MissingCode(B256),
    /// The source does not hold the hash of this block.
    #[error("the prestate has no hash of block {0}")]
    MissingBlockHash(u64),
    /// Code whose keccak-256 is not the hash that it is stored under.
    #[error("code stored under hash {stated} has hash {actual}")]
    CodeHash {
        /// The key in the code store.
        stated: B256,
        /// keccak-256 of the code.
        actual: B256,
    },
    /// A trie node that is needed is not in the witness.
    #[error("the witness lacks trie node {node}, needed for {what}")]
    MissingNode {
        /// keccak-256 of the node.
        node: B256,
        /// What the node was needed for.
        what: String,
    },
    /// A trie node of the witness that is not valid RLP or has no valid shape.
    #[error("witness node {node} is malformed: {cause}")]
    MalformedNode {
        /// keccak-256 of the node.
        node: B256,
        /// What is wrong with it.
        cause: String,
    },
    /// The prestate states another value than the one that the witness proves.
    #[error("the prestate states {stated} for {location}, the witness proves {proven}")]
    NotProven {
        /// Where they differ.
        location: StateLocation,
        /// The value of the prestate.
        stated: String,
        /// The value of the trie.
        proven: String,
    },
    /// A value is to be written to an account that does not exist.
    #[error("{0} is written, but its account does not exist")]
    NoAccount(StateLocation),
    /// A prestate trace that cannot be used.
    #[error("prestate trace, {}{field}: {cause}", transaction_prefix(*.transaction))]
    PrestateTrace {
        /// Index of the transaction in the trace, where the trouble lies within one.
        transaction: Option<usize>,
        /// The member that is wrong, by its path within the transaction's object.
        field: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A genesis or chain configuration that cannot be used.
    #[error("invalid chain configuration: {0}")]
    ChainConfig(String),
}

fn transaction_prefix(transaction: Option<usize>) -> String {
    transaction.map(|index| format!("transaction {index}, ")).unwrap_or_default()
}

impl revm::context::DBErrorMarker for StateError {}

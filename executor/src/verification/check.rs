//! The vocabulary of header checks.

use std::{borrow::Cow, fmt};

/// One commitment of a header, and whether the block and its execution honour it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What was checked.
    pub kind: CheckKind,
    /// What came out.
    pub outcome: CheckOutcome,
}

impl Check {
    /// Compares the value that the header states with the one that was computed.
    pub(super) fn compare<T: PartialEq + fmt::Display>(
        kind: CheckKind,
        expected: Option<T>,
        actual: Option<T>,
    ) -> Self {
        let show = |value: Option<T>| value.map_or_else(|| "absent".to_owned(), |v| v.to_string());
        let outcome = if expected == actual {
            CheckOutcome::Ok
        } else {
            CheckOutcome::Mismatch { expected: show(expected), actual: show(actual) }
        };
        Self { kind, outcome }
    }

    /// Compares a number with the most that the header allows.
    pub(super) fn at_most(kind: CheckKind, max: u64, actual: u64) -> Self {
        let outcome = if actual <= max {
            CheckOutcome::Ok
        } else {
            let expected = format!("at most {max}");
            CheckOutcome::Mismatch { expected, actual: actual.to_string() }
        };
        Self { kind, outcome }
    }

    /// Notes that a commitment could not be checked.
    pub(super) fn unavailable(kind: CheckKind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, outcome: CheckOutcome::Unavailable(reason.into()) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.outcome)
    }
}

/// A commitment that a header makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CheckKind {
    /// keccak-256 of the header's RLP is the hash that the source states.
    HeaderHash,
    /// Root of the transactions' trie.
    TransactionsRoot,
    /// keccak-256 of the RLP list of ommer headers.
    OmmersHash,
    /// Gas used by the block.
    GasUsed,
    /// Root of the receipts' trie.
    ReceiptsRoot,
    /// Union of the receipts' log blooms.
    LogsBloom,
    /// Root of the withdrawals' trie (EIP-4895), from Shanghai on.
    WithdrawalsRoot,
    /// Blob gas used by the block (EIP-4844), from Cancun on.
    BlobGasUsed,
    /// Hash of the requests (EIP-7685), from Prague on.
    RequestsHash,
    /// Hash of the block access list (EIP-7928), from Amsterdam on.
    BlockAccessListHash,
    /// Number of items of the block access list, which the gas limit bounds (EIP-7928), from
    /// Amsterdam on.
    BlockAccessListItems,
    /// Root of the state after the block.
    StateRoot,
}

impl CheckKind {
    /// Every kind, in the order in which [`verify_block`](super::verify_block) lists them.
    pub const ALL: [Self; 12] = [
        Self::HeaderHash,
        Self::TransactionsRoot,
        Self::OmmersHash,
        Self::GasUsed,
        Self::ReceiptsRoot,
        Self::LogsBloom,
        Self::WithdrawalsRoot,
        Self::BlobGasUsed,
        Self::RequestsHash,
        Self::BlockAccessListHash,
        Self::BlockAccessListItems,
        Self::StateRoot,
    ];

    /// A stable name in snake case, for reports that machines read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeaderHash => "header_hash",
            Self::TransactionsRoot => "transactions_root",
            Self::OmmersHash => "ommers_hash",
            Self::GasUsed => "gas_used",
            Self::ReceiptsRoot => "receipts_root",
            Self::LogsBloom => "logs_bloom",
            Self::WithdrawalsRoot => "withdrawals_root",
            Self::BlobGasUsed => "blob_gas_used",
            Self::RequestsHash => "requests_hash",
            Self::BlockAccessListHash => "block_access_list_hash",
            Self::BlockAccessListItems => "block_access_list_items",
            Self::StateRoot => "state_root",
        }
    }
}

impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// Header and computation agree.
    Ok,
    /// They do not.
    Mismatch {
        /// What the header states.
        expected: String,
        /// What was computed.
        actual: String,
    },
    /// The check needs something that is not there; the reason says what.
    Unavailable(Cow<'static, str>),
}

impl CheckOutcome {
    /// Whether the check was made and passed.
    pub const fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }

    /// Whether the check was made and failed.
    pub const fn is_mismatch(&self) -> bool {
        matches!(self, Self::Mismatch { .. })
    }
}

impl fmt::Display for CheckOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Mismatch { expected, actual } => {
                write!(f, "mismatch: the header states {expected}, computed {actual}")
            }
            Self::Unavailable(reason) => write!(f, "unavailable: {reason}"),
        }
    }
}

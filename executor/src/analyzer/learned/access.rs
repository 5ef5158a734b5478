//! What a transaction is expected to do with a location.
//!
//! *Must not know*: how that is found out.

use multilane_state::StateLocation;

/// A location that a call is expected to access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LearnedAccess {
    /// What is accessed: a slot, or an account.
    pub location: StateLocation,
    /// What is done with it.
    pub kind: AccessKind,
}

impl LearnedAccess {
    /// Whether the location is expected to hold something else after the transaction.
    pub const fn writes(&self) -> bool {
        self.kind.writes()
    }
}

/// What is done with a location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessKind {
    /// It is read.
    #[default]
    Read,
    /// It is given another value. Where it is not known how that follows from the old one, this is
    /// said as well.
    Written,
    /// Something is added to its value: an account's balance, or what a slot holds.
    Credited,
    /// Something is subtracted from its value.
    Debited,
}

impl AccessKind {
    /// Whether the value is another one afterwards.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }

    /// This, and something else that is done with the same location.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Read, kind) | (kind, Self::Read) => kind,
            (kind, same) if kind == same => kind,
            // Whether there is more or less in the end depends on amounts.
            _ => Self::Written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AccessKind::{Credited, Debited, Read, Written};

    #[test]
    fn what_is_credited_and_debited_is_written() {
        for (one, other, both) in [
            (Read, Read, Read),
            (Read, Debited, Debited),
            (Credited, Read, Credited),
            (Credited, Credited, Credited),
            (Credited, Debited, Written),
            (Written, Credited, Written),
        ] {
            assert_eq!(one.and(other), both);
            assert_eq!(other.and(one), both);
        }
        assert!(!Read.writes() && Written.writes() && Credited.writes() && Debited.writes());
    }
}

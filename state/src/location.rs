//! The full key of a piece of state.

use alloy_primitives::{Address, U256};
use core::fmt;

/// What a transaction reads or writes, by its full key.
///
/// A location is never abbreviated to a hash: two crafted storage slots whose 64-bit hashes
/// collide would alias, and the executor would validate the wrong value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateLocation {
    /// Balance, nonce and existence of an account.
    Account(Address),
    /// The code of an account.
    Code(Address),
    /// One storage slot of an account.
    Slot(Address, U256),
    /// The reset of an account's whole storage, by SELFDESTRUCT or creation over old storage.
    StorageReset(Address),
}

impl StateLocation {
    /// The account that the location belongs to.
    pub const fn address(&self) -> Address {
        match self {
            Self::Account(address)
            | Self::Code(address)
            | Self::Slot(address, _)
            | Self::StorageReset(address) => *address,
        }
    }
}

impl fmt::Display for StateLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(address) => write!(f, "account {address}"),
            Self::Code(address) => write!(f, "code of {address}"),
            Self::Slot(address, slot) => write!(f, "slot {slot:#x} of {address}"),
            Self::StorageReset(address) => write!(f, "storage of {address}"),
        }
    }
}

//! The full key of a piece of state.

use alloy_primitives::{Address, U256};
use core::{
    fmt,
    hash::{Hash, Hasher},
};

/// What a transaction reads or writes, by its full key.
///
/// A location is never abbreviated to a hash: two crafted storage slots whose 64-bit hashes
/// collide would alias, and the executor would validate the wrong value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// As integers, as wide as hashers take them at once: byte strings they take piece by piece.
impl Hash for StateLocation {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let (kind, address) = match self {
            Self::Account(address) => (0_u64, address),
            Self::Code(address) => (1, address),
            Self::Slot(address, slot) => {
                let [a, b, c, d] = *slot.as_limbs();
                hasher.write_u128(u128::from(b) << 64 | u128::from(a));
                hasher.write_u128(u128::from(d) << 64 | u128::from(c));
                (2, address)
            }
            Self::StorageReset(address) => (3, address),
        };
        let [first @ .., a, b, c, d] = address.0.0;
        hasher.write_u128(u128::from_le_bytes(first));
        hasher.write_u64(kind << 32 | u64::from(u32::from_le_bytes([a, b, c, d])));
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::map::{DefaultHashBuilder, HashSet};
    use core::hash::BuildHasher;

    #[test]
    fn every_part_of_a_location_counts_in_its_hash() {
        let (address, slot) = (Address::repeat_byte(7), U256::from(9));
        let mut locations = vec![
            StateLocation::Account(address),
            StateLocation::Code(address),
            StateLocation::StorageReset(address),
            StateLocation::Slot(address, slot),
        ];
        for byte in 0..20 {
            let mut other = address;
            other.0.0[byte] ^= 1;
            locations.extend([StateLocation::Account(other), StateLocation::Slot(other, slot)]);
        }
        for bit in 0..256 {
            locations.push(StateLocation::Slot(address, slot ^ U256::ONE << bit));
        }
        let hasher = DefaultHashBuilder::default();
        let hashes: HashSet<u64> = locations.iter().map(|at| hasher.hash_one(at)).collect();
        assert_eq!(hashes.len(), locations.len());
    }
}

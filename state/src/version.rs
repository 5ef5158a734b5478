//! Positions in a block.

use core::fmt;

/// The position of a transaction in its block, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxIndex(u32);

impl TxIndex {
    /// The first transaction of a block.
    pub const FIRST: Self = Self(0);

    /// The transaction at a position.
    ///
    /// # Panics
    ///
    /// Above `u32::MAX`, which no block can hold: the gas of so many transactions overflows `u64`.
    #[inline]
    pub const fn new(index: usize) -> Self {
        assert!(index <= u32::MAX as usize, "a block holds fewer than 2^32 transactions");
        Self(index as u32)
    }

    /// The position as an index into a slice.
    #[inline]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for TxIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

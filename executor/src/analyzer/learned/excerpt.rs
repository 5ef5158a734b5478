//! The part of a block that is learned from.
//!
//! What a block teaches does not grow with its size, but looking at all of it would: in a block of
//! tens of thousands of transactions every look at one of them waits for main memory. So of such a
//! block a part is looked at, of the next one another part.
//!
//! *Must not know*: what is looked at, or for what.

use alloy_primitives::U256;
use std::ops::Range;

/// Transactions of a block that are looked at, at most.
const LENGTH_MAX: usize = 2048;

/// The positions of the transactions of a block that are learned from, by the block's number.
pub(crate) fn excerpt(number: U256, transactions: usize) -> Range<usize> {
    // Equal parts, so that none is too short to teach anything.
    let parts = transactions.div_ceil(LENGTH_MAX).max(1);
    let length = transactions.div_ceil(parts);
    let part = (number % U256::from(parts)).to::<usize>();
    let start = (part * length).min(transactions);
    start..(start + length).min(transactions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_after_the_other_shows_everything() {
        for transactions in [0, 1, 7, LENGTH_MAX, LENGTH_MAX + 1, 5 * LENGTH_MAX - 3] {
            let parts = (0..6).map(|number| excerpt(U256::from(number), transactions));
            let mut seen = vec![false; transactions];
            for part in parts {
                assert!(part.len() <= LENGTH_MAX && part.len() >= transactions.min(LENGTH_MAX / 2));
                seen[part].fill(true);
            }
            assert!(seen.into_iter().all(|is_seen| is_seen), "{transactions}");
        }
        assert_eq!(excerpt(U256::MAX, LENGTH_MAX), 0..LENGTH_MAX);
    }
}

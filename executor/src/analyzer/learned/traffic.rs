//! How often the transactions that call a function get in each other's way.

use std::sync::atomic::{AtomicU64, Ordering};

/// Calls from which on the share of those in the way counts.
const CALLS_MIN: u32 = 16;
/// With this many calls, older ones begin to count less.
const CALLS_MAX: u32 = 1 << 14;
/// Predictions are worth it if one call in so many gets in the way of another. One that does costs
/// one execution if they meet, and a prediction that no memo knows a tenth of one.
const DENSE_SHARE: u32 = 8;

/// Calls of a function, and how many of them wrote what another transaction had just written.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The calls in the upper half, those in the way in the lower one.
    counts: AtomicU64,
}

impl Traffic {
    /// Notes the calls of a block.
    pub(super) fn note(&self, calls: u32, in_the_way: u32) {
        let add = |counts| {
            let (calls_before, in_the_way_before) = halves(counts);
            let mut sums =
                [calls_before.saturating_add(calls), in_the_way_before.saturating_add(in_the_way)];
            while sums[0] > CALLS_MAX {
                sums = sums.map(|sum| sum / 2);
            }
            Some(u64::from(sums[0]) << 32 | u64::from(sums[1]))
        };
        // Relaxed: only how much is predicted depends on it.
        let _ = self.counts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether calls are often in each other's way, as far as is known.
    pub(super) fn is_dense(&self) -> bool {
        let (calls, in_the_way) = halves(self.counts.load(Ordering::Relaxed));
        calls < CALLS_MIN || in_the_way >= calls / DENSE_SHARE
    }
}

const fn halves(counts: u64) -> (u32, u32) {
    ((counts >> 32) as u32, counts as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_calls_count_most() {
        let traffic = Traffic::default();
        assert!(traffic.is_dense());
        traffic.note(CALLS_MIN, 0);
        assert!(!traffic.is_dense());
        traffic.note(1_000, 500);
        assert!(traffic.is_dense());
        for _ in 0..20 {
            traffic.note(CALLS_MAX, 0);
        }
        assert!(!traffic.is_dense());
        traffic.note(u32::MAX, u32::MAX);
        assert!(traffic.is_dense());
    }
}

//! How much may be spent on learning.
//!
//! Learning executes transactions once more, so it is paid for in gas: a share of the gas that
//! blocks use, and something in advance. Gas and not time, so that the same blocks teach the same
//! profile the same things.

use std::sync::atomic::{AtomicI64, Ordering};

/// Gas that may be used for learning.
#[derive(Debug)]
pub(super) struct Allowance {
    gas: AtomicI64,
    /// Gas that a block uses for one unit of gas to learn with.
    share: u64,
    /// What there is in advance, and what can be saved up.
    gas_max: i64,
}

impl Allowance {
    /// One unit of gas for each `share` that blocks use, and `gas_max` in advance and at most.
    pub(super) const fn new(share: u64, gas_max: i64) -> Self {
        Self { gas: AtomicI64::new(gas_max), share, gas_max }
    }

    /// Adds what a block allows for.
    pub(super) fn earn(&self, block_gas: u64) {
        let earned = i64::try_from(block_gas / self.share).unwrap_or(self.gas_max);
        // Relaxed, here and below: nothing but how much is learned depends on it.
        let add = |gas: i64| Some(gas.saturating_add(earned).min(self.gas_max));
        let _ = self.gas.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether there is gas left.
    pub(super) fn is_left(&self) -> bool {
        self.gas.load(Ordering::Relaxed) > 0
    }

    /// How many things of so much gas each may be done with what is left. The last one may overdraw.
    pub(super) fn pays_for(&self, gas: i64) -> usize {
        let left = self.gas.load(Ordering::Relaxed).max(0);
        usize::try_from(left.unsigned_abs().div_ceil(gas.unsigned_abs())).unwrap_or(usize::MAX)
    }

    /// Takes gas, if there is any left; the last taker may overdraw.
    pub(super) fn take(&self, gas: u64) -> bool {
        let gas = i64::try_from(gas).unwrap_or(i64::MAX);
        let take = |left: i64| (left > 0).then(|| left.saturating_sub(gas));
        self.gas.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_has_to_be_earned() {
        const GAS_MAX: i64 = 8_000_000;
        let allowance = Allowance::new(100, GAS_MAX);
        assert!(allowance.take(GAS_MAX as u64 + 1_000));
        assert!(!allowance.take(1));
        allowance.earn(100_000);
        assert!(!allowance.take(1));
        allowance.earn(100);
        assert!(allowance.take(1));
        allowance.earn(u64::MAX);
        assert!(allowance.take(GAS_MAX as u64));
        assert!(!allowance.take(1));
    }
}

//! How many times faster, of one block and over groups of blocks.

use std::time::Duration;

/// From this number of transactions on a block counts in the second group of speedups: below, it is
/// mostly overhead that is measured.
pub(crate) const LARGE_BLOCK_TXS: usize = 50;

/// How many times the divisor the dividend is; `None` where the divisor is no time at all.
pub(crate) fn ratio(dividend: Duration, divisor: Duration) -> Option<f64> {
    (!divisor.is_zero()).then(|| dividend.as_secs_f64() / divisor.as_secs_f64())
}

/// Speedups over a group of blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speedups {
    pub(crate) blocks: usize,
    sum: f64,
    /// The worst and the best speedup with its block.
    pub(crate) worst: Option<(f64, u64)>,
    pub(crate) best: Option<(f64, u64)>,
    baseline: Duration,
    parallel: Duration,
}

impl Speedups {
    /// Counts a block by its number: what it took the baseline, and what it took in parallel.
    pub(crate) fn add(&mut self, number: u64, baseline: Duration, parallel: Duration) {
        let Some(speedup) = ratio(baseline, parallel) else { return };
        self.blocks += 1;
        self.sum += speedup;
        self.baseline += baseline;
        self.parallel += parallel;
        if self.worst.is_none_or(|(worst, _)| speedup < worst) {
            self.worst = Some((speedup, number));
        }
        if self.best.is_none_or(|(best, _)| speedup > best) {
            self.best = Some((speedup, number));
        }
    }

    /// The baseline's time for the group over the parallel one.
    pub(crate) fn total(&self) -> Option<f64> {
        ratio(self.baseline, self.parallel)
    }

    /// Arithmetic mean of the blocks' speedups.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.blocks > 0).then(|| self.sum / self.blocks as f64)
    }
}

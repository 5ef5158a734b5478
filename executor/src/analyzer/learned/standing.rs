//! How the templates of a function have fared, for whoever predicts by them.
//!
//! It outlives each of them, and is small: to look at all of it takes one look at memory.
//!
//! *Must not know*: what templates are.

use super::{selection::Mark, traffic::Traffic};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Right predictions from which on a template counts as proven.
const PROVEN_FROM: u32 = 4;
/// One, in fixed point.
const PRECISION_ONE: u32 = 1 << 16;

/// What is known of a function's templates beside what they say.
///
/// All of it is advice or an estimate, of which an update may be lost: hence relaxed accesses.
#[derive(Debug)]
pub(super) struct Standing {
    /// When the function was last asked for.
    used: AtomicU64,
    /// Counts the templates that predicted something else than the one before.
    version: AtomicU32,
    /// Share of the predicted slots that were accessed, the latest predictions counting most, in
    /// parts of [`PRECISION_ONE`].
    precision: AtomicU32,
    /// Predictions that turned out right since the template was changed.
    confirmed: AtomicU32,
    /// How often transactions that call the function get in each other's way.
    pub(super) traffic: Traffic,
    /// Whether it is worth foreseeing.
    pub(super) selected: Mark,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            used: AtomicU64::default(),
            version: AtomicU32::default(),
            precision: AtomicU32::new(PRECISION_ONE),
            confirmed: AtomicU32::default(),
            traffic: Traffic::default(),
            selected: Mark::default(),
        }
    }
}

impl Standing {
    /// Notes that the template has become another one.
    pub(super) fn renew(&self) {
        self.confirmed.store(0, Ordering::Relaxed);
    }

    /// Notes that the template predicts something else, or is gone.
    pub(super) fn supersede(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// The version of what is predicted.
    pub(super) fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    /// Notes when the function was asked for.
    pub(super) fn note_use(&self, time: u64) {
        // Many threads look at it, so it is only written once a block.
        if self.used() != time {
            self.used.store(time, Ordering::Relaxed);
        }
    }

    /// When the function was last asked for.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes that a prediction was right in everything.
    pub(super) fn confirm(&self) {
        self.confirmed.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how a prediction turned out: how many slots it named, and how many of them were right.
    pub(super) fn rate(&self, named: usize, right: usize) {
        if let Some(precision) = (right * PRECISION_ONE as usize).checked_div(named) {
            let precision = precision as u32;
            let before = self.precision.load(Ordering::Relaxed);
            self.precision.store(before / 2 + precision / 2, Ordering::Relaxed);
        }
    }

    /// Whether predictions have mostly been wrong lately.
    pub(super) fn is_unreliable(&self) -> bool {
        self.precision.load(Ordering::Relaxed) < PRECISION_ONE / 5 * 2
    }

    /// Whether the template has not proved itself yet, or was wrong lately.
    pub(super) fn is_doubted(&self) -> bool {
        let is_proven = self.confirmed.load(Ordering::Relaxed) >= PROVEN_FROM;
        !is_proven || self.precision.load(Ordering::Relaxed) < PRECISION_ONE / 100 * 99
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_to_prove_itself_and_may_lose_its_reputation() {
        let standing = Standing::default();
        (0..PROVEN_FROM).for_each(|_| {
            assert!(standing.is_doubted());
            standing.confirm();
        });
        assert!(!standing.is_doubted() && !standing.is_unreliable());
        // Nothing was named, so nothing was wrong.
        standing.rate(0, 0);
        assert!(!standing.is_doubted());
        standing.rate(10, 0);
        assert!(standing.is_doubted() && !standing.is_unreliable());
        standing.rate(10, 0);
        assert!(standing.is_unreliable());
        (0..8).for_each(|_| standing.rate(10, 10));
        assert!(!standing.is_doubted());
        standing.renew();
        assert!(standing.is_doubted());
    }

    #[test]
    fn traffic_and_the_rest_fit_into_a_cache_line_beside_the_counts_of_an_arc() {
        assert!(size_of::<Standing>() + 2 * size_of::<usize>() <= 64);
    }
}

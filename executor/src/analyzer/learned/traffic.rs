//! How often the transactions that call a function get in each other's way, and what that costs.
//!
//! To foresee where calls meet takes time as well, so it is done where that has been a gain: where
//! executions turned out to be in vain that nothing was foreseen of, or where what was foreseen
//! showed that one thread is enough. Now and then the opposite is tried, as blocks change.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Calls from which on a share of them counts.
const CALLS_MIN: u32 = 16;
/// Of the calls of earlier blocks no more count than so many, or than this share of those of the
/// latest one, whichever is more.
const EARLIER_MAX: u32 = 128;
const EARLIER_SHARE: u32 = 4;
/// Calls are dense if one in so many gets in the way of another.
const DENSE_SHARE: u32 = 8;
/// They may be one chain if all but one in so many do.
const LOOSE_SHARE: u32 = 4;
/// It costs too much to foresee nothing if one call in so many is in vain, or makes another one so.
const IN_VAIN_SHARE: u32 = 64;
/// In one block in so many the opposite is tried of what seems to be worth it.
const TRIAL_EVERY: u32 = 16;
/// After so many blocks a first impression is put to the test. What was in vain in one block alone may
/// have been an accident, and nothing is in vain any more where it is foreseen.
const FIRST_TRIAL: u32 = 3;

/// They are none after so many blocks for which one thread was not enough, whatever was foreseen.
const LOOSE_FROM: u32 = 2;

/// Calls of a function, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// How many wrote what another transaction had just written.
    in_the_way: Share,
    /// How many of those that nothing was foreseen of were in vain, or made another one so.
    in_vain: Share,
    /// Blocks in a row for which one thread was not enough although calls were foreseen.
    loose: AtomicU32,
    /// Blocks with such calls.
    blocks: AtomicU32,
}

impl Traffic {
    /// Notes the calls of a block, and those that were in the way of others.
    pub(super) fn note(&self, calls: u32, in_the_way: u32) {
        self.in_the_way.note(calls, in_the_way);
        // Relaxed, here and below: only how much is predicted depends on it.
        self.blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes calls of which nothing was foreseen, and those whose execution was in vain, or made
    /// another one so.
    pub(super) fn note_unforeseen(&self, calls: u32, in_vain: u32) {
        self.in_vain.note(calls, in_vain);
    }

    /// Notes that calls were foreseen, and whether one thread was enough for their block.
    pub(super) fn note_foreseen(&self, on_one_thread: bool) {
        let next = |loose: u32| Some(if on_one_thread { 0 } else { loose.saturating_add(1) });
        let _ = self.loose.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Whether calls are often in each other's way, as far as is known.
    pub(super) fn is_dense(&self) -> bool {
        let [calls, in_the_way] = self.in_the_way.get();
        calls < CALLS_MIN || in_the_way >= calls / DENSE_SHARE
    }

    /// Whether it is worth it to foresee where calls meet, as far as is known.
    pub(super) fn is_worth_foreseeing(&self) -> bool {
        let blocks = self.blocks.load(Ordering::Relaxed);
        let is_trial = blocks % TRIAL_EVERY == TRIAL_EVERY - 1;
        let was_missed = blocks != FIRST_TRIAL && self.was_missed();
        self.is_dense() && (was_missed || self.may_be_chain()) != is_trial
    }

    /// Whether executions were in vain where nothing was foreseen; also if nobody has tried.
    fn was_missed(&self) -> bool {
        let [calls, in_vain] = self.in_vain.get();
        calls < CALLS_MIN || in_vain >= calls.div_ceil(IN_VAIN_SHARE)
    }

    fn may_be_chain(&self) -> bool {
        let [calls, in_the_way] = self.in_the_way.get();
        calls - in_the_way <= calls / LOOSE_SHARE && self.loose.load(Ordering::Relaxed) < LOOSE_FROM
    }
}

/// Some of many, the latest counting most.
#[derive(Debug, Default)]
struct Share {
    /// All in the upper half, some in the lower one.
    counts: AtomicU64,
}

impl Share {
    fn note(&self, all: u32, some: u32) {
        let add = |counts| {
            let [mut earlier, mut some_earlier] = halves(counts);
            while earlier > EARLIER_MAX.max(all / EARLIER_SHARE) {
                (earlier, some_earlier) = (earlier / 2, some_earlier / 2);
            }
            let sums = [earlier.saturating_add(all), some_earlier.saturating_add(some.min(all))];
            Some(u64::from(sums[0]) << 32 | u64::from(sums[1]))
        };
        let _ = self.counts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// All, and some.
    fn get(&self) -> [u32; 2] {
        halves(self.counts.load(Ordering::Relaxed))
    }
}

const fn halves(counts: u64) -> [u32; 2] {
    [(counts >> 32) as u32, counts as u32]
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
        traffic.note(1_000, 0);
        traffic.note(1_000, 0);
        assert!(!traffic.is_dense());
        traffic.note(u32::MAX, u32::MAX);
        assert!(traffic.is_dense());
    }

    #[test]
    fn what_costs_nothing_is_not_foreseen() {
        let traffic = Traffic::default();
        assert!(traffic.is_worth_foreseeing());
        // Half of them are in the way of others, and nobody has tried without predictions.
        traffic.note(1_000, 500);
        assert!(traffic.is_worth_foreseeing());
        traffic.note_unforeseen(1_000, 2);
        assert!(!traffic.is_worth_foreseeing());
        traffic.note_unforeseen(1_000, 30);
        assert!(traffic.is_worth_foreseeing());
        // Whoever is alone has nothing to foresee.
        traffic.note(9_000, 0);
        assert!(!traffic.is_worth_foreseeing());
    }

    #[test]
    fn chains_are_foreseen_if_that_shows_that_they_are() {
        let traffic = Traffic::default();
        traffic.note(1_000, 990);
        traffic.note_unforeseen(1_000, 0);
        for _ in 0..LOOSE_FROM {
            assert!(traffic.is_worth_foreseeing());
            traffic.note_foreseen(false);
        }
        assert!(!traffic.is_worth_foreseeing());
        traffic.note_foreseen(true);
        assert!(traffic.is_worth_foreseeing());
    }

    #[test]
    fn now_and_then_the_opposite_is_tried() {
        for in_vain in [0, 100] {
            let traffic = Traffic::default();
            traffic.note_unforeseen(1_000, in_vain);
            let worth = (0..2 * TRIAL_EVERY).filter(|_| {
                traffic.note(100, 50);
                traffic.is_worth_foreseeing()
            });
            // What seems to be worth it is doubted once more, early.
            assert_eq!(worth.count() as u32, if in_vain == 0 { 2 } else { 2 * TRIAL_EVERY - 3 });
        }
    }
}

//! How often the transactions that call a function get in each other's way, and what that costs.
//!
//! To foresee where calls meet takes time as well, so it is done where that has been a gain: where
//! executions turned out to be in vain that nothing was foreseen of, or where what was foreseen
//! showed that one thread is enough. Now and then the opposite is tried, as blocks change.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

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
const TRIAL_EVERY: u16 = 16;
/// That something was in vain may have been an accident, and nothing is in vain any more where it is
/// foreseen. So that is tried first after so many blocks; each time that it is found to be true the
/// next trial is twice as far away.
const FIRST_TRIAL: u16 = 2;

/// They are none after so many blocks for which one thread was not enough, whatever was foreseen.
const LOOSE_FROM: u16 = 2;

/// Calls of a function, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// How many wrote what another transaction had just written.
    in_the_way: Share,
    /// How many of those that nothing was foreseen of were in vain, or made another one so.
    in_vain: Share,
    /// Blocks in a row for which one thread was not enough although calls were foreseen.
    loose: AtomicU16,
    /// Blocks with such calls.
    blocks: AtomicU16,
    /// Blocks in a row of which calls were foreseen.
    foreseen: AtomicU16,
    /// After how many of them the opposite is tried; at least [`FIRST_TRIAL`].
    patience: AtomicU16,
}

impl Traffic {
    /// Notes the calls of a block, and those that were in the way of others.
    pub(super) fn note(&self, calls: u32, in_the_way: u32) {
        self.in_the_way.note(calls, in_the_way);
        // Relaxed, here and below: only how much is predicted depends on it, and an update that is
        // lost does no harm.
        self.blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes calls of which nothing was foreseen, and those whose execution was in vain, or made
    /// another one so, if there was more than one thread.
    pub(super) fn note_unforeseen(&self, calls: u32, in_vain: Option<u32>) {
        let was_trial = self.foreseen.swap(0, Ordering::Relaxed) > 0;
        let Some(in_vain) = in_vain else { return };
        if was_trial && calls >= CALLS_MIN {
            // That says more than what led to it.
            self.in_vain.forget();
        }
        self.in_vain.note(calls, in_vain);
        let is_confirmed = was_trial && self.was_missed();
        let patience = if is_confirmed { 2 * self.patience() } else { FIRST_TRIAL };
        self.patience.store(patience.min(TRIAL_EVERY), Ordering::Relaxed);
    }

    /// Notes that calls were foreseen, and whether one thread was enough for their block.
    pub(super) fn note_foreseen(&self, on_one_thread: bool) {
        self.foreseen.fetch_add(1, Ordering::Relaxed);
        let loose = self.loose.load(Ordering::Relaxed).saturating_add(1);
        self.loose.store(if on_one_thread { 0 } else { loose }, Ordering::Relaxed);
    }

    /// Whether calls are often in each other's way, as far as is known.
    pub(super) fn is_dense(&self) -> bool {
        let [calls, in_the_way] = self.in_the_way.get();
        calls < CALLS_MIN || in_the_way >= calls / DENSE_SHARE
    }

    /// Whether it is worth it to foresee where calls meet, as far as is known.
    pub(super) fn is_worth_foreseeing(&self) -> bool {
        let foreseen = self.foreseen.load(Ordering::Relaxed);
        let blocks = self.blocks.load(Ordering::Relaxed);
        self.is_dense()
            && if self.may_be_chain() {
                foreseen < TRIAL_EVERY
            } else if self.was_missed() {
                foreseen < self.patience()
            } else {
                blocks % TRIAL_EVERY == TRIAL_EVERY - 1
            }
    }

    fn patience(&self) -> u16 {
        self.patience.load(Ordering::Relaxed).max(FIRST_TRIAL)
    }

    /// Whether executions were in vain where nothing was foreseen.
    fn was_missed(&self) -> bool {
        let [calls, in_vain] = self.in_vain.get();
        in_vain > 0 && in_vain >= calls / IN_VAIN_SHARE
    }

    fn may_be_chain(&self) -> bool {
        let [calls, in_the_way] = self.in_the_way.get();
        calls >= CALLS_MIN
            && calls - in_the_way <= calls / LOOSE_SHARE
            && self.loose.load(Ordering::Relaxed) < LOOSE_FROM
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

    fn forget(&self) {
        self.counts.store(0, Ordering::Relaxed);
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
        assert!(!traffic.is_worth_foreseeing());
        // Half of them are in the way of others, which need not cost anything.
        traffic.note(1_000, 500);
        assert!(!traffic.is_worth_foreseeing());
        traffic.note_unforeseen(1_000, Some(2));
        assert!(!traffic.is_worth_foreseeing());
        traffic.note_unforeseen(1_000, Some(30));
        assert!(traffic.is_worth_foreseeing());
        // Whoever is alone has nothing to foresee.
        traffic.note(9_000, 0);
        assert!(!traffic.is_worth_foreseeing());
    }

    #[test]
    fn chains_are_foreseen_if_that_shows_that_they_are() {
        let traffic = Traffic::default();
        traffic.note(1_000, 990);
        traffic.note_unforeseen(1_000, Some(0));
        for _ in 0..LOOSE_FROM {
            assert!(traffic.is_worth_foreseeing());
            traffic.note_foreseen(false);
        }
        assert!(!traffic.is_worth_foreseeing());
        traffic.note_foreseen(true);
        assert!(traffic.is_worth_foreseeing());
    }

    /// The blocks of so many in which nothing is foreseen, where so many of a hundred calls are in
    /// vain then, by block.
    fn unforeseen(blocks: usize, in_vain: impl Fn(usize) -> u32) -> Vec<usize> {
        let traffic = Traffic::default();
        let is_unforeseen = |block: &usize| {
            let is_foreseen = traffic.is_worth_foreseeing();
            traffic.note(100, 50);
            if is_foreseen {
                traffic.note_foreseen(false);
            } else {
                traffic.note_unforeseen(100, Some(in_vain(*block)));
            }
            !is_foreseen
        };
        (0..blocks).filter(is_unforeseen).collect()
    }

    #[test]
    fn what_is_in_vain_again_and_again_is_doubted_less_and_less() {
        assert_eq!(unforeseen(60, |_| 30), [0, 3, 8, 17, 34, 51]);
    }

    #[test]
    fn an_accident_is_soon_forgotten() {
        let accident = |at| move |block| if block == at { 30 } else { 0 };
        assert_eq!(unforeseen(10, accident(0)), [0, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(unforeseen(10, accident(4)), [0, 1, 2, 3, 4, 7, 8, 9]);
    }

    #[test]
    fn what_costs_nothing_is_foreseen_now_and_then() {
        let blocks = unforeseen(2 * usize::from(TRIAL_EVERY), |_| 0);
        assert_eq!(blocks.len(), 2 * usize::from(TRIAL_EVERY) - 2);
    }

    #[test]
    fn a_chain_is_doubted_now_and_then() {
        let traffic = Traffic::default();
        traffic.note(1_000, 990);
        for _ in 0..TRIAL_EVERY {
            assert!(traffic.is_worth_foreseeing());
            traffic.note_foreseen(true);
        }
        assert!(!traffic.is_worth_foreseeing());
        // Nobody can tell what is in vain where there is one thread only.
        traffic.note_unforeseen(1_000, None);
        assert!(traffic.is_worth_foreseeing());
    }
}

//! Where workers sleep when there is nothing to do.

use std::sync::{
    Condvar, Mutex, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Looks before sleeping: a transaction often ends within this many turns.
const SPINS: u32 = 200;

/// An event count. A worker notes the [`epoch`](Self::epoch), looks for work, and if it finds none
/// [`wait`](Self::wait)s for the epoch to move; whoever makes work available moves it.
///
/// One worker is woken at a time, unless something is for a certain one: a worker that
/// [found work](Self::found_work) wakes the next one, in case there is more, so that what one
/// transaction makes available does not wake sixteen workers.
///
/// No wake-up is lost: a notification moves the epoch before it looks for sleepers, a sleeper counts
/// itself before it looks at the epoch, and both are sequentially consistent, so at least one of
/// them sees the other.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    epoch: AtomicU64,
    sleepers: AtomicU32,
    lock: Mutex<()>,
    moved: Condvar,
}

impl Idle {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Wakes a sleeper.
    pub(crate) fn notify_one(&self) {
        if self.move_on() {
            self.moved.notify_one();
        }
    }

    /// Wakes all sleepers.
    pub(crate) fn notify_all(&self) {
        if self.move_on() {
            self.moved.notify_all();
        }
    }

    /// To be called by a worker that has found something to do.
    pub(crate) fn found_work(&self) {
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            self.notify_one();
        }
    }

    /// Moves the epoch. Whether somebody may be asleep.
    fn move_on(&self) -> bool {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let are_sleepers = self.sleepers.load(Ordering::SeqCst) > 0;
        if are_sleepers {
            // Taking the lock makes sure that a sleeper is either before its look at the epoch or
            // already waiting.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        }
        are_sleepers
    }

    /// Sleeps until the epoch is no longer `seen`.
    pub(crate) fn wait(&self, seen: u64) {
        for _ in 0..SPINS {
            if self.epoch() != seen {
                return;
            }
            std::hint::spin_loop();
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.epoch() == seen {
            guard = self.moved.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: u32 = 2_000;
        let (idle, turn) = (Idle::default(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for player in 0..2 {
                let (idle, turn) = (&idle, &turn);
                scope.spawn(move || {
                    loop {
                        let seen = idle.epoch();
                        let now = turn.load(Ordering::SeqCst);
                        if now >= ROUNDS {
                            return;
                        }
                        if now % 2 == player {
                            turn.store(now + 1, Ordering::SeqCst);
                            idle.notify_one();
                        } else {
                            idle.wait(seen);
                        }
                    }
                });
            }
        });
        assert_eq!(turn.into_inner(), ROUNDS);
    }

    /// Each task can be done by anybody, and the last one ends it for all.
    #[test]
    fn one_woken_at_a_time_is_enough() {
        const ROUNDS: u32 = 500;
        for _ in 0..20 {
            let (idle, tasks, done) = (Idle::default(), AtomicU32::new(0), AtomicU32::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        loop {
                            let seen = idle.epoch();
                            if done.load(Ordering::SeqCst) == ROUNDS {
                                return;
                            }
                            let take = |tasks: u32| tasks.checked_sub(1);
                            let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
                            if tasks.fetch_update(set, fetch, take).is_err() {
                                idle.wait(seen);
                                continue;
                            }
                            idle.found_work();
                            if done.fetch_add(1, Ordering::SeqCst) + 1 == ROUNDS {
                                idle.notify_all();
                            }
                        }
                    });
                }
                for _ in 0..ROUNDS / 5 {
                    tasks.fetch_add(5, Ordering::SeqCst);
                    idle.notify_one();
                }
            });
            assert_eq!(done.into_inner(), ROUNDS);
        }
    }
}

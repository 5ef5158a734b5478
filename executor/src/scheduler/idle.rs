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
/// No wake-up is lost: `notify` moves the epoch before it looks for sleepers, a sleeper counts
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

    pub(crate) fn notify(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // Taking the lock makes sure that a sleeper is either before its look at the epoch or
            // already waiting.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.moved.notify_all();
        }
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
                            idle.notify();
                        } else {
                            idle.wait(seen);
                        }
                    }
                });
            }
        });
        assert_eq!(turn.into_inner(), ROUNDS);
    }
}

//! The life of one transaction, as the scheduler sees it.

use std::sync::atomic::{AtomicU8, Ordering};

/// ```text
///                 claim              finish
///   Unclaimed ───────────▶ Executing ───────▶ Executed
///                           │ ▲   ▲              │
///                  put_off  ▼ │   └──────────────┘
///                       PutOff        reclaim
/// ```
///
/// - A transaction that was put off is claimed as one that nobody has started.
/// - `claim` and `reclaim` may be called by all workers at once; one of them wins.
/// - `finish` is called by the winner alone, unless it holds the commit frontier: what is claimed
///   there is final at once, and the frontier's position says so.
/// - `reclaim` is for whoever makes the transaction final, and for whoever executes it again because
///   it was overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nobody has started it.
    Unclaimed,
    /// Somebody has started it, and has found that it is not its turn.
    PutOff,
    /// One worker has it: to execute it, for the first time or again, or to make it final.
    Executing,
    /// Its outcome is stored and its writes are published.
    Executed {
        /// Whose work that was.
        by: WorkerId,
    },
}

/// One of the workers of an execution. Beyond 250 they share the last number, which costs nothing
/// but the knowledge of who executed what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerId(u8);

impl WorkerId {
    const LAST: u8 = 250;

    /// The calling thread.
    pub(crate) const CALLER: Self = Self(0);

    /// The worker with a number; the calling thread has the first one, zero.
    pub(crate) fn new(number: usize) -> Self {
        Self(u8::try_from(number).unwrap_or(Self::LAST).min(Self::LAST))
    }
}

const UNCLAIMED: u8 = 0;
const EXECUTING: u8 = 1;
const PUT_OFF: u8 = 2;
/// The first number of those that say who executed.
const EXECUTED: u8 = 3;

/// A [`Status`] that workers share.
#[derive(Debug)]
pub(crate) struct SharedStatus(AtomicU8);

impl SharedStatus {
    pub(crate) const fn new() -> Self {
        Self(AtomicU8::new(UNCLAIMED))
    }

    /// Reads the status.
    ///
    /// Sequentially consistent, as is [`finish`](Self::finish): a worker that finishes and then
    /// fails to take the frontier, and a holder that leaves the frontier and then looks here, must
    /// not miss each other.
    pub(crate) fn get(&self) -> Status {
        match self.0.load(Ordering::SeqCst) {
            UNCLAIMED => Status::Unclaimed,
            EXECUTING => Status::Executing,
            PUT_OFF => Status::PutOff,
            executed => Status::Executed { by: WorkerId(executed - EXECUTED) },
        }
    }

    /// Unclaimed, or put off, to executing. Whether this caller won.
    pub(crate) fn claim(&self) -> bool {
        let exchange =
            |now| self.0.compare_exchange(now, EXECUTING, Ordering::SeqCst, Ordering::SeqCst);
        match exchange(UNCLAIMED) {
            Err(PUT_OFF) => exchange(PUT_OFF).is_ok(),
            first => first.is_ok(),
        }
    }

    /// Executed to executing. Whether this caller won.
    pub(crate) fn reclaim(&self) -> bool {
        let now = self.0.load(Ordering::SeqCst);
        now >= EXECUTED
            && self.0.compare_exchange(now, EXECUTING, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Executing to put off.
    pub(crate) fn put_off(&self) {
        debug_assert_eq!(self.get(), Status::Executing);
        self.0.store(PUT_OFF, Ordering::SeqCst);
    }

    /// Executing to executed.
    pub(crate) fn finish(&self, by: WorkerId) {
        debug_assert_eq!(self.get(), Status::Executing);
        self.0.store(EXECUTED + by.0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_arrow() {
        let status = SharedStatus::new();
        assert_eq!(status.get(), Status::Unclaimed);
        assert!(!status.reclaim());
        assert!(status.claim());
        assert!(!status.claim());
        assert_eq!(status.get(), Status::Executing);
        status.put_off();
        assert_eq!(status.get(), Status::PutOff);
        assert!(!status.reclaim());
        assert!(status.claim());
        assert!(!status.claim());
        let by = WorkerId::new(1_000);
        status.finish(by);
        assert_eq!(status.get(), Status::Executed { by });
        assert!(!status.claim());
        assert!(status.reclaim());
        assert_eq!(status.get(), Status::Executing);
        assert!(!status.reclaim());
        assert!(!status.claim());
    }

    #[test]
    fn one_of_many_claims_wins() {
        let status = SharedStatus::new();
        let won = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..4).map(|_| scope.spawn(|| status.claim())).collect();
            claims
                .into_iter()
                .map(|claim| claim.join().expect("no panic"))
                .filter(|won| *won)
                .count()
        });
        assert_eq!(won, 1);
    }
}

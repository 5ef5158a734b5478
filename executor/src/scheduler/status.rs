//! The life of one transaction, as the scheduler sees it.

use std::sync::atomic::{AtomicU8, Ordering};

/// ```text
///                 claim              finish              commit
///   Unclaimed ───────────▶ Executing ───────▶ Executed ─────────▶ Committed
/// ```
///
/// A transaction whose reads do not stand at the commit frontier is executed again right there, by
/// the holder of the frontier, and goes from `Executed` to `Committed` all the same: nobody else
/// ever sees it in between.
///
/// - `claim` may be called by all workers at once; one of them wins.
/// - `finish` is called by the winner alone.
/// - `commit` is called by the holder of the frontier alone, after `finish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// Nobody has started it.
    Unclaimed,
    /// One worker executes it.
    Executing,
    /// Its outcome is stored and its writes are published.
    Executed,
    /// Its result is final.
    Committed,
}

/// A [`Status`] that workers share.
#[derive(Debug)]
pub(crate) struct SharedStatus(AtomicU8);

impl SharedStatus {
    pub(crate) const fn new() -> Self {
        Self(AtomicU8::new(Status::Unclaimed as u8))
    }

    /// Reads the status.
    ///
    /// Sequentially consistent, as is [`finish`](Self::finish): a worker that finishes and then
    /// fails to take the frontier, and a holder that leaves the frontier and then looks here, must
    /// not miss each other.
    pub(crate) fn get(&self) -> Status {
        match self.0.load(Ordering::SeqCst) {
            0 => Status::Unclaimed,
            1 => Status::Executing,
            2 => Status::Executed,
            _ => Status::Committed,
        }
    }

    /// Unclaimed to executing. Whether this caller won.
    pub(crate) fn claim(&self) -> bool {
        self.0
            .compare_exchange(
                Status::Unclaimed as u8,
                Status::Executing as u8,
                Ordering::SeqCst,
                Ordering::SeqCst,
            )
            .is_ok()
    }

    /// Executing to executed.
    pub(crate) fn finish(&self) {
        debug_assert_eq!(self.get(), Status::Executing);
        self.0.store(Status::Executed as u8, Ordering::SeqCst);
    }

    /// To committed, from executing (at the frontier) or executed.
    pub(crate) fn commit(&self) {
        debug_assert!(matches!(self.get(), Status::Executing | Status::Executed));
        self.0.store(Status::Committed as u8, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_arrow() {
        let status = SharedStatus::new();
        assert_eq!(status.get(), Status::Unclaimed);
        assert!(status.claim());
        assert!(!status.claim());
        assert_eq!(status.get(), Status::Executing);
        status.finish();
        assert_eq!(status.get(), Status::Executed);
        assert!(!status.claim());
        status.commit();
        assert_eq!(status.get(), Status::Committed);
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

//! The threads of an executor, as one call may use them.

use std::{
    cell::Cell,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

thread_local! {
    /// Whether this thread is inside an execution.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread, and the pool beside it where it may be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workers<'pool> {
    pool: Option<&'pool rayon::ThreadPool>,
    threads: usize,
}

impl<'pool> Workers<'pool> {
    /// The workers for a call on this thread.
    ///
    /// A call from inside another one, from a sink for instance, gets the calling thread alone: the
    /// pool's threads serve the outer execution until it ends, and that ends only after this call.
    pub(crate) fn for_this_thread(pool: &'pool rayon::ThreadPool, threads: usize) -> Self {
        if threads == 1 || BUSY.get() {
            return Self { pool: None, threads: 1 };
        }
        Self { pool: Some(pool), threads }
    }

    /// How many threads there are, the calling one included.
    pub(crate) const fn threads(self) -> usize {
        self.threads
    }

    /// Runs `job` on each of the pool's threads, and `own` on the calling one. Returns when all are
    /// done.
    ///
    /// Unlike `rayon`'s `install` this never makes a caller that is a thread of another pool pick
    /// up that pool's jobs while it waits, which could nest without bound.
    pub(crate) fn run<T>(self, job: impl Fn(usize) + Sync, own: impl FnOnce() -> T) -> T {
        let Some(pool) = self.pool else { return own() };
        pool.in_place_scope(|scope| {
            let job = &job;
            for worker in 1..self.threads {
                scope.spawn(move |_| job(worker));
            }
            own()
        })
    }

    /// Gives the threads one share after the other, as they are done with the one before, and runs
    /// `job` on each, with its position and what the thread has for itself.
    pub(crate) fn share_out<T: Send, S>(
        self,
        shares: impl Iterator<Item = T>,
        own: impl Fn() -> S + Sync,
        job: impl Fn(&mut S, usize, T) + Sync,
    ) {
        let shares: Vec<_> = shares.map(|share| Mutex::new(Some(share))).collect();
        let next = AtomicUsize::new(0);
        let work = |_| {
            let mut mine = None;
            // Relaxed: a share is handed over by its lock.
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(share) = shares.get(at) else { return };
                // Taken by whoever has drawn its number, and by no other.
                if let Some(share) = share.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    job(mine.get_or_insert_with(&own), at, share);
                }
            }
        };
        self.run(work, || work(0));
    }
}

/// Marks this thread as inside an execution while it lives.
#[derive(Debug)]
pub(crate) struct Busy {
    before: bool,
}

impl Busy {
    pub(crate) fn mark() -> Self {
        Self { before: BUSY.replace(true) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_call_has_the_calling_thread_alone() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        assert_eq!(Workers::for_this_thread(&pool, 3).threads(), 3);
        {
            let _busy = Busy::mark();
            assert_eq!(Workers::for_this_thread(&pool, 3).threads(), 1);
        }
        assert_eq!(Workers::for_this_thread(&pool, 3).threads(), 3);
    }

    #[test]
    fn every_worker_runs_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let sum = AtomicUsize::new(0);
        let own = Workers::for_this_thread(&pool, 3).run(
            |worker| {
                sum.fetch_add(worker, Ordering::Relaxed);
            },
            || 7,
        );
        assert_eq!((own, sum.into_inner()), (7, 3));
    }
}

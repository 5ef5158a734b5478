//! A map on all workers whose results leave in order, on the calling thread, while later items are
//! still worked on.
//!
//! For items that take far longer than a lock. How far the workers run ahead of the delivery is
//! bounded, so that a slow receiver holds them back and little waits in memory. *Must not know*:
//! what the items are.

use crate::workers::{Busy, Workers};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// How many items may be begun and not delivered, for each worker.
const AHEAD_PER_WORKER: usize = 16;

/// Works on the items `0..count` and hands the results to `deliver`, in order.
///
/// `start` makes a worker's tools in the thread that will use them; a thread that gets none is one
/// worker less, except the calling one. `work` takes the tools and gives them back with the result.
/// Neither may panic; `deliver` may. The first error, in the order of the items, ends it all, after
/// everything before it has been delivered.
pub(crate) fn ordered_map<W, T, E>(
    workers: Workers<'_>,
    count: usize,
    start: impl Fn() -> Result<W, E> + Sync,
    work: impl Fn(W, usize) -> Result<(W, T), E> + Sync,
    mut deliver: impl FnMut(usize, T) -> ControlFlow<()>,
) -> Result<(), E>
where
    T: Send,
    E: Send,
{
    let mut own_tools = Some(start()?);
    let line = Line::new(count, workers.threads() * AHEAD_PER_WORKER);
    let help = |_| {
        let _busy = Busy::mark();
        let Ok(mut tools) = start() else { return };
        while let Some(index) = line.claim() {
            match work(tools, index) {
                Ok((back, item)) => {
                    line.put(index, Ok(item));
                    tools = back;
                }
                Err(error) => return line.put(index, Err(error)),
            }
        }
    };
    workers.run(help, || {
        let _busy = Busy::mark();
        // However this ends, by a panic of the receiver too, the others must not wait for more.
        let _closing = Closing(&line);
        loop {
            match line.next(own_tools.is_some()) {
                Next::Deliver(index, item) => {
                    if deliver(index, item?).is_break() {
                        return Ok(());
                    }
                }
                Next::Work(index) => {
                    let Some(tools) = own_tools.take() else { continue };
                    let item = work(tools, index).map(|(back, item)| {
                        own_tools = Some(back);
                        item
                    });
                    line.put(index, item);
                }
                Next::Nothing => return Ok(()),
            }
        }
    })
}

/// What the calling thread does next.
enum Next<T, E> {
    Deliver(usize, Result<T, E>),
    Work(usize),
    /// Everything has been delivered.
    Nothing,
}

/// The items, from the first that is not delivered to the last.
struct Line<T, E> {
    count: usize,
    ahead_max: usize,
    state: Mutex<LineState<T, E>>,
    changed: Condvar,
}

struct LineState<T, E> {
    unclaimed: usize,
    undelivered: usize,
    finished: BTreeMap<usize, Result<T, E>>,
    /// Nothing more is begun.
    closed: bool,
}

impl<T, E> Line<T, E> {
    fn new(count: usize, ahead_max: usize) -> Self {
        let finished = BTreeMap::new();
        let state = LineState { unclaimed: 0, undelivered: 0, finished, closed: false };
        Self { count, ahead_max, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// An item to work on, once there is one. `None` if there will be no more.
    fn claim(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.closed || state.unclaimed == self.count {
                return None;
            }
            if let Some(index) = self.claim_now(&mut state) {
                return Some(index);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn claim_now(&self, state: &mut LineState<T, E>) -> Option<usize> {
        let index = state.unclaimed;
        let free = index < self.count && index < state.undelivered + self.ahead_max;
        if state.closed || !free {
            return None;
        }
        state.unclaimed += 1;
        Some(index)
    }

    /// Puts a result where the calling thread finds it.
    ///
    /// After an error nothing more is begun. Everything before it has been: items are claimed in
    /// order.
    fn put(&self, index: usize, item: Result<T, E>) {
        let mut state = self.lock();
        state.closed |= item.is_err();
        state.finished.insert(index, item);
        drop(state);
        self.changed.notify_all();
    }

    /// What the calling thread does next; waits where there is nothing but others' unfinished work.
    fn next(&self, can_work: bool) -> Next<T, E> {
        let mut state = self.lock();
        loop {
            let index = state.undelivered;
            if let Some(item) = state.finished.remove(&index) {
                state.undelivered += 1;
                drop(state);
                self.changed.notify_all();
                return Next::Deliver(index, item);
            }
            if index == self.count {
                return Next::Nothing;
            }
            if can_work && let Some(index) = self.claim_now(&mut state) {
                return Next::Work(index);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LineState<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the line when it is dropped.
struct Closing<'a, T, E>(&'a Line<T, E>);

impl<T, E> Drop for Closing<'_, T, E> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicUsize, Ordering},
    };

    fn pool() -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap()
    }

    /// Doubles 500 numbers, failing at some.
    fn run(
        threads: usize,
        fails_at: &[usize],
        deliver: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(), usize> {
        let pool = pool();
        let workers = Workers::for_this_thread(&pool, threads);
        let work =
            |(), index| if fails_at.contains(&index) { Err(index) } else { Ok(((), 2 * index)) };
        ordered_map(workers, 500, || Ok(()), work, deliver)
    }

    #[test]
    fn results_leave_in_order() {
        for threads in [1, 2, 4] {
            let mut delivered = Vec::new();
            run(threads, &[], |index, item| {
                assert_eq!((index, item), (delivered.len(), 2 * index));
                delivered.push(item);
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(delivered.len(), 500);
        }
    }

    #[test]
    fn the_first_error_comes_after_everything_before_it() {
        for threads in [1, 2, 4] {
            let mut delivered = 0;
            let ran = run(threads, &[77, 78, 80, 300], |_, _| {
                delivered += 1;
                ControlFlow::Continue(())
            });
            assert_eq!((ran, delivered), (Err(77), 77));
        }
    }

    #[test]
    fn a_receiver_that_has_enough_ends_it() {
        let mut delivered = 0;
        let ran = run(4, &[], |_, _| {
            delivered += 1;
            if delivered == 9 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((ran, delivered), (Ok(()), 9));
    }

    #[test]
    fn a_receiver_that_panics_ends_it() {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            run(4, &[], |index, _| {
                assert!(index < 5, "deliberate");
                ControlFlow::Continue(())
            })
        }));
        assert!(ran.is_err());
    }

    #[test]
    fn workers_wait_for_a_slow_receiver() {
        let (pool, begun) = (pool(), AtomicUsize::new(0));
        let workers = Workers::for_this_thread(&pool, 4);
        let work = |(), index| {
            begun.fetch_add(1, Ordering::SeqCst);
            Ok::<_, ()>(((), index))
        };
        let ran = ordered_map(
            workers,
            10_000,
            || Ok(()),
            work,
            |index, _| {
                // The one that is being delivered does not count any more.
                assert!(begun.load(Ordering::SeqCst) <= index + 1 + 4 * AHEAD_PER_WORKER);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(ran, Ok(()));
    }

    #[test]
    fn without_tools_on_the_calling_thread_there_is_nothing() {
        let pool = pool();
        let workers = Workers::for_this_thread(&pool, 4);
        let start = || Err::<(), _>("no tools");
        let ran = ordered_map(
            workers,
            3,
            start,
            |(), index| Ok(((), index)),
            |_, _| ControlFlow::Continue(()),
        );
        assert_eq!(ran, Err("no tools"));
    }
}

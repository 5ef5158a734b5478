//! A data-parallel map on the executor's own threads.

use crate::workers::Workers;
use std::{
    ops::Range,
    sync::{Mutex, OnceLock, PoisonError},
};

/// Below this many items the hand-over to other threads costs more than it saves.
const PARALLEL_FROM: usize = 512;

/// Maps items on all workers, keeping their order.
pub(crate) fn parallel_map<T, U>(
    workers: Workers<'_>,
    items: &[T],
    map: impl Fn(usize, &T) -> U + Sync,
) -> Vec<U>
where
    T: Sync,
    U: Send + Sync,
{
    parallel_ranges(workers, items.len(), |range| {
        range.clone().zip(&items[range]).map(|(at, item)| map(at, item)).collect()
    })
}

/// Maps items on all workers, keeping their order, and consumes them.
pub(crate) fn parallel_map_into<T, U>(
    workers: Workers<'_>,
    items: Vec<T>,
    map: impl Fn(usize, T) -> U + Sync,
) -> Vec<U>
where
    T: Send,
    U: Send + Sync,
{
    if items.len() < PARALLEL_FROM || workers.threads() == 1 {
        return items.into_iter().enumerate().map(|(at, item)| map(at, item)).collect();
    }
    // Each item is taken once, by the worker that has its position.
    let items: Vec<Mutex<Option<T>>> =
        items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let mapped = parallel_map(workers, &items, |at, item| {
        let item = item.lock().unwrap_or_else(PoisonError::into_inner).take();
        item.map(|item| map(at, item))
    });
    mapped.into_iter().flatten().collect()
}

/// Makes items for all positions below `length` on all workers, a range each.
fn parallel_ranges<U>(
    workers: Workers<'_>,
    length: usize,
    make: impl Fn(Range<usize>) -> Vec<U> + Sync,
) -> Vec<U>
where
    U: Send + Sync,
{
    if length < PARALLEL_FROM || workers.threads() == 1 {
        return make(0..length);
    }
    let size = length.div_ceil(workers.threads());
    let range = |worker: usize| (size * worker).min(length)..(size * (worker + 1)).min(length);
    let others: Vec<OnceLock<Vec<U>>> = (0..workers.threads()).map(|_| OnceLock::new()).collect();
    let job = |worker: usize| {
        // The only writer of this cell.
        let _ = others[worker].set(make(range(worker)));
    };
    let mut made = workers.run(job, || make(range(0)));
    made.reserve(length - made.len());
    for result in others {
        made.extend(result.into_inner().unwrap_or_default());
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_positions_are_kept() {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for length in [0, 1, PARALLEL_FROM - 1, PARALLEL_FROM, PARALLEL_FROM * 3 + 1] {
                let items: Vec<usize> = (0..length).collect();
                let workers = Workers::for_this_thread(&pool, threads + 1);
                let mapped = parallel_map(workers, &items, |index, item| index + item);
                assert!(mapped.iter().enumerate().all(|(index, value)| *value == 2 * index));
                assert_eq!(mapped.len(), length);
            }
        }
    }
}

//! A data-parallel map on the executor's own threads.

use crate::workers::Workers;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Below this many items of a microsecond or so the hand-over to other threads costs more than it
/// saves: they have to wake up, and find nothing in their caches.
pub(crate) const PARALLEL_FROM: usize = 2048;

/// Shares for each worker: some turn out to be more work than others.
const SHARES_PER_WORKER: usize = 8;

/// Maps items on all workers, keeping their order.
pub(crate) fn parallel_map<T, U>(
    workers: Workers<'_>,
    items: &[T],
    map: impl Fn(usize, &T) -> U + Sync,
) -> Vec<U>
where
    T: Sync,
    U: Send,
{
    parallel_map_with(workers, PARALLEL_FROM, items, || (), |(), at, item| map(at, item))
}

/// The same with something that each worker has for itself, on one thread if there are fewer items
/// than `from`.
pub(crate) fn parallel_map_with<T, U, S>(
    workers: Workers<'_>,
    from: usize,
    items: &[T],
    own: impl Fn() -> S + Sync,
    map: impl Fn(&mut S, usize, &T) -> U + Sync,
) -> Vec<U>
where
    T: Sync,
    U: Send,
{
    if items.len() < from || workers.threads() == 1 {
        let mut own = own();
        return items.iter().enumerate().map(|(at, item)| map(&mut own, at, item)).collect();
    }
    let mut mapped = Vec::with_capacity(items.len());
    let size = items.len().div_ceil(workers.threads() * SHARES_PER_WORKER);
    // Each worker fills parts of the vector: joining vectors would copy everything once more.
    let places = mapped.spare_capacity_mut()[..items.len()].chunks_mut(size);
    let filled = AtomicUsize::new(0);
    workers.share_out(items.chunks(size).zip(places), own, |own, share, (items, places)| {
        for (at, (item, place)) in items.iter().zip(&mut *places).enumerate() {
            place.write(map(own, size * share + at, item));
        }
        filled.fetch_add(places.len(), Ordering::Release);
    });
    assert_eq!(filled.into_inner(), items.len(), "every part has been filled");
    #[expect(unsafe_code, reason = "the vector is filled in several threads, out of order")]
    // SAFETY: so many places from the start have been written, as was just checked.
    unsafe {
        mapped.set_len(items.len());
    }
    mapped
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

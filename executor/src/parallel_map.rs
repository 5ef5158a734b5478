//! A data-parallel map on the executor's own threads.

use std::sync::OnceLock;

/// Below this many items the hand-over to other threads costs more than it saves.
const PARALLEL_FROM: usize = 512;

/// Maps items on the calling thread and the pool's threads, keeping their order.
///
/// Unlike `rayon`'s parallel iterators it never runs on another pool than the given one, and a
/// caller that is itself a thread of another pool does not pick up that pool's jobs while it
/// waits, which could nest without bound.
pub(crate) fn parallel_map<T, U>(
    pool: &rayon::ThreadPool,
    items: &[T],
    map: impl Fn(usize, &T) -> U + Sync,
) -> Vec<U>
where
    T: Sync,
    U: Send + Sync,
{
    let map_chunk = |start: usize, chunk: &[T]| -> Vec<U> {
        chunk.iter().enumerate().map(|(at, item)| map(start + at, item)).collect()
    };
    if items.len() < PARALLEL_FROM {
        return map_chunk(0, items);
    }
    let size = items.len().div_ceil(pool.current_num_threads() + 1);
    let (first, rest) = items.split_at(size);
    let others: Vec<OnceLock<Vec<U>>> = rest.chunks(size).map(|_| OnceLock::new()).collect();
    let mut mapped = Vec::new();
    pool.in_place_scope(|scope| {
        for (position, (chunk, result)) in rest.chunks(size).zip(&others).enumerate() {
            let map_chunk = &map_chunk;
            scope.spawn(move |_| {
                // The only writer of this cell.
                let _ = result.set(map_chunk(size * (position + 1), chunk));
            });
        }
        mapped = map_chunk(0, first);
    });
    mapped.reserve(rest.len());
    for result in others {
        mapped.extend(result.into_inner().unwrap_or_default());
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
                let mapped = parallel_map(&pool, &items, |index, item| index + item);
                assert!(mapped.iter().enumerate().all(|(index, value)| *value == 2 * index));
                assert_eq!(mapped.len(), length);
            }
        }
    }
}

//! A data-parallel map on the executor's own threads.

use crate::workers::Workers;
use std::sync::OnceLock;

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
    let map_chunk = |start: usize, chunk: &[T]| -> Vec<U> {
        chunk.iter().enumerate().map(|(at, item)| map(start + at, item)).collect()
    };
    if items.len() < PARALLEL_FROM || workers.threads() == 1 {
        return map_chunk(0, items);
    }
    let size = items.len().div_ceil(workers.threads());
    let chunks: Vec<&[T]> = items.chunks(size).collect();
    let others: Vec<OnceLock<Vec<U>>> = chunks.iter().map(|_| OnceLock::new()).collect();
    let job = |worker: usize| {
        if let Some(chunk) = chunks.get(worker) {
            // The only writer of this cell.
            let _ = others[worker].set(map_chunk(size * worker, chunk));
        }
    };
    let mut mapped = workers.run(job, || map_chunk(0, chunks[0]));
    mapped.reserve(items.len() - mapped.len());
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
                let workers = Workers::for_this_thread(&pool, threads + 1);
                let mapped = parallel_map(workers, &items, |index, item| index + item);
                assert!(mapped.iter().enumerate().all(|(index, value)| *value == 2 * index));
                assert_eq!(mapped.len(), length);
            }
        }
    }
}

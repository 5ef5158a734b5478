//! Time and its median.

use std::time::{Duration, Instant};

/// Something that took time.
#[derive(Clone, Debug)]
pub(crate) struct Timed<T> {
    pub(crate) time: Duration,
    pub(crate) value: T,
}

/// Measures `work`. What it returns is dropped by the caller, after the clock has stopped.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> Timed<T> {
    let start = Instant::now();
    let value = work();
    Timed { time: start.elapsed(), value }
}

/// The run with the median time; for an even number of runs the mean of the two middle times, with
/// the value of the faster one.
pub(crate) fn median<T>(mut runs: Vec<Timed<T>>) -> Option<Timed<T>> {
    runs.sort_by_key(|run| run.time);
    let upper = runs.len() / 2;
    let upper_time = runs.get(upper)?.time;
    if runs.len() % 2 == 1 {
        return Some(runs.swap_remove(upper));
    }
    let lower = runs.swap_remove(upper - 1);
    Some(Timed { time: (lower.time + upper_time) / 2, value: lower.value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median_of(micros: &[u64]) -> Option<(u128, u64)> {
        let runs = micros.iter().map(|&value| Timed { time: Duration::from_micros(value), value });
        median(runs.collect()).map(|run| (run.time.as_micros(), run.value))
    }

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median_of(&[]), None);
        assert_eq!(median_of(&[5]), Some((5, 5)));
        assert_eq!(median_of(&[9, 1, 5]), Some((5, 5)));
        assert_eq!(median_of(&[9, 1, 5, 7]), Some((6, 5)));
    }
}

//! Two arms against each other, round by round.
//!
//! The speed of a shared machine changes by more than what is to be measured, but less within a
//! round than from one to the next. So each run is related to the other arm's run of the same round,
//! and the ratios are looked at instead of the times.

use crate::speedups::ratio;
use std::time::Duration;

/// How many times faster one arm is than another: quartiles of the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Paired {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Paired {
    /// Of the times of each round, the other arm's first. `None` if there are none.
    pub(crate) fn of(rounds: impl Iterator<Item = (Duration, Duration)>) -> Option<Self> {
        let mut ratios: Vec<f64> = rounds.filter_map(|(other, time)| ratio(other, time)).collect();
        ratios.sort_by(f64::total_cmp);
        let [lower, median, upper] = [1, 2, 3].map(|quarter| quantile(&ratios, quarter));
        Some(Self { lower: lower?, median: median?, upper: upper? })
    }
}

/// A quartile of sorted numbers, between the two that are nearest.
fn quantile(sorted: &[f64], quarter: usize) -> Option<f64> {
    let position = sorted.len().checked_sub(1)? * quarter;
    let (below, rest) = (sorted[position / 4], position % 4);
    let above = sorted.get(position / 4 + 1).unwrap_or(&below);
    Some(below + (above - below) * rest as f64 / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_speed_that_meets_both_makes_no_difference() {
        let rounds = [(3, 2), (6, 4), (30, 20), (9, 6), (1, 2)];
        let rounds = rounds.map(|(a, b)| (Duration::from_secs(a), Duration::from_secs(b)));
        let paired = Paired::of(rounds.into_iter()).unwrap();
        assert_eq!([paired.lower, paired.median, paired.upper], [1.5; 3]);
        assert_eq!(Paired::of(std::iter::empty()), None);
    }

    #[test]
    fn quartiles_lie_between_neighbours() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        let quartiles = [1, 2, 3].map(|quarter| quantile(&sorted, quarter));
        assert_eq!(quartiles, [Some(1.75), Some(2.5), Some(3.25)]);
        assert_eq!(quantile(&[7.0], 3), Some(7.0));
    }
}

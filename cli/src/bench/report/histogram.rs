//! How many blocks have which speedup.

use super::{
    scale::Scale,
    svg::{Anchor, Svg},
};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 34.0;
const RIGHT: f64 = 472.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 202.0;

/// Draws the distribution of speedups, each with whether its block is a large one.
pub(super) fn histogram(label: &str, speedups: &[(f64, bool)], reference: f64) -> String {
    let bins = Bins::new(speedups, reference);
    let most = bins.counts.iter().map(|[small, large]| small + large).max().unwrap_or(0);
    let y_scale = Scale::new(most.max(1) as f64, 5, BOTTOM, TOP);
    let bin_width = (RIGHT - LEFT) / bins.counts.len() as f64;
    let x_of = |value: f64| LEFT + (value - bins.first) / bins.width * bin_width;

    let mut svg = Svg::new(WIDTH, HEIGHT, label);
    for (y, text) in y_scale.ticks().filter(|(_, text)| !text.contains('.')) {
        svg.line([LEFT, y, RIGHT, y], "grid");
        svg.text(LEFT - 5.0, y + 4.0, Anchor::End, "tick", text);
    }
    // Labels of neighbouring bins would run into each other.
    let every = (bins.counts.len() / 11 + 1).max(2);
    for (index, [small, large]) in bins.counts.iter().enumerate() {
        let from = bins.first + index as f64 * bins.width;
        let x = LEFT + index as f64 * bin_width;
        if index.is_multiple_of(every) {
            svg.text(x, BOTTOM + 15.0, Anchor::Middle, "tick", format!("{from:.1}"));
        }
        let mut top = 0;
        for (count, class, what) in [(*large, "parallel", "large"), (*small, "small", "small")] {
            if count == 0 {
                continue;
            }
            let (low, high) = (y_scale.place(top as f64), y_scale.place((top + count) as f64));
            let title = format!("{from:.2}x to {:.2}x: {count} {what} blocks", from + bins.width);
            svg.bar([x + 1.0, high, (bin_width - 2.0).max(1.0), low - high], class, title);
            top += count;
        }
    }
    let x = x_of(reference);
    svg.line([x, TOP, x, BOTTOM], "reference");
    svg.text((LEFT + RIGHT) / 2.0, HEIGHT - 6.0, Anchor::Middle, "tick", "times faster");
    svg.finish()
}

/// Counts of small and large blocks by speedup.
#[derive(Clone, Debug)]
struct Bins {
    first: f64,
    width: f64,
    counts: Vec<[usize; 2]>,
}

impl Bins {
    /// As many bins of a round width as hold all speedups and the reference.
    fn new(speedups: &[(f64, bool)], reference: f64) -> Self {
        let values = || speedups.iter().map(|(speedup, _)| *speedup).chain([reference]);
        let (least, most) =
            (values().fold(reference, f64::min), values().fold(reference, f64::max));
        let width = if most - least > 4.0 { 0.5 } else { 0.1 };
        let first = (least / width + 1e-9).floor() * width;
        let index = |speedup: f64| ((speedup - first) / width + 1e-9).floor() as usize;
        let mut counts = vec![[0, 0]; index(most) + 1];
        for (speedup, is_large) in speedups {
            counts[index(*speedup)][usize::from(*is_large)] += 1;
        }
        Self { first, width, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_in_the_bin_of_its_speedup() {
        let speedups = [(0.73, true), (0.99, false), (1.0, true), (1.05, true), (1.58, true)];
        let bins = Bins::new(&speedups, 1.0);
        assert!((bins.first - 0.7).abs() < 1e-6, "{bins:?}");
        assert_eq!(bins.counts.len(), 9);
        assert_eq!(bins.counts[0], [0, 1]);
        assert_eq!(bins.counts[2], [1, 0]);
        assert_eq!(bins.counts[3], [0, 2]);
        assert_eq!(bins.counts[8], [0, 1]);
    }

    #[test]
    fn without_blocks_there_is_one_empty_bin() {
        assert_eq!(Bins::new(&[], 1.0).counts, [[0, 0]]);
    }
}

//! Lines over numbers of threads.

use super::{
    scale::Scale,
    svg::{Anchor, Svg},
};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 34.0;
const RIGHT: f64 = 466.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 262.0;

/// How many classes of lines the style knows.
pub(super) const LINE_CLASSES: usize = 8;

/// One line: a value for each number of threads, least first.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(usize, f64)>,
}

/// Draws the lines, with another one across at `reference`.
pub(super) fn line_chart(label: &str, lines: &[Line], reference: f64) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = points().map(|(_, value)| *value).fold(reference, f64::max);
    let y_scale = Scale::new(most, 5, BOTTOM, TOP);
    let mut threads: Vec<_> = points().map(|(threads, _)| *threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let (first, last) = (threads.first().copied(), threads.last().copied());
    let (first, last) = (first.unwrap_or(1) as f64, last.unwrap_or(1) as f64);
    let x_of = |threads: usize| {
        let span = (last - first).max(1.0);
        LEFT + 12.0 + (threads as f64 - first) / span * (RIGHT - LEFT - 24.0)
    };

    let mut svg = Svg::new(WIDTH, HEIGHT, label);
    for (y, text) in y_scale.ticks() {
        svg.line([LEFT, y, RIGHT, y], "grid");
        svg.text(LEFT - 5.0, y + 4.0, Anchor::End, "tick", text);
    }
    for count in &threads {
        svg.text(x_of(*count), BOTTOM + 16.0, Anchor::Middle, "tick", count);
    }
    svg.text((LEFT + RIGHT) / 2.0, HEIGHT - 4.0, Anchor::Middle, "tick", "threads");
    let y = y_scale.place(reference);
    svg.line([LEFT, y, RIGHT, y], "reference");
    for (index, line) in lines.iter().enumerate() {
        let class = line_class(index);
        let places: Vec<_> = line
            .points
            .iter()
            .map(|(threads, value)| (x_of(*threads), y_scale.place(*value)))
            .collect();
        svg.path(&places, &format!("line {class}"));
        for (place, (threads, value)) in places.iter().zip(&line.points) {
            let title = format!("{}, {threads} threads: {value:.2}x", line.name);
            svg.dot(*place, &format!("dot {class}"), title);
        }
    }
    svg.finish()
}

/// The class of the line at a position: its colour, and beyond those a dash.
pub(super) fn line_class(index: usize) -> String {
    let dash = if index < LINE_CLASSES { "" } else { " dashed" };
    format!("line-{}{dash}", index % LINE_CLASSES)
}

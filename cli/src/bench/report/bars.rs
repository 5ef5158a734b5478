//! Horizontal bars in groups: a group for each workload, its name above its bars.
//!
//! Names above bars, not beside them, leave the whole width of a phone to the bars.

use super::{
    scale::Scale,
    svg::{Anchor, Svg},
};

const WIDTH: f64 = 480.0;
/// Kept free to the right for the value of the longest bar.
const VALUE_WIDTH: f64 = 58.0;
const BAR: f64 = 13.0;
const BAR_GAP: f64 = 3.0;
const NAME: f64 = 18.0;
const GROUP_GAP: f64 = 12.0;
const AXIS: f64 = 22.0;

/// Bars that belong together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
}

#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) value: f64,
    /// The value as it is written beside the bar.
    pub(super) text: String,
    pub(super) class: &'static str,
    /// What is shown where the pointer is.
    pub(super) title: String,
    /// Other values on the same scale, as strokes across the bar.
    pub(super) marks: Vec<Mark>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) value: f64,
    pub(super) class: &'static str,
}

/// Draws the groups, with a line through all of them at `reference`.
pub(super) fn bar_chart(label: &str, groups: &[Group], reference: Option<f64>) -> String {
    let height = |group: &Group| NAME + group.bars.len() as f64 * (BAR + BAR_GAP) + GROUP_GAP;
    let bottom: f64 = groups.iter().map(height).sum();
    let values = groups
        .iter()
        .flat_map(|group| &group.bars)
        .flat_map(|bar| bar.marks.iter().map(|mark| mark.value).chain([bar.value]));
    let most = values.chain(reference).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let scale = Scale::new(most, 5, 1.0, WIDTH - VALUE_WIDTH);

    let mut svg = Svg::new(WIDTH, bottom + AXIS, label);
    for (index, (x, text)) in scale.ticks().enumerate() {
        svg.line([x, 0.0, x, bottom], "grid");
        let anchor = if index == 0 { Anchor::Start } else { Anchor::Middle };
        svg.text(x, bottom + 15.0, anchor, "tick", text);
    }
    if let Some(reference) = reference {
        let x = scale.place(reference);
        svg.line([x, 0.0, x, bottom], "reference");
    }
    let mut y = 0.0;
    for group in groups {
        svg.text(1.0, y + NAME - 6.0, Anchor::Start, "name", &group.name);
        y += NAME;
        for bar in &group.bars {
            let end = scale.place(bar.value);
            let start = scale.place(0.0);
            svg.bar([start, y, (end - start).max(1.0), BAR], bar.class, &bar.title);
            // Beyond the marks, so that these are not written over.
            let marks = bar.marks.iter().map(|mark| scale.place(mark.value));
            let text =
                marks.filter(|mark| (end - 4.0..end + 52.0).contains(mark)).fold(end, f64::max);
            svg.text(text + 5.0, y + BAR - 2.5, Anchor::Start, "value", &bar.text);
            for mark in &bar.marks {
                let x = scale.place(mark.value);
                svg.line([x, y - 2.0, x, y + BAR + 2.0], mark.class);
            }
            y += BAR + BAR_GAP;
        }
        y += GROUP_GAP;
    }
    svg.finish()
}

//! A drawing, element by element.
//!
//! Elements have classes, and the page's style gives these their colours: a drawing is right in both
//! schemes.

use super::escape::Escaped;
use std::fmt::{Display, Write};

/// Where a text stands relative to its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing in the making. Its units are pixels at its natural size.
#[derive(Clone, Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

impl Svg {
    /// An empty drawing. The label says to whoever cannot see it what it shows.
    pub(super) fn new(width: f64, height: f64, label: impl Into<String>) -> Self {
        Self { width, height, label: label.into(), body: String::new() }
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: impl Display) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{}</text>"#,
            Escaped(text)
        ));
    }

    /// A filled rectangle; the title is shown where the pointer is.
    pub(super) fn bar(
        &mut self,
        [x, y, width, height]: [f64; 4],
        class: &str,
        title: impl Display,
    ) {
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}"><title>{}</title></rect>"#,
            Escaped(title)
        ));
    }

    pub(super) fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], class: &str) {
        self.push(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        ));
    }

    /// Connected points.
    pub(super) fn path(&mut self, points: &[(f64, f64)], class: &str) {
        let mut places = String::new();
        for (x, y) in points {
            let _ = write!(places, "{x:.1},{y:.1} ");
        }
        let places = places.trim_end();
        self.push(format_args!(r#"<polyline points="{places}" class="{class}"/>"#));
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), class: &str, title: impl Display) {
        self.push(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" class="{class}"><title>{}</title></circle>"#,
            Escaped(title)
        ));
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// The finished element.
    pub(super) fn finish(self) -> String {
        let Self { width, height, label, body } = self;
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">\n{body}</svg>\n",
            Escaped(label)
        )
    }
}

//! What is shown during long work: on standard error, and only to people.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// A progress bar, invisible where standard error is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar over `count` of some `units`, such as blocks.
    pub(crate) fn new(count: usize, units: &str, is_quiet: bool) -> Self {
        if is_quiet {
            return Self(ProgressBar::hidden());
        }
        let target = ProgressDrawTarget::stderr_with_hz(8);
        let bar = ProgressBar::with_draw_target(Some(count as u64), target);
        if let Ok(style) = ProgressStyle::with_template(&format!(
            "{{bar:32}} {{pos}}/{{len}} {units}, {{elapsed}} elapsed, {{eta}} left  {{msg}}",
        )) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    /// Names what is worked on.
    pub(crate) fn start(&self, name: String) {
        self.0.set_message(name);
    }

    /// Counts one unit.
    pub(crate) fn finish_one(&self) {
        self.0.inc(1);
    }

    /// Prints something without leaving pieces of the bar behind.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

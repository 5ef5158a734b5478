//! What is shown while blocks are replayed: on standard error, and only to people.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// A progress bar over blocks, invisible where standard error is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(blocks: usize, is_quiet: bool) -> Self {
        if is_quiet {
            return Self(ProgressBar::hidden());
        }
        let target = ProgressDrawTarget::stderr_with_hz(8);
        let bar = ProgressBar::with_draw_target(Some(blocks as u64), target);
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:32} {pos}/{len} blocks, {elapsed} elapsed, {eta} left  {msg}",
        ) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    /// Names the block that is worked on.
    pub(crate) fn start(&self, block: u64) {
        self.0.set_message(format!("block {block}"));
    }

    /// Counts a block.
    pub(crate) fn finish_block(&self) {
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

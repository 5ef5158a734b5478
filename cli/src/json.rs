//! What JSON reports have in common: one object a line, numbers without the clock's noise.

use crate::speedups::Speedups;
use serde::Serialize;
use std::{
    io::{self, Write},
    time::Duration,
};

/// Prints an object as one line.
pub(crate) fn print_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)?;
    // A reader at the other end of a pipe sees each line when it is done.
    out.flush()
}

/// Speedups over a group of blocks.
#[derive(Debug, Serialize)]
pub(crate) struct SpeedupTotals {
    speedup_total: Option<f64>,
    speedup_mean: Option<f64>,
    speedup_min: Option<f64>,
    speedup_max: Option<f64>,
}

impl SpeedupTotals {
    pub(crate) fn new(speedups: &Speedups) -> Self {
        Self {
            speedup_total: speedups.total().map(rounded),
            speedup_mean: speedups.mean().map(rounded),
            speedup_min: speedups.worst.map(|(speedup, _)| rounded(speedup)),
            speedup_max: speedups.best.map(|(speedup, _)| rounded(speedup)),
        }
    }
}

/// A time in milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// To three decimals: the rest is noise of the clock.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

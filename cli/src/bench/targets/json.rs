//! The report for programs: after the lines of the blocks, one object a line for each workload that
//! grows and for each target.

use super::{
    growth::Growth,
    judgement::{Judgement, Verdict},
    target::Bound,
};
use crate::json::{print_line, rounded};
use serde::Serialize;
use std::io::{self, Write};

/// Prints what blocks cost as they grow.
pub(crate) fn print_growth(out: &mut impl Write, growth: &Growth) -> io::Result<()> {
    let Growth { name, sizes } = growth;
    let line = GrowthLine {
        growth: name,
        txs: sizes.iter().map(|size| size.txs).collect(),
        parallel_ns_per_tx: sizes.iter().map(|size| size.parallel_ns_per_tx().round()).collect(),
        sequential_ns_per_tx: sizes
            .iter()
            .map(|size| size.sequential_ns_per_tx().round())
            .collect(),
        spread: growth.spread().map(rounded),
    };
    print_line(out, &line)
}

/// Prints what became of a target.
pub(crate) fn print_target(out: &mut impl Write, judgement: &Judgement) -> io::Result<()> {
    let Judgement { target, measured, verdict } = judgement;
    let (at_least, at_most) = match target.bound {
        Bound::AtLeast(least) => (Some(least), None),
        Bound::AtMost(most) => (None, Some(most)),
    };
    let (verdict, reason) = match verdict {
        Verdict::Met => ("met", None),
        Verdict::Missed => ("missed", None),
        Verdict::LeftOut(reason) => ("left_out", Some(reason.as_str())),
    };
    let line = TargetLine {
        target: target.what,
        at_least,
        at_most,
        measured: measured.as_ref().map(|measured| measured.value),
        of: measured.as_ref().map(|measured| measured.of.as_str()),
        verdict,
        reason,
    };
    print_line(out, &line)
}

#[derive(Serialize)]
struct GrowthLine<'a> {
    /// The workload.
    growth: &'a str,
    txs: Vec<usize>,
    parallel_ns_per_tx: Vec<f64>,
    sequential_ns_per_tx: Vec<f64>,
    /// The highest cost in parallel over the lowest one.
    spread: Option<f64>,
}

#[derive(Serialize)]
struct TargetLine<'a> {
    target: &'a str,
    /// One of these two is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    measured: Option<f64>,
    /// The workload or block that decides.
    of: Option<&'a str>,
    /// "met", "missed" or "left_out".
    verdict: &'a str,
    /// Why it was left out.
    reason: Option<&'a str>,
}

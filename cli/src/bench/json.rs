//! The report for programs: one object a line for each block and number of threads, then
//! `{"summary": …}`.
//!
//! Fields are only ever added. Times are in milliseconds, processor time in seconds, memory in MiB,
//! gas in gas.

use super::{
    environment::Environment,
    figures::{BlockTotals, Figures, GroupTotals, Row, Subject},
    outcome::Outcome,
    paired::Paired,
    settings::Settings,
};
use crate::{
    json::{SpeedupTotals, millis, print_line, rounded},
    mode::sequential_reason,
    speedups::LARGE_BLOCK_TXS,
};
use serde::Serialize;
use std::{
    io::{self, Write},
    time::Duration,
};

/// Prints a row.
pub(crate) fn print_row(out: &mut impl Write, row: &Row) -> io::Result<()> {
    print_line(out, &Line::new(row))
}

/// Prints what holds for the whole run.
pub(crate) fn print_summary(
    out: &mut impl Write,
    settings: &Settings,
    environment: &Environment,
    outcome: &Outcome,
    totals: &[BlockTotals],
    is_interrupted: bool,
) -> io::Result<()> {
    let summary = Summary {
        measured: outcome.measured,
        wrong: outcome.wrong,
        unusable: outcome.unusable,
        interrupted: is_interrupted,
        threads: &settings.threads,
        repeat: settings.repeat,
        force_parallel: settings.force_parallel,
        environment,
        totals: totals.iter().map(Totals::new).collect(),
    };
    print_line(out, &SummaryLine { summary })
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    subject: SubjectFields<'a>,
    txs: usize,
    gas: u64,
    threads: usize,
    /// Whether the parallel engine learns what contracts access.
    learns: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    bare_ms: f64,
    sequential_ms: f64,
    parallel_ms: f64,
    limit_ms: Option<f64>,
    /// Sequential over parallel time.
    speedup: Option<f64>,
    /// Bare over parallel time.
    speedup_bare: Option<f64>,
    /// Limit over parallel time.
    of_limit: Option<f64>,
    /// Only of an engine that learns: the time of the one that does not over its own, of each round.
    #[serde(skip_serializing_if = "Option::is_none")]
    speedup_plain: Option<Quartiles>,
    /// Transactions a second, in parallel.
    tps: Option<f64>,
    /// In parallel.
    mgas_per_s: Option<f64>,
    /// In parallel.
    peak_rss_mib: Option<f64>,
    sequential_peak_rss_mib: Option<f64>,
    /// In parallel, of all threads.
    cpu_s: Option<f64>,
    sequential_cpu_s: Option<f64>,
    /// Of the parallel time, predicting, the conflict graph and the plan.
    plan_ms: f64,
    /// Of the parallel time, learning from the block.
    learn_ms: f64,
    executions: usize,
    put_off: usize,
    conflicts: usize,
    mode: &'a str,
    /// Why the mode is "sequential".
    mode_reason: Option<&'a str>,
}

/// Quartiles over the rounds.
#[derive(Serialize)]
struct Quartiles {
    lower: f64,
    median: f64,
    upper: f64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum SubjectFields<'a> {
    Workload { workload: &'a str },
    Block { block: u64, fork: &'a str },
    Merged { merged_blocks: usize, fork: &'a str },
}

impl<'a> Line<'a> {
    fn new(row: &'a Row) -> Self {
        let Row { subject, figures } = row;
        let Figures {
            txs,
            gas,
            threads,
            learns,
            bare,
            sequential,
            parallel,
            limit,
            speedup_plain,
            stats,
        } = figures;
        let (subject, seed) = match *subject {
            Subject::Workload { name, seed } => {
                (SubjectFields::Workload { workload: name }, Some(seed))
            }
            Subject::Block { number, fork } => (SubjectFields::Block { block: number, fork }, None),
            Subject::Merged { blocks, fork } => {
                (SubjectFields::Merged { merged_blocks: blocks, fork }, None)
            }
        };
        let mode_reason = sequential_reason(stats.mode);
        Self {
            subject,
            txs: *txs,
            gas: *gas,
            threads: *threads,
            learns: *learns,
            seed,
            bare_ms: millis(*bare),
            sequential_ms: millis(sequential.time),
            parallel_ms: millis(parallel.time),
            limit_ms: limit.map(millis),
            speedup: figures.speedup().map(rounded),
            speedup_bare: figures.speedup_bare().map(rounded),
            of_limit: figures.of_limit().map(rounded),
            speedup_plain: speedup_plain.map(|Paired { lower, median, upper }| Quartiles {
                lower: rounded(lower),
                median: rounded(median),
                upper: rounded(upper),
            }),
            tps: figures.txs_per_s().map(f64::round),
            mgas_per_s: figures.mgas_per_s().map(rounded),
            peak_rss_mib: parallel.peak_bytes.map(mebibytes),
            sequential_peak_rss_mib: sequential.peak_bytes.map(mebibytes),
            cpu_s: parallel.cpu.map(seconds),
            sequential_cpu_s: sequential.cpu.map(seconds),
            plan_ms: millis(stats.plan_time),
            learn_ms: millis(stats.learn_time),
            executions: stats.executions,
            put_off: stats.put_off,
            conflicts: stats.conflicts,
            mode: if mode_reason.is_some() { "sequential" } else { "parallel" },
            mode_reason,
        }
    }
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    summary: Summary<'a>,
}

#[derive(Serialize)]
struct Summary<'a> {
    /// Blocks that were measured.
    measured: usize,
    /// Blocks whose output is wrong, or that could not be executed.
    wrong: usize,
    /// Blocks that could not be generated or read.
    unusable: usize,
    interrupted: bool,
    threads: &'a [usize],
    repeat: usize,
    force_parallel: bool,
    #[serde(flatten)]
    environment: &'a Environment,
    /// Over real blocks, for each number of threads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    totals: Vec<Totals>,
}

#[derive(Serialize)]
struct Totals {
    threads: usize,
    #[serde(flatten)]
    all: Group,
    /// The same over the blocks with `min_txs` transactions or more.
    large_blocks: LargeBlocks,
}

#[derive(Serialize)]
struct LargeBlocks {
    min_txs: usize,
    #[serde(flatten)]
    group: Group,
}

#[derive(Serialize)]
struct Group {
    blocks: usize,
    #[serde(flatten)]
    over_sequential: SpeedupTotals,
    over_bare: SpeedupTotals,
}

impl Totals {
    fn new(totals: &BlockTotals) -> Self {
        let large_blocks =
            LargeBlocks { min_txs: LARGE_BLOCK_TXS, group: Group::new(&totals.large) };
        Self { threads: totals.threads, all: Group::new(&totals.all), large_blocks }
    }
}

impl Group {
    fn new(group: &GroupTotals) -> Self {
        Self {
            blocks: group.over_sequential.blocks,
            over_sequential: SpeedupTotals::new(&group.over_sequential),
            over_bare: SpeedupTotals::new(&group.over_bare),
        }
    }
}

fn mebibytes(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0
}

/// To microseconds.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

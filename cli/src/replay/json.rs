//! The report for programs: one object a line for each block, then `{"summary": …}`.
//!
//! Fields are only ever added. Times are in milliseconds, gas in gas, rates per second.

use super::{
    report::{BlockReport, Executed, Failure, FailureKind, Summary, critical_path_share},
    settings::Settings,
    verdict::{Check, Outcome, Verdict},
};
use crate::{
    json::{SpeedupTotals, millis, print_line, rounded},
    mode::sequential_reason,
    speedups::LARGE_BLOCK_TXS,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{
    io::{self, Write},
    time::Duration,
};

/// Checks that every block has an entry for, whether or not its fork knows them.
const ALWAYS_LISTED: [&str; 8] = [
    "gas_used",
    "receipts_root",
    "logs_bloom",
    "blob_gas",
    "requests_hash",
    "state_root",
    "expected",
    "matches_sequential",
];
const NOT_IN_FORK: &str = "the block's fork has no such header field";

/// Prints a block.
pub(crate) fn print_block(
    out: &mut impl Write,
    settings: &Settings,
    block: &BlockReport,
) -> io::Result<()> {
    let BlockReport { number, origin, result } = block;
    match result {
        Ok(executed) => print_line(out, &ExecutedLine::new(*number, origin, executed, settings)),
        Err(Failure { kind, error }) => {
            let failure = match kind {
                FailureKind::Unreadable => "unreadable",
                FailureKind::NotExecuted => "not_executed",
            };
            print_line(out, &FailedLine { block: *number, origin, verified: false, failure, error })
        }
    }
}

/// Prints the totals.
pub(crate) fn print_summary(
    out: &mut impl Write,
    settings: &Settings,
    summary: &Summary,
    interrupted: bool,
) -> io::Result<()> {
    print_line(out, &SummaryLine { summary: Totals::new(settings, summary, interrupted) })
}

#[derive(Serialize)]
struct ExecutedLine<'a> {
    block: u64,
    origin: &'a str,
    fork: &'a str,
    txs: usize,
    gas_used: u64,
    engine: &'a str,
    threads: usize,
    checks: Checks<'a>,
    /// Why checks were skipped, by name.
    skipped: SkipReasons<'a>,
    verified: bool,
    differences: Vec<DifferenceLine<'a>>,
    sequential_ms: Option<f64>,
    parallel_ms: Option<f64>,
    speedup: Option<f64>,
    executions: Option<usize>,
    put_off: Option<usize>,
    conflicts: Option<usize>,
    lanes: Option<usize>,
    critical_path_share: Option<f64>,
    mode: Option<&'a str>,
    /// Why the mode is "sequential".
    mode_reason: Option<&'a str>,
}

#[derive(Serialize)]
struct DifferenceLine<'a> {
    check: &'a str,
    transaction: Option<usize>,
    field: &'a str,
    expected: &'a str,
    got: &'a str,
}

#[derive(Serialize)]
struct FailedLine<'a> {
    block: u64,
    origin: &'a str,
    verified: bool,
    failure: &'a str,
    error: &'a str,
}

impl<'a> ExecutedLine<'a> {
    fn new(block: u64, origin: &'a str, executed: &'a Executed, settings: &Settings) -> Self {
        let Executed { fork, txs, gas_used, sequential, parallel, verdict } = executed;
        let stats = parallel.as_ref().map(|(_, stats)| stats);
        let differences = verdict.findings.iter().map(|finding| DifferenceLine {
            check: finding.check,
            transaction: finding.transaction,
            field: &finding.field,
            expected: &finding.expected,
            got: &finding.got,
        });
        let mode_reason = stats.and_then(|stats| sequential_reason(stats.mode));
        Self {
            block,
            origin,
            fork,
            txs: *txs,
            gas_used: *gas_used,
            engine: settings.engine.name(),
            threads: settings.threads,
            checks: Checks(verdict),
            skipped: SkipReasons(verdict),
            verified: verdict.is_verified(),
            differences: differences.collect(),
            sequential_ms: sequential.map(millis),
            parallel_ms: parallel.as_ref().map(|(time, _)| millis(*time)),
            speedup: executed.speedup().map(rounded),
            executions: stats.map(|stats| stats.executions),
            put_off: stats.map(|stats| stats.put_off),
            conflicts: stats.map(|stats| stats.conflicts),
            lanes: stats.map(|stats| stats.lanes),
            critical_path_share: stats.and_then(critical_path_share).map(rounded),
            mode: stats.map(|_| if mode_reason.is_some() { "sequential" } else { "parallel" }),
            mode_reason,
        }
    }
}

/// `{name: "ok" | "mismatch" | "skipped"}`.
struct Checks<'a>(&'a Verdict);

impl Serialize for Checks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for Check { name, outcome } in &self.0.checks {
            let word = match outcome {
                Outcome::Ok => "ok",
                Outcome::Mismatch => "mismatch",
                Outcome::Skipped(_) => "skipped",
            };
            map.serialize_entry(name, word)?;
        }
        for name in not_in_fork(self.0) {
            map.serialize_entry(name, "skipped")?;
        }
        map.end()
    }
}

/// `{name: reason}` of the skipped checks.
struct SkipReasons<'a>(&'a Verdict);

impl Serialize for SkipReasons<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for Check { name, outcome } in &self.0.checks {
            if let Outcome::Skipped(reason) = outcome {
                map.serialize_entry(name, reason)?;
            }
        }
        for name in not_in_fork(self.0) {
            map.serialize_entry(name, NOT_IN_FORK)?;
        }
        map.end()
    }
}

fn not_in_fork(verdict: &Verdict) -> impl Iterator<Item = &'static str> + '_ {
    ALWAYS_LISTED.into_iter().filter(|name| verdict.outcome(name).is_none())
}

#[derive(Serialize)]
struct SummaryLine {
    summary: Totals,
}

#[derive(Serialize)]
struct Totals {
    blocks: usize,
    verified: usize,
    failed: usize,
    mismatched: usize,
    not_executed: usize,
    unreadable: usize,
    interrupted: bool,
    txs: usize,
    gas_used: u64,
    engine: &'static str,
    threads: usize,
    repeat: usize,
    sequential_ms: Option<f64>,
    parallel_ms: Option<f64>,
    conflicts: Option<usize>,
    /// What became of block access lists.
    access_lists: Option<&'static str>,
    #[serde(flatten)]
    rates: Rates,
    #[serde(flatten)]
    speedups: SpeedupTotals,
    /// The same over the blocks with `min_txs` transactions or more.
    large_blocks: LargeBlocks,
}

#[derive(Serialize)]
struct Rates {
    sequential_mgas_per_s: Option<f64>,
    sequential_txs_per_s: Option<f64>,
    parallel_mgas_per_s: Option<f64>,
    parallel_txs_per_s: Option<f64>,
}

#[derive(Serialize)]
struct LargeBlocks {
    min_txs: usize,
    blocks: usize,
    #[serde(flatten)]
    speedups: SpeedupTotals,
}

impl Totals {
    fn new(settings: &Settings, summary: &Summary, interrupted: bool) -> Self {
        let sequential = settings.engine.runs_sequential().then_some(summary.sequential);
        let parallel = settings.engine.runs_parallel().then_some(summary.parallel);
        let per_second = |amount: f64, time: Option<Duration>| {
            let seconds = time?.as_secs_f64();
            (seconds > 0.0).then(|| rounded(amount / seconds))
        };
        let (mgas, txs) = (summary.gas_used as f64 / 1e6, summary.txs as f64);
        Self {
            blocks: summary.blocks,
            verified: summary.verified,
            failed: summary.failed(),
            mismatched: summary.mismatched,
            not_executed: summary.not_executed,
            unreadable: summary.unreadable,
            interrupted,
            txs: summary.txs,
            gas_used: summary.gas_used,
            engine: settings.engine.name(),
            threads: settings.threads,
            repeat: settings.repeat,
            sequential_ms: sequential.map(millis),
            parallel_ms: parallel.map(millis),
            conflicts: parallel.map(|_| summary.conflicts),
            access_lists: settings.access_lists.name(),
            rates: Rates {
                sequential_mgas_per_s: per_second(mgas, sequential),
                sequential_txs_per_s: per_second(txs, sequential),
                parallel_mgas_per_s: per_second(mgas, parallel),
                parallel_txs_per_s: per_second(txs, parallel),
            },
            speedups: SpeedupTotals::new(&summary.speedups),
            large_blocks: LargeBlocks {
                min_txs: LARGE_BLOCK_TXS,
                blocks: summary.speedups_large.blocks,
                speedups: SpeedupTotals::new(&summary.speedups_large),
            },
        }
    }
}

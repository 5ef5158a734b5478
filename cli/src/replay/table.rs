//! The report for people.

use super::{
    report::{BlockReport, Executed, FailureKind, Summary, critical_path_share},
    settings::Settings,
    verdict::Outcome,
};
use crate::{
    mode::sequential_reason,
    speedups::LARGE_BLOCK_TXS,
    text::{aligned, grouped, millis, percent, print_speedups, show, times},
};
use multilane::ExecutionStats;
use std::{
    io::{self, Write},
    time::Duration,
};

/// Of the differences of one block, this many are shown; the JSON report has them all.
const FINDINGS_SHOWN: usize = 20;

/// Prints the table of all blocks, then what is wrong with any of them, then the totals.
pub(crate) fn print(
    out: &mut impl Write,
    settings: &Settings,
    blocks: &[BlockReport],
    summary: &Summary,
) -> io::Result<()> {
    if !settings.is_quiet && !blocks.is_empty() {
        print_blocks(out, settings, blocks)?;
        writeln!(out)?;
    }
    for block in blocks {
        print_findings(out, block)?;
    }
    print_totals(out, settings, summary)
}

fn print_blocks(
    out: &mut impl Write,
    settings: &Settings,
    blocks: &[BlockReport],
) -> io::Result<()> {
    let mut header =
        vec!["block", "fork", "txs", "gas", "seq ms", "par ms", "speedup", "re-exec", "mode"];
    if settings.is_verbose {
        header.extend(["conflicts", "lanes", "critical path"]);
    }
    header.push("verdict");
    let mut rows = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(blocks.iter().map(|block| row(settings, block)));

    for (index, line) in aligned(&rows, &["fork", "mode", "verdict"]).enumerate() {
        writeln!(out, "{line}")?;
        if settings.is_verbose
            && let Some(Ok(executed)) = index.checked_sub(1).map(|index| &blocks[index].result)
        {
            print_checks(out, executed)?;
        }
    }
    Ok(())
}

fn row(settings: &Settings, block: &BlockReport) -> Vec<String> {
    let executed = block.result.as_ref().ok();
    let stats = executed.and_then(|executed| Some(&executed.parallel.as_ref()?.1));
    let parallel = executed.and_then(|executed| Some(executed.parallel.as_ref()?.0));
    // A parallel engine that ran sequentially has neither conflicts nor lanes.
    let in_parallel = stats.filter(|stats| sequential_reason(stats.mode).is_none());
    let count = |count: fn(&ExecutionStats) -> usize| show(in_parallel.map(count));

    let mut cells = vec![
        block.number.to_string(),
        executed.map_or("-", |executed| executed.fork).to_owned(),
        show(executed.map(|executed| executed.txs)),
        show(executed.map(|executed| grouped(executed.gas_used))),
        show(executed.and_then(|executed| executed.sequential).map(millis)),
        show(parallel.map(millis)),
        show(executed.and_then(Executed::speedup).map(times)),
        count(|stats| stats.executions.saturating_sub(stats.transactions)),
        stats.map_or("-", |stats| sequential_reason(stats.mode).unwrap_or("parallel")).to_owned(),
    ];
    if settings.is_verbose {
        cells.push(count(|stats| stats.conflicts));
        cells.push(count(|stats| stats.lanes));
        cells.push(show(stats.and_then(critical_path_share).map(percent)));
    }
    cells.push(verdict(block));
    cells
}

fn verdict(block: &BlockReport) -> String {
    match &block.result {
        Ok(executed) if executed.verdict.is_verified() => {
            match executed.verdict.outcome("state_root") {
                Some(Outcome::Ok) => "ok, state root".into(),
                _ => "ok".into(),
            }
        }
        Ok(executed) => {
            let mismatches: Vec<_> = executed.verdict.mismatches().collect();
            if mismatches.is_empty() {
                return "NOT VERIFIABLE".into();
            }
            format!("MISMATCH {}", mismatches.join(", "))
        }
        Err(failure) => match failure.kind {
            FailureKind::Unreadable => "UNREADABLE".into(),
            FailureKind::NotExecuted => "FAILED".into(),
        },
    }
}

fn print_checks(out: &mut impl Write, executed: &Executed) -> io::Result<()> {
    for check in &executed.verdict.checks {
        match &check.outcome {
            Outcome::Ok => writeln!(out, "    {:<22} ok", check.name)?,
            Outcome::Mismatch => writeln!(out, "    {:<22} MISMATCH", check.name)?,
            Outcome::Skipped(reason) => writeln!(out, "    {:<22} skipped: {reason}", check.name)?,
        }
    }
    Ok(())
}

/// Errors have gone to standard error when they happened; differences are data.
fn print_findings(out: &mut impl Write, block: &BlockReport) -> io::Result<()> {
    let BlockReport { number, origin, result } = block;
    let findings = match result {
        Ok(executed) if !executed.verdict.findings.is_empty() => &executed.verdict.findings,
        _ => return Ok(()),
    };
    writeln!(out, "block {number} ({origin}):")?;
    for finding in findings.iter().take(FINDINGS_SHOWN) {
        writeln!(out, "    {finding}")?;
    }
    if let Some(more @ 1..) = findings.len().checked_sub(FINDINGS_SHOWN) {
        writeln!(out, "    and {more} more differences (--format json has them all)")?;
    }
    writeln!(out)
}

fn print_totals(out: &mut impl Write, settings: &Settings, summary: &Summary) -> io::Result<()> {
    write!(out, "{} of {} blocks verified", summary.verified, summary.blocks)?;
    for (count, what) in [
        (summary.mismatched, "do not match"),
        (summary.not_executed, "failed"),
        (summary.unreadable, "could not be read"),
    ] {
        if count > 0 {
            write!(out, ", {count} {what}")?;
        }
    }
    let gas = grouped(summary.gas_used);
    writeln!(out, "; {} transactions, {gas} gas", grouped(summary.txs as u64))?;

    let runs = match settings.repeat {
        1 => String::new(),
        repeat => format!(", median of {repeat}"),
    };
    if settings.engine.runs_sequential() {
        print_rate(out, &format!("sequential{runs}"), summary, summary.sequential)?;
    }
    if settings.engine.runs_parallel() {
        let threads = settings.threads;
        let plural = if threads == 1 { "" } else { "s" };
        let engine = format!("parallel, {threads} thread{plural}{runs}");
        print_rate(out, &engine, summary, summary.parallel)?;
    }
    if let Some(name) = settings.access_lists.name() {
        writeln!(out, "access lists {name}: {} conflicts", grouped(summary.conflicts as u64))?;
    }
    print_speedups(out, "speedup of all blocks", &summary.speedups)?;
    let large = format!("speedup of {LARGE_BLOCK_TXS} transactions or more");
    print_speedups(out, &large, &summary.speedups_large)
}

fn print_rate(
    out: &mut impl Write,
    engine: &str,
    summary: &Summary,
    time: Duration,
) -> io::Result<()> {
    let seconds = time.as_secs_f64();
    write!(out, "{engine}: {} ms", millis(time))?;
    if seconds > 0.0 {
        let mgas = summary.gas_used as f64 / 1e6 / seconds;
        write!(out, ", {mgas:.1} Mgas/s, {:.0} transactions/s", summary.txs as f64 / seconds)?;
    }
    writeln!(out)
}

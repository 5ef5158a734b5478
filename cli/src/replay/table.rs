//! The report for people.

use super::{
    report::{
        BlockReport, Executed, FailureKind, LARGE_BLOCK_TXS, Speedups, Summary,
        critical_path_share, sequential_reason,
    },
    settings::Settings,
    verdict::Outcome,
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

    let columns = rows[0].len();
    let widths: Vec<_> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let is_word = matches!(rows[0][column].as_str(), "fork" | "mode" | "verdict");
            line.push_str(&if is_word {
                format!("{cell:<width$}  ")
            } else {
                format!("{cell:>width$}  ")
            });
        }
        writeln!(out, "{}", line.trim_end())?;
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
    print_speedups(out, "all blocks", &summary.speedups)?;
    print_speedups(out, &format!("{LARGE_BLOCK_TXS} transactions or more"), &summary.speedups_large)
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

fn print_speedups(out: &mut impl Write, group: &str, speedups: &Speedups) -> io::Result<()> {
    let (Some(total), Some(mean), Some((worst, worst_block)), Some((best, best_block))) =
        (speedups.total(), speedups.mean(), speedups.worst, speedups.best)
    else {
        return Ok(());
    };
    writeln!(
        out,
        "speedup of {group} ({}): total {}, mean {}, worst {} (block {worst_block}), \
         best {} (block {best_block})",
        speedups.blocks,
        times(total),
        times(mean),
        times(worst),
        times(best),
    )
}

fn show(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn times(speedup: f64) -> String {
    format!("{speedup:.2}x")
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let examples = [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in examples {
            assert_eq!(grouped(number), text);
        }
    }
}

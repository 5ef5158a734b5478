//! The report for people.

use super::{
    environment::Environment,
    figures::{BlockTotals, Figures, Row, Subject},
    paired::Paired,
    settings::Settings,
};
use crate::{
    mode::sequential_reason,
    speedups::LARGE_BLOCK_TXS,
    text::{aligned, grouped, millis, percent, print_speedups, show, times},
};
use std::io::{self, Write};

/// Prints machine, command and rows; for real blocks the totals as well.
pub(crate) fn print(
    out: &mut impl Write,
    settings: &Settings,
    environment: &Environment,
    rows: &[Row],
    totals: &[BlockTotals],
) -> io::Result<()> {
    print_environment(out, settings, environment, rows)?;
    if rows.is_empty() {
        return writeln!(out, "nothing was measured");
    }
    print_rows(out, rows)?;
    writeln!(out)?;
    for totals in totals {
        print_totals(out, totals)?;
    }
    writeln!(
        out,
        "ms of a whole block. bare: one revm on a warm database, without receipts and state changes; \
         seq: alloy-evm's\nblock executor; par: Multilane; limit: threads on shares of the block \
         without coordination. speedup: seq / par;\nvs bare: bare / par; of limit: limit / par. \
         Below 1.00x threads lose."
    )?;
    if has_learning(rows) {
        writeln!(
            out,
            "vs plain: par without a profile / par of the same round, median (quartiles). Below 1.00x \
             learning loses."
        )?;
    }
    Ok(())
}

/// Prints machine, versions, date and command.
pub(super) fn print_environment(
    out: &mut impl Write,
    settings: &Settings,
    environment: &Environment,
    rows: &[Row],
) -> io::Result<()> {
    let Environment { date, command, machine, versions } = environment;
    writeln!(out, "{}", machine.describe())?;
    writeln!(out, "{}", versions.describe())?;
    write!(out, "{date}, {command}, medians of {}", settings.repeat)?;
    if let Some(seed) = rows.iter().find_map(|row| seed(row.subject)) {
        write!(out, ", seed {seed}")?;
    }
    writeln!(out, "\n")
}

const fn seed(subject: Subject) -> Option<u64> {
    match subject {
        Subject::Workload { seed, .. } => Some(seed),
        Subject::Block { .. } | Subject::Merged { .. } => None,
    }
}

fn print_rows(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let of_blocks = rows.iter().any(|row| !matches!(row.subject, Subject::Workload { .. }));
    let mut header = if of_blocks { vec!["block", "fork"] } else { vec!["workload"] };
    header.extend(["txs", "gas", "threads", "bare ms", "seq ms", "par ms"]);
    if !of_blocks {
        header.push("limit ms");
    }
    header.extend(["speedup", "vs bare"]);
    if !of_blocks {
        header.push("of limit");
    }
    let with_plain = has_learning(rows);
    if with_plain {
        header.push("vs plain");
    }
    header.extend(["tps", "Mgas/s", "conflicts", "mode"]);

    let mut lines = vec![header.into_iter().map(str::to_owned).collect()];
    lines.extend(rows.iter().map(|row| cells(row, with_plain)));
    for line in aligned(&lines, &["workload", "fork", "mode"]) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Whether an engine has learned, so that there is something to compare with.
fn has_learning(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.figures.learns)
}

fn cells(row: &Row, with_plain: bool) -> Vec<String> {
    let Row { subject, figures } = row;
    let Figures { txs, gas, threads, learns, bare, sequential, parallel, limit, stats, .. } =
        figures;
    let (mut cells, of_block) = match subject {
        Subject::Workload { name, .. } => (vec![(*name).to_owned()], false),
        Subject::Block { number, fork } => (vec![number.to_string(), (*fork).to_owned()], true),
        Subject::Merged { blocks, fork } => {
            (vec![format!("{blocks} as one"), (*fork).to_owned()], true)
        }
    };
    cells.extend([
        grouped(*txs as u64),
        grouped(*gas),
        threads.to_string(),
        millis(*bare),
        millis(sequential.time),
        millis(parallel.time),
    ]);
    if !of_block {
        cells.push(show(limit.map(millis)));
    }
    cells.extend([show(figures.speedup().map(times)), show(figures.speedup_bare().map(times))]);
    if !of_block {
        cells.push(show(figures.of_limit().map(percent)));
    }
    if with_plain {
        cells.push(show(figures.speedup_plain.map(|Paired { lower, median, upper }| {
            format!("{} ({lower:.2}-{upper:.2})", times(median))
        })));
    }
    let reason = sequential_reason(stats.mode);
    cells.extend([
        show(figures.txs_per_s().map(|rate| grouped(rate as u64))),
        show(figures.mgas_per_s().map(|rate| format!("{rate:.0}"))),
        // A block that ran sequentially has no conflicts.
        show(reason.is_none().then(|| grouped(stats.conflicts as u64))),
        format!("{}{}", reason.unwrap_or("parallel"), if *learns { ", learning" } else { "" }),
    ]);
    cells
}

fn print_totals(out: &mut impl Write, totals: &BlockTotals) -> io::Result<()> {
    let BlockTotals { threads, all, large } = totals;
    let plural = if *threads == 1 { "" } else { "s" };
    for (group, of) in [
        (format!("all blocks, {threads} thread{plural}"), all),
        (format!("{LARGE_BLOCK_TXS} transactions or more, {threads} thread{plural}"), large),
    ] {
        print_speedups(out, &format!("speedup, {group}"), &of.over_sequential)?;
        print_speedups(out, &format!("vs bare, {group}"), &of.over_bare)?;
    }
    writeln!(out)
}

//! The page: what was measured, where and how, drawn and as a table.

use super::{
    bars::{Bar, Group, Mark, bar_chart},
    escape::Escaped,
    histogram::histogram,
    lines::{Line, line_chart, line_class},
};
use crate::{
    bench::{
        environment::Environment,
        figures::{BlockTotals, Figures, GroupTotals, Row, Subject},
        settings::Settings,
    },
    mode::sequential_reason,
    speedups::{LARGE_BLOCK_TXS, Speedups},
    text::{grouped, millis, percent, show, times},
};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// The whole document.
pub(super) fn page(
    settings: &Settings,
    environment: &Environment,
    rows: &[Row],
    totals: &[BlockTotals],
    is_interrupted: bool,
) -> String {
    let mut page = Page::default();
    page.head(environment, is_interrupted);
    page.push("<div class=\"charts\">\n");
    let of_blocks = rows.iter().any(|row| !matches!(row.subject, Subject::Workload { .. }));
    if of_blocks {
        for totals in totals {
            page.distribution(rows, totals.threads);
        }
    } else {
        page.speedups(rows, settings);
        page.throughput(rows, settings);
        page.scaling(rows, settings);
    }
    page.push("</div>\n");
    if !totals.is_empty() {
        page.totals(totals);
    }
    page.table(rows, of_blocks);
    page.arms();
    page.environment(settings, environment, rows);
    page.push("</body>\n</html>\n");
    page.0
}

/// The document so far.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn push(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }

    fn head(&mut self, environment: &Environment, is_interrupted: bool) {
        let Environment { date, machine, versions, .. } = environment;
        self.write(format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Multilane benchmark, {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <h1>Multilane benchmark</h1>\n<p class=\"lead\">{} · {}</p>\n",
            Escaped(date),
            Escaped(machine.describe()),
            Escaped(date),
        ));
        if is_interrupted {
            self.push("<p class=\"warning\">Interrupted: this is what was finished by then.</p>\n");
        }
        if !versions.is_optimised {
            self.push("<p class=\"warning\">A debug build: its figures mean nothing.</p>\n");
        }
    }

    fn figure(&mut self, title: &str, caption: &str, chart: &str, legend: &str) {
        self.write(format_args!(
            "<figure>\n<h2>{}</h2>\n<figcaption>{}</figcaption>\n{chart}{legend}</figure>\n",
            Escaped(title),
            Escaped(caption),
        ));
    }

    /// Speedup of each workload at the most threads, with the limit and bare revm marked.
    fn speedups(&mut self, rows: &[Row], settings: &Settings) {
        let threads = most_threads(settings);
        let groups = rows.iter().filter(|row| row.figures.threads == threads).filter_map(|row| {
            let Row { subject, figures } = row;
            let (name, speedup) = (name(subject), figures.speedup()?);
            let limit = figures.speedup_limit();
            let bare = figures.speedup_of_bare();
            let mut title = format!("{name}: {}", times(speedup));
            for (what, value) in [("limit", limit), ("bare revm", bare)] {
                if let Some(value) = value {
                    title.push_str(&format!(", {what} {}", times(value)));
                }
            }
            let marks = [(limit, "mark-limit"), (bare, "mark-bare")];
            let marks =
                marks.into_iter().filter_map(|(value, class)| Some(Mark { value: value?, class }));
            let class = if is_loss(speedup) { "loss" } else { "parallel" };
            let bar =
                Bar { value: speedup, text: times(speedup), class, title, marks: marks.collect() };
            Some(Group { name, bars: vec![bar] })
        });
        let groups: Vec<_> = groups.collect();
        if groups.is_empty() {
            return;
        }
        let legend = legend(&[
            (Swatch::Bar, "parallel", "faster than sequential"),
            (Swatch::Bar, "loss", "slower"),
            (Swatch::Stroke, "mark-limit", "limit of independent work"),
            (Swatch::Stroke, "mark-bare", "bare revm"),
        ]);
        self.figure(
            "Speedup",
            &format!(
                "Sequential time over parallel time, {}. Dashed: as fast as sequential.",
                count(threads)
            ),
            &bar_chart("Speedup of each workload", &groups, Some(1.0)),
            &legend,
        );
    }

    /// Gas a second of every arm, at the most threads.
    fn throughput(&mut self, rows: &[Row], settings: &Settings) {
        let threads = most_threads(settings);
        let groups = rows.iter().filter(|row| row.figures.threads == threads).map(|row| {
            let Row { subject, figures } = row;
            let name = name(subject);
            let arms = [
                ("bare", Some(figures.bare)),
                ("sequential", Some(figures.sequential.time)),
                ("parallel", Some(figures.parallel.time)),
                ("limit", figures.limit),
            ];
            let bars = arms.into_iter().filter_map(|(arm, time)| {
                let rate = figures.mgas_per_s_in(time?)?;
                let text = grouped(rate.round() as u64);
                let title = format!("{name}, {arm}: {text} Mgas/s, {} ms", millis(time?));
                Some(Bar { value: rate, text, class: arm, title, marks: Vec::new() })
            });
            Group { bars: bars.collect(), name: name.clone() }
        });
        let groups: Vec<_> = groups.collect();
        if groups.is_empty() {
            return;
        }
        let legend = legend(&[
            (Swatch::Bar, "bare", "bare revm"),
            (Swatch::Bar, "sequential", "sequential"),
            (Swatch::Bar, "parallel", "parallel"),
            (Swatch::Bar, "limit", "limit of independent work"),
        ]);
        self.figure(
            "Throughput",
            &format!("Million gas a second, {}.", count(threads)),
            &bar_chart("Throughput of each workload in million gas a second", &groups, None),
            &legend,
        );
    }

    /// Speedup over numbers of threads, if there are several.
    fn scaling(&mut self, rows: &[Row], settings: &Settings) {
        if settings.threads.len() < 2 {
            return;
        }
        let mut lines: Vec<Line> = Vec::new();
        for Row { subject, figures } in rows {
            let (name, Some(speedup)) = (name(subject), figures.speedup()) else { continue };
            let point = (figures.threads, speedup);
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { name, points: vec![point] }),
            }
        }
        for line in &mut lines {
            line.points.sort_unstable_by_key(|(threads, _)| *threads);
        }
        let classes: Vec<_> = (0..lines.len()).map(line_class).collect();
        let entries: Vec<_> = lines
            .iter()
            .zip(&classes)
            .map(|(line, class)| (Swatch::Line, class.as_str(), line.name.as_str()))
            .collect();
        self.figure(
            "Scaling",
            "Sequential time over parallel time, by number of threads.",
            &line_chart("Speedup over numbers of threads", &lines, 1.0),
            &legend(&entries),
        );
    }

    /// How many real blocks have which speedup.
    fn distribution(&mut self, rows: &[Row], threads: usize) {
        let rows = rows.iter().filter(|row| row.figures.threads == threads);
        let speedups = rows
            .filter_map(|row| Some((row.figures.speedup()?, row.figures.txs >= LARGE_BLOCK_TXS)));
        let speedups: Vec<_> = speedups.collect();
        if speedups.is_empty() {
            return;
        }
        let large = format!("{LARGE_BLOCK_TXS} transactions or more");
        let legend = legend(&[(Swatch::Bar, "parallel", &large), (Swatch::Bar, "small", "fewer")]);
        self.figure(
            &format!("Speedups of {} blocks", speedups.len()),
            &format!(
                "Blocks by sequential time over parallel time, {}. Dashed: as fast as sequential.",
                count(threads)
            ),
            &histogram("Number of blocks by speedup", &speedups, 1.0),
            &legend,
        );
    }

    fn totals(&mut self, totals: &[BlockTotals]) {
        self.push("<section class=\"card\">\n<h2>Totals</h2>\n<div class=\"scroll\"><table>\n<tr>");
        for (title, is_word) in [
            ("blocks", true),
            ("threads", false),
            ("baseline", true),
            ("number", false),
            ("total", false),
            ("mean", false),
            ("worst", false),
            ("best", false),
        ] {
            self.header_cell(title, is_word);
        }
        self.push("</tr>\n");
        for BlockTotals { threads, all, large } in totals {
            let large_name = format!("{LARGE_BLOCK_TXS} transactions or more");
            for (group, GroupTotals { over_sequential, over_bare }) in
                [("all", all), (large_name.as_str(), large)]
            {
                for (baseline, speedups) in
                    [("sequential", over_sequential), ("bare revm", over_bare)]
                {
                    self.totals_row(group, *threads, baseline, speedups);
                }
            }
        }
        self.push("</table></div>\n</section>\n");
    }

    fn totals_row(&mut self, group: &str, threads: usize, baseline: &str, speedups: &Speedups) {
        let with_block = |extreme: Option<(f64, u64)>| {
            show(extreme.map(|(speedup, block)| format!("{} (block {block})", times(speedup))))
        };
        let cells = [
            (group.to_owned(), "word"),
            (threads.to_string(), ""),
            (baseline.to_owned(), "word"),
            (speedups.blocks.to_string(), ""),
            (show(speedups.total().map(times)), loss(speedups.total())),
            (show(speedups.mean().map(times)), loss(speedups.mean())),
            (with_block(speedups.worst), loss(speedups.worst.map(|(speedup, _)| speedup))),
            (with_block(speedups.best), loss(speedups.best.map(|(speedup, _)| speedup))),
        ];
        self.row(&cells);
    }

    fn table(&mut self, rows: &[Row], of_blocks: bool) {
        self.push(
            "<section class=\"card\">\n<h2>Figures</h2>\n<div class=\"scroll\"><table>\n<tr>",
        );
        let first: &[&str] = if of_blocks { &["block", "fork"] } else { &["workload"] };
        for title in first {
            self.header_cell(title, true);
        }
        let figures = ["txs", "gas", "threads", "bare ms", "seq ms", "par ms"];
        let limit: &[&str] = if of_blocks { &[] } else { &["limit ms", "of limit"] };
        let rest =
            ["speedup", "vs bare", "tx/s", "Mgas/s", "CPU s", "peak MiB", "runs", "conflicts"];
        for title in figures.iter().chain(limit).chain(&rest) {
            self.header_cell(title, false);
        }
        self.header_cell("mode", true);
        self.push("</tr>\n");
        for row in rows {
            self.row(&figure_cells(row));
        }
        self.push("</table></div>\n");
        self.push(
            "<p class=\"note\">Times are of a whole block. CPU and memory are of one parallel \
             execution: processor time of all threads, and the most that was resident, the block's \
             state included. Runs are executions of transactions; more than there are transactions, \
             where some had to be repeated.</p>\n</section>\n",
        );
    }

    fn header_cell(&mut self, title: &str, is_word: bool) {
        let class = if is_word { " class=\"word\"" } else { "" };
        self.write(format_args!("<th{class}>{}</th>", Escaped(title)));
    }

    fn row(&mut self, cells: &[(String, &str)]) {
        self.push("<tr>");
        for (text, class) in cells {
            self.write(format_args!("<td class=\"{class}\">{}</td>", Escaped(text)));
        }
        self.push("</tr>\n");
    }

    fn arms(&mut self) {
        self.push("<section class=\"card\">\n<h2>What is compared</h2>\n<dl>\n");
        for (arm, what) in [
            (
                "bare",
                "one revm instance, reused, on an in-memory database that holds everything; neither \
                 receipts nor state changes are gathered",
            ),
            (
                "sequential",
                "alloy-evm's block executor on revm's state, with receipts and state changes",
            ),
            (
                "parallel",
                "Multilane: the same output, to the byte, checked before anything was timed",
            ),
            (
                "limit",
                "each thread alone with its share of the block and a state of its own, without any \
                 coordination; only for independent transactions",
            ),
        ] {
            self.write(format_args!("<dt>{arm}</dt><dd>{what}</dd>\n"));
        }
        self.push("</dl>\n</section>\n");
    }

    fn environment(&mut self, settings: &Settings, environment: &Environment, rows: &[Row]) {
        let Environment { date, command, machine, versions } = environment;
        self.push("<section class=\"card\">\n<h2>Where and how</h2>\n<dl>\n");
        let unknown = || "unknown".to_owned();
        let threads: Vec<_> = settings.threads.iter().map(ToString::to_string).collect();
        let mut entries = vec![
            ("processor", machine.cpu.clone().unwrap_or_else(unknown)),
            ("cores", machine.cores.map_or_else(unknown, |cores| cores.to_string())),
            ("memory", machine.memory_gib.map_or_else(unknown, |memory| format!("{memory} GiB"))),
            ("system", machine.os.clone()),
            ("kernel", machine.kernel.clone().unwrap_or_else(unknown)),
            ("versions", versions.describe()),
            ("threads", threads.join(", ")),
            ("executions", format!("{} of each arm, in turn; medians", settings.repeat)),
        ];
        let seed = rows.iter().find_map(|row| match row.subject {
            Subject::Workload { seed, .. } => Some(seed),
            Subject::Block { .. } | Subject::Merged { .. } => None,
        });
        if let Some(seed) = seed {
            entries.push(("seed", seed.to_string()));
        }
        entries.push(("date", date.clone()));
        for (name, value) in entries {
            self.write(format_args!("<dt>{name}</dt><dd>{}</dd>\n", Escaped(value)));
        }
        self.write(format_args!(
            "<dt>command</dt><dd><code>{}</code></dd>\n</dl>\n</section>\n",
            Escaped(command)
        ));
    }
}

fn figure_cells(row: &Row) -> Vec<(String, &'static str)> {
    let Row { subject, figures } = row;
    let Figures { txs, gas, threads, bare, sequential, parallel, limit, stats, .. } = figures;
    let mut cells = match subject {
        Subject::Workload { name, .. } => vec![((*name).to_owned(), "word")],
        Subject::Block { number, fork } => {
            vec![(number.to_string(), "word"), ((*fork).to_owned(), "word")]
        }
        Subject::Merged { blocks, fork } => {
            vec![(format!("{blocks} as one"), "word"), ((*fork).to_owned(), "word")]
        }
    };
    let cpu = parallel.cpu.map(|time| format!("{:.3}", time.as_secs_f64()));
    let peak = parallel.peak_bytes.map(|bytes| grouped(bytes >> 20));
    cells.extend([
        (grouped(*txs as u64), ""),
        (grouped(*gas), ""),
        (threads.to_string(), ""),
        (millis(*bare), ""),
        (millis(sequential.time), ""),
        (millis(parallel.time), ""),
    ]);
    if matches!(subject, Subject::Workload { .. }) {
        cells.push((show(limit.map(millis)), ""));
        cells.push((show(figures.of_limit().map(percent)), ""));
    }
    cells.extend([
        (show(figures.speedup().map(times)), loss(figures.speedup())),
        (show(figures.speedup_bare().map(times)), loss(figures.speedup_bare())),
        (show(figures.txs_per_s().map(|rate| grouped(rate as u64))), ""),
        (show(figures.mgas_per_s().map(|rate| grouped(rate.round() as u64))), ""),
        (show(cpu), ""),
        (show(peak), ""),
        (grouped(stats.executions as u64), ""),
        (grouped(stats.conflicts as u64), ""),
        (sequential_reason(stats.mode).unwrap_or("parallel").to_owned(), "word"),
    ]);
    cells
}

/// What an entry of a legend looks like.
#[derive(Clone, Copy, Debug)]
enum Swatch {
    Bar,
    Stroke,
    Line,
}

fn legend(entries: &[(Swatch, &str, &str)]) -> String {
    let mut legend = String::from("<ul class=\"legend\">\n");
    for (swatch, class, text) in entries {
        let drawing = match swatch {
            Swatch::Bar => format!("<rect y=\"1\" width=\"18\" height=\"10\" class=\"{class}\"/>"),
            Swatch::Stroke => {
                format!("<line x1=\"9\" y1=\"0\" x2=\"9\" y2=\"12\" class=\"{class}\"/>")
            }
            Swatch::Line => {
                format!("<line x1=\"0\" y1=\"6\" x2=\"18\" y2=\"6\" class=\"line {class}\"/>")
            }
        };
        let _ = writeln!(
            legend,
            "<li><svg viewBox=\"0 0 18 12\" aria-hidden=\"true\">{drawing}</svg>{}</li>",
            Escaped(text)
        );
    }
    legend.push_str("</ul>\n");
    legend
}

fn name(subject: &Subject) -> String {
    match subject {
        Subject::Workload { name, .. } => (*name).to_owned(),
        Subject::Block { number, .. } => format!("block {number}"),
        Subject::Merged { blocks, .. } => format!("{blocks} blocks as one"),
    }
}

fn most_threads(settings: &Settings) -> usize {
    settings.threads.iter().copied().max().unwrap_or(1)
}

fn count(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// Whether threads lose, as far as the figure shows: 0.998 is written as 1.00.
fn is_loss(speedup: f64) -> bool {
    speedup < 0.995
}

/// The class of a figure in which threads lose.
fn loss(speedup: Option<f64>) -> &'static str {
    if speedup.is_some_and(is_loss) { "loss" } else { "" }
}

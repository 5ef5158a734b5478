//! The report for people.

use super::{
    growth::{Growth, SizeCost},
    judgement::{Judgement, Verdict},
    target::{Bound, Figure, Subject, Target},
};
use crate::text::{aligned, grouped, percent};
use std::io::{self, Write};

/// Prints every target with its verdict, and then what the verdicts alone do not tell.
pub(crate) fn print(
    out: &mut impl Write,
    judgements: &[Judgement],
    growths: &[Growth],
) -> io::Result<()> {
    const HEADER: [&str; 4] = ["what", "target", "measured", "verdict"];
    let mut lines = vec![HEADER.map(str::to_owned).to_vec()];
    lines.extend(judgements.iter().map(cells));
    for line in aligned(&lines, &HEADER) {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    for growth in growths {
        print_growth(out, growth)?;
    }
    let count = |is_counted: fn(&Verdict) -> bool| {
        judgements.iter().filter(|judgement| is_counted(&judgement.verdict)).count()
    };
    writeln!(
        out,
        "{} met, {} missed, {} left out",
        count(|verdict| matches!(verdict, Verdict::Met)),
        count(|verdict| matches!(verdict, Verdict::Missed)),
        count(|verdict| matches!(verdict, Verdict::LeftOut(_))),
    )
}

fn cells(judgement: &Judgement) -> Vec<String> {
    let Judgement { target, measured, verdict } = judgement;
    let measured = measured.as_ref().map_or_else(
        || "-".to_owned(),
        |measured| format!("{} ({})", exact(target, measured.value), measured.of),
    );
    let bound = match target.bound {
        Bound::AtLeast(least) => format!("at least {}", round(target, least)),
        Bound::AtMost(most) => format!("at most {}", round(target, most)),
    };
    let verdict = match verdict {
        Verdict::Met => "met".to_owned(),
        Verdict::Missed => "missed".to_owned(),
        Verdict::LeftOut(reason) => format!("left out ({reason})"),
    };
    vec![target.what.to_owned(), bound, measured, verdict]
}

const fn is_share(target: &Target) -> bool {
    matches!(target.subject, Subject::Workloads(_, Figure::OfLimit))
}

/// A bound.
fn round(target: &Target, value: f64) -> String {
    if is_share(target) { percent(value) } else { format!("{value:.2}x") }
}

/// A measured value, with so many digits that it never looks like the bound that it misses.
fn exact(target: &Target, value: f64) -> String {
    if is_share(target) { format!("{:.1}%", value * 100.0) } else { format!("{value:.3}x") }
}

fn print_growth(out: &mut impl Write, growth: &Growth) -> io::Result<()> {
    let Growth { name, sizes } = growth;
    let joined = |of: &dyn Fn(&SizeCost) -> u64| {
        sizes.iter().map(|size| grouped(of(size))).collect::<Vec<_>>().join(" / ")
    };
    writeln!(
        out,
        "{name} of {} transactions: {} ns for each in parallel, {} sequentially",
        joined(&|size| size.txs as u64),
        joined(&|size| size.parallel_ns_per_tx().round() as u64),
        joined(&|size| size.sequential_ns_per_tx().round() as u64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::targets::{
        judgement::Measured,
        target::{Group, Size, Statistic},
    };
    use std::time::Duration;

    #[test]
    fn every_row_has_target_measurement_and_verdict() {
        let limit = Subject::Workloads(Group::Independent, Figure::OfLimit);
        let blocks = Subject::Blocks(Size::Large, Statistic::Worst);
        let measured = |value, of: &str| Some(Measured { value, of: of.to_owned() });
        let judgements = [
            Judgement {
                target: Target { what: "limit", subject: limit, bound: Bound::AtLeast(0.9) },
                measured: measured(0.899, "raw"),
                verdict: Verdict::Missed,
            },
            Judgement {
                target: Target { what: "blocks", subject: blocks, bound: Bound::AtLeast(0.97) },
                measured: None,
                verdict: Verdict::LeftOut("no archive".to_owned()),
            },
            Judgement {
                target: Target {
                    what: "growth",
                    subject: Subject::Growth(&["raw"]),
                    bound: Bound::AtMost(1.2),
                },
                measured: measured(1.1, "raw"),
                verdict: Verdict::Met,
            },
        ];
        let size = |txs: u32| SizeCost {
            txs: txs as usize,
            sequential: txs * Duration::from_nanos(500),
            parallel: txs * Duration::from_nanos(400),
        };
        let growths = [Growth { name: "raw", sizes: vec![size(10), size(1_000)] }];
        let mut out = Vec::new();
        print(&mut out, &judgements, &growths).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
what    target          measured      verdict
limit   at least 90%    89.9% (raw)   missed
blocks  at least 0.97x  -             left out (no archive)
growth  at most 1.20x   1.100x (raw)  met

raw of 10 / 1,000 transactions: 400 / 400 ns for each in parallel, 500 / 500 sequentially
1 met, 1 missed, 1 left out
"
        );
    }
}

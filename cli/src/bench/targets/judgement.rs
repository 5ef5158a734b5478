//! From figures to verdicts.
//!
//! Pure: whoever has the same figures gets the same verdicts.

use super::{
    growth::Growth,
    target::{Bound, Figure, Size, Statistic, Subject, Target},
};
use crate::{
    bench::figures::{self, Figures, Row},
    json::rounded,
    speedups::{LARGE_BLOCK_TXS, Speedups},
};
use std::collections::BTreeMap;

/// Everything that was measured, and why the rest was not.
#[derive(Clone, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) rows: &'a [Row],
    pub(crate) growths: &'a [Growth],
    /// Workloads that cannot be generated here, and why.
    pub(crate) missing_workloads: &'a BTreeMap<&'static str, String>,
    /// Why real blocks are missing; `None` if none is.
    pub(crate) missing_blocks: Option<&'a str>,
    /// Why anything else is missing.
    pub(crate) otherwise: &'a str,
}

/// What became of a target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) target: Target,
    pub(crate) measured: Option<Measured>,
    pub(crate) verdict: Verdict,
}

/// The figure that decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// To three decimals, as the reports have it.
    pub(crate) value: f64,
    /// What it was measured on.
    pub(crate) of: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// Something that could change the verdict was not measured, for this reason.
    LeftOut(String),
}

/// Judges a target.
pub(crate) fn judge(target: Target, evidence: &Evidence<'_>) -> Judgement {
    let (measured, gap, is_extreme) = match target.subject {
        Subject::Workloads(group, figure) => {
            let value = |name: &str| figure_of(evidence.row(name)?, figure);
            let (worst, gap) = evidence.worst(&group.names(), target.bound, value);
            (worst, gap, true)
        }
        Subject::Growth(names) => {
            let value =
                |name: &str| evidence.growths.iter().find(|growth| growth.name == name)?.spread();
            let (worst, gap) = evidence.worst(names, target.bound, value);
            (worst, gap, true)
        }
        Subject::Blocks(size, statistic) => {
            let measured = evidence.blocks(size, statistic);
            let gap = evidence.missing_blocks.map(str::to_owned);
            (measured, gap, statistic.is_extreme())
        }
    };
    let is_met = measured.as_ref().map(|measured| target.bound.is_met(measured.value));
    let verdict = match (is_met, gap) {
        // What is missing could only make it worse.
        (Some(false), Some(_)) if is_extreme => Verdict::Missed,
        (_, Some(gap)) => Verdict::LeftOut(gap),
        (Some(true), None) => Verdict::Met,
        (Some(false), None) => Verdict::Missed,
        (None, None) => Verdict::LeftOut("there are no such blocks".to_owned()),
    };
    Judgement { target, measured, verdict }
}

impl Evidence<'_> {
    fn row(&self, name: &str) -> Option<&Figures> {
        let is_of = |row: &&Row| matches!(row.subject, figures::Subject::Workload { name: other, .. } if other == name);
        self.rows.iter().find(is_of).map(|row| &row.figures)
    }

    /// The worst of the workloads that have a value, and why others have none.
    fn worst(
        &self,
        names: &[&'static str],
        bound: Bound,
        value: impl Fn(&str) -> Option<f64>,
    ) -> (Option<Measured>, Option<String>) {
        let mut worst: Option<Measured> = None;
        // By reason: several workloads are mostly missing for the same one.
        let mut gaps: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in names {
            match value(name).map(rounded) {
                Some(value) => {
                    if worst.as_ref().is_none_or(|worst| bound.is_worse(value, worst.value)) {
                        worst = Some(Measured { value, of: (*name).to_owned() });
                    }
                }
                None => {
                    let reason = self.missing_workloads.get(name).map(String::as_str);
                    gaps.entry(reason.unwrap_or(self.otherwise)).or_default().push(name);
                }
            }
        }
        let gaps: Vec<_> =
            gaps.iter().map(|(reason, names)| format!("{}: {reason}", names.join(", "))).collect();
        (worst, (!gaps.is_empty()).then(|| gaps.join("; ")))
    }

    fn blocks(&self, size: Size, statistic: Statistic) -> Option<Measured> {
        let mut speedups = Speedups::default();
        for Row { subject, figures } in self.rows {
            let is_large = figures.txs >= LARGE_BLOCK_TXS;
            if let figures::Subject::Block { number, .. } = subject
                && is_large == (size == Size::Large)
            {
                speedups.add(*number, figures.sequential.time, figures.parallel.time);
            }
        }
        let blocks = format!("{} blocks", speedups.blocks);
        let (value, of) = match statistic {
            Statistic::Mean => (speedups.mean()?, blocks),
            Statistic::Total => (speedups.total()?, blocks),
            Statistic::Worst => {
                let (speedup, number) = speedups.worst?;
                (speedup, format!("block {number}"))
            }
        };
        Some(Measured { value: rounded(value), of })
    }
}

fn figure_of(figures: &Figures, figure: Figure) -> Option<f64> {
    match figure {
        Figure::Speedup => figures.speedup(),
        Figure::SpeedupBare => figures.speedup_bare(),
        Figure::OfLimit => figures.of_limit(),
        Figure::Cpu => figures.cpu_ratio(),
        Figure::Memory => figures.memory_ratio(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        figures::examples::figures,
        targets::{growth::SizeCost, target::Group},
    };
    use std::time::Duration;

    const SPEEDUP: Target = workloads(&["raw", "erc20"], Figure::Speedup, Bound::AtLeast(1.5));

    const fn workloads(names: &'static [&'static str], figure: Figure, bound: Bound) -> Target {
        Target { what: "example", subject: Subject::Workloads(Group::Named(names), figure), bound }
    }

    const fn blocks(size: Size, statistic: Statistic, least: f64) -> Target {
        let subject = Subject::Blocks(size, statistic);
        Target { what: "example", subject, bound: Bound::AtLeast(least) }
    }

    /// A workload with these times of bare, sequential, parallel and limit, in milliseconds.
    fn row(name: &'static str, times_ms: [u64; 4]) -> Row {
        let subject = figures::Subject::Workload { name, seed: 0 };
        Row { subject, figures: figures(times_ms, 1_000, 2) }
    }

    fn block(number: u64, txs: usize, times_ms: [u64; 4]) -> Row {
        let subject = figures::Subject::Block { number, fork: "Osaka" };
        Row { subject, figures: figures(times_ms, txs, 2) }
    }

    fn judged(target: Target, evidence: &Evidence<'_>) -> (Option<(f64, String)>, Verdict) {
        let Judgement { measured, verdict, .. } = judge(target, evidence);
        (measured.map(|Measured { value, of }| (value, of)), verdict)
    }

    #[test]
    fn the_worst_workload_decides_and_is_named() {
        let none = BTreeMap::new();
        let rows = [row("raw", [30, 40, 20, 15]), row("erc20", [30, 40, 32, 0])];
        let evidence = Evidence { rows: &rows, ..empty(&none) };
        assert_eq!(judged(SPEEDUP, &evidence), (Some((1.25, "erc20".into())), Verdict::Missed));
        let speedup = |least| workloads(&["raw", "erc20"], Figure::Speedup, Bound::AtLeast(least));
        assert_eq!(judged(speedup(1.25), &evidence).1, Verdict::Met);
        for (figure, bound, value) in [
            (Figure::SpeedupBare, Bound::AtLeast(1.5), 1.5),
            (Figure::OfLimit, Bound::AtLeast(0.75), 0.75),
            (Figure::Cpu, Bound::AtMost(0.5), 0.5),
            (Figure::Memory, Bound::AtMost(1.0), 1.0),
        ] {
            let judged = judged(workloads(&["raw"], figure, bound), &evidence);
            assert_eq!(judged, (Some((value, "raw".into())), Verdict::Met), "{figure:?}");
        }
        // What is to stay low is worst where it is highest.
        let cpu = workloads(&["raw", "erc20"], Figure::Cpu, Bound::AtMost(0.7));
        assert_eq!(judged(cpu, &evidence), (Some((0.8, "erc20".into())), Verdict::Missed));
    }

    #[test]
    fn what_is_missing_forbids_a_good_verdict_and_not_a_bad_one() {
        let missing = BTreeMap::from([("erc20", "not installed".to_owned())]);
        let left_out = || Verdict::LeftOut("erc20: not installed".into());

        let fast = [row("raw", [30, 40, 20, 0])];
        let evidence = Evidence { rows: &fast, ..empty(&missing) };
        assert_eq!(judged(SPEEDUP, &evidence), (Some((2.0, "raw".into())), left_out()));

        let slow = [row("raw", [30, 40, 40, 0])];
        let evidence = Evidence { rows: &slow, ..empty(&missing) };
        assert_eq!(judged(SPEEDUP, &evidence), (Some((1.0, "raw".into())), Verdict::Missed));

        let nothing = Verdict::LeftOut("raw: interrupted; erc20: not installed".into());
        assert_eq!(judged(SPEEDUP, &empty(&missing)), (None, nothing));

        // Shares of the limit exist only for some workloads, processor time only on some systems.
        let evidence = Evidence { rows: &fast, ..empty(&missing) };
        let of_limit = workloads(&["raw"], Figure::OfLimit, Bound::AtLeast(0.9));
        let unknown = Verdict::LeftOut("raw: interrupted".into());
        assert_eq!(judged(of_limit, &evidence), (None, unknown));
    }

    #[test]
    fn real_blocks_are_judged_by_size() {
        let none = BTreeMap::new();
        let rows = [
            block(1, 100, [10, 20, 10, 0]),
            block(2, 50, [10, 40, 40, 0]),
            block(3, 49, [10, 9, 10, 0]),
            row("raw", [10, 10, 100, 0]),
        ];
        let evidence = Evidence { rows: &rows, ..empty(&none) };
        use {Size::*, Statistic::*};
        let large = |statistic, least| judged(blocks(Large, statistic, least), &evidence);
        assert_eq!(large(Mean, 1.5), (Some((1.5, "2 blocks".into())), Verdict::Met));
        assert_eq!(large(Total, 1.3), (Some((1.2, "2 blocks".into())), Verdict::Missed));
        assert_eq!(large(Worst, 1.0), (Some((1.0, "block 2".into())), Verdict::Met));
        let small = judged(blocks(Small, Worst, 0.95), &evidence);
        assert_eq!(small, (Some((0.9, "block 3".into())), Verdict::Missed));
    }

    #[test]
    fn blocks_that_are_missing_leave_means_open() {
        let none = BTreeMap::new();
        let rows = [block(1, 100, [10, 10, 10, 0])];
        let evidence =
            Evidence { rows: &rows, missing_blocks: Some("interrupted"), ..empty(&none) };
        use {Size::*, Statistic::*};
        let open = || Verdict::LeftOut("interrupted".into());
        assert_eq!(judged(blocks(Large, Mean, 1.6), &evidence).1, open());
        assert_eq!(judged(blocks(Large, Worst, 0.97), &evidence).1, open());
        assert_eq!(judged(blocks(Large, Worst, 1.1), &evidence).1, Verdict::Missed);
        assert_eq!(judged(blocks(Small, Worst, 0.95), &evidence), (None, open()));
        // An archive may well have only blocks of one size.
        let complete = Evidence { missing_blocks: None, ..evidence };
        let none = Verdict::LeftOut("there are no such blocks".into());
        assert_eq!(judged(blocks(Small, Worst, 0.95), &complete), (None, none));
    }

    #[test]
    fn the_workload_that_grows_worst_decides() {
        let none = BTreeMap::new();
        let growth = |name, last_ms| {
            let size = |txs, ms| {
                let time = Duration::from_millis(ms);
                SizeCost { txs, sequential: time, parallel: time }
            };
            Growth { name, sizes: vec![size(1_000, 10), size(100_000, last_ms)] }
        };
        let growths = [growth("raw", 1_100), growth("amm", 1_300)];
        let target = |names| Target {
            what: "example",
            subject: Subject::Growth(names),
            bound: Bound::AtMost(1.2),
        };
        let evidence = Evidence { growths: &growths, ..empty(&none) };
        assert_eq!(
            judged(target(&["raw", "amm"]), &evidence),
            (Some((1.3, "amm".into())), Verdict::Missed)
        );
        assert_eq!(judged(target(&["raw"]), &evidence).1, Verdict::Met);
        let missing = Verdict::LeftOut("erc20: interrupted".into());
        assert_eq!(judged(target(&["raw", "erc20"]), &evidence).1, missing);
    }

    const fn empty<'a>(missing_workloads: &'a BTreeMap<&'static str, String>) -> Evidence<'a> {
        Evidence {
            rows: &[],
            growths: &[],
            missing_workloads,
            missing_blocks: None,
            otherwise: "interrupted",
        }
    }
}

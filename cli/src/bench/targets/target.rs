//! The targets themselves: what is to be reached with 2 threads on a machine with 2 cores.
//!
//! Data. How a figure is measured and what it is worth is known elsewhere.

use multilane_fixtures::workload::Workload;

/// A figure and its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    /// What is judged, in words.
    pub(crate) what: &'static str,
    pub(crate) subject: Subject,
    pub(crate) bound: Bound,
}

/// What the figure is taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Subject {
    /// Generated blocks, the worst of which decides.
    Workloads(Group, Figure),
    /// Real blocks: their speedup over the sequential engine.
    Blocks(Size, Statistic),
    /// Workloads whose blocks grow a hundredfold: what a transaction costs where it costs most over
    /// what it costs where it costs least. The worst workload decides.
    Growth(&'static [&'static str]),
}

/// Which workloads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Group {
    /// Those of these names.
    Named(&'static [&'static str]),
    /// Those whose transactions have nothing in common.
    Independent,
    /// All that there are.
    All,
}

/// A figure of a generated block, as the reports of `multilane bench` give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Sequential over parallel time.
    Speedup,
    /// Bare over parallel time.
    SpeedupBare,
    /// Limit over parallel time.
    OfLimit,
    /// Processor time of all threads, parallel over sequential.
    Cpu,
    /// Peak of resident memory, parallel over sequential.
    Memory,
}

/// Real blocks by their number of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// With [`LARGE_BLOCK_TXS`](crate::speedups::LARGE_BLOCK_TXS) transactions or more.
    Large,
    /// With fewer.
    Small,
}

/// What becomes of the speedups of many blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statistic {
    /// Their arithmetic mean.
    Mean,
    /// Sequential time of all blocks over their parallel time.
    Total,
    /// That of the block with the lowest one.
    Worst,
}

/// Where a figure meets its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};
use Figure::{Cpu, Memory, OfLimit, Speedup, SpeedupBare};
use Group::{All, Independent, Named};
use Size::{Large, Small};
use Statistic::{Mean, Total, Worst};
use Subject::{Blocks, Growth, Workloads};

/// All targets, in the order in which they are reported.
pub(crate) const TARGETS: [Target; 20] = [
    target(
        "uniswap-v3, uniswap-v3-pools, uniswap-v2-pools: speedup",
        Workloads(Named(&["uniswap-v3", "uniswap-v3-pools", "uniswap-v2-pools"]), Speedup),
        AtLeast(1.9),
    ),
    target("erc20: speedup", Workloads(Named(&["erc20"]), Speedup), AtLeast(1.8)),
    target("raw: speedup", Workloads(Named(&["raw"]), Speedup), AtLeast(1.3)),
    target("raw: of limit", Workloads(Named(&["raw"]), OfLimit), AtLeast(0.9)),
    target("independent workloads: of limit", Workloads(Independent, OfLimit), AtLeast(0.9)),
    target("defi, hybrid: speedup", Workloads(Named(&["defi", "hybrid"]), Speedup), AtLeast(1.6)),
    target(
        "erc20-dependent, raw-dependent: speedup",
        Workloads(Named(&["erc20-dependent", "raw-dependent"]), Speedup),
        AtLeast(1.3),
    ),
    target(
        "chained and hot workloads, nonce-storm, mint: speedup",
        Workloads(
            Named(&["raw-chained", "erc20-chained", "uniswap-v3-hot", "nonce-storm", "mint"]),
            Speedup,
        ),
        AtLeast(0.97),
    ),
    target("airdrop: speedup", Workloads(Named(&["airdrop"]), Speedup), AtLeast(1.2)),
    target(
        "half-chained workloads: speedup",
        Workloads(Named(&["raw-half-chained", "uniswap-v3-half-chained"]), Speedup),
        AtLeast(1.25),
    ),
    target("real blocks, 50 transactions or more: mean speedup", Blocks(Large, Mean), AtLeast(1.6)),
    target(
        "real blocks, 50 transactions or more: total speedup",
        Blocks(Large, Total),
        AtLeast(1.7),
    ),
    target(
        "real blocks, 50 transactions or more: worst speedup",
        Blocks(Large, Worst),
        AtLeast(0.97),
    ),
    target("real blocks, smaller: worst speedup", Blocks(Small, Worst), AtLeast(0.95)),
    // The hot and the half-chained one cannot gain so much from two threads, whoever runs them.
    target(
        "uniswap-v3, -v3-pools, -v2, -v2-pools: speedup over bare",
        Workloads(
            Named(&["uniswap-v3", "uniswap-v3-pools", "uniswap-v2", "uniswap-v2-pools"]),
            SpeedupBare,
        ),
        AtLeast(1.8),
    ),
    target("erc20: speedup over bare", Workloads(Named(&["erc20"]), SpeedupBare), AtLeast(1.5)),
    target("raw: speedup over bare", Workloads(Named(&["raw"]), SpeedupBare), AtLeast(1.0)),
    target(
        "chained workloads: processor time over sequential",
        Workloads(Named(&["raw-chained", "erc20-chained"]), Cpu),
        AtMost(1.15),
    ),
    target("all workloads: peak memory over sequential", Workloads(All, Memory), AtMost(1.5)),
    target(
        "raw, erc20, amm growing a hundredfold: cost of a transaction",
        Growth(&["raw", "erc20", "amm"]),
        AtMost(1.2),
    ),
];

const fn target(what: &'static str, subject: Subject, bound: Bound) -> Target {
    Target { what, subject, bound }
}

impl Group {
    /// The names of its workloads.
    pub(crate) fn names(self) -> Vec<&'static str> {
        let all = Workload::all().iter();
        match self {
            Named(names) => names.to_vec(),
            Independent => {
                all.filter(|workload| workload.is_independent()).map(Workload::name).collect()
            }
            All => all.map(Workload::name).collect(),
        }
    }
}

impl Statistic {
    /// Whether more blocks can only make it worse.
    pub(crate) const fn is_extreme(self) -> bool {
        matches!(self, Worst)
    }
}

impl Bound {
    /// Whether a value meets the target.
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
        }
    }

    /// The value that is further from meeting the target.
    pub(crate) fn is_worse(self, value: f64, other: f64) -> bool {
        match self {
            AtLeast(_) => value < other,
            AtMost(_) => value > other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_a_workload_and_every_target_has_words_of_its_own() {
        let words: BTreeSet<_> = TARGETS.iter().map(|target| target.what).collect();
        assert_eq!(words.len(), TARGETS.len());
        for target in TARGETS {
            let names = match target.subject {
                Workloads(group, _) => group.names(),
                Growth(names) => names.to_vec(),
                Blocks(..) => continue,
            };
            assert!(!names.is_empty(), "{}", target.what);
            for name in names {
                assert!(Workload::by_name(name).is_some(), "{name} in {}", target.what);
            }
        }
    }

    /// The limit is measured for nothing else.
    #[test]
    fn only_independent_workloads_have_a_share_of_the_limit() {
        for target in TARGETS {
            if let Workloads(group, OfLimit) = target.subject {
                let names = group.names();
                assert!(names.iter().all(|name| Group::Independent.names().contains(name)));
            }
        }
    }

    #[test]
    fn bounds_include_their_value() {
        assert!(AtLeast(1.5).is_met(1.5) && !AtLeast(1.5).is_met(1.499));
        assert!(AtMost(1.5).is_met(1.5) && !AtMost(1.5).is_met(1.501));
        assert!(AtLeast(1.5).is_worse(1.0, 2.0) && AtMost(1.5).is_worse(2.0, 1.0));
    }
}

//! What is told about each block, and the totals over all of them.
//!
//! Plain data, filled by the command and printed by [`table`](super::table) or
//! [`json`](super::json).

use super::verdict::Verdict;
use crate::speedups::{LARGE_BLOCK_TXS, Speedups, ratio};
use multilane::ExecutionStats;
use std::time::Duration;

/// One block of a run.
#[derive(Debug)]
pub(crate) struct BlockReport {
    /// The block's number.
    pub(crate) number: u64,
    /// Where it comes from.
    pub(crate) origin: String,
    pub(crate) result: Result<Executed, Failure>,
}

/// A block that was executed.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) fork: &'static str,
    pub(crate) txs: usize,
    /// Gas that execution used, in gas.
    pub(crate) gas_used: u64,
    pub(crate) sequential: Option<Duration>,
    pub(crate) parallel: Option<(Duration, ExecutionStats)>,
    pub(crate) verdict: Verdict,
}

/// A block that was not executed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// The error with its causes.
    pub(crate) error: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Its input cannot be used: missing or malformed files, wrong signatures.
    Unreadable,
    /// It was read, and then an engine could not execute it.
    NotExecuted,
}

impl BlockReport {
    pub(crate) fn is_verified(&self) -> bool {
        self.result.as_ref().is_ok_and(|executed| executed.verdict.is_verified())
    }

    /// What is wrong with the block in one line, or `None` if it is verified.
    pub(crate) fn complaint(&self) -> Option<String> {
        let Self { number, origin, result } = self;
        match result {
            Ok(executed) if executed.verdict.is_verified() => None,
            Ok(executed) => {
                let mismatches: Vec<_> = executed.verdict.mismatches().collect();
                Some(if mismatches.is_empty() {
                    format!(
                        "block {number} ({origin}): no sealed header or expected.json to verify"
                    )
                } else {
                    format!("block {number} ({origin}): mismatch in {}", mismatches.join(", "))
                })
            }
            // The file that cannot be read says where the block is.
            Err(Failure { kind: FailureKind::Unreadable, error }) => {
                Some(format!("block {number}: {error}"))
            }
            Err(Failure { kind: FailureKind::NotExecuted, error }) => {
                Some(format!("block {number} ({origin}): {error}"))
            }
        }
    }
}

impl Executed {
    /// How many times faster the parallel engine was.
    pub(crate) fn speedup(&self) -> Option<f64> {
        ratio(self.sequential?, self.parallel.as_ref()?.0)
    }
}

/// The predicted share of the block's gas that no number of threads makes shorter.
pub(crate) fn critical_path_share(stats: &ExecutionStats) -> Option<f64> {
    (stats.predicted_gas > 0).then(|| stats.critical_path_gas as f64 / stats.predicted_gas as f64)
}

/// Totals of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Blocks that were reported.
    pub(crate) blocks: usize,
    pub(crate) verified: usize,
    /// Executed, and not verified.
    pub(crate) mismatched: usize,
    /// Read, and not executed.
    pub(crate) not_executed: usize,
    pub(crate) unreadable: usize,
    /// Transactions of the executed blocks.
    pub(crate) txs: usize,
    /// Gas of the executed blocks.
    pub(crate) gas_used: u64,
    /// Time of the executed blocks, engine by engine.
    pub(crate) sequential: Duration,
    pub(crate) parallel: Duration,
    /// Speculative executions of the parallel engine that did not stand.
    pub(crate) conflicts: usize,
    pub(crate) speedups: Speedups,
    /// Those of blocks with [`LARGE_BLOCK_TXS`] transactions or more.
    pub(crate) speedups_large: Speedups,
}

impl Summary {
    pub(crate) fn add(&mut self, report: &BlockReport) {
        self.blocks += 1;
        let executed = match &report.result {
            Ok(executed) => executed,
            Err(Failure { kind: FailureKind::Unreadable, .. }) => {
                self.unreadable += 1;
                return;
            }
            Err(Failure { kind: FailureKind::NotExecuted, .. }) => {
                self.not_executed += 1;
                return;
            }
        };
        if executed.verdict.is_verified() {
            self.verified += 1;
        } else {
            self.mismatched += 1;
        }
        self.txs += executed.txs;
        self.gas_used += executed.gas_used;
        self.sequential += executed.sequential.unwrap_or_default();
        self.parallel += executed.parallel.as_ref().map(|(time, _)| *time).unwrap_or_default();
        self.conflicts += executed.parallel.as_ref().map_or(0, |(_, stats)| stats.conflicts);
        if let (Some(sequential), Some((parallel, _))) = (executed.sequential, &executed.parallel) {
            self.speedups.add(report.number, sequential, *parallel);
            if executed.txs >= LARGE_BLOCK_TXS {
                self.speedups_large.add(report.number, sequential, *parallel);
            }
        }
    }

    /// Blocks that are not verified, for whatever reason.
    pub(crate) const fn failed(&self) -> usize {
        self.blocks - self.verified
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(number: u64, txs: usize, sequential_ms: u64, parallel_ms: u64) -> BlockReport {
        let executed = Executed {
            fork: "Cancun",
            txs,
            gas_used: 21_000,
            sequential: Some(Duration::from_millis(sequential_ms)),
            parallel: Some((Duration::from_millis(parallel_ms), ExecutionStats::default())),
            verdict: Verdict::default(),
        };
        BlockReport { number, origin: String::new(), result: Ok(executed) }
    }

    #[test]
    fn speedups_are_grouped_by_size() {
        let mut summary = Summary::default();
        summary.add(&executed(1, 10, 10, 20));
        summary.add(&executed(2, 50, 30, 10));
        summary.add(&executed(3, 90, 40, 40));

        assert_eq!(summary.speedups.blocks, 3);
        assert_eq!(summary.speedups.worst, Some((0.5, 1)));
        assert_eq!(summary.speedups.best, Some((3.0, 2)));
        assert_eq!(summary.speedups.mean(), Some(1.5));
        assert_eq!(summary.speedups.total(), Some(80.0 / 70.0));
        assert_eq!(summary.speedups_large.blocks, 2);
        assert_eq!(summary.speedups_large.worst, Some((1.0, 3)));
        assert_eq!(summary.speedups_large.mean(), Some(2.0));
    }

    #[test]
    fn a_block_without_any_check_is_not_verified() {
        let mut summary = Summary::default();
        let report = executed(1, 10, 10, 20);
        summary.add(&report);
        assert_eq!((summary.verified, summary.mismatched, summary.failed()), (0, 1, 1));
        assert!(report.complaint().is_some());
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let mut summary = Summary::default();
        for kind in [FailureKind::Unreadable, FailureKind::NotExecuted, FailureKind::NotExecuted] {
            let result = Err(Failure { kind, error: "cause".into() });
            summary.add(&BlockReport { number: 1, origin: String::new(), result });
        }
        assert_eq!((summary.unreadable, summary.not_executed, summary.failed()), (1, 2, 3));
    }
}

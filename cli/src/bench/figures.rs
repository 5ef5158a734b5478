//! What was measured, and what follows from it.

use super::paired::Paired;
use crate::speedups::{LARGE_BLOCK_TXS, Speedups, ratio};
use multilane::ExecutionStats;
use std::time::Duration;

/// What one arm took: medians over its runs, and the peak of memory over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    /// Processor time of all threads.
    pub(crate) cpu: Option<Duration>,
    /// The most memory that the process had resident, in bytes.
    pub(crate) peak_bytes: Option<u64>,
}

/// One block on one parallel engine.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) txs: usize,
    /// Gas that execution used, in gas.
    pub(crate) gas: u64,
    pub(crate) threads: usize,
    /// Whether the parallel engine learns what contracts access.
    pub(crate) learns: bool,
    pub(crate) bare: Duration,
    pub(crate) sequential: Cost,
    pub(crate) parallel: Cost,
    /// Only for independent transactions.
    pub(crate) limit: Option<Duration>,
    /// Only where the engine learns: how many times faster it is than the one that does not.
    pub(crate) speedup_plain: Option<Paired>,
    /// How the parallel engine went about the block in its median run; what planning and learning
    /// took are medians over its runs.
    pub(crate) stats: ExecutionStats,
}

impl Figures {
    /// How many times faster than the sequential engine.
    pub(crate) fn speedup(&self) -> Option<f64> {
        ratio(self.sequential.time, self.parallel.time)
    }

    /// How many times faster than bare revm.
    pub(crate) fn speedup_bare(&self) -> Option<f64> {
        ratio(self.bare, self.parallel.time)
    }

    /// The speedup that the limit has over the sequential engine.
    pub(crate) fn speedup_limit(&self) -> Option<f64> {
        ratio(self.sequential.time, self.limit?)
    }

    /// The speedup that bare revm has over the sequential engine.
    pub(crate) fn speedup_of_bare(&self) -> Option<f64> {
        ratio(self.sequential.time, self.bare)
    }

    /// The share of the limit that was reached.
    pub(crate) fn of_limit(&self) -> Option<f64> {
        ratio(self.limit?, self.parallel.time)
    }

    /// Processor time of the parallel engine over that of the sequential one.
    pub(crate) fn cpu_ratio(&self) -> Option<f64> {
        ratio(self.parallel.cpu?, self.sequential.cpu?)
    }

    /// Peak of memory of the parallel engine over that of the sequential one.
    pub(crate) fn memory_ratio(&self) -> Option<f64> {
        let sequential = self.sequential.peak_bytes.filter(|bytes| *bytes > 0)?;
        Some(self.parallel.peak_bytes? as f64 / sequential as f64)
    }

    /// Transactions a second, in parallel.
    pub(crate) fn txs_per_s(&self) -> Option<f64> {
        per_second(self.txs as f64, self.parallel.time)
    }

    /// Million gas a second, in parallel.
    pub(crate) fn mgas_per_s(&self) -> Option<f64> {
        self.mgas_per_s_in(self.parallel.time)
    }

    /// Million gas a second, if the block takes this time.
    pub(crate) fn mgas_per_s_in(&self, time: Duration) -> Option<f64> {
        per_second(self.gas as f64 / 1e6, time)
    }
}

fn per_second(amount: f64, time: Duration) -> Option<f64> {
    (!time.is_zero()).then(|| amount / time.as_secs_f64())
}

/// What a row of a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A generated block.
    Workload { name: &'static str, seed: u64 },
    /// A real block.
    Block { number: u64, fork: &'static str },
    /// The transactions of so many real blocks, as one.
    Merged { blocks: usize, fork: &'static str },
}

/// A row of a report.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    pub(crate) figures: Figures,
}

/// Speedups over the real blocks of a run at one number of threads.
#[derive(Clone, Debug)]
pub(crate) struct BlockTotals {
    pub(crate) threads: usize,
    pub(crate) all: GroupTotals,
    /// Blocks with [`LARGE_BLOCK_TXS`] transactions or more.
    pub(crate) large: GroupTotals,
}

/// Speedups over a group of blocks, over both baselines.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupTotals {
    pub(crate) over_sequential: Speedups,
    pub(crate) over_bare: Speedups,
}

impl BlockTotals {
    /// The totals of each number of threads. Rows of generated blocks do not count, and neither do
    /// those of executors that learn.
    pub(crate) fn of(rows: &[Row], threads: &[usize]) -> Vec<Self> {
        let totals = |threads: &usize| {
            let mut totals = Self {
                threads: *threads,
                all: GroupTotals::default(),
                large: GroupTotals::default(),
            };
            for Row { subject, figures } in rows {
                if let Subject::Block { number, .. } = subject
                    && figures.threads == *threads
                    && !figures.learns
                {
                    totals.all.add(*number, figures);
                    if figures.txs >= LARGE_BLOCK_TXS {
                        totals.large.add(*number, figures);
                    }
                }
            }
            totals
        };
        threads.iter().map(totals).collect()
    }
}

impl GroupTotals {
    fn add(&mut self, number: u64, figures: &Figures) {
        self.over_sequential.add(number, figures.sequential.time, figures.parallel.time);
        self.over_bare.add(number, figures.bare, figures.parallel.time);
    }
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    /// Figures with these times in milliseconds.
    pub(crate) fn figures(times_ms: [u64; 4], txs: usize, threads: usize) -> Figures {
        let [bare, sequential, parallel, limit] = times_ms.map(Duration::from_millis);
        let cost = |time| Cost { time, cpu: Some(time * 2), peak_bytes: Some(3 << 20) };
        Figures {
            txs,
            gas: 21_000 * txs as u64,
            threads,
            learns: false,
            bare,
            sequential: cost(sequential),
            parallel: cost(parallel),
            limit: (!limit.is_zero()).then_some(limit),
            speedup_plain: None,
            stats: ExecutionStats::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{examples::figures, *};

    #[test]
    fn ratios_have_parallel_below() {
        let figures = figures([30, 40, 20, 10], 1000, 2);
        assert_eq!(figures.speedup(), Some(2.0));
        assert_eq!(figures.speedup_bare(), Some(1.5));
        assert_eq!(figures.of_limit(), Some(0.5));
        assert_eq!(figures.speedup_limit(), Some(4.0));
        assert_eq!(figures.cpu_ratio(), Some(0.5));
        assert_eq!(figures.memory_ratio(), Some(1.0));
        assert_eq!(figures.txs_per_s(), Some(50_000.0));
        assert_eq!(figures.mgas_per_s(), Some(1050.0));
    }

    #[test]
    fn totals_are_by_number_of_threads_and_size() {
        let row =
            |number, figures| Row { subject: Subject::Block { number, fork: "Osaka" }, figures };
        let rows = [
            row(1, figures([10, 20, 10, 0], 100, 2)),
            row(2, figures([10, 20, 40, 0], 10, 2)),
            row(1, figures([10, 20, 5, 0], 100, 4)),
        ];
        let totals = BlockTotals::of(&rows, &[2, 4]);
        assert_eq!(totals[0].all.over_sequential.blocks, 2);
        assert_eq!(totals[0].all.over_sequential.worst, Some((0.5, 2)));
        assert_eq!(totals[0].large.over_sequential.mean(), Some(2.0));
        assert_eq!(totals[0].large.over_bare.mean(), Some(1.0));
        assert_eq!(totals[1].all.over_sequential.total(), Some(4.0));
    }
}

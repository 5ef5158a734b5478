//! What a transaction costs as its block grows.
//!
//! The sizes take turns like the arms of one block do: a machine that slows down for a while must
//! not look like a cost that grows.

use crate::{
    bench::{measurement::rounds, session::Session},
    timing::{Timed, median, timed},
};
use anyhow::{Context, anyhow, bail};
use multilane::{
    ParallelExecutor, Shared, StateSource, sequential, state::BlockOutput,
    verification::compare_outputs,
};
use multilane_fixtures::workload::{Workload, WorkloadBlock};
use std::time::Duration;

/// The first block of a workload that grows has this many transactions.
pub(crate) const FIRST_TXS: usize = 1_000;

/// How many times the first one each block is.
const FACTORS: [usize; 3] = [1, 10, 100];

/// The cost of one workload's blocks, small to large.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    pub(crate) name: &'static str,
    pub(crate) sizes: Vec<SizeCost>,
}

/// What a block of one size takes: medians.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeCost {
    pub(crate) txs: usize,
    pub(crate) sequential: Duration,
    pub(crate) parallel: Duration,
}

impl SizeCost {
    /// Time of the parallel engine for one transaction, in nanoseconds.
    pub(crate) fn parallel_ns_per_tx(&self) -> f64 {
        nanoseconds_per(self.parallel, self.txs)
    }

    /// Time of the sequential engine for one transaction, in nanoseconds.
    pub(crate) fn sequential_ns_per_tx(&self) -> f64 {
        nanoseconds_per(self.sequential, self.txs)
    }
}

fn nanoseconds_per(time: Duration, txs: usize) -> f64 {
    time.as_secs_f64() * 1e9 / txs.max(1) as f64
}

impl Growth {
    /// What a transaction costs the parallel engine at the dearest size, over what it costs at the
    /// cheapest one.
    pub(crate) fn spread(&self) -> Option<f64> {
        let costs = self.sizes.iter().map(SizeCost::parallel_ns_per_tx);
        let (cheapest, dearest) = (costs.clone().reduce(f64::min)?, costs.reduce(f64::max)?);
        (cheapest > 0.0).then(|| dearest / cheapest)
    }
}

/// The numbers of transactions of blocks that begin with `first`.
pub(crate) fn sizes(first: usize) -> [usize; 3] {
    FACTORS.map(|factor| first.saturating_mul(factor))
}

/// The two engines, in the order in which the runs below are numbered.
const ENGINES: [Engine; 2] = [Engine::Sequential, Engine::Parallel];

#[derive(Clone, Copy, Debug)]
enum Engine {
    Sequential,
    Parallel,
}

/// Checks and measures the blocks of one workload, small to large.
///
/// # Errors
///
/// If an engine cannot execute a block, or the two disagree.
pub(crate) fn measure(
    session: &Session,
    workload: &Workload,
    blocks: &[WorkloadBlock],
) -> anyhow::Result<Growth> {
    let name = workload.name();
    let executor = session.executors.first().context("no executor was started")?;
    for generated in blocks {
        let txs = generated.block.transactions.len();
        session.step(&format!("checking {name} of {txs} transactions"));
        check(executor, generated).with_context(|| format!("{txs} transactions"))?;
    }

    session.step(&format!("measuring {name} as it grows"));
    let largest = blocks.len().saturating_sub(1);
    let run = |position: usize| {
        let (index, engine) = (position / ENGINES.len(), ENGINES[position % ENGINES.len()]);
        // The block before may have been a hundred times as large, and left the caches without
        // anything of this one. What does not fit in them anyway needs no such run.
        if index < largest {
            execute(executor, &blocks[index], engine).value?;
        }
        let Timed { time, value } = execute(executor, &blocks[index], engine);
        value.map(|_| Timed { time, value: () })
    };
    let count = blocks.len() * ENGINES.len();
    let runs = rounds(count, session.settings.repeat, &session.interrupt, run)?;
    let medians: Option<Vec<_>> =
        runs.into_iter().map(|runs| median(runs).map(|run| run.time)).collect();
    let medians = medians.ok_or_else(|| anyhow!("nothing was run"))?;
    let sizes = blocks.iter().zip(medians.chunks_exact(ENGINES.len()));
    let sizes = sizes.map(|(generated, times)| SizeCost {
        txs: generated.block.transactions.len(),
        sequential: times[0],
        parallel: times[1],
    });
    Ok(Growth { name, sizes: sizes.collect() })
}

fn check(executor: &ParallelExecutor, generated: &WorkloadBlock) -> anyhow::Result<()> {
    let expected = execute(executor, generated, Engine::Sequential).value?;
    let output = execute(executor, generated, Engine::Parallel).value?;
    let differences = compare_outputs(&expected, &output);
    if let Some(first) = differences.first() {
        bail!("{} differences, the first one: {first}", differences.len());
    }
    Ok(())
}

fn execute(
    executor: &ParallelExecutor,
    generated: &WorkloadBlock,
    engine: Engine,
) -> Timed<anyhow::Result<BlockOutput>> {
    let WorkloadBlock { chain, block, prestate, .. } = generated;
    timed(|| match engine {
        Engine::Sequential => {
            let Ok(db) = Shared(prestate).open();
            Ok(sequential::execute_block(chain, block, db)?)
        }
        Engine::Parallel => Ok(executor.execute_block(chain, block, &Shared(prestate))?.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_one_transaction() {
        let size = |txs, parallel_ms| SizeCost {
            txs,
            sequential: Duration::ZERO,
            parallel: Duration::from_millis(parallel_ms),
        };
        let growth = |sizes: &[SizeCost]| Growth { name: "raw", sizes: sizes.to_vec() }.spread();
        assert_eq!(growth(&[]), None);
        assert_eq!(growth(&[size(100, 10)]), Some(1.0));
        assert_eq!(growth(&[size(100, 10), size(1_000, 100), size(10_000, 1_500)]), Some(1.5));
        // A block that is too small to pay is no better than one that is too large.
        assert_eq!(growth(&[size(100, 20), size(1_000, 100)]), Some(2.0));
        assert_eq!(size(1_000, 2).parallel_ns_per_tx(), 2_000.0);
    }

    #[test]
    fn blocks_grow_a_hundredfold() {
        assert_eq!(sizes(FIRST_TXS), [1_000, 10_000, 100_000]);
        assert_eq!(sizes(usize::MAX)[2], usize::MAX);
    }
}

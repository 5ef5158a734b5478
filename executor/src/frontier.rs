//! The commit frontier: the first transaction that is not final, and what has become of those
//! before it.
//!
//! Whoever holds it makes transactions final, one after another. *Must not know*: who executes
//! what, or when.

use crate::{
    admission::GasAdmission,
    analyzer::Contention,
    error::SourceError,
    merger,
    pipeline::BlockContext,
    speculation::{Incarnations, Speculation},
    stats::ConflictKinds,
    worker::{Executed, TxOutcome, Worker},
};
use alloy_evm::block::BlockValidationError;
use multilane_state::{TxIndex, multi_version::CommittedChanges};
use revm::{
    Database,
    context_interface::result::{EVMError, ExecutionResult, HaltReason, ResultAndState},
    state::EvmState,
};
use std::error::Error;

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
    /// The transaction without a result, if there is one.
    failure: Option<(usize, FinalError)>,
    gas: GasUsed,
    results: Vec<ExecutionResult<HaltReason>>,
    studied: Vec<(usize, EvmState)>,
    /// Outcomes that did not stand.
    pub(crate) conflicts: ConflictKinds,
    /// The transactions to be learned from of which an execution was in vain.
    in_vain: Vec<TxIndex>,
    speculation: Speculation,
}

impl<'block> Frontier<'block> {
    /// A frontier before the first of so many transactions. `changes` is what happened before.
    pub(crate) fn new(
        transactions: usize,
        speculation: Speculation,
        block: &'block BlockContext,
        changes: CommittedChanges<'block>,
        admission: Option<GasAdmission>,
    ) -> Self {
        Self {
            block,
            changes,
            admission,
            next: 0,
            failure: None,
            gas: GasUsed { cumulative: Vec::with_capacity(transactions), ..GasUsed::default() },
            results: Vec::with_capacity(transactions),
            studied: Vec::new(),
            conflicts: ConflictKinds::default(),
            in_vain: Vec::new(),
            speculation,
        }
    }

    /// The position of the first transaction that is not final.
    pub(crate) const fn next(&self) -> usize {
        self.next
    }

    /// Whether a transaction had no result: nothing after it can be final.
    pub(crate) const fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether a transaction with this gas limit still fits into the block.
    fn admit(&self, gas_limit: u64) -> Result<(), FinalError> {
        match &self.admission {
            Some(admission) => admission.admit(gas_limit).map_err(FinalError::Gas),
            None => Ok(()),
        }
    }

    /// Makes the next transaction final, if it has a result and fits into the block. Gives what the
    /// serial run has.
    pub(crate) fn commit<DB>(
        &mut self,
        worker: &mut Worker<'_, 'block, DB>,
        gas_limit: u64,
        outcome: TxOutcome<'block>,
    ) -> Result<ResultAndState<HaltReason>, FinalError>
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        self.admit(gas_limit)?;
        let TxOutcome { result, accesses } = outcome;
        let mut executed = result.map_err(FinalError::Evm)?;
        let index = TxIndex::new(self.next);
        let changes = &mut self.changes;
        worker
            .with_db(|db| merger::commit(self.block, changes, db, index, &mut executed, &accesses))
            .map_err(FinalError::Source)?;
        worker.recycle(accesses);
        let Executed { result, state, .. } = executed;
        if let Some(admission) = &mut self.admission {
            admission.record(&result);
        }
        self.gas.record(&result);
        self.next += 1;
        Ok(ResultAndState { result, state })
    }

    /// Learns what came of the speculative executions of the last transaction. Gives how far ahead
    /// others may run from here on.
    pub(crate) fn learn(&mut self, speculative: Incarnations) -> usize {
        if speculative.in_vain > 0
            && let Some(last) = self.next.checked_sub(1)
            && self.block.learned_from.contains(&last)
        {
            self.in_vain.push(TxIndex::new(last));
        }
        self.speculation.learn(self.gas.of_last(), speculative)
    }

    /// How far ahead of the frontier others may run.
    pub(crate) const fn depth(&self) -> usize {
        self.speculation.depth()
    }

    /// Keeps a final result for the end.
    pub(crate) fn keep(&mut self, last: ResultAndState<HaltReason>) {
        let ResultAndState { result, state } = last;
        if !state.is_empty() {
            self.studied.push((self.results.len(), state));
        }
        self.results.push(result);
    }

    /// Ends it all at the next transaction, which cannot be made final.
    pub(crate) fn fail(&mut self, error: FinalError) {
        self.failure.get_or_insert((self.next, error));
    }

    /// What became of the transactions.
    pub(crate) fn into_end(self) -> End<'block> {
        let Self { mut changes, gas, results, studied, failure, in_vain, .. } = self;
        let contention = Contention { rewrites: changes.take_rewrites(), in_vain: Some(in_vain) };
        End { changes, gas, results, studied, contention, failure }
    }
}

/// What became of a block's transactions in all.
#[derive(Debug)]
pub(crate) struct End<'block> {
    /// What the final ones, and what was before them, did to the state.
    pub(crate) changes: CommittedChanges<'block>,
    pub(crate) gas: GasUsed,
    /// The final results in block order, where they were [kept](Frontier::keep).
    pub(crate) results: Vec<ExecutionResult<HaltReason>>,
    /// The finalized changes of those whose changes were wanted, by transaction.
    pub(crate) studied: Vec<(usize, EvmState)>,
    /// How those to be learned from got in each other's way.
    pub(crate) contention: Contention<'block>,
    /// The first transaction that could not be made final, and why.
    pub(crate) failure: Option<(usize, FinalError)>,
}

/// Gas used by the final transactions of a block.
#[derive(Debug, Default)]
pub(crate) struct GasUsed {
    /// Up to and including each transaction, refunds taken off.
    pub(crate) cumulative: Vec<u64>,
    /// EIP-8037: the two dimensions of a block's gas.
    pub(crate) regular: u64,
    pub(crate) state: u64,
}

impl GasUsed {
    /// By all transactions, refunds taken off.
    pub(crate) fn total(&self) -> u64 {
        self.cumulative.last().copied().unwrap_or_default()
    }

    /// By the last transaction.
    fn of_last(&self) -> u64 {
        match self.cumulative[..] {
            [.., before, last] => last - before,
            [last] => last,
            [] => 0,
        }
    }

    fn record(&mut self, result: &ExecutionResult<HaltReason>) {
        let gas = result.gas();
        self.cumulative.push(self.total() + gas.tx_gas_used());
        self.regular += gas.block_regular_gas_used();
        self.state += gas.block_state_gas_used();
    }
}

//! Ahead of the frontier: executions on the best guess there is, until their outcome is stored.
//!
//! An outcome that others turn out to have overtaken is given up at once. At a *contended* slot,
//! where that has happened before, transactions take turns instead: an execution that comes there
//! while an earlier transaction is not done ends, and begins again when it is its turn. So a chain
//! that nobody foresaw runs on one worker after its first links, and the others go past it.

use super::{Engine, lock};
use crate::{
    merger,
    worker::{Accesses, Reads, TxOutcome, Worker},
};
use multilane_state::{TxIndex, multi_version::SlotEntry};
use revm::{Database, context_interface::result::EVMError};
use std::error::Error;

/// How many times a transaction is executed again before its turn. The frontier has the last word.
const OVERTAKEN_MAX: usize = 3;
/// How many times an execution may be put off at contended slots, so that a transaction that comes
/// to many of them is not begun for each.
const WAITS_MAX: usize = 4;

/// What came of a transaction's speculative executions.
#[derive(Default)]
pub(super) struct Speculative<'block> {
    /// The newest outcome, unless each execution was put off.
    pub(super) outcome: Option<TxOutcome<'block>>,
    /// Contended slots where it is in line.
    pub(super) lines: Vec<&'block SlotEntry>,
    /// How many earlier outcomes were given up before they got to the frontier.
    pub(super) overtaken: usize,
    /// How many times an execution was put off.
    waits: usize,
}

impl<'block> Speculative<'block> {
    /// Whether it may be put off once more.
    const fn can_wait(&self) -> bool {
        self.waits < WAITS_MAX
    }

    /// Leaves the contended slots. Gives the transactions whose turn it is there.
    fn leave_lines(&mut self, index: TxIndex) -> Vec<TxIndex> {
        let writes = self.outcome.as_ref().map_or(&[][..], |outcome| &outcome.accesses.slot_writes);
        merger::leave(index, &merger::departures(&mut self.lines, writes))
    }
}

impl<'block> Engine<'_, 'block> {
    /// Executes a claimed transaction on the best guess there is. Gives the gas that it used, and
    /// what the worker goes on with, if something has waited for this and is claimed now.
    ///
    /// `before` is what came of it when it was put off.
    pub(super) fn speculate<DB>(
        &self,
        worker: &mut Worker<'_, 'block, DB>,
        index: TxIndex,
        before: Option<Box<Speculative<'block>>>,
    ) -> (u64, Option<TxIndex>)
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let tx = &self.transactions[index.get()];
        let expected = self.habits.expect(tx, before.is_none());
        let mut current = before.unwrap_or_default();
        if let Some(slot) = expected.slot {
            current.lines.push(slot);
            if !slot.enter(index, true) {
                return (0, self.put_off(index, current));
            }
        }
        let reads = Reads::Guess { can_wait: expected.can_wait && current.can_wait() };
        let mut outcome = self.execute(worker, index, reads).unwrap_or_else(|_| {
            // State that fits together badly may lead anywhere. If the panic is real, the frontier
            // runs into it again.
            TxOutcome::unknown()
        });
        self.habits.learn(tx, &outcome.accesses.lines, outcome.accesses.computed);
        current.lines.append(&mut outcome.accesses.lines);
        if outcome.accesses.waits {
            worker.recycle(outcome.accesses);
            current.waits += 1;
            return (0, self.put_off(index, current));
        }
        let gas = outcome.result.as_ref().map_or(0, |executed| executed.result.tx_gas_used());
        let is_overtaken = self.announce(index, &outcome.accesses);
        current.outcome = Some(outcome);
        // Of one that began before its turn others may be about to overtake it once more.
        let repeats_later = is_overtaken && self.scheduler.is_early(index);
        let is_put_off =
            is_overtaken && !repeats_later && self.repeat_overtaken(worker, index, &mut current);
        let next = self.conclude(index, current, is_put_off, || {
            self.scheduler.finish_execution(index, worker.id())
        });
        if repeats_later {
            self.scheduler.push_ready(index);
        }
        (gas, next)
    }

    /// Gives back a transaction without an outcome, to be claimed again when it is its turn.
    fn put_off(&self, index: TxIndex, current: Box<Speculative<'block>>) -> Option<TxIndex> {
        self.conclude(index, current, true, || {
            self.scheduler.put_off(index);
            None
        })
    }

    /// Executes a transaction again that has been claimed because it was overtaken. Gives what the
    /// worker goes on with, if something has waited for this and is claimed now.
    pub(super) fn repeat<DB>(
        &self,
        worker: &mut Worker<'_, 'block, DB>,
        index: TxIndex,
    ) -> Option<TxIndex>
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let mut current = lock(&self.outcomes[index.get()]).take().unwrap_or_default();
        // It may have been executed again since.
        let is_overtaken = current
            .outcome
            .as_ref()
            .is_some_and(|outcome| merger::is_overtaken(index, &outcome.accesses));
        let is_put_off = is_overtaken && self.repeat_overtaken(worker, index, &mut current);
        self.conclude(index, current, is_put_off, || {
            self.scheduler.finish_again(index, worker.id());
            None
        })
    }

    /// Executes a transaction again until it has not been overtaken meanwhile: at once, because
    /// everything that has read what it wrote is in vain as well, and more so the longer it stands.
    /// Whether it was put off.
    fn repeat_overtaken<DB>(
        &self,
        worker: &mut Worker<'_, 'block, DB>,
        index: TxIndex,
        current: &mut Speculative<'block>,
    ) -> bool
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let mut is_overtaken = true;
        while is_overtaken && current.overtaken < OVERTAKEN_MAX {
            // What precompiles are to compute, they have computed for the outcome before.
            let reads = Reads::Guess { can_wait: current.can_wait() };
            let Ok(mut newer) = self.execute(worker, index, reads) else { break };
            current.lines.append(&mut newer.accesses.lines);
            if newer.accesses.waits {
                worker.recycle(newer.accesses);
                current.waits += 1;
                return true;
            }
            current.overtaken += 1;
            is_overtaken = self.announce(index, &newer.accesses);
            if let Some(older) = current.outcome.take() {
                merger::retract_replaced(index, &older.accesses, &newer.accesses);
                worker.recycle(older.accesses);
            }
            current.outcome = Some(newer);
        }
        false
    }

    /// Stores what came of a transaction's executions and gives it free by `release`, which may give
    /// something that is claimed now. Gives that, or else a transaction whose turn it has become at
    /// a contended slot, and which is claimed.
    fn conclude(
        &self,
        index: TxIndex,
        mut current: Box<Speculative<'block>>,
        is_put_off: bool,
        release: impl FnOnce() -> Option<TxIndex>,
    ) -> Option<TxIndex> {
        let waits_at = current.lines.last().copied().filter(|_| is_put_off);
        let turns = if is_put_off { Vec::new() } else { current.leave_lines(index) };
        *lock(&self.outcomes[index.get()]) = Some(current);
        let mut next = release();
        // Its turn may have come in the meantime, when nobody else could claim it.
        if waits_at.is_some_and(|slot| !slot.is_waiting(index)) {
            self.scheduler.push_ready(index);
        }
        for turn in turns {
            let is_next_to_commit =
                turn.get() == index.get() + 1 && self.scheduler.frontier() == index.get();
            if is_next_to_commit {
                // This worker is about to get there, and on final state nothing needs validation.
                continue;
            }
            if next.is_none() && self.scheduler.claim(turn) {
                next = Some(turn);
            } else {
                self.scheduler.push_ready(turn);
            }
        }
        next
    }

    /// Shows an outcome's writes to later transactions, and has those executed again that have read
    /// something else. Whether the outcome itself is to be given up for the same reason.
    pub(super) fn announce(&self, index: TxIndex, accesses: &Accesses<'block>) -> bool {
        // What a given list has served says nothing about who was first.
        let repeats = self.scheduler.runs_ahead() && self.block.foretold().is_none();
        let mut last_told = None;
        let is_overtaken = merger::publish(index, accesses, |other| {
            if repeats && last_told.replace(other) != Some(other) {
                self.scheduler.push_ready(other);
            }
        });
        is_overtaken && repeats
    }
}

impl TxOutcome<'_> {
    /// An outcome that says nothing, so that the frontier executes the transaction again.
    fn unknown() -> Self {
        Self {
            result: Err(EVMError::Custom("not executed".to_string())),
            accesses: Accesses::default(),
        }
    }
}

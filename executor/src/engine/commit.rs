//! At the frontier: validation, execution on the spot, commit and delivery.

use super::{Engine, ahead::Speculative, lock, panic_message};
use crate::{
    frontier::{FinalError, Frontier},
    merger,
    scheduler::{Status, WorkerId},
    speculation::Incarnations,
    validation::{self, Validity},
    worker::{Reads, TxOutcome, Worker},
};
use multilane_state::TxIndex;
use revm::{
    Database,
    context_interface::{
        Transaction,
        result::{HaltReason, ResultAndState},
    },
};
use std::{
    collections::VecDeque,
    error::Error,
    ops::ControlFlow,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, TryLockError, atomic::Ordering},
};

/// How many commits go by at most before other workers are told.
const TOLD_EVERY: usize = 32;

/// Which executed transactions a worker makes final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that it has executed itself.
    Own,
    /// All.
    Everything,
}

impl Reach {
    pub(super) fn covers(self, status: Status, worker: WorkerId) -> bool {
        match status {
            Status::Executed { by } => self == Self::Everything || by == worker,
            Status::Unclaimed | Status::PutOff | Status::Executing => false,
        }
    }
}

/// How a transaction was made final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Its speculative outcome stood.
    Committed,
    /// It was executed on the spot.
    Executed,
}

/// What came of a look at the queue of final results.
pub(super) enum Delivery {
    /// This worker does not deliver.
    NotMine,
    /// There was nothing.
    Nothing,
    /// Something was delivered.
    Some,
    /// There will be nothing more.
    Complete,
}

impl<'block> Engine<'_, 'block> {
    /// Moves the frontier as far as it goes, unless somebody else is at it. Whether it moved.
    ///
    /// A worker that has something else to do leaves others' work to them: what a transaction read
    /// and wrote is in the cache of the core that executed it.
    pub(super) fn advance<DB>(&self, worker: &mut Worker<'_, 'block, DB>, reach: Reach) -> bool
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let mut moved = false;
        // Who delivers comes back to it every now and then.
        let delivers = self.finals.is_some() && worker.id() == WorkerId::CALLER;
        loop {
            let mut frontier = match self.frontier.try_lock() {
                Ok(frontier) => frontier,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return moved,
            };
            let start = frontier.next();
            while let Some(step) = self.commit_next(&mut frontier, worker, reach) {
                // Others are told of a row of quick commits at once. While this worker goes on alone
                // they could not do anything.
                let next = frontier.next();
                let others_can_work = frontier.depth() > 0;
                if (step == Step::Executed && others_can_work) || next.is_multiple_of(TOLD_EVERY) {
                    self.scheduler.advance(next);
                }
                if delivers && next >= start + TOLD_EVERY {
                    break;
                }
            }
            let next = frontier.next();
            let failed = frontier.failed();
            let over = failed || next == self.transactions.len();
            if failed {
                self.failed.store(true, Ordering::Release);
            }
            drop(frontier);
            if failed || next > start {
                moved = true;
                // After the frontier is free: whoever wakes up from this can take it.
                self.scheduler.advance(next);
            } else if !over
                && Reach::Everything.covers(self.scheduler.status(TxIndex::new(next)), worker.id())
            {
                // It is left to whoever executed it, who may have found the frontier taken just now
                // and gone to sleep.
                self.scheduler.wake();
            }
            if over && self.finals.is_none() {
                self.scheduler.stop();
            }
            // Whoever finished the next transaction while we held the frontier could not take it.
            // Its status is the sign that it left for us (see `SharedStatus::get`).
            let delivers_first = delivers && moved;
            let left_for_us = !over
                && !delivers_first
                && !self.scheduler.is_stopped()
                && self.scheduler.may_commit(next)
                && reach.covers(self.scheduler.status(TxIndex::new(next)), worker.id());
            if !left_for_us {
                return moved;
            }
        }
    }

    /// Makes the next transaction final if it can be now.
    fn commit_next<DB>(
        &self,
        frontier: &mut Frontier<'block>,
        worker: &mut Worker<'_, 'block, DB>,
        reach: Reach,
    ) -> Option<Step>
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let next = frontier.next();
        if frontier.failed()
            || next >= self.transactions.len()
            || !self.scheduler.may_commit(next)
            || self.scheduler.is_stopped()
        {
            return None;
        }
        let index = TxIndex::new(next);
        let status = self.scheduler.status(index);
        let executed_before = reach.covers(status, worker.id());
        let is_ours = match status {
            Status::Executed { .. } => executed_before && self.scheduler.reclaim(index),
            Status::Unclaimed | Status::PutOff => self.scheduler.claim(index),
            Status::Executing => false,
        };
        if !is_ours {
            return None;
        }
        let mut stored = lock(&self.outcomes[next]).take().unwrap_or_default();
        let (mut outcome, speculative) = self.settle(frontier, worker, index, &mut stored);
        // Others have read what this transaction was expected to write.
        if !speculative.stood
            && frontier.depth() > 0
            && let Ok(outcome) = &outcome
        {
            self.announce(index, &outcome.accesses);
        }
        let mut departures = Vec::new();
        if let Ok(outcome) = &mut outcome {
            stored.lines.append(&mut outcome.accesses.lines);
            departures = merger::departures(&mut stored.lines, &outcome.accesses.slot_writes);
        }
        // Unwind safety: after a panic the frontier has failed, so nothing more is committed.
        let committed = outcome.and_then(|outcome| {
            let gas_limit = self.transactions[next].gas_limit();
            let commit = AssertUnwindSafe(|| frontier.commit(worker, gas_limit, outcome));
            panic::catch_unwind(commit).map_err(|payload| panic_message(&*payload))
        });
        match committed.unwrap_or_else(|message| Err(FinalError::Panic(message))) {
            Ok(last) => match &self.finals {
                Some(finals) => lock(finals).push_back(last),
                None => frontier.keep(last),
            },
            Err(error) => frontier.fail(error),
        }
        let depth = frontier.learn(speculative);
        self.scheduler.set_depth(depth);
        for turn in merger::leave(index, &departures) {
            // Whoever holds the frontier gets to the next one anyway.
            if turn.get() != next + 1 {
                self.scheduler.push_ready(turn);
            }
        }
        if !executed_before {
            self.scheduler.finish_at_frontier(index);
        }
        Some(if speculative.stood { Step::Committed } else { Step::Executed })
    }

    /// The final outcome of the next transaction: the stored one if it stands, or else that of an
    /// execution on the spot. Also what came of its speculative executions.
    fn settle<DB>(
        &self,
        frontier: &mut Frontier<'block>,
        worker: &mut Worker<'_, 'block, DB>,
        index: TxIndex,
        stored: &mut Speculative<'block>,
    ) -> (Result<TxOutcome<'block>, String>, Incarnations)
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let overtaken = stored.overtaken;
        frontier.conflicts.slots += overtaken;
        let nothing_stood = Incarnations { in_vain: overtaken, stood: false };
        if self.block.is_cancelled() {
            return (Ok(TxOutcome::stopped()), nothing_stood);
        }
        let Some(outcome) = stored.outcome.take() else {
            return (self.execute(worker, index, Reads::Final), nothing_stood);
        };
        let validity = validation::validate(&outcome);
        if validity == Validity::Valid {
            return (Ok(outcome), Incarnations { in_vain: overtaken, stood: true });
        }
        frontier.conflicts.count(validity);
        self.block.note_conflict();
        merger::retract(index, &outcome.accesses);
        worker.recycle(outcome.accesses);
        let again = self.execute(worker, index, Reads::Final);
        (again, Incarnations { in_vain: overtaken + 1, stood: false })
    }

    /// Hands over what has become final.
    pub(super) fn deliver(
        &self,
        finals: &Mutex<VecDeque<ResultAndState<HaltReason>>>,
        delivered: &mut usize,
        deliver: &mut impl FnMut(usize, ResultAndState<HaltReason>) -> ControlFlow<()>,
    ) -> Delivery {
        if *delivered == self.transactions.len() {
            return Delivery::Complete;
        }
        // Acquire pairs with the release in `advance`, which comes after the last result.
        let failed = self.failed.load(Ordering::Acquire);
        let ready = std::mem::take(&mut *lock(finals));
        if ready.is_empty() {
            return if failed { Delivery::Complete } else { Delivery::Nothing };
        }
        for last in ready {
            let flow = deliver(*delivered, last);
            *delivered += 1;
            if flow.is_break() {
                return Delivery::Complete;
            }
        }
        self.scheduler.deliver(*delivered);
        if *delivered == self.transactions.len() { Delivery::Complete } else { Delivery::Some }
    }
}

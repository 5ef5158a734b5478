//! The engine: workers, and the commit frontier that they take turns to move.
//!
//! Each worker loops: move the frontier if nobody else does, then execute something ahead of it.
//! The *commit frontier* is the first transaction that is not final. Whoever holds it validates the
//! stored outcome; if a read does not stand, the transaction is executed again on the spot, where
//! every earlier one is final and nothing is a guess. Results leave in block order through a queue
//! to the calling thread, which is a worker too and delivers them.

use crate::{
    ExecutionError,
    executor::open,
    frontier::{Final, FinalError, Frontier},
    merger,
    partitioner::ExecutionPlan,
    pipeline::BlockContext,
    scheduler::{Scheduler, Status, Task},
    source::StateSource,
    validation::{self, Validity},
    worker::{Accesses, TxOutcome, Worker},
    workers::{Busy, Workers},
};
use alloy_evm::EvmEnv;
use multilane_state::{TxIndex, multi_version::CommittedChanges};
use revm::{
    Database,
    context::TxEnv,
    context_interface::{Transaction, result::EVMError},
};
use std::{
    any::Any,
    collections::VecDeque,
    error::Error,
    ops::{ControlFlow, Range},
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What happened, for the statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) executions: usize,
    pub(crate) conflicts: usize,
}

/// One execution of one block.
pub(crate) struct Engine<'run, 'block> {
    block: &'block BlockContext,
    env: &'run EvmEnv,
    transactions: &'run [TxEnv],
    scheduler: Scheduler<'run>,
    outcomes: Box<[Mutex<Option<TxOutcome<'block>>>]>,
    frontier: Mutex<Frontier<'block>>,
    finals: Mutex<VecDeque<Final>>,
    handover: Handover,
    executions: AtomicUsize,
}

/// When the final results are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handover {
    /// Each as soon as the calling thread can, while later transactions still run.
    Streamed,
    /// All of them when everything is final, which costs less.
    AtTheEnd,
}

impl<'run, 'block> Engine<'run, 'block> {
    pub(crate) fn new(
        block: &'block BlockContext,
        plan: &'run ExecutionPlan,
        env: &'run EvmEnv,
        transactions: &'run [TxEnv],
        frontier: Frontier<'block>,
        handover: Handover,
        threads: usize,
    ) -> Self {
        let streamed = handover == Handover::Streamed;
        Self {
            block,
            env,
            transactions,
            scheduler: Scheduler::new(plan, threads, streamed),
            outcomes: transactions.iter().map(|_| Mutex::default()).collect(),
            frontier: Mutex::new(frontier),
            finals: Mutex::default(),
            handover,
            executions: AtomicUsize::new(0),
        }
    }

    /// What the final transactions did to the state.
    pub(crate) fn into_changes(self) -> CommittedChanges<'block> {
        self.frontier.into_inner().unwrap_or_else(PoisonError::into_inner).into_changes()
    }

    /// Runs until everything is delivered, `deliver` breaks, or a transaction has no result.
    pub(crate) fn run<S: StateSource>(
        &self,
        workers: Workers<'_>,
        source: &S,
        mut deliver: impl FnMut(usize, Final) -> ControlFlow<()>,
    ) -> Result<Counts, ExecutionError> {
        let db = open(source)?;
        if self.transactions.is_empty() {
            // Nobody would make the last transaction final, and thereby end the work.
            return Ok(Counts { executions: 0, conflicts: 0 });
        }
        let panicked = OnceLock::new();
        let job = |_| {
            // It may all be over by the time a busy pool gets here.
            if self.scheduler.is_stopped() {
                return;
            }
            // A worker without a handle is one worker less, whatever kept the source from giving
            // one: the calling thread has a handle, and gets everything done alone if need be.
            let Ok(Ok(db)) = panic::catch_unwind(AssertUnwindSafe(|| source.open())) else {
                return;
            };
            // Unwind safety: nothing of a broken execution is used again.
            let work = AssertUnwindSafe(|| self.work(db, || Delivery::NotMine));
            if let Err(payload) = panic::catch_unwind(work) {
                let _ = panicked.set(panic_message(&*payload));
                self.scheduler.stop();
            }
        };
        let deliver_panicked = workers.run(job, || {
            let _busy = Busy::mark();
            let mut delivered = 0;
            let mut deliver_panicked = None;
            let own = panic::catch_unwind(AssertUnwindSafe(|| {
                let mut deliver = || {
                    let deliver = || self.deliver(&mut delivered, &mut deliver);
                    panic::catch_unwind(AssertUnwindSafe(deliver)).unwrap_or_else(|payload| {
                        deliver_panicked = Some(payload);
                        Delivery::Complete
                    })
                };
                match self.handover {
                    Handover::Streamed => self.work(db, deliver),
                    Handover::AtTheEnd => {
                        self.work(db, || Delivery::NotMine);
                        deliver();
                    }
                }
            }));
            if let Err(payload) = own {
                let _ = panicked.set(panic_message(&*payload));
            }
            // Whatever happened, the others must not be waited for in vain.
            self.scheduler.stop();
            deliver_panicked
        });
        if let Some(payload) = deliver_panicked {
            // That is the caller's own code, on the caller's own thread.
            panic::resume_unwind(payload);
        }
        match panicked.into_inner() {
            Some(cause) => Err(ExecutionError::Internal { transaction: None, cause }),
            None => Ok(Counts {
                executions: self.executions.load(Ordering::Relaxed),
                conflicts: lock(&self.frontier).conflicts,
            }),
        }
    }

    /// One worker's life. `deliver` hands over final results, on the calling thread only.
    fn work<DB>(&self, db: DB, mut deliver: impl FnMut() -> Delivery)
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let mut worker = Worker::new(self.block, self.env, db);
        let mut handed_over = None;
        let mut batch: Range<usize> = 0..0;
        loop {
            // The mark comes first: what happens after it, a stop included, ends the sleep below.
            let mark = self.scheduler.mark();
            if self.scheduler.is_stopped() {
                return;
            }
            let delivery = deliver();
            if matches!(delivery, Delivery::Complete) {
                return;
            }
            if handed_over.is_none() && batch.is_empty() {
                match self.scheduler.next_task() {
                    Some(Task::Claimed(index)) => handed_over = Some(index),
                    Some(Task::Dispatch(positions)) => batch = positions,
                    None => {}
                }
            }
            let mut worked = !batch.is_empty() || handed_over.is_some();
            while let Some(index) = handed_over.take().or_else(|| self.dispatch(&mut batch)) {
                handed_over = self.speculate(&mut worker, index);
                if batch.is_empty() {
                    break;
                }
            }
            worked |= self.advance(&mut worker);
            if !worked && matches!(delivery, Delivery::Nothing | Delivery::NotMine) {
                self.scheduler.sleep(mark);
            }
        }
    }

    /// The next transaction of a batch that is free.
    fn dispatch(&self, batch: &mut Range<usize>) -> Option<TxIndex> {
        batch.map(TxIndex::new).find(|index| self.scheduler.dispatch(*index))
    }

    /// Executes a claimed transaction on the best guess there is.
    fn speculate<DB>(&self, worker: &mut Worker<'block, DB>, index: TxIndex) -> Option<TxIndex>
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let outcome = self.execute(worker, index, false).unwrap_or_else(|_| {
            // State that fits together badly may lead anywhere. If the panic is real, the frontier
            // runs into it again.
            TxOutcome::unknown()
        });
        merger::publish(index, &outcome.accesses);
        *lock(&self.outcomes[index.get()]) = Some(outcome);
        self.scheduler.finish_execution(index)
    }

    /// Runs one incarnation. A panic comes back as its message.
    fn execute<DB>(
        &self,
        worker: &mut Worker<'block, DB>,
        index: TxIndex,
        at_frontier: bool,
    ) -> Result<TxOutcome<'block>, String>
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        self.executions.fetch_add(1, Ordering::Relaxed);
        let tx = &self.transactions[index.get()];
        // Unwind safety: the worker is recovered, and what is shared is only changed by total
        // functions.
        panic::catch_unwind(AssertUnwindSafe(|| worker.execute(index, tx, at_frontier))).map_err(
            |payload| {
                worker.recover();
                panic_message(&*payload)
            },
        )
    }

    /// Moves the frontier as far as it goes, unless somebody else is at it. Whether it moved.
    fn advance<DB>(&self, worker: &mut Worker<'block, DB>) -> bool
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let mut moved = false;
        loop {
            let mut frontier = match self.frontier.try_lock() {
                Ok(frontier) => frontier,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return moved,
            };
            while self.commit_next(&mut frontier, worker) {
                moved = true;
            }
            let next = frontier.next();
            let failed = frontier.failed();
            drop(frontier);
            // Whoever finished the next transaction while we held the frontier could not take it.
            // Its status is the sign that it left for us (see `SharedStatus::get`).
            let left_for_us = !failed
                && !self.scheduler.is_stopped()
                && next < self.transactions.len()
                && self.scheduler.may_commit(next)
                && self.scheduler.status(TxIndex::new(next)) == Status::Executed;
            if !left_for_us {
                return moved;
            }
        }
    }

    /// Makes the next transaction final if it can be now.
    fn commit_next<DB>(
        &self,
        frontier: &mut Frontier<'block>,
        worker: &mut Worker<'block, DB>,
    ) -> bool
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let next = frontier.next();
        if frontier.failed()
            || next >= self.transactions.len()
            || !self.scheduler.may_commit(next)
            || self.scheduler.is_stopped()
        {
            return false;
        }
        let index = TxIndex::new(next);
        let (outcome, repeated) = match self.scheduler.status(index) {
            Status::Executed => {
                let outcome = lock(&self.outcomes[next]).take();
                let outcome = outcome.unwrap_or_else(TxOutcome::unknown);
                if validation::validate(&outcome) == Validity::Valid {
                    (Ok(outcome), false)
                } else {
                    frontier.conflicts += 1;
                    merger::retract(index, &outcome.accesses);
                    worker.recycle(outcome.accesses);
                    (self.execute(worker, index, true), true)
                }
            }
            Status::Unclaimed if self.scheduler.claim(index) => {
                let outcome = self.execute(worker, index, true);
                self.scheduler.finish_at_frontier(index);
                (outcome, false)
            }
            Status::Unclaimed | Status::Executing | Status::Committed => return false,
        };
        // Unwind safety: after a panic the frontier has failed, so nothing more is committed.
        let last = frontier
            .admit(self.transactions[next].gas_limit())
            .and_then(|()| outcome.map_err(FinalError::Panic))
            .and_then(|outcome| {
                panic::catch_unwind(AssertUnwindSafe(|| frontier.commit(worker, outcome)))
                    .unwrap_or_else(|payload| Err(FinalError::Panic(panic_message(&*payload))))
            });
        frontier.advance(&last);
        lock(&self.finals).push_back(last);
        self.scheduler.commit(index, repeated);
        let over = frontier.failed() || frontier.next() == self.transactions.len();
        if over && self.handover == Handover::AtTheEnd {
            self.scheduler.stop();
        }
        true
    }

    /// Hands over what has become final.
    fn deliver(
        &self,
        delivered: &mut usize,
        deliver: &mut impl FnMut(usize, Final) -> ControlFlow<()>,
    ) -> Delivery {
        if *delivered == self.transactions.len() {
            return Delivery::Complete;
        }
        let ready = std::mem::take(&mut *lock(&self.finals));
        if ready.is_empty() {
            return Delivery::Nothing;
        }
        for last in ready {
            let failed = last.is_err();
            let flow = deliver(*delivered, last);
            *delivered += 1;
            if failed || flow.is_break() {
                return Delivery::Complete;
            }
        }
        self.scheduler.deliver(*delivered);
        if *delivered == self.transactions.len() { Delivery::Complete } else { Delivery::Some }
    }
}

/// What came of a look at the queue of final results.
enum Delivery {
    /// This worker does not deliver.
    NotMine,
    /// There was nothing.
    Nothing,
    /// Something was delivered.
    Some,
    /// There will be nothing more.
    Complete,
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

/// The message of a panic, where it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned());
    message.unwrap_or_else(|| "a worker panicked".to_string())
}

/// What these locks guard is replaced whole, so a panic elsewhere leaves it usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

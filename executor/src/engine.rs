//! The engine: workers, and the commit frontier that they take turns to move.
//!
//! Each worker loops: execute something ahead of the frontier, then move the frontier past what it
//! has executed itself, or past anything before it would sleep. The *commit frontier* is the first
//! transaction that is not final. Whoever holds it validates the stored outcome; if a read does not
//! stand, the transaction is executed again on the spot, where every earlier one is final and
//! nothing is a guess. Results stay with the frontier, or leave in block order through a queue to the
//! calling thread, which is a worker too and delivers them.

use crate::{
    ExecutionError,
    executor::open,
    frontier::{End, FinalError, Frontier},
    head_start::head_start,
    merger,
    partitioner::ExecutionPlan,
    pipeline::BlockContext,
    scheduler::{Scheduler, Status, TURN_GAS, Task, WorkerId},
    source::StateSource,
    stats::ConflictKinds,
    validation::{self, Validity},
    worker::{Accesses, TxOutcome, Worker},
    workers::{Busy, Workers},
};
use alloy_evm::EvmEnv;
use multilane_state::TxIndex;
use revm::{
    Database,
    context::TxEnv,
    context_interface::{
        Transaction,
        result::{EVMError, HaltReason, ResultAndState},
    },
};
use std::{
    any::Any,
    collections::VecDeque,
    error::Error,
    ops::{ControlFlow, Range},
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// How many commits go by at most before other workers are told.
const TOLD_EVERY: usize = 32;

/// What happened, for the statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) executions: usize,
    pub(crate) conflicts: ConflictKinds,
}

/// One execution of one block.
pub(crate) struct Engine<'run, 'block> {
    block: &'block BlockContext,
    env: &'run EvmEnv,
    transactions: &'run [TxEnv],
    scheduler: Scheduler<'run>,
    /// Outcomes of speculative executions, until they are committed.
    outcomes: Box<[Mutex<Option<Box<TxOutcome<'block>>>>]>,
    frontier: Mutex<Frontier<'block>>,
    /// Final results on their way to the calling thread, where somebody waits for them there.
    finals: Option<Mutex<VecDeque<ResultAndState<HaltReason>>>>,
    /// A transaction had no result: nothing after it can be final.
    failed: AtomicBool,
    executions: AtomicUsize,
}

impl<'run, 'block> Engine<'run, 'block> {
    /// `streams` says whether final results are delivered while later transactions still run. If
    /// not, the frontier keeps them.
    pub(crate) fn new(
        block: &'block BlockContext,
        plan: &'run ExecutionPlan,
        env: &'run EvmEnv,
        transactions: &'run [TxEnv],
        frontier: Frontier<'block>,
        streams: bool,
        threads: usize,
    ) -> Self {
        Self {
            block,
            env,
            transactions,
            scheduler: Scheduler::new(
                plan,
                head_start(transactions, plan, threads),
                threads,
                frontier.depth(),
                streams,
            ),
            outcomes: transactions.iter().map(|_| Mutex::default()).collect(),
            frontier: Mutex::new(frontier),
            finals: streams.then(Mutex::default),
            failed: AtomicBool::new(false),
            executions: AtomicUsize::new(0),
        }
    }

    /// What became of the transactions.
    pub(crate) fn into_end(self) -> End<'block> {
        self.frontier.into_inner().unwrap_or_else(PoisonError::into_inner).into_end()
    }

    /// Runs until everything is final, and delivered if it is to be; or `deliver` breaks, or a
    /// transaction has no result.
    pub(crate) fn run<S: StateSource>(
        &self,
        workers: Workers<'_>,
        source: &S,
        mut deliver: impl FnMut(usize, ResultAndState<HaltReason>) -> ControlFlow<()>,
    ) -> Result<Counts, ExecutionError> {
        let db = open(source)?;
        if self.transactions.is_empty() {
            // Nobody would make the last transaction final, and thereby end the work.
            return Ok(Counts { executions: 0, conflicts: ConflictKinds::default() });
        }
        let panicked = OnceLock::new();
        let job = |worker: usize| {
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
            let work =
                AssertUnwindSafe(|| self.work(WorkerId::new(worker), db, || Delivery::NotMine));
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
                self.work(WorkerId::new(0), db, || {
                    let Some(finals) = &self.finals else { return Delivery::NotMine };
                    let deliver = || self.deliver(finals, &mut delivered, &mut deliver);
                    panic::catch_unwind(AssertUnwindSafe(deliver)).unwrap_or_else(|payload| {
                        deliver_panicked = Some(payload);
                        Delivery::Complete
                    })
                });
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
    fn work<DB>(&self, id: WorkerId, db: DB, deliver: impl FnMut() -> Delivery)
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let mut worker = Worker::new(id, self.block, self.env, db);
        self.work_with(&mut worker, deliver);
        self.executions.fetch_add(worker.executions(), Ordering::Relaxed);
    }

    fn work_with<DB>(
        &self,
        worker: &mut Worker<'_, 'block, DB>,
        mut deliver: impl FnMut() -> Delivery,
    ) where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
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
            let mut gas = 0;
            while let Some(index) = handed_over.take().or_else(|| self.dispatch(&mut batch)) {
                gas += self.speculate(worker, index);
                handed_over = self.scheduler.finish_execution(index, worker.id());
                // The frontier learns in time what long transactions were executed in vain.
                if batch.is_empty() || gas >= TURN_GAS {
                    break;
                }
            }
            worked |= self.advance(worker, Reach::Own);
            // Before this worker sleeps it makes final whatever it can.
            worked = worked || self.advance(worker, Reach::Everything);
            if !worked && matches!(delivery, Delivery::Nothing | Delivery::NotMine) {
                self.scheduler.sleep(mark);
            }
        }
    }

    /// The next transaction of a batch that is free.
    fn dispatch(&self, batch: &mut Range<usize>) -> Option<TxIndex> {
        batch.map(TxIndex::new).find(|index| self.scheduler.dispatch(*index))
    }

    /// Executes a claimed transaction on the best guess there is. Gives the gas that it used.
    fn speculate<DB>(&self, worker: &mut Worker<'_, 'block, DB>, index: TxIndex) -> u64
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let outcome = self.execute(worker, index, false).unwrap_or_else(|_| {
            // State that fits together badly may lead anywhere. If the panic is real, the frontier
            // runs into it again.
            TxOutcome::unknown()
        });
        let gas = outcome.result.as_ref().map_or(0, |executed| executed.result.tx_gas_used());
        merger::publish(index, &outcome.accesses);
        *lock(&self.outcomes[index.get()]) = Some(Box::new(outcome));
        gas
    }

    /// Runs one incarnation. A panic comes back as its message.
    fn execute<DB>(
        &self,
        worker: &mut Worker<'_, 'block, DB>,
        index: TxIndex,
        at_frontier: bool,
    ) -> Result<TxOutcome<'block>, String>
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
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
    ///
    /// A worker that has something else to do leaves others' work to them: what a transaction read
    /// and wrote is in the cache of the core that executed it.
    fn advance<DB>(&self, worker: &mut Worker<'_, 'block, DB>, reach: Reach) -> bool
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
            let start = frontier.next();
            while let Some(step) = self.commit_next(&mut frontier, worker, reach) {
                // Others are told of a row of quick commits at once. While this worker goes on alone
                // they could not do anything.
                let next = frontier.next();
                let others_can_work = frontier.depth() > 0;
                if (step == Step::Executed && others_can_work) || next.is_multiple_of(TOLD_EVERY) {
                    self.scheduler.advance(next);
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
            let left_for_us = !over
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
        let executed_before = match self.scheduler.status(index) {
            status @ Status::Executed { .. } if reach.covers(status, worker.id()) => true,
            Status::Unclaimed if self.scheduler.claim(index) => false,
            _ => return None,
        };
        let outcome = lock(&self.outcomes[next]).take();
        let validity = outcome.as_ref().map(|outcome| validation::validate(outcome));
        let stands = validity == Some(Validity::Valid);
        let outcome = match outcome {
            Some(outcome) if stands => Ok(*outcome),
            refused => {
                if let (Some(outcome), Some(validity)) = (refused, validity) {
                    frontier.conflicts.count(validity);
                    self.block.note_conflict();
                    merger::retract(index, &outcome.accesses);
                    worker.recycle(outcome.accesses);
                }
                self.execute(worker, index, true)
            }
        };
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
        let depth = frontier.learn(executed_before.then_some(stands));
        self.scheduler.set_depth(depth);
        if !executed_before {
            self.scheduler.finish_at_frontier(index);
        }
        Some(if stands { Step::Committed } else { Step::Executed })
    }

    /// Hands over what has become final.
    fn deliver(
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

/// Which executed transactions a worker makes final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Those that it has executed itself.
    Own,
    /// All.
    Everything,
}

impl Reach {
    fn covers(self, status: Status, worker: WorkerId) -> bool {
        match status {
            Status::Executed { by } => self == Self::Everything || by == worker,
            Status::Unclaimed | Status::Executing => false,
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

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
    speculation::Incarnations,
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
/// How many times a transaction is executed again before its turn. The frontier has the last word.
const OVERTAKEN_MAX: usize = 3;

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
    outcomes: Box<[Mutex<Option<Box<Speculative<'block>>>>]>,
    frontier: Mutex<Frontier<'block>>,
    /// Final results on their way to the calling thread, where somebody waits for them there.
    finals: Option<Mutex<VecDeque<ResultAndState<HaltReason>>>>,
    /// A transaction had no result: nothing after it can be final.
    failed: AtomicBool,
    executions: AtomicUsize,
}

/// What came of a transaction's speculative executions.
struct Speculative<'block> {
    outcome: TxOutcome<'block>,
    /// How many earlier outcomes were given up before they got to the frontier.
    overtaken: usize,
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
            let mut again = false;
            if handed_over.is_none()
                && batch.is_empty()
                && let Some(task) = self.scheduler.next_task()
            {
                self.scheduler.found_work();
                match task {
                    Task::Claimed(index) => handed_over = Some(index),
                    Task::Dispatch(positions) => batch = positions,
                    Task::Overtaken(index) => {
                        self.repeat(worker, index);
                        again = true;
                    }
                }
            }
            let mut worked = again || !batch.is_empty() || handed_over.is_some();
            let mut gas = 0;
            while let Some(index) = handed_over.take().or_else(|| self.dispatch(&mut batch)) {
                gas += self.speculate(worker, index);
                handed_over = self.scheduler.finish_execution(index, worker.id());
                if self.scheduler.is_behind(index) && self.is_next(worker.id()) {
                    self.advance(worker, Reach::Own);
                }
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

    /// Whether the frontier waits for this worker to make final what it has executed.
    fn is_next(&self, worker: WorkerId) -> bool {
        let next = self.scheduler.frontier();
        next < self.transactions.len()
            && Reach::Own.covers(self.scheduler.status(TxIndex::new(next)), worker)
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
        let mut current = Box::new(Speculative { outcome, overtaken: 0 });
        if self.announce(index, &current.outcome.accesses) {
            self.repeat_overtaken(worker, index, &mut current);
        }
        *lock(&self.outcomes[index.get()]) = Some(current);
        gas
    }

    /// Executes a transaction again that has been claimed because it was overtaken.
    fn repeat<DB>(&self, worker: &mut Worker<'_, 'block, DB>, index: TxIndex)
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let stored = lock(&self.outcomes[index.get()]).take();
        if let Some(mut stored) = stored {
            // It may have been executed again since.
            if merger::is_overtaken(index, &stored.outcome.accesses) {
                self.repeat_overtaken(worker, index, &mut stored);
            }
            *lock(&self.outcomes[index.get()]) = Some(stored);
        }
        self.scheduler.finish_again(index, worker.id());
    }

    /// Executes a transaction again until it has not been overtaken meanwhile: at once, because
    /// everything that has read what it wrote is in vain as well, and more so the longer it stands.
    fn repeat_overtaken<DB>(
        &self,
        worker: &mut Worker<'_, 'block, DB>,
        index: TxIndex,
        current: &mut Speculative<'block>,
    ) where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let mut is_overtaken = true;
        while is_overtaken && current.overtaken < OVERTAKEN_MAX {
            let Ok(newer) = self.execute(worker, index, false) else { break };
            let older = std::mem::replace(&mut current.outcome, newer);
            current.overtaken += 1;
            is_overtaken = self.announce(index, &current.outcome.accesses);
            merger::retract_replaced(index, &older.accesses, &current.outcome.accesses);
            worker.recycle(older.accesses);
        }
    }

    /// Shows an outcome's writes to later transactions, and has those executed again that have read
    /// something else. Whether the outcome itself is to be given up for the same reason.
    fn announce(&self, index: TxIndex, accesses: &Accesses<'block>) -> bool {
        // What a given list has served says nothing about who was first.
        let repeats = self.scheduler.runs_ahead() && self.block.foretold().is_none();
        let mut last_told = None;
        let is_overtaken = merger::publish(index, accesses, |other| {
            if repeats && last_told.replace(other) != Some(other) {
                self.scheduler.overtaken(other);
            }
        });
        is_overtaken && repeats
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
        let status = self.scheduler.status(index);
        let executed_before = reach.covers(status, worker.id());
        let is_ours = match status {
            Status::Executed { .. } => executed_before && self.scheduler.reclaim(index),
            Status::Unclaimed => self.scheduler.claim(index),
            Status::Executing => false,
        };
        if !is_ours {
            return None;
        }
        let mut speculative = Incarnations::default();
        let outcome = match lock(&self.outcomes[next]).take() {
            _ if self.block.is_cancelled() => Ok(TxOutcome::stopped()),
            None => self.execute(worker, index, true),
            Some(stored) => {
                let Speculative { outcome, overtaken } = *stored;
                let validity = validation::validate(&outcome);
                let stood = validity == Validity::Valid;
                frontier.conflicts.slots += overtaken;
                speculative = Incarnations { in_vain: overtaken + usize::from(!stood), stood };
                if stood {
                    Ok(outcome)
                } else {
                    frontier.conflicts.count(validity);
                    self.block.note_conflict();
                    merger::retract(index, &outcome.accesses);
                    worker.recycle(outcome.accesses);
                    self.execute(worker, index, true)
                }
            }
        };
        let stands = speculative.stood;
        // Others have read what this transaction was expected to write.
        if !stands
            && frontier.depth() > 0
            && let Ok(outcome) = &outcome
        {
            self.announce(index, &outcome.accesses);
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

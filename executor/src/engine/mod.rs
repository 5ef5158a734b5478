//! The engine: workers, and the commit frontier that they take turns to move.
//!
//! Each worker loops: execute something ahead of the frontier, then move the frontier past what it
//! has executed itself, or past anything before it would sleep. The *commit frontier* is the first
//! transaction that is not final. Whoever holds it validates the stored outcome; if a read does not
//! stand, the transaction is executed again on the spot, where every earlier one is final and
//! nothing is a guess. Results stay with the frontier, or leave in block order through a queue to the
//! calling thread, which is a worker too and delivers them.

mod ahead;
mod commit;

use crate::{
    ExecutionError,
    call_habits::CallHabits,
    executor::open,
    frontier::{End, Frontier},
    head_start::head_start,
    partitioner::ExecutionPlan,
    pipeline::BlockContext,
    scheduler::{Scheduler, TURN_GAS, Task, WorkerId},
    source::StateSource,
    stats::ConflictKinds,
    worker::{Reads, TxOutcome, Worker},
    workers::{Busy, Workers},
};
use ahead::Speculative;
use alloy_evm::EvmEnv;
use commit::{Delivery, Reach};
use multilane_state::TxIndex;
use revm::{
    Database,
    context::TxEnv,
    context_interface::result::{HaltReason, ResultAndState},
};
use std::{
    any::Any,
    collections::VecDeque,
    error::Error,
    ops::{ControlFlow, Range},
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// What happened, for the statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) executions: usize,
    pub(crate) put_off: usize,
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
    habits: CallHabits<'block>,
    frontier: Mutex<Frontier<'block>>,
    /// Final results on their way to the calling thread, where somebody waits for them there.
    finals: Option<Mutex<VecDeque<ResultAndState<HaltReason>>>>,
    /// A transaction had no result: nothing after it can be final.
    failed: AtomicBool,
    executions: AtomicUsize,
    put_off: AtomicUsize,
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
            habits: CallHabits::default(),
            frontier: Mutex::new(frontier),
            finals: streams.then(Mutex::default),
            failed: AtomicBool::new(false),
            executions: AtomicUsize::new(0),
            put_off: AtomicUsize::new(0),
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
            return Ok(Counts { executions: 0, put_off: 0, conflicts: ConflictKinds::default() });
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
                self.work(WorkerId::CALLER, db, || {
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
                put_off: self.put_off.load(Ordering::Relaxed),
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
        self.put_off.fetch_add(worker.put_off(), Ordering::Relaxed);
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
                        handed_over = self.repeat(worker, index);
                        again = true;
                    }
                }
            }
            let mut worked = again || !batch.is_empty() || handed_over.is_some();
            let mut gas = 0;
            while let Some((index, before)) = self.next_of(&mut handed_over, &mut batch) {
                let (used, next) = self.speculate(worker, index, before);
                gas += used;
                handed_over = next;
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

    /// What a worker executes next, with what came of it before: what was handed over to it, or
    /// the next one of its batch.
    fn next_of(
        &self,
        handed_over: &mut Option<TxIndex>,
        batch: &mut Range<usize>,
    ) -> Option<(TxIndex, Option<Box<Speculative<'block>>>)> {
        match handed_over.take() {
            Some(index) => Some((index, lock(&self.outcomes[index.get()]).take())),
            None => self.dispatch(batch).map(|index| (index, None)),
        }
    }

    /// The next transaction of a batch that is free.
    fn dispatch(&self, batch: &mut Range<usize>) -> Option<TxIndex> {
        batch.map(TxIndex::new).find(|index| self.scheduler.dispatch(*index))
    }

    /// Runs one incarnation. A panic comes back as its message.
    fn execute<DB>(
        &self,
        worker: &mut Worker<'_, 'block, DB>,
        index: TxIndex,
        reads: Reads,
    ) -> Result<TxOutcome<'block>, String>
    where
        DB: Database<Error: Error + Send + Sync + 'static>,
    {
        let tx = &self.transactions[index.get()];
        // Unwind safety: the worker is recovered, and what is shared is only changed by total
        // functions.
        panic::catch_unwind(AssertUnwindSafe(|| worker.execute(index, tx, reads))).map_err(
            |payload| {
                worker.recover();
                panic_message(&*payload)
            },
        )
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

//! The scheduler: which transaction runs next, on which worker?
//!
//! Transactions are dispatched in block order, so that the commit frontier finds them done; a few
//! that may take long begin before all others ([`head_start`](crate::head_start)). One whose
//! predicted predecessors are still running is put off; the worker that finishes the last of them
//! takes it over, while what it needs is warm in that core's cache (chain hand-off).
//!
//! Speculation is bounded: no transaction starts further ahead of the frontier than the current
//! *depth*, which [`Speculation`](crate::speculation::Speculation) adapts.
//!
//! *Must not know*: state, values, the EVM.

mod idle;
mod status;

use crate::partitioner::ExecutionPlan;
use idle::Idle;
use multilane_state::TxIndex;
use status::SharedStatus;
pub(crate) use status::{Status, WorkerId};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

/// Results that may be waiting for delivery before the frontier pauses.
const UNDELIVERED_MAX: usize = 4096;
/// Gas that one turn of a worker should cover, so that its cost does not show.
pub(crate) const TURN_GAS: u64 = 400_000;
/// What stands for a transaction's predecessor, and for its own dispatch, among its blockers.
const PREDECESSOR: u32 = 1;
const UNDISPATCHED: u32 = 1 << 31;
/// How far from the frontier a worker without work looks for what others have not come to.
const LEFT_OVER_NEAR: usize = 64;
/// Workers that sleep, having run as far ahead as they may, wake up when so many may be started.
const STARTED_MIN: usize = 64;
/// Most transactions in one turn.
const BATCH_MAX: u64 = 32;

/// How many transactions a worker takes in one turn.
pub(crate) fn turn_length(plan: &ExecutionPlan, threads: usize) -> usize {
    let transactions = plan.transactions();
    let mean_gas = plan.gas() / transactions.max(1) as u64;
    // Small blocks: every worker should get several turns.
    let fair = (transactions / (threads * 4)).max(1) as u64;
    (TURN_GAS / mean_gas.max(1)).clamp(1, BATCH_MAX).min(fair) as usize
}

/// Work for one turn of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// A transaction that has been claimed for this worker.
    Claimed(TxIndex),
    /// One that has been claimed again, because it was overtaken.
    Overtaken(TxIndex),
    /// Positions to dispatch, in order. Some may turn out to be taken or to have to wait.
    Dispatch(Range<usize>),
}

/// The schedule of one block's execution.
#[derive(Debug)]
pub(crate) struct Scheduler<'plan> {
    plan: &'plan ExecutionPlan,
    status: Box<[SharedStatus]>,
    /// Transactions that begin before their turn, and how many of them have.
    head_start: Vec<TxIndex>,
    begun: AtomicUsize,
    /// Predicted predecessors that are not done, plus [`UNDISPATCHED`] until the transaction is
    /// dispatched.
    blockers: Box<[AtomicU32]>,
    /// The next position to dispatch.
    cursor: AtomicUsize,
    /// Positions below are committed.
    frontier: AtomicUsize,
    /// Positions below have been delivered.
    delivered: AtomicUsize,
    delivers: bool,
    depth: AtomicUsize,
    batch: usize,
    /// How far the frontier is behind while all goes well.
    lag: usize,
    /// Claimed by nobody yet and waiting for nobody any more; or overtaken, to be executed again.
    ready: Mutex<BinaryHeap<Reverse<TxIndex>>>,
    ready_len: AtomicUsize,
    stopped: AtomicBool,
    idle: Idle,
}

impl<'plan> Scheduler<'plan> {
    /// `delivers` says whether results are delivered meanwhile, so that there can be too many that
    /// wait for it.
    pub(crate) fn new(
        plan: &'plan ExecutionPlan,
        head_start: Vec<TxIndex>,
        threads: usize,
        depth: usize,
        delivers: bool,
    ) -> Self {
        let transactions = plan.transactions();
        let batch = turn_length(plan, threads);
        let positions = || (0..transactions).map(TxIndex::new);
        Self {
            plan,
            head_start,
            begun: AtomicUsize::new(0),
            status: positions().map(|_| SharedStatus::new()).collect(),
            blockers: positions()
                .map(|i| AtomicU32::new(plan.predecessors(i) + UNDISPATCHED))
                .collect(),
            cursor: AtomicUsize::new(0),
            frontier: AtomicUsize::new(0),
            delivered: AtomicUsize::new(if delivers { 0 } else { transactions }),
            delivers,
            depth: AtomicUsize::new(depth),
            batch,
            lag: batch * threads,
            ready: Mutex::default(),
            ready_len: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            idle: Idle::default(),
        }
    }

    /// The next work for a worker, if there is any now.
    pub(crate) fn next_task(&self) -> Option<Task> {
        while self.begun.load(Ordering::Relaxed) < self.head_start.len() {
            let next = self.begun.fetch_add(1, Ordering::Relaxed);
            if let Some(index) = self.head_start.get(next)
                && self.claim(*index)
            {
                return Some(Task::Claimed(*index));
            }
        }
        loop {
            // Relaxed: the cursor hands out positions; what is known about them is synchronized by
            // their status.
            let start = self.cursor.load(Ordering::Relaxed);
            let horizon = self.horizon();
            // Whoever is awake takes what there is: only to wake up for it, it has to be enough.
            let can_start = start < horizon;
            // What began before its turn has to wait for its turn to begin once more.
            let below = if can_start { start } else { usize::MAX };
            while let Some(index) = self.pop_ready(below) {
                if self.claim(index) {
                    return Some(Task::Claimed(index));
                }
                if self.reclaim(index) {
                    return Some(Task::Overtaken(index));
                }
            }
            if !can_start {
                return self.left_over(start).map(Task::Claimed);
            }
            let end = (start + self.batch).min(horizon);
            let (then, now) = (Ordering::Relaxed, Ordering::Relaxed);
            if self.cursor.compare_exchange_weak(start, end, then, now).is_ok() {
                return Some(Task::Dispatch(start..end));
            }
        }
    }

    /// A transaction of another worker's turn that this one has not come to, because another of the
    /// same turn takes long.
    fn left_over(&self, cursor: usize) -> Option<TxIndex> {
        let start = self.frontier();
        let near = (start..cursor.min(start + LEFT_OVER_NEAR)).map(TxIndex::new);
        near.filter(|index| {
            self.status(*index) == Status::Unclaimed
                && self.blockers[index.get()].load(Ordering::Acquire) == UNDISPATCHED
        })
        .find(|index| self.claim(*index))
    }

    /// Whether a dispatched transaction is to be executed by the caller now.
    pub(crate) fn dispatch(&self, index: TxIndex) -> bool {
        let waits = self.plan.predecessors(index) > 0 && self.unblock(index, UNDISPATCHED) > 0;
        !waits && self.claim(index)
    }

    /// Whether a transaction has begun before its turn, which has not come yet.
    pub(crate) fn is_early(&self, index: TxIndex) -> bool {
        index.get() >= self.cursor.load(Ordering::Relaxed)
    }

    /// Claims a transaction, whether or not it has been dispatched.
    pub(crate) fn claim(&self, index: TxIndex) -> bool {
        self.status[index.get()].claim()
    }

    /// Claims a transaction that has been executed.
    pub(crate) fn reclaim(&self, index: TxIndex) -> bool {
        self.status[index.get()].reclaim()
    }

    /// The status of a transaction.
    pub(crate) fn status(&self, index: TxIndex) -> Status {
        self.status[index.get()].get()
    }

    /// Ends an execution whose outcome is stored. Gives a transaction that waited for it and is
    /// claimed for the caller, if there is one.
    pub(crate) fn finish_execution(&self, index: TxIndex, by: WorkerId) -> Option<TxIndex> {
        self.status[index.get()].finish(by);
        // A chain that begins before its turn goes on before it.
        self.release_successors(index, self.is_early(index)).filter(|next| self.claim(*next))
    }

    /// Gives back a claimed transaction, which waits for its turn somewhere.
    pub(crate) fn put_off(&self, index: TxIndex) {
        self.status[index.get()].put_off();
    }

    /// Ends a later execution, whose outcome is stored.
    pub(crate) fn finish_again(&self, index: TxIndex, by: WorkerId) {
        self.status[index.get()].finish(by);
    }

    /// Ends an execution at the frontier, which is final at once.
    pub(crate) fn finish_at_frontier(&self, index: TxIndex) {
        // The frontier may be past the cursor, which does not make the successor's turn come.
        if let Some(next) = self.release_successors(index, false) {
            self.push_ready(next);
        }
    }

    /// Whether transactions may be started ahead of the frontier.
    pub(crate) fn runs_ahead(&self) -> bool {
        self.depth.load(Ordering::Relaxed) > 0
    }

    /// Sets how far ahead of the frontier transactions may be started. Called by the holder of the
    /// frontier alone.
    pub(crate) fn set_depth(&self, depth: usize) {
        // Only one thread writes at a time, so load and store do not race.
        if self.depth.load(Ordering::Relaxed) != depth {
            self.depth.store(depth, Ordering::Relaxed);
        }
    }

    /// Tells everybody that the transactions below a position are final.
    pub(crate) fn advance(&self, next: usize) {
        self.frontier.store(next, Ordering::Release);
        if self.delivers {
            // The calling thread in particular waits for results.
            self.idle.notify_all();
        } else if self.is_worth_waking(next) {
            self.idle.notify_one();
        }
    }

    /// The position of the first transaction that is not final, as last [told](Self::advance).
    pub(crate) fn frontier(&self) -> usize {
        self.frontier.load(Ordering::Acquire)
    }

    /// Whether the frontier lags behind an executed transaction by more than a turn of every worker.
    pub(crate) fn is_behind(&self, index: TxIndex) -> bool {
        index.get() > self.frontier() + self.lag
    }

    /// Makes a worker that sleeps look for work once more.
    pub(crate) fn wake(&self) {
        self.idle.notify_one();
    }

    /// To be told by a worker that has found something to do: there may be more.
    pub(crate) fn found_work(&self) {
        self.idle.found_work();
    }

    /// Notes that results below a position have been delivered.
    pub(crate) fn deliver(&self, below: usize) {
        self.delivered.store(below, Ordering::Release);
        self.idle.notify_one();
    }

    /// Whether the frontier may move past a position, as far as delivery goes.
    pub(crate) fn may_commit(&self, position: usize) -> bool {
        position < self.delivered.load(Ordering::Acquire) + UNDELIVERED_MAX
    }

    /// Ends the work of all workers.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.idle.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// A mark to [`sleep`](Self::sleep) on: taken before looking for work.
    pub(crate) fn mark(&self) -> u64 {
        self.idle.epoch()
    }

    /// Sleeps until something has happened since `mark`.
    pub(crate) fn sleep(&self, mark: u64) {
        self.idle.wait(mark);
    }

    /// Whether somebody who sleeps has something to do now that the frontier is at a position: to
    /// start others, or to make final what stands there.
    fn is_worth_waking(&self, frontier: usize) -> bool {
        frontier == self.plan.transactions()
            || self.is_enough_to_start(self.cursor.load(Ordering::Relaxed), self.horizon())
            || matches!(self.status(TxIndex::new(frontier)), Status::Executed { .. })
    }

    /// Whether there is enough to be started for a worker to wake up. If each commit let one more
    /// transaction be started, a worker would be woken up for each.
    fn is_enough_to_start(&self, start: usize, horizon: usize) -> bool {
        let enough = (self.depth.load(Ordering::Relaxed) / 4).clamp(1, STARTED_MIN);
        start < horizon && (start + enough <= horizon || horizon == self.plan.transactions())
    }

    /// Positions below may be started.
    fn horizon(&self) -> usize {
        let ahead = self.frontier.load(Ordering::Acquire) + self.depth.load(Ordering::Relaxed);
        let undelivered = self.delivered.load(Ordering::Acquire) + UNDELIVERED_MAX;
        ahead.min(undelivered).min(self.plan.transactions())
    }

    /// Takes a blocker away, which is a predecessor or [`UNDISPATCHED`]. Gives what is left.
    fn unblock(&self, index: TxIndex, blocker: u32) -> u32 {
        // Release: what the caller did happens before the execution that this may allow. Acquire:
        // whoever takes the last blocker away sees what all the others did.
        self.blockers[index.get()].fetch_sub(blocker, Ordering::AcqRel) - blocker
    }

    /// Unblocks the successors of a transaction. Gives the first free one, queues the others. Those
    /// that have not been dispatched are free if they are to go on `early`.
    fn release_successors(&self, index: TxIndex, early: bool) -> Option<TxIndex> {
        let mut first = None;
        for successor in self.plan.successors(index) {
            let left = self.unblock(*successor, PREDECESSOR);
            if left == 0 || (early && left == UNDISPATCHED) {
                match first {
                    None => first = Some(*successor),
                    Some(_) => self.push_ready(*successor),
                }
            }
        }
        first
    }

    /// Has a transaction looked at: it waits no more, or what it read is not what is there now.
    pub(crate) fn push_ready(&self, index: TxIndex) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push(Reverse(index));
        self.ready_len.store(ready.len(), Ordering::Release);
        drop(ready);
        self.idle.notify_one();
    }

    /// The first that is ready, if it comes before a position.
    fn pop_ready(&self, below: usize) -> Option<TxIndex> {
        if self.ready_len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ready.peek_mut().filter(|first| first.0.get() < below)?;
        let Reverse(index) = PeekMut::pop(first);
        self.ready_len.store(ready.len(), Ordering::Release);
        Some(index)
    }
}

#[cfg(test)]
mod tests;

//! The predictions of a block, made on all workers.
//!
//! What a transaction accesses seldom depends on what the ones right before it store: amounts move,
//! addresses stay. So a block is predicted in *waves*. All transactions of a wave are predicted at
//! the same time, on the state that the waves before it are expected to leave. Between two waves, in
//! block order, what the transactions are expected to store is noted, as far as it is known and of
//! interest to anybody; and those that came upon a function that can be explored are predicted anew.
//!
//! What comes out does not depend on the number of workers, or on which of them was faster.
//!
//! *Must not know*: what predictions are for.

use super::{
    predictor::{Draft, LearnedPrediction, ProfilePredictor},
    profile::Profile,
    view::{Expectations, Slot},
};
use crate::{source::StateSource, workers::Workers};
use alloy_evm::EvmEnv;
use revm::context::TxEnv;
use std::{
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// The fewest transactions that a worker predicts before it asks for more; it takes as many as leave
/// this many tasks for each worker.
const TASK_MIN: usize = 8;
const TASKS_PER_WORKER: usize = 4;
/// Transactions of the first wave, and of the shortest of the others.
const WAVE_MIN: usize = 64;
/// A wave is this share of the transactions before it, as a divisor.
const WAVE_SHARE: usize = 2;

/// A transaction's prediction, and what was made of it.
#[derive(Debug, Default)]
struct Drafted<P> {
    draft: Draft,
    made: P,
}

impl Profile {
    /// Predicts a block's transactions. `make` makes of each prediction what is wanted, given the
    /// transaction's position. What comes out is in block order.
    pub(crate) fn predict_block<S: StateSource, P: Default + Send>(
        &self,
        (env, source): (&EvmEnv, &S),
        transactions: &[TxEnv],
        workers: Workers<'_>,
        make: impl Fn(usize, &TxEnv, Option<&LearnedPrediction>) -> P + Sync,
    ) -> (Vec<P>, Vec<Option<LearnedPrediction>>) {
        let board = Board::new(transactions.len(), workers);
        // Handles of the source stay in their threads, so a worker stays for the whole block.
        let predictor = || self.predictor(env, source);
        let draft = |predictor: &mut ProfilePredictor<'_, S>, at: usize, explores: bool| {
            let tx = &transactions[at];
            // The caller's source is asked for values here, and it may panic. Unwind safety: a
            // predictor that was interrupted knows less, which does no harm.
            panic::catch_unwind(AssertUnwindSafe(|| {
                let draft =
                    if explores { predictor.explored_draft(tx) } else { predictor.draft(tx) };
                Drafted { made: make(at, tx, draft.learned.as_ref()), draft }
            }))
            .unwrap_or_default()
        };
        let help = |_| {
            let mut mine = None;
            while let Some(task) = board.wait_for_task() {
                let predictor = mine.get_or_insert_with(predictor);
                board.hand_in(task.fulfil(predictor, |predictor, at| draft(predictor, at, false)));
            }
        };
        let lead = || {
            let _end = EndOfBlock(&board);
            let mut predictor = predictor();
            let mut predictions = (Vec::new(), Vec::new());
            while predictions.0.len() < transactions.len() {
                while let Some(task) = board.task() {
                    board.hand_in(task.fulfil(&mut predictor, |own, at| draft(own, at, false)));
                }
                let Wave { mut expected, mut asked, done } = board.wait_for_wave();
                for mut drafted in done.into_iter().flat_map(|done| done.drafts) {
                    if drafted.draft.is_explorable {
                        let shared = Arc::new(expected);
                        predictor.view().set_expectations(Arc::clone(&shared));
                        drafted = draft(&mut predictor, predictions.0.len(), true);
                        asked.extend(predictor.view().take_asked());
                        predictor.view().set_expectations(Arc::default());
                        expected = Arc::into_inner(shared).unwrap_or_default();
                    }
                    for (slot, value) in drafted.draft.stored {
                        expected.store(slot, value);
                    }
                    predictions.0.push(drafted.made);
                    predictions.1.push(drafted.draft.learned);
                }
                expected.follow(asked);
                board.begin_wave(expected);
            }
            predictions
        };
        workers.run(help, lead)
    }
}

/// Where workers find something to do, and leave what they have done.
///
/// Nobody waits for a worker that has not come: the calling thread can do everything alone. It waits
/// only for what another one has taken.
struct Board<P> {
    state: Mutex<State<P>>,
    changed: Condvar,
    transactions: usize,
    /// How many tasks are to be left when one is taken.
    tasks: usize,
}

struct State<P> {
    /// Transactions of the wave that nobody has taken.
    open: Range<usize>,
    /// Tasks that have been taken and not been handed in.
    taken: usize,
    expected: Arc<Expectations>,
    done: Vec<Done<P>>,
    is_over: bool,
}

/// Transactions to be predicted by one worker.
struct Task {
    transactions: Range<usize>,
    expected: Arc<Expectations>,
}

/// A task that has been fulfilled.
struct Done<P> {
    start: usize,
    drafts: Vec<Drafted<P>>,
    /// Slots that were asked for, and had not been by the same worker.
    asked: Vec<Slot>,
}

/// A wave that has been predicted.
struct Wave<P> {
    /// What was expected before it.
    expected: Expectations,
    asked: Vec<Slot>,
    /// In block order.
    done: Vec<Done<P>>,
}

impl Task {
    fn fulfil<S: StateSource, P>(
        self,
        predictor: &mut ProfilePredictor<'_, S>,
        mut draft: impl FnMut(&mut ProfilePredictor<'_, S>, usize) -> Drafted<P>,
    ) -> Done<P> {
        let Self { transactions, expected } = self;
        predictor.view().set_expectations(expected);
        let start = transactions.start;
        let drafts = transactions.map(|at| draft(predictor, at)).collect();
        // When all is handed in, nobody looks at the expectations any more, and they may change.
        predictor.view().set_expectations(Arc::default());
        Done { start, drafts, asked: predictor.view().take_asked() }
    }
}

impl<P> Board<P> {
    fn new(transactions: usize, workers: Workers<'_>) -> Self {
        let state = State {
            open: 0..transactions.min(WAVE_MIN),
            taken: 0,
            expected: Arc::default(),
            done: Vec::new(),
            is_over: false,
        };
        let tasks = workers.threads() * TASKS_PER_WORKER;
        Self { state: Mutex::new(state), changed: Condvar::new(), transactions, tasks }
    }

    fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something to do in the current wave.
    fn task(&self) -> Option<Task> {
        self.state().take_task(self.tasks)
    }

    /// Something to do. `None` at the end of the block.
    fn wait_for_task(&self) -> Option<Task> {
        let mut state = self.state();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(task) = state.take_task(self.tasks) {
                return Some(task);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn hand_in(&self, done: Done<P>) {
        let mut state = self.state();
        state.done.push(done);
        state.taken -= 1;
        if state.taken == 0 && state.open.is_empty() {
            self.changed.notify_all();
        }
    }

    /// What has become of the wave, once all that was taken is handed in.
    fn wait_for_wave(&self) -> Wave<P> {
        let mut state = self.state();
        while state.taken > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (expected, mut done) =
            (std::mem::take(&mut state.expected), std::mem::take(&mut state.done));
        drop(state);
        done.sort_unstable_by_key(|done| done.start);
        let asked = done.iter_mut().flat_map(|done| std::mem::take(&mut done.asked)).collect();
        Wave { expected: Arc::into_inner(expected).unwrap_or_default(), asked, done }
    }

    fn begin_wave(&self, expected: Expectations) {
        let mut state = self.state();
        let begun = state.open.end;
        let length = (begun / WAVE_SHARE).max(WAVE_MIN);
        state.open = begun..(begun + length).min(self.transactions);
        state.expected = Arc::new(expected);
        self.changed.notify_all();
    }
}

impl<P> State<P> {
    fn take_task(&mut self, tasks: usize) -> Option<Task> {
        if self.open.is_empty() {
            return None;
        }
        let length = (self.open.len() / tasks).max(TASK_MIN);
        let end = (self.open.start + length).min(self.open.end);
        let transactions = self.open.start..end;
        self.open.start = end;
        self.taken += 1;
        Some(Task { transactions, expected: Arc::clone(&self.expected) })
    }
}

/// Sends the workers home, whatever happens on the calling thread.
struct EndOfBlock<'a, P>(&'a Board<P>);

impl<P> Drop for EndOfBlock<'_, P> {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.changed.notify_all();
    }
}

//! The learner of one block: which transactions are worth a lesson, and the lessons themselves.
//!
//! A transaction is worth one if it calls a function that no template covers, or did something that
//! its prediction did not say. Lessons cost time, so there is an allowance for them.

use super::{
    evaluate::Surroundings,
    predictor::LearnedPrediction,
    profile::Profile,
    record::Sample,
    replay::{StateBefore, replay},
};
use crate::workers::Workers;
use alloy_evm::EvmEnv;
use revm::{
    context::TxEnv,
    context_interface::{
        Transaction,
        result::{ExecutionResult, HaltReason, ResultAndState},
    },
    primitives::{TxKind, map::HashMap},
    state::EvmState,
};
use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Lessons on one function in one block.
const LESSONS_PER_FUNCTION: usize = 32;

/// Of so many predictions by a template that has proved itself, one is compared with what happened.
const REVIEWED_SHARE: usize = 16;

/// A transaction to learn from.
#[derive(Debug)]
struct Lesson {
    index: usize,
    gas: u64,
    changes: EvmState,
}

/// Collects the lessons of one block.
#[derive(Debug)]
pub(crate) struct Learner<'a> {
    profile: &'a Profile,
    env: &'a EvmEnv,
    transactions: &'a [TxEnv],
    /// What was predicted, by transaction; empty if nothing was.
    predictions: Vec<Option<LearnedPrediction>>,
    lessons: Vec<Lesson>,
    /// Gas of all transactions that were looked at.
    gas: u64,
    /// Lessons by called account and selector.
    taken: HashMap<(TxKind, Option<[u8; 4]>), usize>,
}

impl<'a> Learner<'a> {
    pub(crate) fn new(
        profile: &'a Profile,
        env: &'a EvmEnv,
        transactions: &'a [TxEnv],
        predictions: Vec<Option<LearnedPrediction>>,
    ) -> Self {
        Self {
            profile,
            env,
            transactions,
            predictions,
            lessons: Vec::new(),
            gas: 0,
            taken: HashMap::default(),
        }
    }

    /// The transactions whose changes are to be kept, for [`consider`](Self::consider) to look at.
    ///
    /// Those that nothing was predicted for, or whose template is new or has been wrong; of the
    /// others one in [`REVIEWED_SHARE`], to notice when that changes.
    pub(crate) fn studied(&self) -> Box<[bool]> {
        let is_studied = |(index, tx): (usize, &TxEnv)| {
            let calls = matches!(tx.kind(), TxKind::Call(_)) && !tx.input().is_empty();
            let prediction = self.predictions.get(index).and_then(Option::as_ref);
            calls
                && prediction.is_none_or(|prediction| {
                    index.is_multiple_of(REVIEWED_SHARE) || Profile::doubts(prediction)
                })
        };
        self.transactions.iter().enumerate().map(is_studied).collect()
    }

    /// Looks at all transactions of a block, given the changes of those that are
    /// [studied](Self::studied), in order.
    pub(crate) fn consider_all(
        &mut self,
        results: &[ExecutionResult<HaltReason>],
        studied: Vec<(usize, EvmState)>,
    ) {
        self.gas += results.iter().map(ExecutionResult::tx_gas_used).sum::<u64>();
        for (index, changes) in studied {
            if let Some(result) = results.get(index) {
                self.look_at(index, result.tx_gas_used(), &changes);
            }
        }
    }

    /// Looks at a transaction that is final.
    pub(crate) fn consider(&mut self, index: usize, last: &ResultAndState<HaltReason>) {
        let gas = last.result.tx_gas_used();
        self.gas += gas;
        self.look_at(index, gas, &last.state);
    }

    fn look_at(&mut self, index: usize, gas: u64, changes: &EvmState) {
        let Some(tx) = self.transactions.get(index) else { return };
        let TxKind::Call(to) = tx.kind() else { return };
        let runs_code = changes.get(&to).is_some_and(|account| !account.info.is_empty_code_hash());
        if !runs_code {
            return;
        }
        let prediction = self.predictions.get(index).and_then(Option::as_ref);
        if !self.profile.review(prediction, changes) {
            return;
        }
        let selector = tx.input().first_chunk().copied();
        let taken = self.taken.entry((tx.kind(), selector)).or_default();
        if *taken < LESSONS_PER_FUNCTION {
            *taken += 1;
            self.lessons.push(Lesson { index, gas, changes: changes.clone() });
        }
    }

    /// Learns as long as the allowance lasts: transactions are repeated on all workers, and what
    /// they teach is taken in in block order, so that the same blocks teach the same.
    pub(crate) fn learn(self, workers: Workers<'_>) {
        self.profile.earn(self.gas);
        let is_allowed = |lesson: &&Lesson| self.profile.lessons.take(lesson.gas);
        let lessons: Vec<&Lesson> = self.lessons.iter().take_while(is_allowed).collect();
        if lessons.is_empty() {
            return;
        }
        let samples: Vec<Mutex<Vec<Sample>>> = lessons.iter().map(|_| Mutex::default()).collect();
        // Relaxed: it hands out positions only.
        let next = AtomicUsize::new(0);
        let repeat = || {
            let next = || Some(next.fetch_add(1, Ordering::Relaxed));
            for (lesson, samples) in
                std::iter::from_fn(next).map_while(|at| Some((*lessons.get(at)?, &samples[at])))
            {
                let tx = &self.transactions[lesson.index];
                let found = guarded(|| study(self.profile, self.env, tx, &lesson.changes));
                *samples.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
        };
        workers.run(|_| repeat(), repeat);
        for (lesson, samples) in lessons.into_iter().zip(samples) {
            let tx = &self.transactions[lesson.index];
            let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
            guarded(|| take_in(self.profile, self.env, tx, &lesson.changes, &samples));
        }
    }
}

/// Nothing that goes wrong in a lesson may reach a block that has been executed.
fn guarded<T: Default>(lesson: impl FnOnce() -> T) -> T {
    // Unwind safety: templates are replaced whole.
    panic::catch_unwind(AssertUnwindSafe(lesson)).unwrap_or_default()
}

/// Learns from one transaction, of which the finalized changes are known.
pub(super) fn teach(profile: &Profile, env: &EvmEnv, tx: &TxEnv, changes: &EvmState) {
    let samples = study(profile, env, tx, changes);
    take_in(profile, env, tx, changes, &samples);
}

/// What a transaction teaches.
fn study(profile: &Profile, env: &EvmEnv, tx: &TxEnv, changes: &EvmState) -> Vec<Sample> {
    replay(env, tx, StateBefore::of(changes, &profile.shapes))
}

fn take_in(profile: &Profile, env: &EvmEnv, tx: &TxEnv, changes: &EvmState, samples: &[Sample]) {
    let [mut before, facts] = [(); 2].map(|()| StateBefore::of(changes, &profile.shapes));
    let surroundings = Surroundings::of(env, tx);
    let was_written = |slot: &_, _| facts.was_written(slot);
    profile.merge(samples, &mut before, surroundings, &was_written, false);
}

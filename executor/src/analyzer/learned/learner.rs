//! The learner of one block: which transactions are worth a lesson, and the lessons themselves.
//!
//! A transaction is worth one if it calls a function that no template covers, or did something that
//! its prediction did not say. Lessons cost time, so there is an allowance for them.

use super::{
    evaluate::Surroundings,
    profile::{LearnedPrediction, Profile},
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
    sync::atomic::{AtomicUsize, Ordering},
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

    /// Learns, on all workers, as long as the allowance lasts.
    pub(crate) fn learn(self, workers: Workers<'_>) {
        self.profile.earn(self.gas);
        if self.lessons.is_empty() {
            return;
        }
        // Relaxed: it hands out positions only.
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(lesson) = self.lessons.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Lesson { index, gas, changes } = lesson;
                if !self.profile.lessons.take(*gas) {
                    break;
                }
                // Nothing that goes wrong here may reach a block that has been executed. Unwind
                // safety: templates are replaced whole.
                let lesson = || teach(self.profile, self.env, &self.transactions[*index], changes);
                let _ = panic::catch_unwind(AssertUnwindSafe(lesson));
            }
        };
        workers.run(|_| work(), work);
    }
}

/// Learns from one transaction, of which the finalized changes are known.
pub(crate) fn teach(profile: &Profile, env: &EvmEnv, tx: &TxEnv, changes: &EvmState) {
    let state_before = || StateBefore::of(changes, &profile.shapes);
    let samples = replay(env, tx, state_before());
    let (mut before, facts) = (state_before(), state_before());
    let surroundings = Surroundings::of(env, tx);
    let was_written = |slot: &_, _| facts.was_written(slot);
    profile.merge(&samples, &mut before, surroundings, &was_written, false);
}

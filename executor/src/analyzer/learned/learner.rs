//! The learner of one block: which transactions are worth a lesson, and the lessons themselves.
//!
//! Some transactions are *studied*: their changes are kept. One of them is worth a lesson if it
//! calls a function that no template covers, or did something that its template does not say.
//! Lessons cost time, so there is an allowance for them.

use super::{
    contention::{self, Contention, Foreseen},
    evaluate::{Extent, Surroundings},
    excerpt::excerpt,
    forecaster::{Forecaster, LearnedPrediction},
    profile::Profile,
    record::Sample,
    replay::{StateBefore, replay},
    verdict::Verdict,
};
use crate::{
    analyzer::function_of, parallel_map::parallel_map_with, source::StateSource, telemetry::Stage,
    workers::Workers,
};
use alloy_evm::EvmEnv;
use revm::{
    context::TxEnv,
    context_interface::{
        Transaction,
        result::{ExecutionResult, HaltReason, ResultAndState},
    },
    primitives::{
        B256, TxKind,
        map::{HashMap, HashSet},
    },
    state::EvmState,
};
use std::{
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

/// Transactions with the same call that are studied in one block.
const STUDIED_PER_FUNCTION: usize = 128;
/// How many lessons on the same call are taken, one at a time.
const ROUNDS_MAX: usize = 16;
/// Transactions that are compared with the same template, if it has not proved itself.
const REVIEWED_PER_FUNCTION: usize = 32;

/// Of so many transactions with a template that has proved itself, one is compared with it.
const REVIEWED_SHARE: usize = 256;

/// Studied transactions from which on threads share the work.
const PARALLEL_FROM: usize = 4;

/// What was predicted for a block.
#[derive(Debug, Default)]
pub(crate) struct BlockPredictions {
    /// What the profile says of each transaction; empty if it was not asked.
    pub(crate) learned: Vec<Option<Arc<LearnedPrediction>>>,
    /// The conflicts that were foreseen, ordered by their later end.
    pub(crate) foreseen: Vec<Foreseen>,
}

/// A transaction of which the changes are known.
#[derive(Debug)]
struct Studied {
    index: usize,
    gas: u64,
    /// The code that is called, by its hash, and the function.
    function: (B256, Option<[u8; 4]>),
    changes: EvmState,
}

/// Collects the lessons of one block.
#[derive(Debug)]
pub(crate) struct Learner<'a> {
    profile: &'a Profile,
    env: &'a EvmEnv,
    transactions: &'a [TxEnv],
    /// The transactions that are looked at.
    part: Range<usize>,
    predictions: BlockPredictions,
    /// Whether a transaction is to be studied.
    chosen: Box<[bool]>,
    studied: Vec<Studied>,
    /// Gas of all transactions.
    gas: u64,
}

impl<'a> Learner<'a> {
    pub(crate) fn new(
        profile: &'a Profile,
        env: &'a EvmEnv,
        transactions: &'a [TxEnv],
        predictions: BlockPredictions,
    ) -> Self {
        let part = excerpt(env.block_env.number, transactions.len());
        let chosen = chosen(transactions, part.clone(), &predictions.learned);
        Self { profile, env, transactions, part, predictions, chosen, studied: Vec::new(), gas: 0 }
    }

    /// The transactions whose changes are to be kept, for [`consider`](Self::consider) to look at.
    pub(crate) fn chosen(&self) -> Box<[bool]> {
        self.chosen.clone()
    }

    /// Takes in all transactions of a block, given the gas that they used in all and the changes of
    /// those that are [chosen](Self::chosen), in order.
    pub(crate) fn consider_all(
        &mut self,
        gas: u64,
        results: &[ExecutionResult<HaltReason>],
        studied: Vec<(usize, EvmState)>,
    ) {
        self.gas += gas;
        for (index, changes) in studied {
            if let Some(result) = results.get(index) {
                self.study(index, result.tx_gas_used(), changes);
            }
        }
    }

    /// Takes in a transaction that is final.
    pub(crate) fn consider(&mut self, index: usize, last: &ResultAndState<HaltReason>) {
        let gas = last.result.tx_gas_used();
        self.gas += gas;
        if self.chosen.get(index) == Some(&true) {
            self.study(index, gas, last.state.clone());
        }
    }

    fn study(&mut self, index: usize, gas: u64, changes: EvmState) {
        let Some(tx) = self.transactions.get(index) else { return };
        let called = tx.kind().into_to().and_then(|to| changes.get(&to));
        let Some(called) = called.filter(|account| !account.info.is_empty_code_hash()) else {
            return;
        };
        let function = (called.info.code_hash, tx.input().first_chunk().copied());
        self.studied.push(Studied { index, gas, function, changes });
    }

    /// Learns from the block as long as the allowance lasts. Gives the time that it took.
    pub(crate) fn learn<S: StateSource>(
        self,
        workers: Workers<'_>,
        source: &S,
        contention: &Contention<'_>,
    ) -> Duration {
        let stage = Stage::Learn.enter();
        self.profile.earn(self.gas);
        self.take_lessons(workers);
        if contention.rewrites.is_empty() && self.predictions.learned.is_empty() {
            return stage.elapsed();
        }
        let Self { profile, env, transactions, part, predictions, gas, .. } = self;
        let block = contention::Block {
            transactions,
            part,
            predictions: &predictions.learned,
            contention,
            foreseen: &predictions.foreseen,
        };
        // A pair of predictions costs about as much as one execution.
        let cost = gas / transactions.len().max(1) as u64;
        guarded(|| {
            block.contend(&mut profile.predictor(env, source), || profile.comparing.take(cost));
        });
        stage.elapsed()
    }

    /// Compares what was studied with the templates. Where they differ the transaction is repeated,
    /// and what that teaches is taken in: in block order, so that the same blocks teach the same.
    ///
    /// One lesson on a function is taken at a time: many others are none after that, and those that
    /// are left teach more.
    fn take_lessons(&self, workers: Workers<'_>) {
        let is_known = |studied: &&Studied| {
            self.predictions.learned.get(studied.index).is_some_and(Option::is_some)
        };
        let (known, mut open): (Vec<_>, Vec<_>) = self.studied.iter().partition(is_known);
        open.extend(self.review(workers, &known));
        for _ in 0..ROUNDS_MAX {
            let mut taken: HashSet<_> = HashSet::default();
            let is_first = |studied: &&Studied| taken.insert(studied.function);
            let (now, later): (Vec<_>, Vec<_>) = open.into_iter().partition(is_first);
            let is_paid = |studied: &&Studied| self.profile.lessons.take(studied.gas);
            let lessons: Vec<&Studied> = now.into_iter().take_while(is_paid).collect();
            if lessons.is_empty() {
                break;
            }
            self.teach(workers, &lessons);
            open = self.review(workers, &later);
        }
    }

    /// Those that did something that their template does not say, given what they found.
    fn review<'s>(&self, workers: Workers<'_>, studied: &[&'s Studied]) -> Vec<&'s Studied> {
        let is_paid = |studied: &&&Studied| self.profile.reviews.take(studied.gas);
        let reviewed: Vec<&Studied> = studied.iter().take_while(is_paid).copied().collect();
        let review = |(): &mut (), _, Studied { index, changes, .. }: &&Studied| {
            guarded(|| {
                let before = StateBefore::of(changes);
                let mut forecaster = Forecaster::new(self.profile, self.env, before);
                let tx = &self.transactions[*index];
                let forecast = forecaster.forecast(tx, Extent::Everything, false, &[]);
                forecast.map(|forecast| Verdict::of(&forecast.prediction, changes))
            })
        };
        let verdicts = parallel_map_with(workers, PARALLEL_FROM, &reviewed, || (), review);
        let reviewed = reviewed.into_iter().zip(verdicts);
        let lessons = reviewed.filter(|(_, verdict)| self.profile.take_verdict(verdict.as_ref()));
        lessons.map(|(studied, _)| studied).collect()
    }

    fn teach(&self, workers: Workers<'_>, lessons: &[&Studied]) {
        let repeat = |(): &mut (), _, studied: &&Studied| {
            let tx = &self.transactions[studied.index];
            guarded(|| study(self.profile, self.env, tx, &studied.changes))
        };
        let samples = parallel_map_with(workers, 2, lessons, || (), repeat);
        for (studied, samples) in lessons.iter().zip(samples) {
            let tx = &self.transactions[studied.index];
            guarded(|| take_in(self.profile, self.env, tx, &studied.changes, &samples));
        }
    }
}

/// The transactions of a part of the block to study: of each function some without a template, or
/// with one that is new or has been wrong. Of the others a few, to notice when that changes.
fn chosen(
    transactions: &[TxEnv],
    part: Range<usize>,
    predictions: &[Option<Arc<LearnedPrediction>>],
) -> Box<[bool]> {
    let mut unknown: HashMap<_, usize> = HashMap::default();
    let mut doubted: HashMap<_, usize> = HashMap::default();
    let mut is_chosen = |index: usize| {
        let tx = &transactions[index];
        if tx.input().is_empty() || matches!(tx.kind(), TxKind::Create) {
            return false;
        }
        let (count, most) = match predictions.get(index).and_then(Option::as_ref) {
            Some(known) if !known.is_doubted => return index.is_multiple_of(REVIEWED_SHARE),
            Some(known) => (doubted.entry(known.key).or_default(), REVIEWED_PER_FUNCTION),
            None => (unknown.entry(function_of(tx)).or_default(), STUDIED_PER_FUNCTION),
        };
        *count += 1;
        *count <= most
    };
    let mut chosen = vec![false; transactions.len()];
    for index in part {
        chosen[index] = is_chosen(index);
    }
    chosen.into()
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
    replay(&profile.templates.shapes, env, tx, StateBefore::of(changes))
}

fn take_in(profile: &Profile, env: &EvmEnv, tx: &TxEnv, changes: &EvmState, samples: &[Sample]) {
    let [mut before, facts] = [(); 2].map(|()| StateBefore::of(changes));
    let surroundings = Surroundings::of(env, tx);
    let was_written = |slot: &_| facts.was_written(slot);
    profile.merge(samples, &mut before, surroundings, &was_written);
}

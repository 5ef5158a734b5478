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
    replay::{StateBefore, called_code, replay},
    verdict::Verdict,
};
use crate::{
    analyzer::function_of, parallel_map::parallel_map_with, source::StateSource, telemetry::Stage,
    workers::Workers,
};
use alloy_evm::EvmEnv;
use alloy_primitives::U256;
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
/// What a transaction that is studied uses, about, in gas.
const STUDIED_GAS: i64 = 50_000;
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

/// The code that is called, by its hash, and the function.
type CalledFunction = (B256, Option<[u8; 4]>);

/// A transaction of which the changes are known.
#[derive(Debug)]
struct Studied {
    index: usize,
    gas: u64,
    function: CalledFunction,
    /// Whether there is a template for it.
    is_known: bool,
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
    /// How many of them have a template that has not proved itself.
    doubted: HashMap<CalledFunction, usize>,
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
        let most = profile.reviews.pays_for(STUDIED_GAS);
        // Elsewhere in each block.
        let first = (env.block_env.number % U256::from(part.len().max(1))).to::<usize>();
        let order = (part.start + first..part.end).chain(part.start..part.start + first);
        let chosen = chosen(transactions, order, most, &predictions.learned);
        let (studied, doubted) = (Vec::new(), HashMap::default());
        Self { profile, env, transactions, part, predictions, chosen, studied, doubted, gas: 0 }
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
        let Some(to) = tx.kind().into_to() else { return };
        let Some((code_hash, code)) = called_code(&changes, to) else { return };
        let selector = tx.input().first_chunk().copied();
        let function = (code_hash, selector);
        let standing = self.profile.standing(code_hash, code, selector);
        let is_wanted = match &standing {
            Some(standing) if standing.is_doubted() => {
                let doubted = self.doubted.entry(function).or_default();
                *doubted += 1;
                *doubted <= REVIEWED_PER_FUNCTION
            }
            Some(_) => index.is_multiple_of(REVIEWED_SHARE),
            None => true,
        };
        if is_wanted {
            let is_known = standing.is_some();
            self.studied.push(Studied { index, gas, function, is_known, changes });
        }
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
        let (known, mut open): (Vec<_>, Vec<_>) =
            self.studied.iter().partition(|studied| studied.is_known);
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

/// The transactions to study, `most` of them at most: of each function some, unless its template is
/// known to have proved itself. Of the others a few, to notice when that changes.
fn chosen(
    transactions: &[TxEnv],
    order: impl Iterator<Item = usize>,
    most: usize,
    predictions: &[Option<Arc<LearnedPrediction>>],
) -> Box<[bool]> {
    let mut by_function: HashMap<_, usize> = HashMap::default();
    let is_chosen = |index: &usize| {
        let tx = &transactions[*index];
        if tx.input().is_empty() || matches!(tx.kind(), TxKind::Create) {
            return false;
        }
        if let Some(known) = predictions.get(*index).and_then(Option::as_ref)
            && !known.is_doubted
        {
            return index.is_multiple_of(REVIEWED_SHARE);
        }
        let count = by_function.entry(function_of(tx)).or_default();
        *count += 1;
        *count <= STUDIED_PER_FUNCTION
    };
    let mut chosen = vec![false; transactions.len()];
    order.filter(is_chosen).take(most).for_each(|index| chosen[index] = true);
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

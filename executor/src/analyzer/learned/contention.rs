//! Contention: at which sites do transactions get in each other's way?
//!
//! To know what a transaction conflicts with, nobody has to know everything that it accesses. A swap
//! changes two balances and the pool's reserves; whoever else trades there changes the same three,
//! so one of them is enough to tell, and the cheapest one to work out will do.
//!
//! So after a block those slots are looked at that one transaction wrote soon after another. Of the
//! sites of their templates as few are marked as *contended* as make the two predictions meet, with
//! the calls that lead there. Predictions for execution evaluate those sites alone, and only in
//! functions where that is worth it ([`Traffic`](super::traffic)).
//!
//! What is looked at for that is the committed writes, which do not depend on how the block was
//! executed. Whether it is worth it to foresee anything does.
//!
//! *Must not know*: schedules.

use super::{
    evaluate::Path, forecaster::LearnedPrediction, predictor::ProfilePredictor,
    template::TemplateKey, view::Slot,
};
use crate::{
    analyzer::{Function, function_of},
    source::StateSource,
};
use alloy_primitives::map::{HashMap, HashSet};
use multilane_state::{TxIndex, multi_version::Rewrite};
use revm::{context::TxEnv, context_interface::Transaction};
use std::{ops::Range, sync::Arc};

/// How many transactions apart two writes of a slot are at most for one to be in the other's way:
/// those that run at the same time are about as far apart.
pub(crate) const NEAR: usize = 32;

/// Pairs of one block that are looked at, and those that end with the same call.
const PAIRS_MAX: usize = 256;
const PAIRS_PER_FUNCTION: usize = 32;

/// How the transactions of a block that was executed got in each other's way.
#[derive(Debug, Default)]
pub(crate) struct Contention<'state> {
    /// Slots that one transaction wrote soon after another, in block order, as far as they are
    /// [looked at](super::excerpt).
    pub(crate) rewrites: Vec<Rewrite<'state>>,
    /// Those of the transactions that were executed in vain, in block order. `None` where none can
    /// have been, as the block was executed on one thread.
    pub(crate) in_vain: Option<Vec<TxIndex>>,
}

/// A conflict that was foreseen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreseen {
    pub(crate) earlier: TxIndex,
    pub(crate) later: TxIndex,
    /// Whether nothing but the profile says so.
    pub(crate) is_learned: bool,
}

/// For each transaction, which of those shortly before it come before it in any case: by bits, the
/// distance away.
struct Order(Vec<u64>);

impl Order {
    /// What conflicts impose, which are ordered by their later end.
    fn of(transactions: usize, conflicts: impl Iterator<Item = Foreseen>) -> Self {
        let mut before = vec![0_u64; transactions];
        for Foreseen { earlier, later, .. } in conflicts {
            let distance = later.get() - earlier.get();
            if distance <= NEAR {
                // What comes before the earlier one comes before the later one as well.
                before[later.get()] |= (before[earlier.get()] | 1) << distance;
            }
        }
        Self(before)
    }

    fn has(&self, pair: &Pair) -> bool {
        let distance = pair.writer.get() - pair.before.get();
        self.0[pair.writer.get()] >> distance & 1 == 1
    }
}

/// A transaction that has written what an earlier one wrote.
struct Pair {
    before: TxIndex,
    writer: TxIndex,
    slots: Vec<Slot>,
}

/// The pairs that rewrites amount to, ordered by the later one.
fn pairs(rewrites: &[Rewrite<'_>]) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut begun = 0;
    for Rewrite { before, writer, slot } in rewrites {
        if pairs.get(begun).is_some_and(|pair| pair.writer != *writer) {
            begun = pairs.len();
        }
        let slot = (slot.address(), slot.slot());
        match pairs[begun..].iter_mut().find(|pair| pair.before == *before) {
            Some(pair) => pair.slots.push(slot),
            None => pairs.push(Pair { before: *before, writer: *writer, slots: vec![slot] }),
        }
    }
    pairs
}

/// What happened in a block that was executed.
pub(super) struct Block<'b> {
    pub(super) transactions: &'b [TxEnv],
    /// The transactions that are looked at.
    pub(super) part: Range<usize>,
    /// What was predicted, by transaction; empty if nothing was.
    pub(super) predictions: &'b [Option<Arc<LearnedPrediction>>],
    pub(super) contention: &'b Contention<'b>,
    /// The conflicts that were foreseen there, ordered by their later end.
    pub(super) foreseen: &'b [Foreseen],
}

impl Block<'_> {
    /// Counts calls that were in each other's way, and marks sites by which that would have been
    /// known. `may_evaluate` is asked before each pair of transactions.
    pub(super) fn contend<S: StateSource>(
        &self,
        predictor: &mut ProfilePredictor<'_, S>,
        mut may_evaluate: impl FnMut() -> bool,
    ) {
        let pairs = pairs(&self.contention.rewrites);
        let [inferred, all] = [false, true].map(|with_learned| {
            let conflicts =
                self.foreseen.iter().filter(|conflict| with_learned || !conflict.is_learned);
            Order::of(self.transactions.len(), conflicts.copied())
        });
        let in_the_way = pairs.iter().filter(|pair| !inferred.has(pair));
        self.count(in_the_way.map(|pair| pair.writer).collect(), self.in_vain(&pairs), predictor);
        let profile = predictor.profile();
        let mut evaluated: HashMap<Function, usize> = HashMap::default();
        for pair in pairs.iter().filter(|pair| !all.has(pair)).take(PAIRS_MAX) {
            let [before, writer] =
                [pair.before, pair.writer].map(|index| &self.transactions[index.get()]);
            let Some(called) = function_of(writer) else { continue };
            let evaluated = evaluated.entry(called).or_default();
            if *evaluated == PAIRS_PER_FUNCTION || !predictor.is_dense(writer) {
                continue;
            }
            if !may_evaluate() {
                return;
            }
            *evaluated += 1;
            let ways = [before, writer].map(|tx| predictor.paths(tx, &pair.slots));
            let meetings = meetings(&ways);
            let is_known = |meeting: &[&Path; 2]| {
                meeting.iter().all(|path| profile.templates.are_contended(path))
            };
            if !meetings.iter().any(is_known)
                && let Some(cheapest) =
                    meetings.iter().min_by_key(|ways| ways[0].len() + ways[1].len())
            {
                cheapest.iter().for_each(|path| profile.contend(path));
            }
        }
    }

    /// The transactions that were executed in vain, and those that wrote what they had read too
    /// early: to foresee that, something has to be foreseen of both.
    fn in_vain(&self, pairs: &[Pair]) -> HashSet<TxIndex> {
        let in_vain = self.contention.in_vain.as_deref().unwrap_or_default();
        let is_cause = |pair: &&Pair| in_vain.binary_search(&pair.writer).is_ok();
        let causes = pairs.iter().filter(is_cause).map(|pair| pair.before);
        in_vain.iter().copied().chain(causes).collect()
    }

    /// Counts calls by template, those in the way of others, and those in vain.
    #[expect(clippy::iter_over_hash_type, reason = "each says something of a template of its own")]
    fn count<S: StateSource>(
        &self,
        in_the_way: HashSet<TxIndex>,
        in_vain: HashSet<TxIndex>,
        predictor: &mut ProfilePredictor<'_, S>,
    ) {
        // Each with one of the calls.
        let mut by_function: HashMap<Function, (Calls, usize)> = HashMap::default();
        for index in self.part.clone() {
            let tx = &self.transactions[index];
            if tx.input().is_empty() {
                continue;
            }
            let Some(called) = function_of(tx) else { continue };
            let (calls, _) = by_function.entry(called).or_insert((Calls::default(), index));
            let index = TxIndex::new(index);
            calls.all += 1;
            calls.in_the_way += u32::from(in_the_way.contains(&index));
            calls.in_vain += u32::from(in_vain.contains(&index));
        }
        // Many accounts may run the code of one template.
        let mut by_template: HashMap<TemplateKey, Calls> = HashMap::default();
        for (calls, example) in by_function.into_values() {
            let predicted = self.predictions.get(example).and_then(Option::as_ref);
            // Where nothing is in the way nobody has to know the code that was called.
            let key = match predicted {
                Some(prediction) => Some(prediction.key),
                None if calls.in_the_way > 0 => predictor.key(&self.transactions[example]),
                None => None,
            };
            let Some(key) = key else { continue };
            let total = by_template.entry(key).or_default();
            total.all += calls.all;
            total.in_the_way += calls.in_the_way;
            total.in_vain += calls.in_vain;
            total.are_foreseen |= predicted.is_some_and(|known| !known.accesses.is_empty());
        }
        let on_one_thread = self.contention.in_vain.is_none();
        for (key, Calls { all, in_the_way, in_vain, are_foreseen }) in by_template {
            let Some(standing) = predictor.profile().templates.standing(&key) else { continue };
            let traffic = &standing.traffic;
            traffic.note(all, in_the_way);
            if are_foreseen {
                traffic.note_foreseen(on_one_thread);
            } else {
                traffic.note_unforeseen(all, (!on_one_thread).then_some(in_vain));
            }
            predictor.profile().templates.reconsider(&key);
        }
    }
}

/// Calls of a function in a block, and what became of them.
#[derive(Default)]
struct Calls {
    all: u32,
    in_the_way: u32,
    in_vain: u32,
    /// Whether predictions were asked for, and named something.
    are_foreseen: bool,
}

/// The ways in which two transactions come to the same slot.
fn meetings(ways: &[Vec<(Slot, Path)>; 2]) -> Vec<[&Path; 2]> {
    let [before, writer] = ways;
    let meets = |(slot, path)| {
        let others = before.iter().filter(move |(other, _)| other == slot);
        others.map(move |(_, other)| [other, path])
    };
    writer.iter().flat_map(|(slot, path)| meets((slot, path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, U256};
    use multilane_state::multi_version::MultiVersionState;

    fn foreseen(earlier: usize, later: usize) -> Foreseen {
        Foreseen { earlier: TxIndex::new(earlier), later: TxIndex::new(later), is_learned: false }
    }

    #[test]
    fn what_is_ordered_by_others_is_ordered() {
        let conflicts = [foreseen(0, 1), foreseen(1, 4), foreseen(2, 40), foreseen(9, 40)];
        let order = Order::of(41, conflicts.into_iter());
        let has = |before, writer| {
            let [before, writer] = [before, writer].map(TxIndex::new);
            order.has(&Pair { before, writer, slots: Vec::new() })
        };
        assert!(has(0, 1) && has(1, 4) && has(0, 4) && has(9, 40));
        assert!(!has(1, 3) && !has(2, 4) && !has(8, 40));
    }

    #[test]
    fn rewrites_of_the_same_two_transactions_are_a_pair() {
        let state = MultiVersionState::with_capacity(1, 3);
        let slots = [0_u64, 1, 2].map(|key| state.slot(Address::ZERO, U256::from(key)));
        let rewrite = |before, writer, slot: usize| Rewrite {
            before: TxIndex::new(before),
            writer: TxIndex::new(writer),
            slot: slots[slot],
        };
        let pairs =
            pairs(&[rewrite(0, 5, 0), rewrite(1, 5, 1), rewrite(0, 5, 2), rewrite(0, 6, 0)]);
        let sizes =
            pairs.iter().map(|pair| (pair.before.get(), pair.writer.get(), pair.slots.len()));
        assert!(sizes.eq([(0, 5, 2), (1, 5, 1), (0, 6, 1)]));
    }
}

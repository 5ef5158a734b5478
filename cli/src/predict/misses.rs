//! What was not foreseen, most frequent first.

use super::truth::Truth;
use alloy_primitives::{Address, B256, U256, hex};
use multilane::{analyzer::LearnedPrediction, state::StateLocation};
use revm::context::TxEnv;
use std::collections::{BTreeMap, BTreeSet};

/// Missed and falsely predicted slots, by the function that was called.
#[derive(Debug, Default)]
pub(super) struct Misses(BTreeMap<(B256, String), Miss>);

/// What was wrong about one function.
#[derive(Clone, Debug, Default)]
pub(super) struct Miss {
    /// The contract that was called last.
    pub(super) contract: Address,
    pub(super) selector: String,
    pub(super) missed: usize,
    pub(super) false_positives: usize,
    pub(super) txs: usize,
    pub(super) slots: usize,
    /// A slot that was missed, or else one that was predicted in vain.
    pub(super) example: Option<(Address, U256)>,
}

impl Misses {
    pub(super) fn note(
        &mut self,
        tx: &TxEnv,
        code: B256,
        learned: Option<&LearnedPrediction>,
        truth: &Truth,
    ) {
        let predicted: BTreeSet<(Address, U256)> = learned
            .iter()
            .flat_map(|learned| &learned.accesses)
            .filter_map(|access| match access.location {
                StateLocation::Slot(address, slot) => Some((address, slot)),
                _ => None,
            })
            .collect();
        let missed: Vec<_> = truth.slots.keys().filter(|slot| !predicted.contains(*slot)).collect();
        let in_vain: Vec<_> =
            predicted.iter().filter(|slot| !truth.slots.contains_key(*slot)).collect();
        let selector = match tx.data.first_chunk::<4>() {
            Some(selector) => hex::encode_prefixed(selector),
            None => "-".to_owned(),
        };
        let miss = self.0.entry((code, selector.clone())).or_default();
        miss.contract = tx.kind.to().copied().unwrap_or_default();
        miss.selector = selector;
        miss.txs += 1;
        miss.slots += truth.slots.len();
        miss.missed += missed.len();
        miss.false_positives += in_vain.len();
        if let Some(slot) = missed.first().or(in_vain.first()) {
            miss.example = Some(**slot);
        }
    }

    /// The functions with the most misses.
    pub(super) fn worst(&self, count: usize) -> Vec<&Miss> {
        let mut misses: Vec<_> = self.0.values().collect();
        misses.sort_by_key(|miss| std::cmp::Reverse(miss.missed + miss.false_positives));
        misses.truncate(count);
        misses
    }
}

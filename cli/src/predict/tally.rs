//! Counting what was foreseen.

use super::truth::{Outcome, Truth};
use alloy_primitives::{Address, U256};
use multilane::{
    analyzer::{AccessKind, LearnedPrediction},
    conflict_graph::ConflictGraph,
    state::StateLocation,
};
use std::collections::BTreeSet;

/// How many of the things that happened were predicted, and how many predicted ones happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Score {
    pub(super) predicted: usize,
    pub(super) happened: usize,
    pub(super) both: usize,
}

impl Score {
    /// Share of the predicted that happened; 1 where nothing was predicted.
    pub(super) fn precision(&self) -> f64 {
        share(self.both, self.predicted)
    }

    /// Share of what happened that was predicted; 1 where nothing happened.
    pub(super) fn recall(&self) -> f64 {
        share(self.both, self.happened)
    }

    fn add(&mut self, other: &Self) {
        self.predicted += other.predicted;
        self.happened += other.happened;
        self.both += other.both;
    }

    fn of<T: Ord>(predicted: &BTreeSet<T>, happened: &BTreeSet<T>) -> Self {
        Self {
            predicted: predicted.len(),
            happened: happened.len(),
            both: predicted.intersection(happened).count(),
        }
    }
}

/// Counts over some transactions.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Transactions.
    pub(super) txs: usize,
    /// Those that call code.
    pub(super) calls: usize,
    /// Those that call a function with a template.
    pub(super) covered: usize,
    pub(super) slots: Score,
    pub(super) slot_writes: Score,
    pub(super) accounts: Score,
    pub(super) account_writes: Score,
    pub(super) moves: Moves,
}

/// Written slots that were foreseen: how many of them were said to be credited or debited, and how
/// many of these had more, or less, in the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    foreseen: usize,
    told: usize,
    right: usize,
}

impl Moves {
    /// Share of the foreseen writes that were said to be a credit or a debit.
    pub(super) fn told(&self) -> f64 {
        share(self.told, self.foreseen)
    }

    /// Share of those that turned out so.
    pub(super) fn right(&self) -> f64 {
        share(self.right, self.told)
    }

    fn compare(&mut self, kind: AccessKind, outcome: Outcome) {
        if !kind.writes() || !outcome.is_written() {
            return;
        }
        self.foreseen += 1;
        let expected = match kind {
            AccessKind::Credited => Outcome::More,
            AccessKind::Debited => Outcome::Less,
            AccessKind::Read | AccessKind::Written => return,
        };
        self.told += 1;
        self.right += usize::from(outcome == expected);
    }

    fn add(&mut self, other: &Self) {
        self.foreseen += other.foreseen;
        self.told += other.told;
        self.right += other.right;
    }
}

impl Tally {
    /// Counts one transaction's accesses.
    pub(super) fn compare(&mut self, learned: Option<&LearnedPrediction>, truth: &Truth) {
        self.covered += usize::from(learned.is_some());
        let mut slots = [BTreeSet::new(), BTreeSet::new()];
        let mut accounts = [BTreeSet::new(), BTreeSet::new()];
        for access in learned.iter().flat_map(|learned| &learned.accesses) {
            match access.location {
                StateLocation::Slot(address, slot) => {
                    slots[0].insert((address, slot));
                    if let Some(outcome) = truth.slots.get(&(address, slot)) {
                        self.moves.compare(access.kind, *outcome);
                    }
                    if access.writes() {
                        slots[1].insert((address, slot));
                    }
                }
                StateLocation::Account(address) => {
                    accounts[0].insert(address);
                    if access.writes() {
                        accounts[1].insert(address);
                    }
                }
                _ => {}
            }
        }
        let mut real_slots: [BTreeSet<(Address, U256)>; 2] = Default::default();
        for (slot, outcome) in &truth.slots {
            real_slots[0].insert(*slot);
            if outcome.is_written() {
                real_slots[1].insert(*slot);
            }
        }
        let mut real_accounts: [BTreeSet<Address>; 2] = Default::default();
        for (address, written) in &truth.accounts {
            real_accounts[0].insert(*address);
            if *written {
                real_accounts[1].insert(*address);
            }
        }
        // Only what the truth knows of counts: the beneficiary and precompiles do not.
        accounts.iter_mut().for_each(|set| {
            set.retain(|address| {
                real_accounts[0].contains(address) || super::truth::counts(*address, Address::ZERO)
            })
        });
        self.slots.add(&Score::of(&slots[0], &real_slots[0]));
        self.slot_writes.add(&Score::of(&slots[1], &real_slots[1]));
        self.accounts.add(&Score::of(&accounts[0], &real_accounts[0]));
        self.account_writes.add(&Score::of(&accounts[1], &real_accounts[1]));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.txs += other.txs;
        self.calls += other.calls;
        self.covered += other.covered;
        self.slots.add(&other.slots);
        self.slot_writes.add(&other.slot_writes);
        self.accounts.add(&other.accounts);
        self.account_writes.add(&other.account_writes);
        self.moves.add(&other.moves);
    }
}

/// Conflicts of blocks: pairs of transactions of which the later one reads what the earlier wrote.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conflicts(pub(super) Score);

impl Conflicts {
    pub(super) fn compare(&mut self, predicted: &ConflictGraph, real: &ConflictGraph) {
        let pairs = |graph: &ConflictGraph| -> BTreeSet<_> {
            graph.conflicts().iter().map(|conflict| (conflict.earlier, conflict.later)).collect()
        };
        self.0.add(&Score::of(&pairs(predicted), &pairs(real)));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0);
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

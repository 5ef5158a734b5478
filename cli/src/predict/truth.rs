//! What a transaction really accessed, as its state changes tell.

use alloy_primitives::{Address, U256};
use multilane::{
    analyzer::{AccessPrediction, PredictedAccess, PredictedLocation},
    state::StateLocation,
};
use revm::state::EvmState;
use std::{cmp::Ordering, collections::BTreeMap};

/// Addresses below are precompiles'.
const PRECOMPILES_END: u64 = 0x200;

/// What has become of a slot's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Same,
    More,
    Less,
}

impl Outcome {
    pub(super) fn is_written(self) -> bool {
        self != Self::Same
    }
}

/// Accessed locations, and whether they were written.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) slots: BTreeMap<(Address, U256), Outcome>,
    pub(super) accounts: BTreeMap<Address, bool>,
}

impl Truth {
    /// What finalized changes tell. The beneficiary, which every transaction pays, is left out, and
    /// so are precompiles.
    #[expect(clippy::iter_over_hash_type, reason = "each item goes to a place of its own")]
    pub(super) fn of(changes: &EvmState, beneficiary: Address) -> Self {
        let mut truth = Self::default();
        for (address, account) in changes {
            for (slot, value) in &account.storage {
                let outcome = match value.present_value.cmp(&value.original_value) {
                    Ordering::Equal => Outcome::Same,
                    Ordering::Greater => Outcome::More,
                    Ordering::Less => Outcome::Less,
                };
                truth.slots.insert((*address, *slot), outcome);
            }
            if counts(*address, beneficiary) {
                let before = account.original_info();
                let is_written = (before.balance, before.nonce, before.code_hash)
                    != (account.info.balance, account.info.nonce, account.info.code_hash);
                truth.accounts.insert(*address, account.is_touched() && is_written);
            }
        }
        truth
    }

    /// The truth in the form of a prediction.
    pub(super) fn as_prediction(&self) -> AccessPrediction {
        let access = |((address, slot), outcome): (&(Address, U256), &Outcome)| PredictedAccess {
            location: PredictedLocation::State(StateLocation::Slot(*address, *slot)),
            reads: true,
            writes: outcome.is_written(),
        };
        AccessPrediction { accesses: self.slots.iter().map(access).collect(), gas: 0 }
    }
}

/// Whether an account's accesses are counted.
pub(super) fn counts(address: Address, beneficiary: Address) -> bool {
    address != beneficiary && address > Address::left_padding_from(&PRECOMPILES_END.to_be_bytes())
}

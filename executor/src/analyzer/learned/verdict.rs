//! The verdict on a prediction: what a transaction did, beside what was expected of it.

use super::{access::LearnedAccess, forecaster::LearnedPrediction, template::TemplateKey};
use alloy_primitives::{Address, U256, map::HashMap};
use multilane_state::StateLocation;
use revm::state::EvmState;

/// What came of a prediction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) key: TemplateKey,
    /// How many slots it named, and how many of them were accessed.
    pub(super) named: usize,
    pub(super) right: usize,
    /// Whether it named all slots that were accessed and no others, and said of all that were
    /// written that they are.
    pub(super) is_right: bool,
    /// Whether it took a walk: right or wrong, that is a way that no template knows.
    pub(super) is_walked: bool,
}

impl Verdict {
    /// Compares a prediction with the finalized changes of its transaction.
    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on the order")]
    pub(super) fn of(prediction: &LearnedPrediction, changes: &EvmState) -> Self {
        let slot = |access: &LearnedAccess| match access.location {
            StateLocation::Slot(address, slot) => Some(((address, slot), access.writes())),
            _ => None,
        };
        let predicted: HashMap<(Address, U256), bool> =
            prediction.accesses.iter().filter_map(slot).collect();
        let named = predicted.len();
        let (mut accessed, mut right, mut missed_writes) = (0, 0, 0);
        for (address, account) in changes {
            for (slot, value) in &account.storage {
                let writes = predicted.get(&(*address, *slot));
                accessed += 1;
                right += usize::from(writes.is_some());
                missed_writes += usize::from(value.is_changed() && writes != Some(&true));
            }
        }
        let is_right = right == named && right == accessed && missed_writes == 0;
        Self { key: prediction.key, named, right, is_right, is_walked: prediction.is_walked }
    }
}

//! What a transaction declares about itself: its access list (EIP-2930).

use super::{AccessPrediction, PredictedLocation};
use alloy_primitives::U256;
use multilane_state::StateLocation;
use revm::context::TxEnv;

/// Adds the declared slots.
///
/// A list does not tell reads from writes. Slots worth declaring are mostly those of pools and
/// balances that the transaction is about to change, so each counts as both.
pub(super) fn access_list(tx: &TxEnv, prediction: &mut AccessPrediction) {
    for item in &tx.access_list.0 {
        for key in &item.storage_keys {
            let slot = StateLocation::Slot(item.address, U256::from_be_bytes(key.0));
            prediction.add(PredictedLocation::State(slot), true, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use revm::context_interface::transaction::{AccessList, AccessListItem};

    #[test]
    fn every_declared_slot_is_an_access() {
        let address = Address::with_last_byte(4);
        let keys = [1, 2].map(B256::with_last_byte);
        let tx = TxEnv {
            access_list: AccessList(vec![AccessListItem { address, storage_keys: keys.into() }]),
            ..TxEnv::default()
        };
        let mut prediction = AccessPrediction::default();
        access_list(&tx, &mut prediction);
        let slots: Vec<_> = prediction.accesses.iter().map(|access| access.location).collect();
        assert_eq!(
            slots,
            [1, 2].map(|slot| PredictedLocation::State(StateLocation::Slot(
                address,
                U256::from(slot)
            )))
        );
    }
}

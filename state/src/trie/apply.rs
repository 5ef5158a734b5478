//! What execution changed, written into the trie.
//!
//! Two sources: the net changes of whole blocks ([`BundleState`]) and the finalized changes of one
//! transaction or system call ([`EvmState`]). Both are read in address and slot order, so that of
//! several errors the same one is always reported.

use super::WitnessTrie;
use crate::StateError;
use alloy_primitives::{Address, U256};
use revm::{
    database::{AccountStatus, BundleAccount, BundleState},
    primitives::KECCAK_EMPTY,
    state::{Account, AccountInfo, EvmState},
};

impl WitnessTrie {
    /// Applies the net changes of a bundle that was built on this trie's state.
    ///
    /// `info: None` deletes the account. An empty account that the bundle holds is written as such:
    /// before Spurious Dragon it exists.
    ///
    /// A bundle says that storage was wiped by a destruction. That a contract was created over old
    /// storage (possible only at the few mainnet addresses of EIP-7610) shows there in its new code
    /// alone; where that code is empty only [`apply_evm_state`](Self::apply_evm_state) can tell.
    ///
    /// # Errors
    ///
    /// [`StateError::MissingNode`] and [`StateError::MalformedNode`] as for the single changes. The
    /// accounts before the failing one are applied then.
    pub fn apply_bundle(&mut self, bundle: &BundleState) -> Result<(), StateError> {
        let mut changed: Vec<_> = bundle.state.iter().collect();
        changed.sort_unstable_by_key(|(address, _)| **address);
        for (address, account) in changed {
            let Some(info) = &account.info else {
                self.delete_account(*address)?;
                continue;
            };
            let is_wiped = account.was_destroyed() || is_creation(account, info, bundle);
            if is_wiped {
                self.wipe_storage(*address)?;
            }
            self.set_info(*address, info)?;
            let slots = account
                .storage
                .iter()
                .filter(|(_, slot)| is_wiped || slot.is_changed())
                .map(|(slot, value)| (*slot, value.present_value));
            self.set_slots(*address, slots.collect())?;
        }
        Ok(())
    }

    /// Applies the finalized changes of one transaction or system call, by the same rules as
    /// revm-database's `CacheState`: an account that was not touched is ignored, a selfdestructed
    /// one deleted, a created one starts with empty storage, a touched and empty one is deleted
    /// (revm's journal hides those from state that knows no EIP-161), any other is changed.
    ///
    /// # Errors
    ///
    /// As for [`apply_bundle`](Self::apply_bundle).
    pub fn apply_evm_state(&mut self, changes: &EvmState) -> Result<(), StateError> {
        let mut touched: Vec<_> =
            changes.iter().filter(|(_, account)| account.is_touched()).collect();
        touched.sort_unstable_by_key(|(address, _)| **address);
        for (address, account) in touched {
            let is_created = account.is_created();
            if account.is_selfdestructed() || (!is_created && account.is_empty()) {
                self.delete_account(*address)?;
                continue;
            }
            if is_created {
                self.wipe_storage(*address)?;
            }
            self.set_info(*address, &account.info)?;
            self.set_slots(*address, changed_slots(account))?;
        }
        Ok(())
    }

    fn set_info(&mut self, address: Address, info: &AccountInfo) -> Result<(), StateError> {
        self.set_account(address, info.balance, info.nonce, info.code_hash)
    }

    fn set_slots(
        &mut self,
        address: Address,
        mut slots: Vec<(U256, U256)>,
    ) -> Result<(), StateError> {
        slots.sort_unstable();
        slots.into_iter().try_for_each(|(slot, value)| self.set_storage(address, slot, value))
    }
}

/// The slots that a transaction changed, with their new values.
fn changed_slots(account: &Account) -> Vec<(U256, U256)> {
    let changed = account.storage.iter().filter(|(_, slot)| slot.is_changed());
    changed.map(|(slot, value)| (*slot, value.present_value)).collect()
}

/// Whether the account's code came from a creation, not from a delegation (EIP-7702).
fn is_creation(account: &BundleAccount, info: &AccountInfo, bundle: &BundleState) -> bool {
    let had_code =
        account.original_info.as_ref().is_some_and(|original| original.code_hash != KECCAK_EMPTY);
    let code = info.code.as_ref().or_else(|| bundle.contracts.get(&info.code_hash));
    account.status == AccountStatus::InMemoryChange
        && !had_code
        && info.code_hash != KECCAK_EMPTY
        && !code.is_some_and(|code| code.is_eip7702())
}

//! What a block accessed, as it became final.

use super::index_of;
use crate::{
    StateLocation, TxIndex,
    multi_version::{AccountValue, SlotEntry, SlotWrite},
};
use alloy_eips::eip7928::{BlockAccessIndex, BlockAccessList};
use alloy_primitives::{Address, B256};
use revm::state::{Bytecode, bal::Bal};

/// The accesses of a block, in block order.
///
/// Noting one is cheap, because that happens at the commit frontier; what they amount to is worked
/// out at the end.
#[derive(Debug, Default)]
pub struct AccessJournal<'state> {
    accounts: Vec<(BlockAccessIndex, Address)>,
    account_changes: Vec<AccountChange>,
    slots: Vec<(BlockAccessIndex, &'state SlotEntry, SlotWrite)>,
}

/// An account before and after a write.
#[derive(Clone, Copy, Debug)]
struct AccountChange {
    index: BlockAccessIndex,
    address: Address,
    before: AccountValue,
    after: AccountValue,
}

impl<'state> AccessJournal<'state> {
    /// Notes an access to an account. `None` as the writer is what happens before the first
    /// transaction.
    pub fn account(&mut self, writer: Option<TxIndex>, address: Address) {
        self.accounts.push((index_of(writer), address));
    }

    /// Notes what a write did to an account.
    pub fn account_change(
        &mut self,
        writer: Option<TxIndex>,
        address: Address,
        before: Option<AccountValue>,
        after: Option<AccountValue>,
    ) {
        // A list has no word for an account that does not exist: it counts as empty.
        let before = before.unwrap_or(AccountValue::EMPTY);
        let after = after.unwrap_or(AccountValue::EMPTY);
        if before != after {
            let index = index_of(writer);
            self.account_changes.push(AccountChange { index, address, before, after });
        }
    }

    /// Notes an access to a slot: its value before and after, which are the same if it was only
    /// read.
    pub fn slot(&mut self, writer: Option<TxIndex>, slot: &'state SlotEntry, write: SlotWrite) {
        self.slots.push((index_of(writer), slot, write));
    }

    /// The first access to an account or a slot.
    pub fn first_access(&self, location: StateLocation) -> Option<BlockAccessIndex> {
        match location {
            StateLocation::Slot(address, key) => {
                let is_it = |slot: &SlotEntry| slot.slot() == key && slot.address() == address;
                self.slots.iter().find(|(_, slot, _)| is_it(slot)).map(|(index, ..)| *index)
            }
            location => {
                let address = location.address();
                self.accounts.iter().find(|(_, it)| *it == address).map(|(index, _)| *index)
            }
        }
    }

    /// The block's access list in canonical order. `code` gives code that is new in the block.
    ///
    /// What several writes at one index amount to, and what a change is, is revm's own code
    /// ([`Bal`]), as in a serial run.
    pub fn list(&self, code: impl Fn(&B256) -> Option<Bytecode>) -> BlockAccessList {
        let mut list = Bal::new();
        for (_, address) in &self.accounts {
            list.accounts.entry(*address).or_default();
        }
        for AccountChange { index, address, before, after } in &self.account_changes {
            let account = list.accounts.entry(*address).or_default();
            account.nonce_update(*index, &before.nonce, after.nonce);
            account.balance_update(*index, &before.balance, after.balance);
            if before.code_hash != after.code_hash {
                let code = code(&after.code_hash).unwrap_or_default();
                account.code_update(*index, &before.code_hash, after.code_hash, code);
            }
        }
        for (index, slot, write) in &self.slots {
            let account = list.accounts.entry(slot.address()).or_default();
            let changes = account.storage.storage.entry(slot.slot()).or_default();
            changes.update(*index, &write.original, write.present);
        }
        list.into_alloy_bal()
    }
}

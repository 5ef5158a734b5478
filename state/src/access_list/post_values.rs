//! A block access list, read as the values that each transaction finds.

use crate::{TxIndex, code::analyse_code, multi_version::AccountValue};
use alloy_eips::eip7928::{AccountChanges, BlockAccessIndex, BlockAccessList};
use alloy_primitives::{
    Address, B256, U256, keccak256,
    map::{AddressMap, B256Map},
};
use revm::state::Bytecode;
use std::sync::Arc;

/// The values that a list says the block's locations have after each transaction.
///
/// Nothing about the list is checked: a list that is out of order, or repeats itself, only gives
/// other guesses.
#[derive(Debug)]
pub struct PostValues {
    list: Arc<BlockAccessList>,
    /// Where in the list each account is.
    positions: AddressMap<usize>,
    /// Hashes of the codes that accounts get.
    code_hashes: AddressMap<Vec<(BlockAccessIndex, B256)>>,
    codes: B256Map<Bytecode>,
}

impl PostValues {
    /// Reads a list.
    pub fn new(list: Arc<BlockAccessList>) -> Self {
        let positions = list.iter().enumerate().map(|(at, account)| (account.address, at));
        let positions = positions.collect();
        let mut code_hashes = AddressMap::<Vec<_>>::default();
        let mut codes = B256Map::default();
        for account in list.iter() {
            for change in &account.code_changes {
                let hash = keccak256(&change.new_code);
                code_hashes
                    .entry(account.address)
                    .or_default()
                    .push((change.block_access_index, hash));
                codes.entry(hash).or_insert_with(|| analyse_code(change.new_code.clone()));
            }
        }
        Self { list, positions, code_hashes, codes }
    }

    fn changes(&self, address: &Address) -> Option<&AccountChanges> {
        self.positions.get(address).map(|at| &self.list[*at])
    }

    /// What transaction `reader` finds in an account, which without the list would be `value`.
    pub fn account(
        &self,
        address: Address,
        reader: TxIndex,
        value: Option<AccountValue>,
    ) -> Option<AccountValue> {
        let Some(changes) = self.changes(&address) else { return value };
        let balance = newest(&changes.balance_changes, reader, |it| it.block_access_index);
        let nonce = newest(&changes.nonce_changes, reader, |it| it.block_access_index);
        let code_hash = self
            .code_hashes
            .get(&address)
            .and_then(|hashes| newest(hashes, reader, |(index, _)| *index));
        if balance.is_none() && nonce.is_none() && code_hash.is_none() {
            return value;
        }
        let before = value.unwrap_or(AccountValue::EMPTY);
        let after = AccountValue {
            balance: balance.map_or(before.balance, |it| it.post_balance),
            nonce: nonce.map_or(before.nonce, |it| it.new_nonce),
            code_hash: code_hash.map_or(before.code_hash, |(_, hash)| *hash),
        };
        (!after.is_empty()).then_some(after)
    }

    /// What transaction `reader` finds in a slot, if an earlier one changes it.
    pub fn slot(&self, address: Address, key: U256, reader: TxIndex) -> Option<U256> {
        let slots = &self.changes(&address)?.storage_changes;
        let at = slots.binary_search_by_key(&key, |changes| changes.slot).ok()?;
        newest(&slots[at].changes, reader, |it| it.block_access_index).map(|it| it.new_value)
    }

    /// Code that an account gets, by its hash.
    pub fn code(&self, hash: &B256) -> Option<&Bytecode> {
        self.codes.get(hash)
    }
}

/// The newest change that is made before transaction `reader` starts.
fn newest<T>(changes: &[T], reader: TxIndex, index: impl Fn(&T) -> BlockAccessIndex) -> Option<&T> {
    // Transaction i has index i + 1, so what it finds are the changes up to index i.
    let earlier = changes.partition_point(|change| index(change).get() <= reader.get() as u64);
    earlier.checked_sub(1).map(|at| &changes[at])
}

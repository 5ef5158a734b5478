//! The state at every position of a block, as far as the block changes it.
//!
//! Filled in block order from the finalized changes of each transaction; after that it is only
//! read. *Must not know*: threads, and how the changes came about. Unlike the multi-version state it
//! never guesses: all that it holds is final.

use alloy_primitives::{
    Address, B256, U256,
    map::{AddressMap, B256Map, U256Map},
};
use core::fmt;
use revm::{
    Database,
    database::CacheState,
    state::{AccountInfo, Bytecode, EvmState},
};

/// What a block's transactions left behind, each of them.
///
/// Position 0 is before the first transaction, after the protocol's own calls; position `n` is after
/// `n` transactions.
#[derive(Debug, Default)]
pub(crate) struct StateHistory {
    accounts: AddressMap<AccountHistory>,
    codes: B256Map<Bytecode>,
}

#[derive(Debug, Default)]
struct AccountHistory {
    /// The account without its code, or `None` where it is gone.
    infos: Versions<Option<AccountInfo>>,
    /// Where the whole storage was reset. What else is written at such a position comes after it.
    resets: Versions<()>,
    slots: U256Map<Versions<U256>>,
}

/// Values by the position from which on they hold, in ascending order.
#[derive(Debug)]
struct Versions<T>(Vec<(usize, T)>);

impl<T> Default for Versions<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Versions<T> {
    fn push(&mut self, position: usize, value: T) {
        self.0.push((position, value));
    }

    /// The newest version at a position, with the position that it is of.
    fn at(&self, position: usize) -> Option<&(usize, T)> {
        let newer = self.0.partition_point(|(written, _)| *written <= position);
        newer.checked_sub(1).map(|newest| &self.0[newest])
    }
}

impl StateHistory {
    /// A history that begins with what was changed, or only loaded, before the first transaction.
    #[expect(clippy::iter_over_hash_type, reason = "each item goes to an entry of its own")]
    pub(crate) fn before(cache: &CacheState) -> Self {
        let mut history = Self::default();
        for (address, cached) in &cache.accounts {
            let account = history.accounts.entry(*address).or_default();
            let info = cached.account.as_ref().map(|account| without_code(&account.info));
            account.infos.push(0, info);
            if cached.status.is_storage_known() {
                account.resets.push(0, ());
            }
            for (slot, value) in cached.account.iter().flat_map(|account| &account.storage) {
                account.slots.entry(*slot).or_default().push(0, *value);
            }
        }
        history.codes.extend(cache.contracts.iter().map(|(hash, code)| (*hash, code.clone())));
        history
    }

    /// Adds the finalized changes of the transaction that leads to `position`. Positions come in
    /// ascending order.
    pub(crate) fn record(&mut self, position: usize, changes: &EvmState) {
        for (address, account) in changes.iter().filter(|(_, account)| account.is_touched()) {
            let history = self.accounts.entry(*address).or_default();
            // The order of cases is that of revm's state: a created account may be empty (before
            // EIP-161) and stays; a touched one that is empty goes.
            let removed =
                account.is_selfdestructed() || (!account.is_created() && account.is_empty());
            if removed || account.is_created() {
                history.resets.push(position, ());
            }
            if removed {
                history.infos.push(position, None);
                continue;
            }
            history.infos.push(position, Some(without_code(&account.info)));
            for (slot, value) in account.changed_storage_slots() {
                history.slots.entry(*slot).or_default().push(position, value.present_value);
            }
            if let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty()) {
                self.codes.entry(account.info.code_hash).or_insert_with(|| code.clone());
            }
        }
    }

    /// An account at a position, or `None` if the block had not changed it yet.
    ///
    /// Code that the history knows travels with the account, as it does in revm's state: the bundle
    /// lists new code by it.
    fn account(&self, address: &Address, position: usize) -> Option<Option<AccountInfo>> {
        let (_, info) = self.accounts.get(address)?.infos.at(position)?;
        let with_code = |info: &AccountInfo| AccountInfo {
            code: self.codes.get(&info.code_hash).cloned(),
            ..*info
        };
        Some(info.as_ref().map(with_code))
    }

    /// Codes of accounts that the block changed, by their hashes.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (&B256, &Bytecode)> {
        self.codes.iter()
    }

    /// A slot at a position, or `None` if the block had not changed it yet.
    fn slot(&self, address: &Address, slot: &U256, position: usize) -> Option<U256> {
        let account = self.accounts.get(address)?;
        let reset = account.resets.at(position).map(|(reset, ())| *reset);
        match account.slots.get(slot).and_then(|versions| versions.at(position)) {
            Some((written, value)) if reset.is_none_or(|reset| *written >= reset) => Some(*value),
            _ => reset.map(|_| U256::ZERO),
        }
    }
}

fn without_code(info: &AccountInfo) -> AccountInfo {
    AccountInfo { code: None, account_id: None, ..*info }
}

/// A database of the state at one position of a block, over a handle on the parent state.
pub(crate) struct StateAt<'a, DB> {
    history: &'a StateHistory,
    position: usize,
    parent: DB,
}

impl<'a, DB> StateAt<'a, DB> {
    pub(crate) const fn new(history: &'a StateHistory, position: usize, parent: DB) -> Self {
        Self { history, position, parent }
    }

    /// Goes to another position.
    pub(crate) const fn seek(&mut self, position: usize) {
        self.position = position;
    }
}

impl<DB: Database> Database for StateAt<'_, DB> {
    type Error = DB::Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, DB::Error> {
        match self.history.account(&address, self.position) {
            Some(info) => Ok(info),
            None => self.parent.basic(address),
        }
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, DB::Error> {
        match self.history.codes.get(&code_hash) {
            Some(code) => Ok(code.clone()),
            None => self.parent.code_by_hash(code_hash),
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, DB::Error> {
        match self.history.slot(&address, &slot, self.position) {
            Some(value) => Ok(value),
            None => self.parent.storage(address, slot),
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, DB::Error> {
        self.parent.block_hash(number)
    }
}

impl<DB> fmt::Debug for StateAt<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateAt").field("position", &self.position).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::{
        database::EmptyDB,
        state::{Account, EvmStorageSlot, TransactionId},
    };

    const ADDRESS: Address = Address::with_last_byte(7);

    fn changed(balance: u64, slots: &[(u64, u64)]) -> Account {
        let mut account = Account::from(AccountInfo::from_balance(U256::from(balance)));
        account.mark_touch();
        for (slot, value) in slots {
            let value = EvmStorageSlot::new_changed(
                U256::from(99),
                U256::from(*value),
                TransactionId::ZERO,
            );
            account.storage.insert(U256::from(*slot), value);
        }
        account
    }

    fn history(accounts: Vec<Account>) -> StateHistory {
        let mut history = StateHistory::default();
        for (index, account) in accounts.into_iter().enumerate() {
            history.record(index + 1, &EvmState::from_iter([(ADDRESS, account)]));
        }
        history
    }

    fn read(history: &StateHistory, position: usize, slot: u64) -> (Option<u64>, u64) {
        let mut state = StateAt::new(history, position, EmptyDB::new());
        let info = state.basic(ADDRESS).unwrap();
        let value = state.storage(ADDRESS, U256::from(slot)).unwrap();
        (info.map(|info| info.balance.to()), value.to())
    }

    #[test]
    fn each_position_has_what_was_written_up_to_it() {
        let history =
            history(vec![changed(5, &[(1, 10)]), changed(6, &[]), changed(7, &[(1, 20)])]);
        assert_eq!(read(&history, 0, 1), (None, 0), "the parent's");
        assert_eq!(read(&history, 1, 1), (Some(5), 10));
        assert_eq!(read(&history, 2, 1), (Some(6), 10));
        assert_eq!(read(&history, 3, 1), (Some(7), 20));
        assert_eq!(read(&history, 9, 1), (Some(7), 20));
        assert_eq!(history.slot(&ADDRESS, &U256::from(2), 9), None);
    }

    #[test]
    fn a_reset_hides_older_slots_and_not_those_that_come_with_it() {
        let mut destroyed = changed(0, &[(1, 11)]);
        destroyed.mark_selfdestruct();
        let mut created = changed(8, &[(2, 30)]);
        created.mark_created();
        let history = history(vec![changed(5, &[(1, 10), (2, 10)]), destroyed, created]);
        assert_eq!(read(&history, 1, 1), (Some(5), 10));
        assert_eq!(read(&history, 2, 1), (None, 0));
        assert_eq!(history.slot(&ADDRESS, &U256::from(5), 2), Some(U256::ZERO), "not the parent's");
        assert_eq!(read(&history, 3, 1), (Some(8), 0));
        assert_eq!(read(&history, 3, 2), (Some(8), 30));
    }

    #[test]
    fn an_account_that_is_touched_while_empty_is_gone() {
        let history = history(vec![changed(5, &[]), changed(0, &[])]);
        assert_eq!(read(&history, 1, 1).0, Some(5));
        assert_eq!(history.account(&ADDRESS, 2), Some(None));
    }
}

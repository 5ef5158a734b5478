//! Multi-version state: what every location holds at every position of a block.
//!
//! Each location that a block touches has one entry, found by its full key and alive until the
//! block ends. An entry holds
//!
//! - the **committed** value: the effect of the prestate and of all transactions before the commit
//!   frontier. Commits happen in block order, so this is one running value, not a list;
//! - the **pending** writes of transactions that have been executed but not committed yet, by
//!   transaction.
//!
//! A speculative read of transaction *i* gets the committed value with the pending writes below *i*
//! applied: the best guess there is. It is validated when *i* reaches the frontier, by comparing
//! the value that it got with the committed one: a read stands if the value is the same, whoever
//! wrote it. That is the only authority, so an entry may serve any guess whatsoever in between.
//!
//! Balances are special, because most of the traffic on them commutes. A write of a balance is the
//! amount that it adds or takes, and a read of an account notes how much of the balance the
//! execution really depended on ([`BalanceUse`]).
//!
//! *Must not know*: who executes when, or what a transaction is.

mod account;
mod changes;
mod pending;
mod slot;
mod table;
mod turns;

pub use account::{
    AccountEntry, AccountRead, AccountValue, AccountWrite, AccountWriteKind, BalanceChange,
    BalanceUse,
};
pub use changes::{AccountOutcome, BundleBuilder, ChangedAccounts, CommittedChanges, Rewrite};
pub use slot::{SlotEntry, SlotOrder, SlotRead, SlotWrite};

use crate::StateLocation;
use alloy_primitives::{Address, U256, map::DefaultHashBuilder};
use core::{fmt, hash::BuildHasher};
use table::{LocationTable, Part};

/// The entries of one block.
pub struct MultiVersionState {
    accounts: LocationTable<AccountEntry>,
    slots: LocationTable<SlotEntry>,
    hasher: DefaultHashBuilder,
}

impl MultiVersionState {
    /// Creates the state of a block that is expected to touch about so many accounts and slots.
    ///
    /// The numbers size the tables; they are no limits.
    pub fn with_capacity(accounts: usize, slots: usize) -> Self {
        Self {
            accounts: LocationTable::with_capacity(accounts),
            slots: LocationTable::with_capacity(slots),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The entry of an account.
    #[inline]
    pub fn account(&self, address: Address) -> &AccountEntry {
        self.accounts.get_or_insert_with(
            self.hasher.hash_one(StateLocation::Account(address)),
            |entry| entry.address() == address,
            || AccountEntry::new(address),
        )
    }

    /// The entry of a storage slot.
    #[inline]
    pub fn slot(&self, address: Address, slot: U256) -> &SlotEntry {
        self.slots.get_or_insert_with(
            self.hasher.hash_one(StateLocation::Slot(address, slot)),
            |entry| entry.slot() == slot && entry.address() == address,
            || SlotEntry::new(address, slot),
        )
    }

    /// So many parts, each of which can be cleared by itself: to free memory on several threads,
    /// which takes a while after a large block.
    pub fn parts(&mut self, count: usize) -> impl Iterator<Item = StatePart<'_>> {
        let slots = self.slots.parts(count);
        self.accounts.parts(count).zip(slots).map(|(accounts, slots)| StatePart { accounts, slots })
    }
}

/// A part of a [`MultiVersionState`].
pub struct StatePart<'state> {
    accounts: Part<'state, AccountEntry>,
    slots: Part<'state, SlotEntry>,
}

impl StatePart<'_> {
    /// Removes all entries.
    pub fn clear(self) {
        self.accounts.clear();
        self.slots.clear();
    }
}

impl fmt::Debug for StatePart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatePart").finish_non_exhaustive()
    }
}

impl fmt::Debug for MultiVersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiVersionState").finish_non_exhaustive()
    }
}

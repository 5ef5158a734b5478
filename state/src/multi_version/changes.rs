//! What the committed writes of a block amount to: revm's bundle.
//!
//! A serial run applies each transaction to a cache, collects transitions, and merges them into a
//! bundle at the end. The entries of the multi-version state have first and last values already, so
//! the bundle is made from them in one pass, and accounts are independent of each other in it. What
//! an account's transition means for bundle and revert is revm's own code
//! ([`TransitionAccount`]).

use super::{AccountEntry, AccountValue, AccountWrite, SlotEntry, SlotWrite, slot::SlotHistory};
use crate::{TxIndex, access_list::AccessJournal};
use alloy_primitives::{Address, B256};
use core::ops::Range;
use revm::{
    database::{
        AccountRevert, AccountStatus, BundleAccount, BundleState, RevertToSlot,
        StorageWithOriginalValues, TransitionAccount,
        states::{
            StorageSlot,
            reverts::{AccountInfoRevert, Reverts},
        },
    },
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};

/// The accounts and slots with committed writes, in the order of their first ones.
///
/// Whoever commits does it through this, one write after another in block order.
#[derive(Debug, Default)]
pub struct CommittedChanges<'state> {
    accounts: Vec<&'state AccountEntry>,
    /// Slots, each with the position of its account.
    slots: Vec<(u32, &'state SlotEntry)>,
    /// Where the block's access list is wanted, what goes into it.
    journal: Option<AccessJournal<'state>>,
    rewrites: Option<Rewrites<'state>>,
}

/// A slot that a transaction has written soon after another one.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'state> {
    /// The last one before that wrote it.
    pub before: TxIndex,
    /// Who has written it again.
    pub writer: TxIndex,
    /// Where.
    pub slot: &'state SlotEntry,
}

/// The rewrites that somebody wants to know of.
#[derive(Debug)]
struct Rewrites<'state> {
    /// How many transactions apart the two may be.
    within: usize,
    /// The later ones that are of interest.
    writers: Range<usize>,
    found: Vec<Rewrite<'state>>,
}

impl<'state> Rewrites<'state> {
    fn note(&mut self, before: TxIndex, writer: TxIndex, slot: &'state SlotEntry) {
        if writer.get() - before.get() <= self.within && self.writers.contains(&writer.get()) {
            self.found.push(Rewrite { before, writer, slot });
        }
    }
}

impl<'state> CommittedChanges<'state> {
    /// No changes, with a journal for the block's access list.
    pub fn with_journal() -> Self {
        Self { journal: Some(AccessJournal::default()), ..Self::default() }
    }

    /// From now on, notes slots that are written again within so many transactions, by some
    /// `writers`.
    pub fn note_rewrites(&mut self, within: usize, writers: Range<usize>) {
        self.rewrites = Some(Rewrites { within, writers, found: Vec::new() });
    }

    /// The slots that were written again, in the order in which that was committed.
    pub fn take_rewrites(&mut self) -> Vec<Rewrite<'state>> {
        self.rewrites.take().map(|rewrites| rewrites.found).unwrap_or_default()
    }

    /// The journal, where there is one. Changes of accounts come into it as they are committed;
    /// accesses are for whoever commits to note.
    pub const fn journal(&mut self) -> Option<&mut AccessJournal<'state>> {
        self.journal.as_mut()
    }

    /// Takes the journal away.
    pub const fn take_journal(&mut self) -> Option<AccessJournal<'state>> {
        self.journal.take()
    }

    /// No changes, with room for those of so many accounts and slots.
    pub fn with_capacity(accounts: usize, slots: usize) -> Self {
        Self {
            accounts: Vec::with_capacity(accounts),
            slots: Vec::with_capacity(slots),
            ..Self::default()
        }
    }

    /// Makes a transaction's writes to an account and to its slots final.
    ///
    /// `None` as the writer is what happens before the first transaction. An account that the write
    /// leaves empty stays only where `keep_empty` says so (before EIP-161).
    pub fn commit(
        &mut self,
        writer: Option<TxIndex>,
        account: &'state AccountEntry,
        write: AccountWrite,
        slots: impl IntoIterator<Item = (&'state SlotEntry, SlotWrite)>,
        keep_empty: bool,
    ) {
        let next = self.accounts.len() as u32;
        let before = self.journal.is_some().then(|| account.committed().flatten());
        let position = account.commit(writer, write, keep_empty, next);
        if let (Some(journal), Some(before)) = (&mut self.journal, before) {
            let after = account.committed().flatten();
            journal.account_change(writer, account.address(), before, after);
        }
        let Some(position) = position else { return };
        if position == next {
            self.accounts.push(account);
        }
        let reset = account.committed_reset();
        for (slot, write) in slots {
            let SlotHistory { is_first, before } = slot.commit(writer, write, reset);
            if is_first {
                self.slots.push((position, slot));
            }
            if let (Some(rewrites), Some(before), Some(writer)) =
                (&mut self.rewrites, before, writer)
            {
                rewrites.note(before, writer, slot);
            }
        }
    }

    /// Sorts the slots by account.
    pub fn by_account(self) -> ChangedAccounts<'state> {
        let Self { accounts, slots, .. } = self;
        // A counting sort: first how many slots each account has, then where its slots end.
        let mut ends = vec![0_u32; accounts.len()];
        for (position, _) in &slots {
            ends[*position as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut next = ends.clone();
        let mut sorted: Vec<Option<&'state SlotEntry>> = vec![None; slots.len()];
        for (position, slot) in slots {
            let at = &mut next[position as usize];
            *at -= 1;
            sorted[*at as usize] = Some(slot);
        }
        ChangedAccounts { accounts, ends, slots: sorted.into_iter().flatten().collect() }
    }
}

/// The accounts with committed writes, each with its slots.
#[derive(Debug)]
pub struct ChangedAccounts<'state> {
    accounts: Vec<&'state AccountEntry>,
    /// Where the slots of each account end.
    ends: Vec<u32>,
    slots: Vec<&'state SlotEntry>,
}

/// What became of one account. Nothing, if in the end it is as it was.
#[derive(Debug)]
pub struct AccountOutcome {
    address: Address,
    /// Code that the account did not have before, by its hash.
    code: Option<(B256, Bytecode)>,
    change: Option<Change>,
}

/// A changed account in the bundle, and how to undo the change.
type Change = (BundleAccount, AccountRevert);

impl ChangedAccounts<'_> {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// What became of the account at a position. `code` gives code that is new in the block.
    pub fn outcome(
        &self,
        position: usize,
        code: impl FnOnce(&B256) -> Option<Bytecode>,
    ) -> AccountOutcome {
        let entry = self.accounts[position];
        let (history, present, reset) = entry.outcome();
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        let slots = &self.slots[start..self.ends[position] as usize];
        let mut storage = StorageWithOriginalValues::default();
        storage.reserve(slots.len());
        for slot in slots {
            if let Some(SlotWrite { original, present }) = slot.outcome(reset) {
                storage.insert(slot.slot(), StorageSlot::new_changed(original, present));
            }
        }
        let code_before = history.original.map(|value| value.code_hash);
        let new_code = present
            .map(|value| value.code_hash)
            .filter(|hash| code_before != Some(*hash))
            .and_then(|hash| {
                let code =
                    if hash == KECCAK_EMPTY { Some(Bytecode::default()) } else { code(&hash) };
                Some((hash, code?))
            });
        let mut info = present.map(account_info);
        if let (Some(info), Some((_, code))) = (&mut info, &new_code) {
            info.code = Some(code.clone());
        }
        let transition = TransitionAccount {
            info,
            status: history.status,
            previous_info: history.original.map(account_info),
            previous_status: history.original_status,
            storage,
            storage_was_destroyed: history.storage_was_destroyed,
        };
        AccountOutcome { address: entry.address(), code: new_code, change: change(transition) }
    }
}

/// The account in the bundle and its revert, if it has changed.
fn change(transition: TransitionAccount) -> Option<Change> {
    match ordinary_change(transition) {
        Ok(change) => change,
        Err(transition) => {
            let account = transition.present_bundle_account();
            transition.create_revert().map(|revert| (account, revert))
        }
    }
}

/// The same for an account that has not been destroyed, which is nearly every one, without the
/// copies that the general case makes of the storage. Gives back what is not ordinary.
#[expect(clippy::result_large_err, reason = "what is given back was just handed over")]
fn ordinary_change(transition: TransitionAccount) -> Result<Option<Change>, TransitionAccount> {
    let is_new = match (transition.previous_status, transition.status) {
        (AccountStatus::Loaded, AccountStatus::Changed | AccountStatus::InMemoryChange) => false,
        (AccountStatus::LoadedNotExisting, AccountStatus::InMemoryChange) => true,
        _ => return Err(transition),
    };
    let TransitionAccount { info, status, previous_info, previous_status, storage, .. } =
        transition;
    let account_revert = if is_new {
        AccountInfoRevert::DeleteIt
    } else if info != previous_info {
        AccountInfoRevert::RevertTo(previous_info.clone().unwrap_or_default())
    } else {
        AccountInfoRevert::DoNothing
    };
    let revert = AccountRevert {
        account: account_revert,
        storage: storage
            .iter()
            .map(|(key, slot)| (*key, RevertToSlot::Some(slot.previous_or_original_value)))
            .collect(),
        previous_status,
        wipe_storage: false,
    };
    if revert.is_empty() {
        return Ok(None);
    }
    Ok(Some((BundleAccount { info, original_info: previous_info, storage, status }, revert)))
}

fn account_info(value: AccountValue) -> AccountInfo {
    value.info((value.code_hash == KECCAK_EMPTY).then(Bytecode::default))
}

/// Puts accounts together, the reverts as those of one block.
#[derive(Debug, Default)]
pub struct BundleBuilder {
    bundle: BundleState,
    reverts: Vec<(Address, AccountRevert)>,
}

impl BundleBuilder {
    /// An empty bundle with room for so many accounts.
    pub fn with_capacity(accounts: usize) -> Self {
        let mut builder = Self::default();
        builder.bundle.state.reserve(accounts);
        builder.reverts.reserve(accounts);
        builder
    }

    /// The bundle of all accounts.
    pub fn finish(self) -> BundleState {
        let Self { mut bundle, reverts } = self;
        bundle.reverts = Reverts::new(vec![reverts]);
        bundle
    }
}

impl Extend<AccountOutcome> for BundleBuilder {
    fn extend<T: IntoIterator<Item = AccountOutcome>>(&mut self, outcomes: T) {
        for AccountOutcome { address, code, change } in outcomes {
            self.bundle.contracts.extend(code);
            if let Some((account, revert)) = change {
                self.bundle.state_size += account.size_hint();
                self.bundle.reverts_size += revert.size_hint();
                self.bundle.state.insert(address, account);
                self.reverts.push((address, revert));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AccountWriteKind, BalanceChange, MultiVersionState};
    use super::*;
    use alloy_primitives::U256;

    const ADDRESS: Address = Address::with_last_byte(1);

    fn write(kind: AccountWriteKind) -> AccountWrite {
        AccountWrite { kind, ..AccountWrite::credit(U256::ZERO) }
    }

    fn slot_write(original: u64, present: u64) -> SlotWrite {
        SlotWrite { original: U256::from(original), present: U256::from(present) }
    }

    fn into_bundle(changes: CommittedChanges<'_>) -> BundleState {
        let accounts = changes.by_account();
        let outcome = |position| accounts.outcome(position, |_| None);
        let mut bundle = BundleBuilder::with_capacity(accounts.len());
        bundle.extend((0..accounts.len()).map(outcome));
        bundle.finish()
    }

    #[test]
    fn first_and_last_values_count() {
        let state = MultiVersionState::with_capacity(1, 1);
        let account = state.account(ADDRESS);
        account.load(Some(AccountValue { nonce: 1, ..AccountValue::EMPTY }));
        let [kept, restored] = [1, 2].map(|slot| state.slot(ADDRESS, U256::from(slot)));
        let mut changes = CommittedChanges::default();
        for (index, values) in [[(5, 6), (7, 8)], [(6, 9), (8, 7)]].into_iter().enumerate() {
            let slots = [kept, restored].into_iter().zip(values.map(|(o, p)| slot_write(o, p)));
            let writer = Some(TxIndex::new(index));
            let credit = AccountWrite::credit(U256::from(3));
            changes.commit(writer, account, credit, slots, false);
        }
        let bundle = into_bundle(changes);
        let outcome = &bundle.state[&ADDRESS];
        assert_eq!(outcome.status, AccountStatus::Changed);
        assert_eq!(outcome.info.as_ref().unwrap().balance, U256::from(6));
        assert_eq!(outcome.storage.len(), 1);
        assert_eq!(outcome.storage[&U256::ONE].previous_or_original_value, U256::from(5));
        let (_, revert) = &bundle.reverts[0][0];
        assert_eq!(revert.storage[&U256::ONE], RevertToSlot::Some(U256::from(5)));
        assert_eq!((bundle.state_size, bundle.reverts_size), (2, 2));
    }

    #[test]
    fn an_ordinary_change_is_what_the_general_case_makes_of_it() {
        let info = |balance: u64| {
            Some(account_info(AccountValue { balance: U256::from(balance), ..AccountValue::EMPTY }))
        };
        let storage = |slots: &[u64]| -> StorageWithOriginalValues {
            let slot =
                |key: &u64| (U256::from(*key), StorageSlot::new_changed(U256::ZERO, U256::ONE));
            slots.iter().map(slot).collect()
        };
        let (loaded, changed) = (AccountStatus::Loaded, AccountStatus::Changed);
        let (absent, in_memory) = (AccountStatus::LoadedNotExisting, AccountStatus::InMemoryChange);
        for (previous_info, previous_status, status, info, slots) in [
            (info(1), loaded, changed, info(2), &[][..]),
            (info(1), loaded, changed, info(1), &[1, 2]),
            (info(1), loaded, changed, info(1), &[]),
            (info(1), loaded, in_memory, info(2), &[3]),
            (None, absent, in_memory, info(2), &[]),
            (None, absent, in_memory, info(0), &[4]),
        ] {
            let storage = storage(slots);
            let transition = TransitionAccount {
                info,
                status,
                previous_info,
                previous_status,
                storage,
                storage_was_destroyed: false,
            };
            let account = transition.present_bundle_account();
            let general = transition.clone().create_revert().map(|revert| (account, revert));
            assert_eq!(ordinary_change(transition), Ok(general));
        }
    }

    #[test]
    fn what_ends_as_it_began_leaves_no_trace() {
        let state = MultiVersionState::with_capacity(1, 1);
        let account = state.account(ADDRESS);
        account.load(Some(AccountValue { nonce: 1, ..AccountValue::EMPTY }));
        let mut changes = CommittedChanges::default();
        for (index, balance) in [BalanceChange::Add, BalanceChange::Sub].into_iter().enumerate() {
            let change =
                AccountWrite { balance: balance(U256::ONE), ..write(AccountWriteKind::Update) };
            changes.commit(Some(TxIndex::new(index)), account, change, [], false);
        }
        let bundle = into_bundle(changes);
        assert!(bundle.state.is_empty());
        assert_eq!(bundle.reverts.as_slice(), [vec![]]);
    }

    #[test]
    fn a_removal_wipes_the_slots_written_before_it() {
        let state = MultiVersionState::with_capacity(1, 1);
        let account = state.account(ADDRESS);
        account.load(Some(AccountValue { nonce: 1, ..AccountValue::EMPTY }));
        let slot = state.slot(ADDRESS, U256::ONE);
        let mut changes = CommittedChanges::default();
        let update = write(AccountWriteKind::Update);
        changes.commit(Some(TxIndex::new(0)), account, update, [(slot, slot_write(5, 6))], false);
        changes.commit(Some(TxIndex::new(1)), account, write(AccountWriteKind::Destroy), [], false);
        let bundle = into_bundle(changes);
        let outcome = &bundle.state[&ADDRESS];
        assert_eq!((outcome.status, &outcome.info), (AccountStatus::Destroyed, &None));
        assert!(outcome.storage.is_empty());
        assert!(bundle.reverts[0][0].1.wipe_storage);
    }

    #[test]
    fn clearing_what_is_not_there_is_no_change() {
        let state = MultiVersionState::with_capacity(1, 1);
        let account = state.account(ADDRESS);
        account.load(None);
        let mut changes = CommittedChanges::default();
        let clear = write(AccountWriteKind::Clear);
        changes.commit(Some(TxIndex::FIRST), account, clear, [], false);
        assert!(changes.accounts.is_empty());
    }
}

//! The entry of an account: balance, nonce and code hash.

use super::pending::PendingWrites;
use crate::TxIndex;
use alloy_primitives::{Address, B256, U256};
use revm::{
    database::AccountStatus,
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Balances from here on are never treated as commutative: their sums could leave 256 bits, where
/// revm's checks for overflow depend on the exact value. No real chain has issued 2^200 wei.
const COMMUTATIVE_LIMIT_BIT: usize = 200;

/// How many pending writes a guess applies anew.
const APPLIED_ANEW_MAX: usize = 8;

/// What an existing account holds, without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountValue {
    /// Balance in wei.
    pub balance: U256,
    /// Nonce.
    pub nonce: u64,
    /// keccak-256 of the code.
    pub code_hash: B256,
}

impl AccountValue {
    /// An account with nothing in it.
    pub const EMPTY: Self = Self { balance: U256::ZERO, nonce: 0, code_hash: KECCAK_EMPTY };

    /// The account as revm knows it, with its code where that is to travel with it.
    pub const fn info(&self, code: Option<Bytecode>) -> AccountInfo {
        let Self { balance, nonce, code_hash } = *self;
        AccountInfo { balance, nonce, code_hash, account_id: None, code }
    }

    /// Whether the account is empty in the sense of EIP-161.
    pub fn is_empty(&self) -> bool {
        self.balance.is_zero() && self.is_hollow()
    }

    /// Whether sums with this balance stay far from overflowing, so that it may differ from the
    /// one that a serial run sees.
    pub fn is_commutative(&self) -> bool {
        self.balance.bit_len() <= COMMUTATIVE_LIMIT_BIT
    }

    /// Whether the account has neither nonce nor code, so that its emptiness (EIP-161) depends on
    /// the balance alone.
    fn is_hollow(&self) -> bool {
        self.nonce == 0 && self.code_hash == KECCAK_EMPTY
    }
}

impl From<&AccountInfo> for AccountValue {
    fn from(info: &AccountInfo) -> Self {
        Self { balance: info.balance, nonce: info.nonce, code_hash: info.code_hash }
    }
}

/// How much an execution depended on the balance that it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceUse {
    /// The balance was only added to or taken from, and every check that it was large enough had
    /// at least this much to spare (`U256::MAX`: it was never checked). Any balance that is not
    /// more than this below the served one gives the same execution.
    Slack(U256),
    /// The balance itself was seen, for instance by BALANCE, or a check failed.
    Exact,
}

impl BalanceUse {
    /// Not looked at.
    pub const UNUSED: Self = Self::Slack(U256::MAX);

    /// Notes a check that `balance` covers `needed`.
    pub fn require(&mut self, balance: U256, needed: U256) {
        match (&mut *self, balance.checked_sub(needed)) {
            (Self::Slack(slack), Some(spare)) => *slack = (*slack).min(spare),
            _ => *self = Self::Exact,
        }
    }
}

/// A read of an account, and what the reader made of it.
#[derive(Clone, Copy, Debug)]
pub struct AccountRead<'state> {
    /// Where it was read.
    pub entry: &'state AccountEntry,
    /// The value that was served; `None` if the account does not exist.
    pub served: Option<AccountValue>,
    /// What of the balance mattered.
    pub balance: BalanceUse,
    /// Whether the nonce itself mattered, and not only whether it is zero.
    pub exact_nonce: bool,
}

impl AccountRead<'_> {
    /// Whether an execution that was served [`served`](Self::served) would have gone the same way
    /// with `actual`.
    pub fn stands(&self, actual: Option<&AccountValue>) -> bool {
        match (&self.served, actual) {
            (None, None) => true,
            (Some(served), Some(actual)) => {
                served.code_hash == actual.code_hash
                    && self.nonce_stands(served, actual)
                    && self.balance_stands(served, actual)
            }
            _ => false,
        }
    }

    fn nonce_stands(&self, served: &AccountValue, actual: &AccountValue) -> bool {
        served.nonce == actual.nonce
            || (!self.exact_nonce && served.nonce != 0 && actual.nonce != 0)
    }

    fn balance_stands(&self, served: &AccountValue, actual: &AccountValue) -> bool {
        if served.balance == actual.balance {
            return true;
        }
        let BalanceUse::Slack(slack) = self.balance else { return false };
        // A nonce of zero stands only against a nonce of zero, so both are hollow or neither is.
        if served.is_hollow() && (served.balance.is_zero() || actual.balance.is_zero()) {
            return false;
        }
        served.is_commutative()
            && actual.is_commutative()
            && actual.balance.saturating_add(slack) >= served.balance
    }
}

/// What a transaction does to a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceChange {
    /// Adds to it.
    Add(U256),
    /// Takes from it.
    Sub(U256),
}

impl BalanceChange {
    /// Nothing.
    pub const NONE: Self = Self::Add(U256::ZERO);

    /// The change from one balance to another.
    pub fn between(before: U256, after: U256) -> Self {
        if after >= before { Self::Add(after - before) } else { Self::Sub(before - after) }
    }

    /// The balance after the change. Saturates, since a guess may be off; a validated change
    /// never does.
    pub const fn apply(self, balance: U256) -> U256 {
        match self {
            Self::Add(amount) => balance.saturating_add(amount),
            Self::Sub(amount) => balance.saturating_sub(amount),
        }
    }
}

/// What a transaction does to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountWrite {
    /// Whether the account stays, is created or is removed.
    pub kind: AccountWriteKind,
    /// Change of the balance.
    pub balance: BalanceChange,
    /// New nonce, where it changes.
    pub nonce: Option<u64>,
    /// New code hash, where it changes.
    pub code_hash: Option<B256>,
}

/// How a write treats what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountWriteKind {
    /// Changes fields and keeps the storage.
    Update,
    /// Creates a contract; storage that was there is reset.
    Create,
    /// Removes the account and its storage: SELFDESTRUCT.
    Destroy,
    /// Removes the account, which was touched and is empty: EIP-161 state clearing.
    Clear,
}

impl AccountWrite {
    /// Adds to the balance, nothing else.
    pub const fn credit(amount: U256) -> Self {
        Self {
            kind: AccountWriteKind::Update,
            balance: BalanceChange::Add(amount),
            nonce: None,
            code_hash: None,
        }
    }

    /// Whether the account's whole storage is reset.
    pub const fn resets_storage(&self) -> bool {
        !matches!(self.kind, AccountWriteKind::Update)
    }

    /// Whether the account is gone after the write.
    pub const fn removes(&self) -> bool {
        matches!(self.kind, AccountWriteKind::Destroy | AccountWriteKind::Clear)
    }

    /// Whether the write is a mere touch, of which a later reader can see nothing.
    pub fn is_noop(&self) -> bool {
        matches!(self.kind, AccountWriteKind::Update)
            && matches!(
                self.balance,
                BalanceChange::Add(U256::ZERO) | BalanceChange::Sub(U256::ZERO)
            )
            && self.nonce.is_none()
            && self.code_hash.is_none()
    }

    /// The account after the write.
    fn apply(&self, value: Option<AccountValue>) -> Option<AccountValue> {
        if self.removes() {
            return None;
        }
        if value.is_none() && self.is_noop() {
            return None;
        }
        let before = value.unwrap_or(AccountValue::EMPTY);
        Some(AccountValue {
            balance: self.balance.apply(before.balance),
            nonce: self.nonce.unwrap_or(before.nonce),
            code_hash: self.code_hash.unwrap_or(before.code_hash),
        })
    }
}

/// One account of the block.
#[derive(Debug)]
pub struct AccountEntry {
    address: Address,
    /// Whether any transaction, pending or committed, resets the storage. Spares slot reads the
    /// look at the cell: hardly any account is ever reset.
    may_be_reset: AtomicBool,
    cell: Mutex<AccountCell>,
}

#[derive(Debug, Default)]
struct AccountCell {
    /// The running value at the commit frontier, once it has been loaded.
    committed: Option<Option<AccountValue>>,
    /// The newest committed transaction that reset the storage.
    reset: Option<TxIndex>,
    /// What the committed writes amount to.
    history: AccountHistory,
    /// Writes of executed transactions at or above the frontier, in block order.
    pending: PendingWrites<Pending>,
}

/// What the committed writes to an account amount to, in the terms of revm's bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AccountHistory {
    /// The value before the first write.
    pub(super) original: Option<AccountValue>,
    /// The status before the first write.
    pub(super) original_status: AccountStatus,
    /// The status after the last write.
    pub(super) status: AccountStatus,
    /// Whether the storage was wiped on the way.
    pub(super) storage_was_destroyed: bool,
    /// Where the account stands among those that changed, once it did.
    pub(super) position: Option<u32>,
}

impl AccountHistory {
    /// The history of an account that has only been loaded.
    fn loaded(original: Option<AccountValue>) -> Self {
        let status = match &original {
            None => AccountStatus::LoadedNotExisting,
            Some(value) if value.is_empty() => AccountStatus::LoadedEmptyEIP161,
            Some(_) => AccountStatus::Loaded,
        };
        Self { original, original_status: status, status, ..Self::default() }
    }

    /// Notes a write over `before`, as revm's cache does it. Whether it counts as a change: what
    /// removes an account that is not there does not.
    fn note(&mut self, before: Option<AccountValue>, kind: AccountWriteKind) -> bool {
        let status = self.status;
        self.status = match kind {
            AccountWriteKind::Update => {
                status.on_changed(before.is_some_and(|value| value.is_hollow()))
            }
            AccountWriteKind::Create => status.on_created(),
            AccountWriteKind::Destroy => status.on_selfdestructed(),
            AccountWriteKind::Clear => status.on_touched_empty_post_eip161(),
        };
        let changes = match kind {
            AccountWriteKind::Update | AccountWriteKind::Create => return true,
            AccountWriteKind::Destroy => status != AccountStatus::LoadedNotExisting,
            AccountWriteKind::Clear => !matches!(
                status,
                AccountStatus::LoadedNotExisting
                    | AccountStatus::Destroyed
                    | AccountStatus::DestroyedAgain
            ),
        };
        self.storage_was_destroyed |= changes;
        changes
    }
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    write: AccountWrite,
    /// The guess of the value after the write, as of when it was published.
    after: Option<AccountValue>,
}

impl AccountCell {
    /// The value that transaction `reader` will find, as far as is known.
    ///
    /// Only the last few writes are applied anew, on top of what an older one was thought to leave
    /// behind: an account that hundreds of pending transactions pay to or from would cost time
    /// quadratic in their number.
    fn guess(&self, reader: TxIndex, committed: Option<AccountValue>) -> Option<AccountValue> {
        let below = self.pending.below(reader);
        let first = below.saturating_sub(APPLIED_ANEW_MAX);
        let older = first.checked_sub(1).and_then(|older| self.pending.get(older));
        let before = older.map_or(committed, |(_, pending)| pending.after);
        let newer = (first..below).filter_map(|at| self.pending.get(at));
        newer.fold(before, |value, (_, pending)| pending.write.apply(value))
    }
}

impl AccountEntry {
    pub(super) fn new(address: Address) -> Self {
        Self { address, may_be_reset: AtomicBool::new(false), cell: Mutex::default() }
    }

    /// The account's address.
    #[inline]
    pub const fn address(&self) -> Address {
        self.address
    }

    fn lock(&self) -> MutexGuard<'_, AccountCell> {
        // Cells are only changed by total functions, so a panic elsewhere leaves them whole.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The committed value. `None` until it is [loaded](Self::load).
    pub fn committed(&self) -> Option<Option<AccountValue>> {
        self.lock().committed
    }

    /// Provides the value of the prestate. The first provided one is kept.
    pub fn load(&self, value: Option<AccountValue>) {
        let mut cell = self.lock();
        if cell.committed.is_none() {
            cell.committed = Some(value);
            cell.history = AccountHistory::loaded(value);
        }
    }

    /// The best guess of what transaction `reader` will find here. `None` until loaded.
    pub fn guess(&self, reader: TxIndex) -> Option<Option<AccountValue>> {
        let cell = self.lock();
        let committed = cell.committed?;
        Some(cell.guess(reader, committed))
    }

    /// Shows a speculative write to later readers, in place of an earlier one of the same writer.
    pub fn publish(&self, writer: TxIndex, write: AccountWrite) {
        if write.resets_storage() {
            // Before the write can be seen in the cell: a reader that sees the write there takes
            // the cell's lock after us and therefore sees the flag.
            self.may_be_reset.store(true, Ordering::Release);
        }
        let mut cell = self.lock();
        let before = cell.guess(writer, cell.committed.unwrap_or_default());
        cell.pending.insert(writer, Pending { write, after: write.apply(before) });
    }

    /// Takes a speculative write back.
    pub fn retract(&self, writer: TxIndex) {
        self.lock().pending.remove(writer);
    }

    /// Makes a write final, in block order. `None` as the writer is what happens before the first
    /// transaction.
    ///
    /// An account that the write leaves empty stays only where `keep_empty` says so (before
    /// EIP-161). `position` is the account's among those that changed if this is its first change;
    /// the one that it has now is returned, or `None` if it has not changed.
    pub(super) fn commit(
        &self,
        writer: Option<TxIndex>,
        write: AccountWrite,
        keep_empty: bool,
        position: u32,
    ) -> Option<u32> {
        if write.resets_storage() {
            self.may_be_reset.store(true, Ordering::Release);
        }
        let cell = &mut *self.lock();
        if let Some(writer) = writer {
            cell.pending.remove(writer);
        }
        let before = cell.committed.unwrap_or_default();
        let after = write.apply(before);
        cell.committed = Some(after.filter(|value| keep_empty || !value.is_empty()));
        if write.resets_storage() {
            cell.reset = writer;
        }
        if cell.history.note(before, write.kind) {
            cell.history.position.get_or_insert(position);
        }
        cell.history.position
    }

    /// What the committed writes amount to: history, present value, and the newest transaction
    /// that reset the storage.
    pub(super) fn outcome(&self) -> (AccountHistory, Option<AccountValue>, Option<TxIndex>) {
        let cell = self.lock();
        (cell.history, cell.committed.unwrap_or_default(), cell.reset)
    }

    /// The newest transaction below `reader` that resets the storage, as far as is known.
    #[inline]
    pub fn newest_reset(&self, reader: TxIndex) -> Option<TxIndex> {
        if !self.may_be_reset.load(Ordering::Acquire) {
            return None;
        }
        let cell = self.lock();
        (0..cell.pending.below(reader))
            .rev()
            .filter_map(|at| cell.pending.get(at))
            .find(|(_, pending)| pending.write.resets_storage())
            .map(|(writer, _)| *writer)
            .or(cell.reset)
    }

    /// The newest committed transaction that reset the storage.
    #[inline]
    pub fn committed_reset(&self) -> Option<TxIndex> {
        if !self.may_be_reset.load(Ordering::Acquire) {
            return None;
        }
        self.lock().reset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE_ONE: AccountValue =
        AccountValue { balance: U256::ZERO, nonce: 1, code_hash: KECCAK_EMPTY };

    fn commit(entry: &AccountEntry, writer: usize, write: AccountWrite, keep_empty: bool) {
        entry.commit(Some(TxIndex::new(writer)), write, keep_empty, 0);
    }

    fn with_balance(balance: u64) -> AccountValue {
        AccountValue { balance: U256::from(balance), ..NONCE_ONE }
    }

    fn read(
        entry: &AccountEntry,
        served: Option<AccountValue>,
        balance: BalanceUse,
    ) -> AccountRead<'_> {
        AccountRead { entry, served, balance, exact_nonce: false }
    }

    #[test]
    fn a_guess_applies_the_pending_writes_below_the_reader() {
        let entry = AccountEntry::new(Address::ZERO);
        assert_eq!(entry.guess(TxIndex::new(3)), None);
        entry.load(Some(with_balance(10)));
        entry.publish(TxIndex::new(2), AccountWrite::credit(U256::from(5)));
        entry.publish(TxIndex::new(1), AccountWrite::credit(U256::from(1)));
        let guess =
            |reader| entry.guess(TxIndex::new(reader)).unwrap().unwrap().balance.to::<u64>();
        assert_eq!([guess(0), guess(1), guess(2), guess(3)], [10, 10, 11, 16]);
        entry.publish(TxIndex::new(1), AccountWrite::credit(U256::from(2)));
        assert_eq!(guess(3), 17);
        entry.retract(TxIndex::new(2));
        assert_eq!(guess(3), 12);
        commit(&entry, 1, AccountWrite::credit(U256::from(3)), false);
        assert_eq!(guess(0), 13);
    }

    #[test]
    fn a_guess_over_many_pending_writes_is_their_sum() {
        let entry = AccountEntry::new(Address::ZERO);
        entry.load(Some(with_balance(0)));
        for writer in 0..100 {
            entry.publish(TxIndex::new(writer), AccountWrite::credit(U256::from(writer)));
        }
        let guess = entry.guess(TxIndex::new(100)).unwrap().unwrap();
        assert_eq!(guess.balance, U256::from(99 * 100 / 2));
    }

    #[test]
    fn a_balance_that_was_only_checked_may_differ_within_its_slack() {
        let entry = AccountEntry::new(Address::ZERO);
        let mut balance = BalanceUse::UNUSED;
        balance.require(U256::from(100), U256::from(60));
        balance.require(U256::from(90), U256::from(80));
        assert_eq!(balance, BalanceUse::Slack(U256::from(10)));
        let read = read(&entry, Some(with_balance(100)), balance);
        assert!(read.stands(Some(&with_balance(90))));
        assert!(read.stands(Some(&with_balance(1_000))));
        assert!(!read.stands(Some(&with_balance(89))));
        assert!(!read.stands(None));
    }

    #[test]
    fn a_failed_check_and_a_seen_balance_are_exact() {
        let entry = AccountEntry::new(Address::ZERO);
        let mut failed = BalanceUse::UNUSED;
        failed.require(U256::from(5), U256::from(6));
        failed.require(U256::from(5), U256::from(1));
        assert_eq!(failed, BalanceUse::Exact);
        let read = read(&entry, Some(with_balance(5)), failed);
        assert!(read.stands(Some(&with_balance(5))));
        assert!(!read.stands(Some(&with_balance(6))));
    }

    #[test]
    fn emptiness_is_part_of_what_was_read() {
        let entry = AccountEntry::new(Address::ZERO);
        let hollow = |balance: u64| AccountValue { nonce: 0, ..with_balance(balance) };
        let read = |served| read(&entry, Some(served), BalanceUse::UNUSED);
        assert!(!read(hollow(0)).stands(Some(&hollow(1))));
        assert!(!read(hollow(1)).stands(Some(&hollow(0))));
        assert!(read(hollow(1)).stands(Some(&hollow(2))));
        assert!(!read(hollow(1)).stands(Some(&with_balance(1))));
        assert!(read(with_balance(0)).stands(Some(&with_balance(1))));
    }

    #[test]
    fn huge_balances_are_exact() {
        let entry = AccountEntry::new(Address::ZERO);
        let huge = AccountValue { balance: U256::MAX, ..NONCE_ONE };
        assert!(!read(&entry, Some(huge), BalanceUse::UNUSED).stands(Some(&with_balance(1))));
    }

    #[test]
    fn an_account_left_empty_goes_from_eip_161_on() {
        for keep_empty in [false, true] {
            let entry = AccountEntry::new(Address::ZERO);
            entry.load(Some(AccountValue { nonce: 0, ..with_balance(7) }));
            let take_all = AccountWrite {
                balance: BalanceChange::Sub(U256::from(7)),
                ..AccountWrite::credit(U256::ZERO)
            };
            commit(&entry, 0, take_all, keep_empty);
            assert_eq!(entry.committed(), Some(keep_empty.then_some(AccountValue::EMPTY)));
        }
    }

    #[test]
    fn resets_are_seen_by_later_readers_only() {
        let entry = AccountEntry::new(Address::ZERO);
        entry.load(None);
        let create = AccountWrite {
            kind: AccountWriteKind::Create,
            nonce: Some(1),
            ..AccountWrite::credit(U256::ZERO)
        };
        entry.publish(TxIndex::new(4), create);
        assert_eq!(entry.newest_reset(TxIndex::new(4)), None);
        assert_eq!(entry.newest_reset(TxIndex::new(5)), Some(TxIndex::new(4)));
        assert_eq!(entry.committed_reset(), None);
        commit(&entry, 4, create, false);
        assert_eq!(entry.committed_reset(), Some(TxIndex::new(4)));
    }
}

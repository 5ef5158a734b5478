//! The entry of a storage slot.

use super::{AccountEntry, pending::PendingWrites, turns::Turns};
use crate::TxIndex;
use alloy_primitives::{Address, U256};
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// A read of a slot.
#[derive(Clone, Copy, Debug)]
pub struct SlotRead<'state> {
    /// Where it was read.
    pub entry: &'state SlotEntry,
    /// The account that the slot belongs to: a reset of its storage counts as a write.
    pub account: &'state AccountEntry,
    /// The value that was served.
    pub served: U256,
}

impl SlotRead<'_> {
    /// Whether the committed value is the served one.
    pub fn stands(&self) -> bool {
        self.entry.committed(self.account) == Some(self.served)
    }
}

/// One storage slot of the block.
#[derive(Debug)]
pub struct SlotEntry {
    address: Address,
    slot: U256,
    /// Whether transactions take turns here. A hint: the truth is in the cell.
    is_contended: AtomicBool,
    cell: Mutex<SlotCell>,
}

#[derive(Debug, Default)]
struct SlotCell {
    /// The running value at the commit frontier, once it is known.
    committed: Option<U256>,
    /// The newest committed transaction that wrote the slot.
    writer: Option<TxIndex>,
    /// The value before the first committed write since the storage was last reset, once there is
    /// a write.
    original: Option<U256>,
    /// Writes of executed transactions at or above the frontier, in block order.
    pending: PendingWrites<SlotWrite>,
    /// Who takes turns here, since the first conflict.
    turns: Option<Box<Turns>>,
}

impl SlotCell {
    /// The newest writer and value, where so many of the pending writes count.
    fn newest(&self, pending: usize) -> (Option<TxIndex>, Option<U256>) {
        match pending.checked_sub(1).and_then(|at| self.pending.get(at)) {
            Some((writer, write)) => (Some(*writer), Some(write.present)),
            None => (self.writer, self.committed),
        }
    }

    /// Whether another value than a write has read is what the pending writes before it, so many,
    /// leave.
    fn is_overtaken(&self, below: usize, write: SlotWrite) -> bool {
        let (_, before) = self.newest(below);
        before.is_some_and(|before| before != write.original)
    }
}

/// A transaction's change of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotWrite {
    /// The value before the transaction.
    pub original: U256,
    /// The value after it.
    pub present: U256,
}

/// How a speculative write fits in between those before and after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotOrder {
    /// The writer before has left another value than this one has read.
    pub is_overtaken: bool,
    /// The next writer, if it has read another value than this one leaves.
    pub overtakes: Option<TxIndex>,
}

/// What there was before a committed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotHistory {
    /// Whether it is the slot's first one in the block.
    pub(super) is_first: bool,
    /// The transaction that wrote the slot last.
    pub(super) before: Option<TxIndex>,
}

impl SlotEntry {
    pub(super) fn new(address: Address, slot: U256) -> Self {
        Self { address, slot, is_contended: AtomicBool::new(false), cell: Mutex::default() }
    }

    /// The account that the slot belongs to.
    #[inline]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The slot's key.
    #[inline]
    pub const fn slot(&self) -> U256 {
        self.slot
    }

    fn lock(&self) -> MutexGuard<'_, SlotCell> {
        // Cells are only changed by total functions, so a panic elsewhere leaves them whole.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Provides the value of the prestate. The first provided one is kept.
    pub fn load(&self, value: U256) {
        self.lock().committed.get_or_insert(value);
    }

    /// The committed value, where it is known.
    pub fn committed(&self, account: &AccountEntry) -> Option<U256> {
        let reset = account.committed_reset();
        let cell = self.lock();
        // `None` is before the first transaction. A transaction that resets the storage and then
        // writes a slot leaves the written value: only an earlier write is wiped.
        if cell.writer < reset { Some(U256::ZERO) } else { cell.committed }
    }

    /// The best guess of what transaction `reader` will find here, where one is known.
    pub fn guess(&self, account: &AccountEntry, reader: TxIndex) -> Option<U256> {
        let reset = account.newest_reset(reader);
        let cell = self.lock();
        let (writer, value) = cell.newest(cell.pending.below(reader));
        if writer < reset { Some(U256::ZERO) } else { value }
    }

    /// Shows a speculative write to later readers, in place of an earlier one of the same writer.
    ///
    /// Who writes a slot has read it, as a rule, and `original` is what it read. So the writes beside
    /// this one tell at once whether an execution was overtaken.
    pub fn publish(&self, writer: TxIndex, write: SlotWrite) -> SlotOrder {
        let cell = &mut *self.lock();
        let below = cell.pending.below(writer);
        cell.pending.insert(writer, write);
        let next = cell.pending.get(below + 1);
        let order = SlotOrder {
            is_overtaken: cell.is_overtaken(below, write),
            overtakes: next
                .filter(|(_, next)| next.original != write.present)
                .map(|(next, _)| *next),
        };
        if order != SlotOrder::default() {
            self.take_turns(cell);
        }
        order
    }

    /// Notes that a read of the slot did not stand.
    pub fn note_conflict(&self) {
        self.take_turns(&mut self.lock());
    }

    fn take_turns(&self, cell: &mut SlotCell) {
        cell.turns.get_or_insert_default().note_conflict();
        self.is_contended.store(true, Ordering::Relaxed);
    }

    /// Whether transactions take turns at the slot, because one after another changes it and those
    /// that did not know have read something else.
    #[inline]
    pub fn is_contended(&self) -> bool {
        self.is_contended.load(Ordering::Relaxed)
    }

    /// Lines a transaction up for the slot. Whether it is its turn: those before it that have come
    /// so far have [left](Self::leave). If it is not, and the transaction can wait, it will be told;
    /// one that cannot goes on, and others wait for it.
    pub fn enter(&self, index: TxIndex, can_wait: bool) -> bool {
        self.lock().turns.get_or_insert_default().enter(index, can_wait)
    }

    /// Whether a transaction waits for its turn.
    pub fn is_waiting(&self, index: TxIndex) -> bool {
        self.lock().turns.as_ref().is_some_and(|turns| turns.is_waiting(index))
    }

    /// Takes a transaction out of the line, which has published its writes. `changed` says whether
    /// the slot has another value now; `turn_of` is told of those whose turn it is.
    pub fn leave(&self, index: TxIndex, changed: bool, turn_of: impl FnMut(TxIndex)) {
        if let Some(turns) = &mut self.lock().turns
            && !turns.leave(index, changed, turn_of)
        {
            self.is_contended.store(false, Ordering::Relaxed);
        }
    }

    /// Whether by now the writer before has left another value than this one has read.
    pub fn is_overtaken(&self, writer: TxIndex, write: SlotWrite) -> bool {
        let cell = self.lock();
        cell.is_overtaken(cell.pending.below(writer), write)
    }

    /// Takes a speculative write back.
    pub fn retract(&self, writer: TxIndex) {
        self.lock().pending.remove(writer);
    }

    /// Makes a write final, in block order. `None` as the writer is what happens before the first
    /// transaction; `reset` is the newest one that reset the account's storage.
    pub(super) fn commit(
        &self,
        writer: Option<TxIndex>,
        write: SlotWrite,
        reset: Option<TxIndex>,
    ) -> SlotHistory {
        let cell = &mut *self.lock();
        if let Some(writer) = writer {
            cell.pending.remove(writer);
        }
        let is_first = cell.original.is_none();
        if is_first || cell.writer < reset {
            cell.original = Some(write.original);
        }
        cell.committed = Some(write.present);
        let before = std::mem::replace(&mut cell.writer, writer);
        SlotHistory { is_first, before }
    }

    /// What the committed writes since the last reset of the storage amount to, if anything.
    pub(super) fn outcome(&self, reset: Option<TxIndex>) -> Option<SlotWrite> {
        let cell = self.lock();
        let (original, present) = (cell.original?, cell.committed?);
        (cell.writer >= reset && original != present).then_some(SlotWrite { original, present })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AccountWrite, AccountWriteKind, MultiVersionState};
    use super::*;

    const CREATE: AccountWrite =
        AccountWrite { kind: AccountWriteKind::Create, ..AccountWrite::credit(U256::ZERO) };

    fn write(original: u64, present: u64) -> SlotWrite {
        SlotWrite { original: U256::from(original), present: U256::from(present) }
    }

    #[test]
    fn a_guess_is_the_newest_write_below_the_reader() {
        let state = MultiVersionState::with_capacity(1, 1);
        let account = state.account(Address::ZERO);
        let slot = state.slot(Address::ZERO, U256::ONE);
        let guess = |reader| slot.guess(account, TxIndex::new(reader)).map(|v| v.to::<u64>());
        assert_eq!(guess(1), None);
        slot.publish(TxIndex::new(3), write(0, 30));
        slot.publish(TxIndex::new(1), write(0, 10));
        assert_eq!(guess(1), None);
        slot.load(U256::from(5));
        slot.load(U256::from(6));
        assert_eq!([guess(1), guess(2), guess(4)], [Some(5), Some(10), Some(30)]);
        slot.retract(TxIndex::new(3));
        assert_eq!(guess(4), Some(10));
        let one = Some(TxIndex::new(1));
        let commit = || slot.commit(one, write(5, 11), None);
        assert_eq!(commit(), SlotHistory { is_first: true, before: None });
        assert_eq!(commit(), SlotHistory { is_first: false, before: one });
        assert_eq!(slot.committed(account), Some(U256::from(11)));
    }

    #[test]
    fn neighbours_tell_who_was_overtaken() {
        let state = MultiVersionState::with_capacity(1, 1);
        let slot = state.slot(Address::ZERO, U256::ONE);
        slot.load(U256::from(5));
        let publish = |writer, write| slot.publish(TxIndex::new(writer), write);
        let fits = SlotOrder::default();
        assert_eq!(publish(4, write(5, 6)), fits);
        // The fourth has read what was there before the second wrote.
        let overtakes = Some(TxIndex::new(4));
        assert_eq!(publish(2, write(5, 7)), SlotOrder { is_overtaken: false, overtakes });
        assert_eq!(publish(3, write(5, 8)), SlotOrder { is_overtaken: true, overtakes });
        assert_eq!(publish(3, write(7, 8)), SlotOrder { is_overtaken: false, overtakes });
        assert_eq!(publish(4, write(8, 9)), fits);
        assert_eq!(publish(2, write(5, 7)), fits);
    }

    #[test]
    fn a_conflict_makes_transactions_take_turns() {
        let state = MultiVersionState::with_capacity(1, 1);
        let slot = state.slot(Address::ZERO, U256::ONE);
        slot.load(U256::from(5));
        slot.publish(TxIndex::new(2), write(5, 6));
        assert!(!slot.is_contended());
        slot.publish(TxIndex::new(1), write(5, 7));
        assert!(slot.is_contended());
        assert!(slot.enter(TxIndex::new(1), true));
        assert!(!slot.enter(TxIndex::new(2), true));
        assert!(slot.is_waiting(TxIndex::new(2)));
        let mut turns = Vec::new();
        slot.leave(TxIndex::new(1), true, |turn| turns.push(turn.get()));
        assert_eq!(turns, [2]);
        assert!(!slot.is_waiting(TxIndex::new(2)));
        // Three that need not have waited, and it is over.
        for position in 2..=4 {
            slot.enter(TxIndex::new(position + 1), true);
            assert!(slot.is_contended());
            slot.leave(TxIndex::new(position), false, |_| {});
        }
        assert!(!slot.is_contended());
    }

    #[test]
    fn a_storage_reset_wipes_earlier_writes_but_not_its_own() {
        let state = MultiVersionState::with_capacity(1, 1);
        let account = state.account(Address::ZERO);
        let [old, new] = [1, 2].map(|slot| state.slot(Address::ZERO, U256::from(slot)));
        old.load(U256::from(5));
        account.publish(TxIndex::new(2), CREATE);
        new.publish(TxIndex::new(2), write(0, 9));
        assert_eq!(old.guess(account, TxIndex::new(2)), Some(U256::from(5)));
        assert_eq!(old.guess(account, TxIndex::new(3)), Some(U256::ZERO));
        assert_eq!(new.guess(account, TxIndex::new(3)), Some(U256::from(9)));

        let read = SlotRead { entry: old, account, served: U256::from(5) };
        assert!(read.stands());
        let creator = Some(TxIndex::new(2));
        account.commit(creator, CREATE, false, 0);
        new.commit(creator, write(0, 9), account.committed_reset());
        assert!(!read.stands());
        assert_eq!(old.committed(account), Some(U256::ZERO));
        assert_eq!(new.committed(account), Some(U256::from(9)));
    }
}

//! The merger: makes a validated outcome final.
//!
//! It moves the committed values on, in block order, and adds the deferred fee. Where somebody wants
//! to see the state changes of each transaction, it brings them to what a serial run gives (balances
//! and nonces were allowed to differ). At the end it makes the bundle of what was committed.

use crate::{
    error::SourceError,
    pipeline::BlockContext,
    worker::{Accesses, Deferred, Executed, WorkerDb, WrittenAccount},
    workers::Workers,
};
use alloy_primitives::{Address, U256};
use multilane_state::{
    TxIndex,
    multi_version::{
        AccountOutcome, AccountRead, AccountValue, AccountWrite, AccountWriteKind, BalanceChange,
        BundleBuilder, CommittedChanges, SlotEntry, SlotWrite,
    },
};
use revm::{
    Database,
    database::BundleState,
    primitives::KECCAK_EMPTY,
    state::{Account, Bytecode, EvmState, TransactionId},
};
use std::{error::Error, ptr, sync::OnceLock};

/// With fewer accounts to a share, the hand-over to other threads costs more than it saves.
const ACCOUNTS_SHARE_MIN: usize = 200;

/// Shows an outcome's writes to later speculative readers. `overtaken` is told of transactions that
/// have read something else, some of them more than once. Whether the outcome itself has been
/// overtaken by now.
pub(crate) fn publish(
    index: TxIndex,
    accesses: &Accesses<'_>,
    mut overtaken: impl FnMut(TxIndex),
) -> bool {
    for written in accesses.account_writes.iter().filter(|written| !written.write.is_noop()) {
        written.entry.publish(index, written.write);
    }
    let mut is_overtaken = false;
    for (entry, write) in &accesses.slot_writes {
        let order = entry.publish(index, *write);
        is_overtaken |= order.is_overtaken;
        order.overtakes.into_iter().for_each(&mut overtaken);
    }
    is_overtaken
}

/// Whether an outcome that was published has been overtaken since.
pub(crate) fn is_overtaken(index: TxIndex, accesses: &Accesses<'_>) -> bool {
    accesses.slot_writes.iter().any(|(entry, write)| entry.is_overtaken(index, *write))
}

/// Takes an outcome's writes back.
pub(crate) fn retract(index: TxIndex, accesses: &Accesses<'_>) {
    for written in accesses.account_writes.iter().filter(|written| !written.write.is_noop()) {
        written.entry.retract(index);
    }
    for (entry, _) in &accesses.slot_writes {
        entry.retract(index);
    }
}

/// Takes those of an outcome's writes back that are not in a newer one, which has been published.
pub(crate) fn retract_replaced(index: TxIndex, old: &Accesses<'_>, new: &Accesses<'_>) {
    for written in old.account_writes.iter().filter(|written| !written.write.is_noop()) {
        let is_kept =
            |new: &WrittenAccount<'_>| ptr::eq(new.entry, written.entry) && !new.write.is_noop();
        if !new.account_writes.iter().any(is_kept) {
            written.entry.retract(index);
        }
    }
    for (entry, _) in &old.slot_writes {
        if !new.slot_writes.iter().any(|(new, _)| ptr::eq(*new, *entry)) {
            entry.retract(index);
        }
    }
}

/// The contended slots that a transaction is to leave, each with whether it has another value since.
pub(crate) fn departures<'block>(
    lines: &mut Vec<&'block SlotEntry>,
    slot_writes: &[(&'block SlotEntry, SlotWrite)],
) -> Vec<(&'block SlotEntry, bool)> {
    let has_changed = |slot: &SlotEntry| {
        let own = slot_writes.iter().find(|(written, _)| ptr::eq(*written, slot));
        own.is_some_and(|(_, write)| write.original != write.present)
    };
    lines.drain(..).map(|slot| (slot, has_changed(slot))).collect()
}

/// Takes a transaction out of the lines at contended slots, when its writes are published or final.
/// Gives those whose turn it is there.
pub(crate) fn leave(index: TxIndex, departures: &[(&SlotEntry, bool)]) -> Vec<TxIndex> {
    let mut turns = Vec::new();
    for (slot, has_changed) in departures {
        slot.leave(index, *has_changed, |turn| turns.push(turn));
    }
    turns
}

/// Commits a validated outcome, and makes it that of the serial run.
///
/// # Errors
///
/// If an account that the rules pay, the beneficiary above all, cannot be read from the source.
pub(crate) fn commit<'block, DB>(
    block: &'block BlockContext,
    changes: &mut CommittedChanges<'block>,
    db: &mut WorkerDb<'block, DB>,
    index: TxIndex,
    executed: &mut Executed,
    accesses: &Accesses<'block>,
) -> Result<(), SourceError>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    let keep_empty = block.rules.keep_empty_accounts;
    let keeps_changes = block.keeps_changes_of(index);
    if keeps_changes {
        for read in &accesses.account_reads {
            if let (Some(served), Some(Some(actual))) = (read.served, read.entry.committed())
                && served != actual
            {
                rebase(&mut executed.state, read, &served, &actual);
            }
        }
    }
    if let Some(journal) = changes.journal() {
        for read in &accesses.account_reads {
            journal.account(Some(index), read.entry.address());
        }
        for (slot, write) in &accesses.touched_slots {
            journal.slot(Some(index), slot, *write);
        }
        match &executed.deferred {
            Deferred::Nothing => {}
            Deferred::Fee(_) => journal.account(Some(index), block.beneficiary),
            Deferred::Payments(payments) => {
                payments.iter().for_each(|payment| journal.account(Some(index), payment.to));
            }
        }
    }
    let mut slots = accesses.slot_writes.iter().copied();
    for written in &accesses.account_writes {
        if let Some(hash) = &written.write.code_hash {
            block.commit_new_code(hash);
        }
        let own = slots.by_ref().take(written.slots);
        changes.commit(Some(index), written.entry, written.write, own, keep_empty);
    }
    let mut pay = |to: Address, amount: U256| -> Result<(), SourceError> {
        let entry = block.state.account(to);
        let before = db.committed_account(entry)?;
        let write = credit(before, amount, keep_empty);
        if let Some(write) = write {
            changes.commit(Some(index), entry, write, [], keep_empty);
        }
        if keeps_changes {
            executed.state.insert(to, credited(block, before, write));
        }
        Ok(())
    };
    match &executed.deferred {
        Deferred::Nothing => Ok(()),
        Deferred::Fee(fee) => pay(block.beneficiary, *fee),
        Deferred::Payments(payments) => {
            payments.iter().try_for_each(|payment| pay(payment.to, payment.amount))
        }
    }
}

/// What the committed changes of a block amount to.
pub(crate) fn bundle(
    workers: Workers<'_>,
    block: &BlockContext,
    changes: CommittedChanges<'_>,
) -> BundleState {
    let changed = changes.by_account();
    let outcome = |position| changed.outcome(position, |hash| block.new_code(hash));
    let mut bundle = BundleBuilder::with_capacity(changed.len());
    // The calling thread puts everything together, so its own share is half of another's.
    let share = changed.len() / (2 * workers.threads() - 1);
    if share < ACCOUNTS_SHARE_MIN {
        bundle.extend((0..changed.len()).map(outcome));
        return bundle.finish();
    }
    let others: Vec<OnceLock<Vec<AccountOutcome>>> =
        (1..workers.threads()).map(|_| OnceLock::new()).collect();
    let job = |worker: usize| {
        let start = share + 2 * share * (worker - 1);
        let end = if worker == others.len() { changed.len() } else { start + 2 * share };
        // The only writer of this cell.
        let _ = others[worker - 1].set((start..end).map(outcome).collect());
    };
    workers.run(job, || bundle.extend((0..share).map(outcome)));
    for outcomes in others {
        bundle.extend(outcomes.into_inner().unwrap_or_default());
    }
    bundle.finish()
}

/// Brings an account's changes from the value that was served to the one that a serial run sees.
fn rebase(
    state: &mut EvmState,
    read: &AccountRead<'_>,
    served: &AccountValue,
    actual: &AccountValue,
) {
    let Some(account) = state.get_mut(&read.entry.address()) else { return };
    let change = BalanceChange::between(served.balance, account.info.balance);
    account.info.balance = change.apply(actual.balance);
    if account.info.nonce == served.nonce {
        account.info.nonce = actual.nonce;
    }
    let original = account.original_info_mut();
    original.balance = actual.balance;
    original.nonce = actual.nonce;
}

/// What a fee does to the beneficiary's account, if anything.
fn credit(before: Option<AccountValue>, fee: U256, keep_empty: bool) -> Option<AccountWrite> {
    let value = before.unwrap_or(AccountValue::EMPTY);
    // As the journal does it: a sum that overflows pays nothing.
    let after = value.balance.checked_add(fee).unwrap_or(value.balance);
    let write = AccountWrite::credit(after - value.balance);
    if !(AccountValue { balance: after, ..value }).is_empty() {
        return Some(write);
    }
    match (keep_empty, before) {
        // EIP-161: to be touched while empty removes an account.
        (false, _) => Some(AccountWrite { kind: AccountWriteKind::Clear, ..write }),
        // Before that it brings one into being.
        (true, None) => Some(AccountWrite { kind: AccountWriteKind::Create, ..write }),
        (true, Some(_)) => None,
    }
}

/// The beneficiary's account after a [`credit`], as the journal of a serial run would have
/// finalized it.
fn credited(
    block: &BlockContext,
    before: Option<AccountValue>,
    write: Option<AccountWrite>,
) -> Account {
    let mut account = match before {
        // Code that is new in the block travels with its account here as well: a bundle made by
        // revm's state would lose it otherwise.
        Some(value) => Account::from(value.info(if value.code_hash == KECCAK_EMPTY {
            Some(Bytecode::default())
        } else {
            block.new_code(&value.code_hash)
        })),
        None => Account::new_not_existing(TransactionId::ZERO),
    };
    if let Some(write) = write {
        account.mark_touch();
        account.info.balance = write.balance.apply(account.info.balance);
        if matches!(write.kind, AccountWriteKind::Create) {
            account.mark_created();
        }
    }
    account
}

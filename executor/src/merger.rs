//! The merger: makes a validated outcome final.
//!
//! It brings the outcome's state changes to what a serial run gives (balances and nonces that were
//! allowed to differ, the deferred fee) and moves the committed values on. Outcomes come in block
//! order.

use crate::{
    error::SourceError,
    pipeline::BlockContext,
    worker::{Executed, TxOutcome, WorkerDb},
};
use alloy_primitives::U256;
use multilane_state::{
    TxIndex,
    multi_version::{AccountRead, AccountValue, AccountWrite, AccountWriteKind, BalanceChange},
};
use revm::{
    Database,
    context_interface::result::{HaltReason, ResultAndState},
    primitives::KECCAK_EMPTY,
    state::{Account, AccountInfo, Bytecode, EvmState, TransactionId},
};
use std::error::Error;

/// Shows an outcome's writes to later speculative readers.
pub(crate) fn publish(index: TxIndex, outcome: &TxOutcome<'_>) {
    let Ok(executed) = &outcome.result else { return };
    for (entry, write) in &executed.account_writes {
        entry.publish(index, *write);
    }
    for (entry, value) in &executed.slot_writes {
        entry.publish(index, *value);
    }
}

/// Takes an outcome's writes back.
pub(crate) fn retract(index: TxIndex, outcome: &TxOutcome<'_>) {
    let Ok(executed) = &outcome.result else { return };
    for (entry, _) in &executed.account_writes {
        entry.retract(index);
    }
    for (entry, _) in &executed.slot_writes {
        entry.retract(index);
    }
}

/// Commits a validated outcome and gives the result of the serial run.
///
/// # Errors
///
/// If the beneficiary's account, which the fee goes to, cannot be read from the source.
pub(crate) fn commit<DB>(
    block: &BlockContext,
    db: &mut WorkerDb<'_, DB>,
    index: TxIndex,
    executed: Executed<'_>,
    reads: &[AccountRead<'_>],
) -> Result<ResultAndState<HaltReason>, SourceError>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    let Executed { result, mut state, account_writes, slot_writes, deferred_fee } = executed;
    let keep_empty = block.rules.keep_empty_accounts;
    for read in reads {
        if let (Some(served), Some(Some(actual))) = (read.served, read.entry.committed())
            && served != actual
        {
            rebase(&mut state, read, &served, &actual);
        }
    }
    for (entry, write) in account_writes {
        entry.commit(index, write, keep_empty);
    }
    for (entry, value) in slot_writes {
        entry.commit(index, value);
    }
    if let Some(fee) = deferred_fee {
        let entry = block.state.account(block.beneficiary);
        let before = db.committed_account(entry)?;
        let (account, write) = beneficiary(before, fee, keep_empty);
        entry.commit(index, write, keep_empty);
        state.insert(block.beneficiary, account);
    }
    Ok(ResultAndState { result, state })
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

/// The beneficiary's account with the fee, as the journal of a serial run would have finalized it.
fn beneficiary(
    before: Option<AccountValue>,
    fee: U256,
    keep_empty: bool,
) -> (Account, AccountWrite) {
    let mut account = match before {
        Some(value) => Account::from(AccountInfo {
            balance: value.balance,
            nonce: value.nonce,
            code_hash: value.code_hash,
            account_id: None,
            code: (value.code_hash == KECCAK_EMPTY).then(Bytecode::default),
        }),
        None => Account::new_not_existing(TransactionId::ZERO),
    };
    account.mark_touch();
    // As the journal does it: a sum that overflows pays nothing.
    if let Some(balance) = account.info.balance.checked_add(fee) {
        account.info.balance = balance;
    }
    let mut kind = AccountWriteKind::Update;
    if keep_empty && account.is_empty() {
        // Before EIP-161 a touch is enough to bring an account into being.
        if before.is_none() {
            account.mark_created();
            kind = AccountWriteKind::Create;
        } else {
            account.unmark_touch();
        }
    }
    let balance = before.map_or(U256::ZERO, |value| value.balance);
    let write = AccountWrite {
        kind,
        balance: BalanceChange::between(balance, account.info.balance),
        nonce: None,
        code_hash: None,
    };
    (account, write)
}

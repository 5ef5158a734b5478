//! What follows from a transaction's fields and calldata.

use super::{AccessPrediction, PredictedLocation, call_of, callee};
use alloy_primitives::{Address, hex};
use multilane_state::{StateLocation, TxIndex};
use revm::{
    context::TxEnv,
    context_interface::{Transaction, transaction::AuthorizationTr},
    primitives::{TxKind, map::AddressMap},
};

/// Gas of a transfer to an account without code.
pub(crate) const TRANSFER_GAS: u64 = 21_000;
/// What a token transfer or approval typically uses.
const TOKEN_CALL_GAS: u64 = 55_000;
/// What another call typically uses: a swap, more or less.
const CALL_GAS: u64 = 150_000;

/// ERC-20 `transfer(address,uint256)`.
const TRANSFER: [u8; 4] = hex!("a9059cbb");
/// ERC-20 `transferFrom(address,address,uint256)`.
const TRANSFER_FROM: [u8; 4] = hex!("23b872dd");
/// ERC-20 `approve(address,uint256)`.
const APPROVE: [u8; 4] = hex!("095ea7b3");

/// Expected gas. Limits are set generously, so beyond what calls of a kind typically use they say
/// little.
pub(super) fn gas(tx: &TxEnv) -> u64 {
    let typical = match selector(tx) {
        None if callee(tx).is_some() => TRANSFER_GAS,
        Some(TRANSFER | TRANSFER_FROM | APPROVE) => TOKEN_CALL_GAS,
        _ => CALL_GAS,
    };
    typical.min(tx.gas_limit())
}

/// Adds the accounts that are paid, where payments do not commute.
pub(super) fn accounts(tx: &TxEnv, balances_commute: bool, prediction: &mut AccessPrediction) {
    if balances_commute {
        return;
    }
    let account = |address| PredictedLocation::State(StateLocation::Account(address));
    prediction.add(account(tx.caller()), true, true);
    if let Some(to) = callee(tx)
        && to != tx.caller()
    {
        prediction.add(account(to), true, !tx.value().is_zero());
    }
}

/// Adds what the calldata tells.
pub(super) fn call(tx: &TxEnv, prediction: &mut AccessPrediction) {
    let Some((contract, selector)) = call_of(tx) else { return };
    let caller = tx.caller();
    let balance = |holder| PredictedLocation::TokenBalance { token: contract, holder };
    let allowance =
        |owner, spender| PredictedLocation::TokenAllowance { token: contract, owner, spender };
    let argument = |position| address_argument(tx, position);
    match selector {
        TRANSFER => {
            if let Some(to) = argument(0) {
                prediction.add(balance(caller), true, true);
                prediction.add(balance(to), true, true);
            }
        }
        TRANSFER_FROM => {
            if let (Some(from), Some(to)) = (argument(0), argument(1)) {
                prediction.add(balance(from), true, true);
                prediction.add(balance(to), true, true);
                prediction.add(allowance(from, caller), true, true);
            }
        }
        APPROVE => {
            if let Some(spender) = argument(0) {
                prediction.add(allowance(caller, spender), false, true);
            }
        }
        _ => prediction.add(PredictedLocation::CallerState { contract, caller }, true, true),
    }
}

/// Accounts whose code changes in the block, with the first transaction that changes it.
pub(super) fn code_writers(transactions: &[TxEnv]) -> AddressMap<TxIndex> {
    let mut writers = AddressMap::default();
    for (index, tx) in transactions.iter().enumerate() {
        for address in codes_written(tx) {
            writers.entry(address).or_insert(TxIndex::new(index));
        }
    }
    writers
}

/// Adds the codes that a transaction changes, and that of the account it calls where an earlier
/// transaction changes it.
pub(super) fn code(
    index: TxIndex,
    tx: &TxEnv,
    writers: &AddressMap<TxIndex>,
    prediction: &mut AccessPrediction,
) {
    if writers.is_empty() {
        return;
    }
    let code = |address| PredictedLocation::State(StateLocation::Code(address));
    if let Some(to) = callee(tx)
        && writers.get(&to).is_some_and(|writer| *writer < index)
    {
        prediction.add(code(to), true, false);
    }
    for address in codes_written(tx) {
        prediction.add(code(address), true, true);
    }
}

/// The accounts to which a transaction gives code: the created one (EIP-161 address rule) and the
/// authorities of its delegations (EIP-7702).
fn codes_written(tx: &TxEnv) -> impl Iterator<Item = Address> + '_ {
    let created = matches!(tx.kind(), TxKind::Create).then(|| tx.caller().create(tx.nonce()));
    let authorities = tx.authorization_list().filter_map(|authorization| authorization.authority());
    created.into_iter().chain(authorities)
}

pub(super) fn selector(tx: &TxEnv) -> Option<[u8; 4]> {
    tx.input().first_chunk().copied()
}

/// The address in an argument word. `None` if the word is missing or is no address.
fn address_argument(tx: &TxEnv, position: usize) -> Option<Address> {
    let start = 4 + 32 * position;
    let word = tx.input().get(start..start + 32)?;
    let (padding, address) = word.split_at(12);
    padding.iter().all(|byte| *byte == 0).then(|| Address::from_slice(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Bytes;

    #[test]
    fn an_argument_that_is_no_address_is_none() {
        let mut data = APPROVE.to_vec();
        data.extend([1; 32]);
        data.extend(Address::with_last_byte(3).into_word());
        data.extend([0; 31]);
        let tx = TxEnv { data: Bytes::from(data), ..TxEnv::default() };
        assert_eq!(address_argument(&tx, 0), None);
        assert_eq!(address_argument(&tx, 1), Some(Address::with_last_byte(3)));
        assert_eq!(address_argument(&tx, 2), None);
    }

    #[test]
    fn expected_gas_never_exceeds_the_limit() {
        let tx = |data: &[u8], gas_limit| TxEnv {
            kind: TxKind::Call(Address::ZERO),
            data: Bytes::copy_from_slice(data),
            gas_limit,
            ..TxEnv::default()
        };
        assert_eq!(gas(&tx(&[], 1_000_000)), TRANSFER_GAS);
        assert_eq!(gas(&tx(&TRANSFER, 1_000_000)), TOKEN_CALL_GAS);
        assert_eq!(gas(&tx(&[1, 2, 3, 4], 1_000_000)), CALL_GAS);
        assert_eq!(gas(&tx(&[1, 2, 3, 4], 30_000)), 30_000);
    }
}

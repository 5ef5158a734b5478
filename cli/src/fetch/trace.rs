//! What `debug_traceBlockByNumber` with geth's `prestateTracer` tells about the state before a
//! block.
//!
//! A trace is advice. It lists what each transaction found, not what the block found: where an
//! earlier transaction, or a system call before the first one, changed a value without listing it,
//! the trace is of no use. geth leaves accounts out of the trace of the transaction that creates
//! them, and nodes before Prague leave out the authorities of EIP-7702. So each value is kept with
//! the transaction that found it, and whoever reads it earlier has to ask the node.

use super::node::{Node, NodeError};
use alloy::{
    eips::{eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS},
    primitives::{
        Address, Bytes, U256,
        map::{AddressMap, HashMap},
    },
    rpc::types::trace::geth::AccountState,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A value, and the index of the first transaction whose trace lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<T> {
    value: T,
    by: usize,
}

impl<T> Found<T> {
    /// The value, for a reader in transaction `reader`. `None` if the value comes too late for it:
    /// something that the trace does not list touched it in the meantime.
    pub(super) fn for_reader(&self, reader: usize) -> Option<&T> {
        (self.by <= reader).then_some(&self.value)
    }
}

/// Balance, nonce and code of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TracedAccount {
    pub(super) balance: U256,
    pub(super) nonce: u64,
    pub(super) code: Bytes,
}

/// The traces of a block, merged: the first appearance of each account and slot.
#[derive(Clone, Debug, Default)]
pub(super) struct TracedState {
    accounts: AddressMap<Found<TracedAccount>>,
    slots: HashMap<(Address, U256), Found<U256>>,
}

/// One transaction's part of the node's answer.
#[derive(Debug, Deserialize)]
struct TransactionTrace {
    result: Option<BTreeMap<Address, AccountState>>,
}

impl TracedState {
    /// Asks the node for the traces of a block.
    pub(super) async fn download(node: &Node, number: u64) -> Result<Self, NodeError> {
        let traces: Vec<TransactionTrace> = node.trace(number).await?;
        Ok(Self::merge(traces.into_iter().map(|trace| trace.result.unwrap_or_default())))
    }

    /// Merges the traces of all transactions, in block order.
    fn merge(traces: impl Iterator<Item = BTreeMap<Address, AccountState>>) -> Self {
        let mut merged = Self::default();
        for (by, trace) in traces.enumerate() {
            for (address, account) in trace {
                // System calls write to these two before the first transaction finds them.
                if [HISTORY_STORAGE_ADDRESS, BEACON_ROOTS_ADDRESS].contains(&address) {
                    continue;
                }
                for (slot, value) in account.storage {
                    let found = Found { value: value.into(), by };
                    merged.slots.entry((address, slot.into())).or_insert(found);
                }
                merged.accounts.entry(address).or_insert_with(|| Found {
                    value: TracedAccount {
                        balance: account.balance.unwrap_or_default(),
                        nonce: account.nonce.unwrap_or_default(),
                        code: account.code.unwrap_or_default(),
                    },
                    by,
                });
            }
        }
        merged
    }

    /// An account, if a trace lists it.
    pub(super) fn account(&self, address: Address) -> Option<&Found<TracedAccount>> {
        self.accounts.get(&address)
    }

    /// A slot, if a trace lists it.
    pub(super) fn slot(&self, address: Address, slot: U256) -> Option<&Found<U256>> {
        self.slots.get(&(address, slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::address;

    fn merge(traces: &str) -> TracedState {
        let traces: Vec<TransactionTrace> = serde_json::from_str(traces).unwrap();
        TracedState::merge(traces.into_iter().map(|trace| trace.result.unwrap_or_default()))
    }

    #[test]
    fn the_first_appearance_of_each_field_wins() {
        let state = merge(
            r#"[
                {"txHash": "0x01", "result": {"0x00000000000000000000000000000000000000aa":
                    {"balance": "0x5", "nonce": 7}}},
                {"error": "execution timeout"},
                {"result": {"0x00000000000000000000000000000000000000aa":
                    {"balance": "0x3", "nonce": 8, "code": "0x00", "storage": {
                    "0x0000000000000000000000000000000000000000000000000000000000000001":
                    "0x0000000000000000000000000000000000000000000000000000000000000009"}}}}
            ]"#,
        );
        let address = address!("0x00000000000000000000000000000000000000aa");
        let account = state.account(address).unwrap().for_reader(0).unwrap();
        assert_eq!((account.balance, account.nonce), (U256::from(5), 7));
        assert!(account.code.is_empty());
        let slot = state.slot(address, U256::ONE).unwrap();
        assert_eq!(slot.for_reader(2), Some(&U256::from(9)));
        assert_eq!(state.slot(address, U256::ZERO), None);
    }

    #[test]
    fn a_value_that_was_found_later_than_it_is_read_is_not_used() {
        let late = Found { value: (), by: 5 };
        assert_eq!(late.for_reader(4), None);
        assert_eq!(late.for_reader(5), Some(&()));
    }

    #[test]
    fn contracts_written_by_system_calls_are_left_out() {
        let state = merge(&format!(
            r#"[{{"result": {{"{HISTORY_STORAGE_ADDRESS}": {{"balance": "0x0"}},
                 "{BEACON_ROOTS_ADDRESS}": {{"balance": "0x0"}}}}}}]"#
        ));
        assert!(state.account(HISTORY_STORAGE_ADDRESS).is_none());
        assert!(state.account(BEACON_ROOTS_ADDRESS).is_none());
    }
}

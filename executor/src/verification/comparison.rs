//! One engine's output against another's.

use alloy_eips::eip7928::AccountChanges;
use alloy_primitives::{Address, B256, U256, hex};
use core::fmt;
use multilane_state::BlockOutput;
use revm::{
    database::{
        AccountRevert, BundleAccount, BundleState, RevertToSlot,
        states::{StorageSlot, reverts::AccountInfoRevert},
    },
    state::AccountInfo,
};
use std::collections::{BTreeMap, BTreeSet};

/// Where two outputs differ, and the two values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Where they differ.
    pub place: DifferencePlace,
    /// The value in the sequential output.
    pub sequential: String,
    /// The value in the parallel output.
    pub parallel: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: sequential {}, parallel {}", self.place, self.sequential, self.parallel)
    }
}

/// A place in a [`BlockOutput`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DifferencePlace {
    /// Number of receipts.
    ReceiptCount,
    /// A field of the receipt of a transaction.
    Receipt {
        /// Index of the transaction.
        transaction: usize,
        /// The field.
        field: &'static str,
    },
    /// The block's gas.
    GasUsed,
    /// The block's blob gas.
    BlobGasUsed,
    /// The request list at an index.
    Request(usize),
    /// A field of an account of the bundle.
    Account {
        /// The account.
        address: Address,
        /// The field.
        field: &'static str,
    },
    /// A storage slot of the bundle.
    Slot {
        /// The account.
        address: Address,
        /// The slot.
        slot: U256,
    },
    /// Code in the bundle, by its hash.
    Code(B256),
    /// Number of transitions that the bundle can revert.
    RevertCount,
    /// A field of the revert of an account.
    Revert {
        /// Index of the transition.
        transition: usize,
        /// The account.
        address: Address,
        /// The field.
        field: &'static str,
    },
    /// The revert of a storage slot.
    SlotRevert {
        /// Index of the transition.
        transition: usize,
        /// The account.
        address: Address,
        /// The slot.
        slot: U256,
    },
    /// The bundle's size of its state.
    StateSize,
    /// The bundle's size of its reverts.
    RevertsSize,
    /// Whether there is a block access list, and which accounts it has.
    AccessList,
    /// An account in the block access list.
    AccessListEntry(Address),
}

impl fmt::Display for DifferencePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReceiptCount => f.write_str("number of receipts"),
            Self::Receipt { transaction, field } => {
                write!(f, "receipt of transaction {transaction}, {field}")
            }
            Self::GasUsed => f.write_str("gas used"),
            Self::BlobGasUsed => f.write_str("blob gas used"),
            Self::Request(index) => write!(f, "request list {index}"),
            Self::Account { address, field } => write!(f, "account {address}, {field}"),
            Self::Slot { address, slot } => write!(f, "slot {slot:#x} of {address}"),
            Self::Code(hash) => write!(f, "code {hash}"),
            Self::RevertCount => f.write_str("number of reverts"),
            Self::Revert { transition, address, field } => {
                write!(f, "revert {transition} of account {address}, {field}")
            }
            Self::SlotRevert { transition, address, slot } => {
                write!(f, "revert {transition} of slot {slot:#x} of {address}")
            }
            Self::StateSize => f.write_str("size of the bundle's state"),
            Self::RevertsSize => f.write_str("size of the bundle's reverts"),
            Self::AccessList => f.write_str("block access list"),
            Self::AccessListEntry(address) => write!(f, "{address} in the block access list"),
        }
    }
}

/// Everything in which two outputs of the same block differ, in a fixed order.
///
/// Reverts are compared by account: their order within a transition comes from hash maps and means
/// nothing. An empty list means equality in every observable respect.
pub fn compare_outputs(sequential: &BlockOutput, parallel: &BlockOutput) -> Vec<Difference> {
    let mut differences = Differences::default();
    differences.receipts(sequential, parallel);
    differences.compare(DifferencePlace::GasUsed, &sequential.gas_used, &parallel.gas_used);
    differences.compare(
        DifferencePlace::BlobGasUsed,
        &sequential.blob_gas_used,
        &parallel.blob_gas_used,
    );
    let requests = sequential.requests.len().max(parallel.requests.len());
    for index in 0..requests {
        differences.compare_shown(
            DifferencePlace::Request(index),
            sequential.requests.get(index),
            parallel.requests.get(index),
            |request| optional(request, hex::encode_prefixed),
        );
    }
    differences.bundle(&sequential.bundle, &parallel.bundle);
    differences.access_list(sequential.access_list.as_deref(), parallel.access_list.as_deref());
    differences.0
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn compare_shown<T: PartialEq>(
        &mut self,
        place: DifferencePlace,
        sequential: T,
        parallel: T,
        show: impl Fn(T) -> String,
    ) {
        if sequential != parallel {
            let (sequential, parallel) = (show(sequential), show(parallel));
            self.0.push(Difference { place, sequential, parallel });
        }
    }

    fn compare<T: PartialEq + fmt::Debug>(
        &mut self,
        place: DifferencePlace,
        sequential: &T,
        parallel: &T,
    ) {
        self.compare_shown(place, sequential, parallel, |value| format!("{value:?}"));
    }

    fn receipts(&mut self, sequential: &BlockOutput, parallel: &BlockOutput) {
        let (left, right) = (&sequential.receipts, &parallel.receipts);
        self.compare(DifferencePlace::ReceiptCount, &left.len(), &right.len());
        for (transaction, (left, right)) in left.iter().zip(right).enumerate() {
            if left == right {
                continue;
            }
            let place = |field| DifferencePlace::Receipt { transaction, field };
            self.compare(place("type"), &left.tx_type(), &right.tx_type());
            self.compare(
                place("status"),
                &left.as_receipt().map(|receipt| receipt.status),
                &right.as_receipt().map(|receipt| receipt.status),
            );
            self.compare(
                place("cumulative gas used"),
                &left.cumulative_gas_used(),
                &right.cumulative_gas_used(),
            );
            self.compare(place("logs"), &left.logs(), &right.logs());
            self.compare(place("logs bloom"), &left.logs_bloom(), &right.logs_bloom());
        }
    }

    fn bundle(&mut self, left: &BundleState, right: &BundleState) {
        for address in union(left.state.keys(), right.state.keys()) {
            self.account(address, left.state.get(&address), right.state.get(&address));
        }
        for hash in union(left.contracts.keys(), right.contracts.keys()) {
            self.compare_shown(
                DifferencePlace::Code(hash),
                left.contracts.get(&hash),
                right.contracts.get(&hash),
                |code| optional(code, |code| format!("{} bytes", code.original_bytes().len())),
            );
        }
        self.compare(DifferencePlace::RevertCount, &left.reverts.len(), &right.reverts.len());
        for (transition, (left, right)) in left.reverts.iter().zip(right.reverts.iter()).enumerate()
        {
            self.reverts(transition, left, right);
        }
        self.compare(DifferencePlace::StateSize, &left.state_size, &right.state_size);
        self.compare(DifferencePlace::RevertsSize, &left.reverts_size, &right.reverts_size);
    }

    fn access_list(&mut self, left: Option<&[AccountChanges]>, right: Option<&[AccountChanges]>) {
        let place = DifferencePlace::AccessList;
        let (Some(left), Some(right)) = (left, right) else {
            self.compare_shown(place, left.is_some(), right.is_some(), presence);
            return;
        };
        let by_address = |list: &[AccountChanges]| -> BTreeMap<_, _> {
            list.iter().map(|changes| (changes.address, changes.clone())).collect()
        };
        let (left_by_address, right_by_address) = (by_address(left), by_address(right));
        for address in union(left_by_address.keys(), right_by_address.keys()) {
            self.compare_shown(
                DifferencePlace::AccessListEntry(address),
                left_by_address.get(&address),
                right_by_address.get(&address),
                |changes| optional(changes, |changes| format!("{changes:?}")),
            );
        }
        let addresses = |list: &[AccountChanges]| -> Vec<_> {
            list.iter().map(|changes| changes.address).collect()
        };
        self.compare(place, &addresses(left), &addresses(right));
    }

    fn account(
        &mut self,
        address: Address,
        left: Option<&BundleAccount>,
        right: Option<&BundleAccount>,
    ) {
        let place = |field| DifferencePlace::Account { address, field };
        let (Some(left), Some(right)) = (left, right) else {
            self.compare_shown(place("presence"), left.is_some(), right.is_some(), presence);
            return;
        };
        self.compare_shown(place("info"), left.info.as_ref(), right.info.as_ref(), show_info);
        self.compare_shown(
            place("original info"),
            left.original_info.as_ref(),
            right.original_info.as_ref(),
            show_info,
        );
        self.compare(place("status"), &left.status, &right.status);
        for slot in union(left.storage.keys(), right.storage.keys()) {
            self.compare_shown(
                DifferencePlace::Slot { address, slot },
                left.storage.get(&slot),
                right.storage.get(&slot),
                |value| optional(value, show_slot),
            );
        }
    }

    fn reverts(
        &mut self,
        transition: usize,
        left: &[(Address, AccountRevert)],
        right: &[(Address, AccountRevert)],
    ) {
        let place = |address, field| DifferencePlace::Revert { transition, address, field };
        // Every entry of an address is kept: a broken output may list one twice.
        let (left, right) = (by_address(left), by_address(right));
        for address in union(left.keys(), right.keys()) {
            let none = Vec::new();
            let (left, right) =
                (left.get(&address).unwrap_or(&none), right.get(&address).unwrap_or(&none));
            self.compare(place(address, "number of entries"), &left.len(), &right.len());
            for (left, right) in left.iter().zip(right) {
                self.account_revert(transition, address, left, right);
            }
        }
    }

    fn account_revert(
        &mut self,
        transition: usize,
        address: Address,
        left: &AccountRevert,
        right: &AccountRevert,
    ) {
        let place = |field| DifferencePlace::Revert { transition, address, field };
        self.compare_shown(place("info"), &left.account, &right.account, show_info_revert);
        self.compare(place("previous status"), &left.previous_status, &right.previous_status);
        self.compare(place("storage wipe"), &left.wipe_storage, &right.wipe_storage);
        for slot in union(left.storage.keys(), right.storage.keys()) {
            self.compare_shown(
                DifferencePlace::SlotRevert { transition, address, slot },
                left.storage.get(&slot),
                right.storage.get(&slot),
                |revert| optional(revert, show_slot_revert),
            );
        }
    }
}

/// The reverts of a transition by account.
fn by_address(reverts: &[(Address, AccountRevert)]) -> BTreeMap<Address, Vec<&AccountRevert>> {
    let mut by_address = BTreeMap::<_, Vec<_>>::new();
    for (address, revert) in reverts {
        by_address.entry(*address).or_default().push(revert);
    }
    by_address
}

/// The keys of two maps, sorted.
fn union<'a, K: Copy + Ord + 'a>(
    left: impl Iterator<Item = &'a K>,
    right: impl Iterator<Item = &'a K>,
) -> BTreeSet<K> {
    left.chain(right).copied().collect()
}

/// A value, or the word for its absence.
fn optional<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "absent".to_owned(), show)
}

fn presence(present: bool) -> String {
    if present { "present" } else { "absent" }.to_owned()
}

fn show_info(info: Option<&AccountInfo>) -> String {
    optional(info, |info| {
        format!("balance {} nonce {} code hash {}", info.balance, info.nonce, info.code_hash)
    })
}

fn show_slot(slot: &StorageSlot) -> String {
    format!("{:#x} -> {:#x}", slot.previous_or_original_value, slot.present_value)
}

fn show_info_revert(revert: &AccountInfoRevert) -> String {
    match revert {
        AccountInfoRevert::DoNothing => "unchanged".to_owned(),
        AccountInfoRevert::DeleteIt => "delete".to_owned(),
        AccountInfoRevert::RevertTo(info) => format!("to {}", show_info(Some(info))),
    }
}

fn show_slot_revert(revert: &RevertToSlot) -> String {
    match revert {
        RevertToSlot::Some(value) => format!("to {value:#x}"),
        RevertToSlot::Destroyed => "destroyed".to_owned(),
    }
}

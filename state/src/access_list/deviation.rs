//! Where a block access list differs from what the block did.

use crate::StateLocation;
use alloy_eips::eip7928::{
    AccountChanges, BlockAccessIndex, BlockAccessListValidationError, validate_block_access_list,
};
use alloy_primitives::{Address, U256};
use core::fmt;
use std::collections::BTreeMap;

/// Why a list is not that of its block (EIP-7928).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessListError {
    /// It is not in canonical form.
    #[error("malformed block access list: {0}")]
    Malformed(BlockAccessListValidationError),
    /// The block did something else.
    #[error("wrong block access list: {location}{}: {deviation}", Phase(*.index))]
    Deviation {
        /// When the difference shows first. `None` if it takes the whole block to see it.
        index: Option<BlockAccessIndex>,
        /// Where.
        location: StateLocation,
        /// What is different.
        deviation: Box<Deviation>,
    },
}

impl AccessListError {
    /// Index of the first transaction that differs, in a block of so many. `None` if it is not a
    /// transaction that does.
    pub fn transaction(&self, transactions: usize) -> Option<usize> {
        let Self::Deviation { index: Some(index), .. } = self else { return None };
        let transaction = usize::try_from(index.get()).ok()?.checked_sub(1)?;
        (transaction < transactions).then_some(transaction)
    }
}

/// " at index 5", or nothing.
struct Phase(Option<BlockAccessIndex>);

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => write!(f, " at index {index}"),
            None => Ok(()),
        }
    }
}

/// A difference between a list and its block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deviation {
    /// The block accesses it, and the list does not have it.
    NotListed,
    /// The list has it, and the block does not access it.
    NotAccessed,
    /// A change is not the listed one.
    Change {
        /// Of what.
        field: &'static str,
        /// The value that the list gives, if it lists a change.
        listed: Option<String>,
        /// The value that the block leaves, if it changes it.
        actual: Option<String>,
    },
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "no change".into());
        match self {
            Self::NotListed => f.write_str("accessed, but not listed"),
            Self::NotAccessed => f.write_str("listed, but not accessed"),
            Self::Change { field, listed, actual } => {
                write!(f, "{field}: listed {}, got {}", value(listed), value(actual))
            }
        }
    }
}

/// What a block really did, as far as it got.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Its list in canonical order.
    pub list: &'a [AccountChanges],
    /// Number of its transactions.
    pub transactions: usize,
    /// The first index that is not in the list, where the block ended early.
    pub end: Option<BlockAccessIndex>,
}

/// Whether a list could be that of a block of so many transactions: its order, and its indices.
///
/// # Errors
///
/// [`AccessListError::Malformed`].
pub fn check_form(listed: &[AccountChanges], transactions: usize) -> Result<(), AccessListError> {
    validate_block_access_list(listed, transactions).map_err(AccessListError::Malformed)
}

/// Compares a list with what its block did, up to where that ended. `first_access` knows when a
/// location was first accessed.
///
/// # Errors
///
/// With the first difference in block order.
pub fn first_deviation(
    listed: &[AccountChanges],
    recorded: Recorded<'_>,
    first_access: impl Fn(StateLocation) -> Option<BlockAccessIndex>,
) -> Result<(), AccessListError> {
    check_form(listed, recorded.transactions)?;
    if recorded.end.is_none() && listed == recorded.list {
        return Ok(());
    }
    let mut first = First { end: recorded.end, found: None, first_access };
    for (address, [listed, actual]) in by_key(listed, recorded.list, |account| account.address) {
        first.account(address, listed, actual);
    }
    match first.found {
        None => Ok(()),
        Some((index, location, deviation)) => {
            let index = (index != NEVER).then_some(index);
            Err(AccessListError::Deviation { index, location, deviation: Box::new(deviation) })
        }
    }
}

/// After every index of a block.
const NEVER: BlockAccessIndex = BlockAccessIndex::new(u64::MAX);

/// The items of two sides by their keys.
fn by_key<T, K: Ord>(
    listed: impl IntoIterator<Item = T>,
    actual: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> BTreeMap<K, [Option<T>; 2]> {
    let mut items = BTreeMap::<K, [Option<T>; 2]>::new();
    for item in listed {
        let [side, _] = items.entry(key(&item)).or_default();
        *side = Some(item);
    }
    for item in actual {
        let [_, side] = items.entry(key(&item)).or_default();
        *side = Some(item);
    }
    items
}

/// The first difference so far.
struct First<F> {
    end: Option<BlockAccessIndex>,
    found: Option<(BlockAccessIndex, StateLocation, Deviation)>,
    first_access: F,
}

impl<F: Fn(StateLocation) -> Option<BlockAccessIndex>> First<F> {
    fn consider(
        &mut self,
        index: BlockAccessIndex,
        location: StateLocation,
        deviation: impl FnOnce() -> Deviation,
    ) {
        let is_reached = self.end.is_none_or(|end| index < end);
        let is_earlier =
            self.found.as_ref().is_none_or(|(first, at, _)| (index, location) < (*first, *at));
        if is_reached && is_earlier {
            self.found = Some((index, location, deviation()));
        }
    }

    /// Whether a location is on one side only; if so, that is a difference.
    fn presence(&mut self, location: StateLocation, listed: bool, actual: bool) {
        match (listed, actual) {
            (false, true) => {
                let index = (self.first_access)(location).unwrap_or(NEVER);
                self.consider(index, location, || Deviation::NotListed);
            }
            (true, false) => self.consider(NEVER, location, || Deviation::NotAccessed),
            _ => {}
        }
    }

    fn account(
        &mut self,
        address: Address,
        listed: Option<&AccountChanges>,
        actual: Option<&AccountChanges>,
    ) {
        let location = StateLocation::Account(address);
        self.presence(location, listed.is_some(), actual.is_some());
        let sides = [listed, actual];
        self.changes(
            location,
            "balance",
            sides.map(|side| {
                let changes = side.into_iter().flat_map(|side| &side.balance_changes);
                changes.map(|it| (it.block_access_index, it.post_balance)).collect()
            }),
        );
        self.changes(
            location,
            "nonce",
            sides.map(|side| {
                let changes = side.into_iter().flat_map(|side| &side.nonce_changes);
                changes.map(|it| (it.block_access_index, it.new_nonce)).collect()
            }),
        );
        self.changes(
            StateLocation::Code(address),
            "code",
            sides.map(|side| {
                let changes = side.into_iter().flat_map(|side| &side.code_changes);
                changes.map(|it| (it.block_access_index, &it.new_code)).collect()
            }),
        );
        let [listed_slots, actual_slots] = sides.map(slots);
        for (key, [listed, actual]) in by_key(listed_slots, actual_slots, |(key, _)| *key) {
            let location = StateLocation::Slot(address, key);
            self.presence(location, listed.is_some(), actual.is_some());
            let sides = [listed, actual].map(|side| side.map(|(_, changes)| changes));
            self.changes(location, "value", sides.map(Option::unwrap_or_default));
        }
    }

    /// Compares the changes of one field. Both sides are in block order.
    fn changes<T: PartialEq + fmt::Display>(
        &mut self,
        location: StateLocation,
        field: &'static str,
        [listed, actual]: [Vec<(BlockAccessIndex, T)>; 2],
    ) {
        let same = listed.iter().zip(&actual).take_while(|(listed, actual)| listed == actual);
        let at = same.count();
        let next = [listed.get(at), actual.get(at)];
        let Some(index) = next.iter().flatten().map(|(index, _)| *index).min() else { return };
        let [listed, actual] = next.map(|change| {
            change.filter(|(at, _)| *at == index).map(|(_, value)| value.to_string())
        });
        self.consider(index, location, || Deviation::Change { field, listed, actual });
    }
}

/// The slots of an account, each with its changes: none, if it is only read.
fn slots(
    account: Option<&AccountChanges>,
) -> impl Iterator<Item = (U256, Vec<(BlockAccessIndex, U256)>)> {
    account.into_iter().flat_map(|account| {
        let changed = account.storage_changes.iter().map(|slot| {
            let changes = slot.changes.iter().map(|it| (it.block_access_index, it.new_value));
            (slot.slot, changes.collect())
        });
        changed.chain(account.storage_reads.iter().map(|key| (*key, Vec::new())))
    })
}

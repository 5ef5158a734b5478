//! A view of the parent state for predictions, over a state source.
//!
//! Opens its handle when it is first asked, remembers what it was told, and knows nothing where the
//! source fails: an error that matters comes up again when the block is executed.

use super::{
    bits::Bits,
    evaluate::StateView,
    pool::{Lent, Pool, Reusable},
};
use crate::source::StateSource;
use alloy_primitives::{Address, B256, U256, map::HashMap};
use core::fmt;
use multilane_state::StateLocation;
use revm::{
    Database,
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};

/// A slot of an account.
pub(super) type Slot = (Address, U256);

/// The state before a block, and what its transactions so far are expected to have made of it.
pub(crate) struct SourceView<'a, S: StateSource> {
    source: &'a S,
    /// `None` until something is asked for; then whether the source could be opened.
    handle: Option<Option<S::Db>>,
    slots: Lent<'a, Slots>,
}

/// What is known of slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The state before the block, where it was asked for.
    before: HashMap<StateLocation, Bits>,
    /// What transactions so far are expected to have stored, as far as that is known.
    expected: HashMap<StateLocation, Bits>,
}

impl Reusable for Slots {
    fn reset(&mut self) {
        self.before.clear();
        self.expected.clear();
    }
}

impl Slots {
    /// What a slot is expected to hold, given what it held before the block.
    fn as_expected(&self, slot: &StateLocation, before: Bits) -> Bits {
        if self.expected.is_empty() {
            return before;
        }
        self.expected.get(slot).copied().unwrap_or(before)
    }
}

impl<'a, S: StateSource> SourceView<'a, S> {
    /// A view over a source. Slots are remembered in memory of a pool.
    pub(super) fn new(source: &'a S, slots: &'a Pool<Slots>) -> Self {
        Self { source, handle: None, slots: slots.lend() }
    }

    /// Notes what a transaction is expected to store.
    pub(super) fn expect(&mut self, stored: impl IntoIterator<Item = (StateLocation, Bits)>) {
        self.slots.expected.extend(stored);
    }
}

/// The handle on a source, which is opened when it is first asked for. `None` if it cannot be opened.
fn opened<'h, S: StateSource>(
    handle: &'h mut Option<Option<S::Db>>,
    source: &S,
) -> Option<&'h mut S::Db> {
    handle.get_or_insert_with(|| source.open().ok()).as_mut()
}

/// The hash of an account's code, and the code.
fn code_of<DB: Database>(db: &mut DB, address: Address) -> Option<(B256, Bytecode)> {
    let AccountInfo { code_hash, code, .. } = db.basic(address).ok()??;
    if code_hash == KECCAK_EMPTY || code_hash.is_zero() {
        return None;
    }
    let code = match code {
        Some(code) => code,
        None => db.code_by_hash(code_hash).ok()?,
    };
    Some((code_hash, code))
}

impl<S: StateSource> StateView for SourceView<'_, S> {
    fn code(&mut self, address: Address) -> Option<(B256, Bytecode)> {
        let handle = opened(&mut self.handle, self.source)?;
        let (hash, code) = code_of(handle, address)?;
        match code.eip7702_address() {
            Some(delegate) => code_of(handle, delegate),
            None => Some((hash, code)),
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Bits {
        let location = StateLocation::Slot(address, slot);
        let Self { source, handle, slots } = self;
        let before = *slots.before.entry(location).or_insert_with(|| {
            let handle = opened(handle, *source);
            let value = handle.and_then(|handle| handle.storage(address, slot).ok());
            value.map_or(Bits::UNKNOWN, Bits::of)
        });
        slots.as_expected(&location, before)
    }

    fn is_followed(&self, address: Address, slot: U256) -> bool {
        self.slots.before.contains_key(&StateLocation::Slot(address, slot))
    }
}

impl<S: StateSource> fmt::Debug for SourceView<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceView")
            .field("slots", &self.slots.before.len())
            .finish_non_exhaustive()
    }
}

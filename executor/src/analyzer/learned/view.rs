//! A view of the parent state for predictions, over a state source.
//!
//! Opens its handle when it is first asked, remembers what it was told, and knows nothing where the
//! source fails: an error that matters comes up again when the block is executed.

use super::{bits::Bits, code_shape::CodeShapes, evaluate::StateView};
use crate::source::StateSource;
use alloy_primitives::{
    Address, B256, U256,
    map::{AddressMap, HashMap},
};
use core::fmt;
use revm::{
    Database,
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};

/// The state before a block, and what its transactions so far are expected to have made of it.
pub(crate) struct SourceView<'a, S: StateSource> {
    source: &'a S,
    /// `None` until something is asked for; then whether the source could be opened.
    handle: Option<Option<S::Db>>,
    shapes: &'a CodeShapes,
    codes: AddressMap<Option<(B256, Bytecode)>>,
    slots: HashMap<(Address, U256), Bits>,
}

impl<'a, S: StateSource> SourceView<'a, S> {
    pub(super) fn new(source: &'a S, shapes: &'a CodeShapes) -> Self {
        Self {
            source,
            handle: None,
            shapes,
            codes: AddressMap::default(),
            slots: HashMap::default(),
        }
    }

    fn handle(&mut self) -> Option<&mut S::Db> {
        self.handle.get_or_insert_with(|| self.source.open().ok()).as_mut()
    }

    /// Notes that a transaction is expected to write a slot, and what, as far as that is known.
    pub(super) fn expect(&mut self, address: Address, slot: U256, value: Bits) {
        self.slots.insert((address, slot), value);
    }

    /// What a slot holds, without interest in what becomes of it.
    pub(super) fn peek(&mut self, address: Address, slot: U256) -> Option<U256> {
        match self.slots.get(&(address, slot)) {
            Some(known) => known.whole(),
            None => self.handle()?.storage(address, slot).ok(),
        }
    }

    /// An account of the state before the block.
    pub(super) fn account(&mut self, address: Address) -> Option<AccountInfo> {
        self.handle()?.basic(address).ok()?
    }

    /// A code by its hash.
    pub(super) fn code_by_hash(&mut self, hash: B256) -> Option<Bytecode> {
        self.handle()?.code_by_hash(hash).ok()
    }

    fn load_code(&mut self, address: Address) -> Option<(B256, Bytecode)> {
        let handle = self.handle()?;
        let (hash, code) = code_of(handle, address)?;
        let (hash, code) = match code.eip7702_address() {
            Some(delegate) => code_of(handle, delegate)?,
            None => (hash, code),
        };
        Some((self.shapes.of(hash, &code), code))
    }
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
        if let Some(known) = self.codes.get(&address) {
            return known.clone();
        }
        let code = self.load_code(address);
        self.codes.insert(address, code.clone());
        code
    }

    fn storage(&mut self, address: Address, slot: U256) -> Bits {
        if let Some(known) = self.slots.get(&(address, slot)) {
            return *known;
        }
        let value = self.handle().and_then(|handle| handle.storage(address, slot).ok());
        let value = value.map_or(Bits::UNKNOWN, Bits::of);
        self.slots.insert((address, slot), value);
        value
    }

    fn is_followed(&self, address: Address, slot: U256) -> bool {
        self.slots.contains_key(&(address, slot))
    }
}

impl<S: StateSource> fmt::Debug for SourceView<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceView")
            .field("codes", &self.codes.len())
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

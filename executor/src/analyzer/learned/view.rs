//! A view of the parent state for predictions, over a state source.
//!
//! Opens its handle when it is first asked, remembers what it was told, and knows nothing where the
//! source fails: an error that matters comes up again when the block is executed.

use super::evaluate::StateView;
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

/// The state before a block.
pub(crate) struct SourceView<'a, S: StateSource> {
    source: &'a S,
    /// `None` until something is asked for; then whether the source could be opened.
    handle: Option<Option<S::Db>>,
    code_hashes: AddressMap<Option<B256>>,
    slots: HashMap<(Address, U256), Option<U256>>,
}

impl<'a, S: StateSource> SourceView<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self {
            source,
            handle: None,
            code_hashes: AddressMap::default(),
            slots: HashMap::default(),
        }
    }

    fn handle(&mut self) -> Option<&mut S::Db> {
        self.handle.get_or_insert_with(|| self.source.open().ok()).as_mut()
    }

    fn load_code_hash(&mut self, address: Address) -> Option<B256> {
        let handle = self.handle()?;
        let (hash, code) = code_of(handle, address)?;
        let delegate = code.as_ref().and_then(Bytecode::eip7702_address);
        match delegate {
            Some(delegate) => code_of(handle, delegate).map(|(hash, _)| hash),
            None => Some(hash),
        }
    }
}

/// The hash of an account's code, and the code.
fn code_of<DB: Database>(db: &mut DB, address: Address) -> Option<(B256, Option<Bytecode>)> {
    let AccountInfo { code_hash, code, .. } = db.basic(address).ok()??;
    if code_hash == KECCAK_EMPTY || code_hash.is_zero() {
        return None;
    }
    let code = match code {
        Some(code) => Some(code),
        None => db.code_by_hash(code_hash).ok(),
    };
    Some((code_hash, code))
}

impl<S: StateSource> StateView for SourceView<'_, S> {
    fn code_hash(&mut self, address: Address) -> Option<B256> {
        if let Some(known) = self.code_hashes.get(&address) {
            return *known;
        }
        let hash = self.load_code_hash(address);
        self.code_hashes.insert(address, hash);
        hash
    }

    fn storage(&mut self, address: Address, slot: U256) -> Option<U256> {
        if let Some(known) = self.slots.get(&(address, slot)) {
            return *known;
        }
        let value = self.handle().and_then(|handle| handle.storage(address, slot).ok());
        self.slots.insert((address, slot), value);
        value
    }
}

impl<S: StateSource> fmt::Debug for SourceView<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceView")
            .field("code_hashes", &self.code_hashes.len())
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

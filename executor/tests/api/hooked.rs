//! A database that does something before each read: counts it, delays it, refuses it, panics.

use alloy_primitives::{Address, B256, U256};
use multilane_state::StateLocation;
use revm::{
    DatabaseRef,
    database::{CacheDB, EmptyDB},
    state::{AccountInfo, Bytecode},
};
use std::sync::{Mutex, PoisonError};

/// One question to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Read {
    Account(Address),
    Code(B256),
    Slot(Address, U256),
    BlockHash(u64),
}

impl Read {
    /// What an error must say of it, where it is a location.
    pub(crate) fn location(self) -> Option<StateLocation> {
        match self {
            Self::Account(address) => Some(StateLocation::Account(address)),
            Self::Slot(address, slot) => Some(StateLocation::Slot(address, slot)),
            Self::Code(_) | Self::BlockHash(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the test refuses {0:?}")]
pub(crate) struct Refused(pub(crate) Read);

impl revm::context::DBErrorMarker for Refused {}

/// A database behind a hook. It may be shared by threads if the hook may.
#[derive(Debug)]
pub(crate) struct Hooked<'a, F> {
    pub(crate) db: &'a CacheDB<EmptyDB>,
    pub(crate) hook: F,
}

impl<F: Fn(Read) -> Result<(), Refused>> DatabaseRef for Hooked<'_, F> {
    type Error = Refused;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Refused> {
        (self.hook)(Read::Account(address))?;
        // Codes come by their hash, as real providers have it.
        let info = infallible(self.db.basic_ref(address));
        Ok(info.map(|info| AccountInfo { code: info.code.filter(Bytecode::is_empty), ..info }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Refused> {
        (self.hook)(Read::Code(code_hash))?;
        Ok(infallible(self.db.code_by_hash_ref(code_hash)))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Refused> {
        (self.hook)(Read::Slot(address, slot))?;
        Ok(infallible(self.db.storage_ref(address, slot)))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Refused> {
        (self.hook)(Read::BlockHash(number))?;
        Ok(infallible(self.db.block_hash_ref(number)))
    }
}

fn infallible<T>(result: Result<T, core::convert::Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

/// The reads of a run, in order and each once.
#[derive(Debug, Default)]
pub(crate) struct ReadLog(Mutex<Vec<Read>>);

impl ReadLog {
    pub(crate) fn note(&self, read: Read) {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !reads.contains(&read) {
            reads.push(read);
        }
    }

    pub(crate) fn contains(&self, read: Read) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&read)
    }

    pub(crate) fn into_reads(self) -> Vec<Read> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

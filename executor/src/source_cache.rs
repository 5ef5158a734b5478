//! What was read of the parent state, for whoever reads it again.
//!
//! Inspecting and building execute transactions more than once, and a read from a source may cost
//! more than the execution.

use crate::{CancellationToken, source::StateSource};
use alloy_primitives::{Address, B256, U256};
use core::fmt;
use dashmap::DashMap;
use revm::{
    Database,
    state::{AccountInfo, Bytecode},
};
use std::sync::Arc;

/// A source that asks another one for each thing once, as far as threads do not ask together.
pub(crate) struct CachedSource<'a, S> {
    source: &'a S,
    cache: Arc<SourceCache>,
}

/// What was read of a source.
#[derive(Debug, Default)]
pub(crate) struct SourceCache {
    accounts: DashMap<Address, Option<AccountInfo>>,
    slots: DashMap<(Address, U256), U256>,
    codes: DashMap<B256, Bytecode>,
    block_hashes: DashMap<u64, B256>,
}

impl<'a, S: StateSource> CachedSource<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self::over(source, Arc::default())
    }

    /// With what was read of the same source before.
    pub(crate) const fn over(source: &'a S, cache: Arc<SourceCache>) -> Self {
        Self { source, cache }
    }
}

impl<'c, S: StateSource> StateSource for &'c CachedSource<'_, S> {
    type Db = CachedDb<'c, S::Db>;
    type Error = S::Error;

    fn open(&self) -> Result<Self::Db, S::Error> {
        let source: &'c CachedSource<'_, S> = self;
        Ok(CachedDb { db: source.source.open()?, cache: &source.cache })
    }

    fn cancellation(&self) -> Option<&CancellationToken> {
        self.source.cancellation()
    }
}

impl<S> fmt::Debug for CachedSource<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedSource").finish_non_exhaustive()
    }
}

/// A handle on a [`CachedSource`].
pub(crate) struct CachedDb<'a, DB> {
    db: DB,
    cache: &'a SourceCache,
}

impl<DB: Database> Database for CachedDb<'_, DB> {
    type Error = DB::Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, DB::Error> {
        if let Some(known) = self.cache.accounts.get(&address) {
            return Ok(known.clone());
        }
        let info = self.db.basic(address)?;
        self.cache.accounts.insert(address, info.clone());
        Ok(info)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, DB::Error> {
        if let Some(known) = self.cache.codes.get(&code_hash) {
            return Ok(known.clone());
        }
        let code = self.db.code_by_hash(code_hash)?;
        self.cache.codes.insert(code_hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, DB::Error> {
        if let Some(known) = self.cache.slots.get(&(address, slot)) {
            return Ok(*known);
        }
        let value = self.db.storage(address, slot)?;
        self.cache.slots.insert((address, slot), value);
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, DB::Error> {
        if let Some(known) = self.cache.block_hashes.get(&number) {
            return Ok(*known);
        }
        let hash = self.db.block_hash(number)?;
        self.cache.block_hashes.insert(number, hash);
        Ok(hash)
    }
}

impl<DB> fmt::Debug for CachedDb<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedDb").finish_non_exhaustive()
    }
}

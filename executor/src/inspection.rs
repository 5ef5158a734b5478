//! A transaction that is executed once more, with an inspector looking on.
//!
//! The state is the one that the transaction found when its block was executed, so the execution is
//! the one that counted. *Must not know*: the engine, and in which order transactions are inspected.

use crate::{
    error::SourceError,
    source::SourceDb,
    source_cache::CachedDb,
    state_history::{StateAt, StateHistory},
};
use alloy_evm::{EvmEnv, eth::EthEvmContext, precompiles::PrecompilesMap};
use alloy_primitives::{Address, B256, U256, map::B256Map};
use core::fmt;
use revm::{
    Context, Database, DatabaseRef, InspectEvm, Inspector, MainBuilder, MainContext,
    context::{Evm, TxEnv},
    context_interface::result::{EVMError, HaltReason, ResultAndState},
    database::{CacheDB, DbAccount, EmptyDB},
    handler::{EthFrame, instructions::EthInstructions},
    interpreter::interpreter::EthInterpreter,
    precompile::{PrecompileSpecId, Precompiles},
    state::{AccountInfo, Bytecode},
};
use std::{collections::BTreeSet, error::Error};

/// A transaction of a block, as an inspector saw it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspected<I> {
    /// The inspector, which has seen this transaction and no other.
    pub inspector: I,
    /// The result, and the finalized state changes as revm's `transact` gives them: the fee of the
    /// beneficiary included, accounts and slots that were only read included.
    pub result: ResultAndState<HaltReason>,
    /// The state that the transaction found, as far as it or its inspector looked at it.
    pub prestate: TransactionPrestate,
}

/// What a transaction read, as it was before the transaction: the database that tracers which
/// describe the state before ask for.
///
/// It has the codes of all accounts in it, those that were not run included; where the source did
/// not give one, reading it is the source's error. An account or a slot that nobody looked at is
/// empty.
#[derive(Clone, Debug)]
pub struct TransactionPrestate {
    reads: CacheDB<EmptyDB>,
    /// Codes that were not needed, and that the source did not give.
    missing_codes: B256Map<SourceError>,
}

impl DatabaseRef for TransactionPrestate {
    type Error = SourceError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, SourceError> {
        let Ok(info) = self.reads.basic_ref(address);
        Ok(info)
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, SourceError> {
        if let Some(error) = self.missing_codes.get(&code_hash) {
            return Err(error.clone());
        }
        let Ok(code) = self.reads.code_by_hash_ref(code_hash);
        Ok(code)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, SourceError> {
        let Ok(value) = self.reads.storage_ref(address, slot);
        Ok(value)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, SourceError> {
        let Ok(hash) = self.reads.block_hash_ref(number);
        Ok(hash)
    }
}

/// The database that an inspected transaction runs on: the state that it found in its block, over a
/// handle on the parent state.
pub struct InspectionDb<'a, DB> {
    state: StateAt<'a, SourceDb<CachedDb<'a, DB>>>,
    reads: CacheDB<EmptyDB>,
}

impl<DB> InspectionDb<'_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    /// Takes what was read since the last time, and completes it with the codes.
    fn take_prestate(&mut self) -> TransactionPrestate {
        let reads = std::mem::replace(&mut self.reads, CacheDB::new(EmptyDB::new()));
        let mut prestate = TransactionPrestate { reads, missing_codes: B256Map::default() };
        let cache = &mut prestate.reads.cache;
        let is_unknown = |hash: &B256| !cache.contracts.contains_key(hash);
        let hashes = cache.accounts.values().map(|account| account.info.code_hash);
        // In an order of their own, so that a source is asked the same in every run.
        let unknown: BTreeSet<B256> = hashes.filter(is_unknown).collect();
        for hash in unknown {
            match self.state.code_by_hash(hash) {
                Ok(code) => drop(cache.contracts.insert(hash, code)),
                Err(error) => drop(prestate.missing_codes.insert(hash, error)),
            }
        }
        prestate
    }
}

impl<DB> Database for InspectionDb<'_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    type Error = SourceError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, SourceError> {
        let info = self.state.basic(address)?;
        match &info {
            Some(info) => self.reads.insert_account_info(address, info.clone()),
            None => {
                self.reads
                    .cache
                    .accounts
                    .entry(address)
                    .or_insert_with(DbAccount::new_not_existing);
            }
        }
        Ok(info)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, SourceError> {
        let code = self.state.code_by_hash(code_hash)?;
        self.reads.cache.contracts.insert(code_hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, SourceError> {
        let value = self.state.storage(address, slot)?;
        let account = self.reads.cache.accounts.entry(address).or_default();
        account.storage.insert(slot, value);
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, SourceError> {
        let hash = self.state.block_hash(number)?;
        self.reads.cache.block_hashes.insert(U256::from(number), hash);
        Ok(hash)
    }
}

impl<DB> fmt::Debug for InspectionDb<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InspectionDb").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What an inspector is shown, besides the interpreter.
pub(crate) type InspectionContext<'a, DB> = EthEvmContext<InspectionDb<'a, DB>>;

/// A reused revm instance of mainnet, between two inspectors.
pub(crate) struct InspectionEvm<'a, DB>(
    Evm<
        InspectionContext<'a, DB>,
        (),
        EthInstructions<EthInterpreter, InspectionContext<'a, DB>>,
        PrecompilesMap,
        EthFrame,
    >,
)
where
    DB: Database<Error: Error + Send + Sync + 'static>;

impl<'a, DB> InspectionEvm<'a, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    pub(crate) fn new(
        env: &EvmEnv,
        history: &'a StateHistory,
        parent: SourceDb<CachedDb<'a, DB>>,
    ) -> Self {
        let EvmEnv { cfg_env, block_env, .. } = env.clone();
        let precompiles = PrecompilesMap::from_static(Precompiles::new(
            PrecompileSpecId::from_spec_id(cfg_env.spec),
        ));
        let reads = CacheDB::new(EmptyDB::new());
        let evm = Context::mainnet()
            .with_block(block_env)
            .with_cfg(cfg_env)
            .with_db(InspectionDb { state: StateAt::new(history, 0, parent), reads })
            .build_mainnet()
            .with_precompiles(precompiles);
        Self(evm)
    }

    /// Executes the transaction at a position of the block. Gives the instance back, which a panic
    /// of the inspector or an error does not.
    pub(crate) fn inspect<I>(
        mut self,
        position: usize,
        tx: TxEnv,
        mut inspector: I,
    ) -> Result<(Self, Inspected<I>), EVMError<SourceError>>
    where
        I: Inspector<InspectionContext<'a, DB>>,
    {
        self.0.ctx.journaled_state.database.state.seek(position);
        let mut evm = self.0.with_inspector(&mut inspector);
        let result = evm.inspect_tx(tx)?;
        let mut evm = evm.with_inspector(());
        let prestate = evm.ctx.journaled_state.database.take_prestate();
        Ok((Self(evm), Inspected { inspector, result, prestate }))
    }
}

impl<DB> fmt::Debug for InspectionEvm<'_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InspectionEvm").finish_non_exhaustive()
    }
}

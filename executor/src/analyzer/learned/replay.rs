//! A transaction that has been executed, once more, with the [recorder](super::record) beside it.
//!
//! The state changes of a transaction hold everything that it has read, so they are state enough to
//! repeat it. That keeps learning out of the execution itself, and makes it the same for every
//! engine: only what has been committed is ever learned from.
//!
//! *Must not know*: profiles, or which transactions are worth it.

use super::{
    bits::Bits,
    code_shape::CodeShapes,
    evaluate::StateView,
    record::{Recorder, Sample},
};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256, map::B256Map};
use revm::{
    Context, Database, InspectEvm, MainBuilder, MainContext,
    context::TxEnv,
    primitives::KECCAK_EMPTY,
    state::{Account, AccountInfo, Bytecode, EvmState},
};
use std::convert::Infallible;

/// The state before a transaction, as its finalized changes tell it.
#[derive(Debug)]
pub(super) struct StateBefore<'a> {
    changes: &'a EvmState,
    codes: B256Map<&'a Bytecode>,
}

impl<'a> StateBefore<'a> {
    pub(super) fn of(changes: &'a EvmState) -> Self {
        let codes = changes
            .values()
            .filter_map(|account| Some((account.info.code_hash, account.info.code.as_ref()?)))
            .collect();
        Self { changes, codes }
    }

    /// Whether a slot has another value after the transaction.
    pub(super) fn was_written(&self, (address, slot): &(Address, U256)) -> bool {
        let account = self.changes.get(address);
        account.and_then(|account| account.storage.get(slot)).is_some_and(|slot| slot.is_changed())
    }

    /// What a slot held.
    fn slot(&self, address: Address, slot: U256) -> Option<U256> {
        Some(self.changes.get(&address)?.storage.get(&slot)?.original_value)
    }

    fn account(&self, address: Address) -> Option<&'a Account> {
        self.changes.get(&address).filter(|account| !account.is_loaded_as_not_existing())
    }
}

/// The code that runs when an account is called, with its hash, as the finalized changes of a
/// transaction that called it tell.
pub(super) fn called_code(changes: &EvmState, to: Address) -> Option<(B256, &Bytecode)> {
    let code_of = |address| {
        let info = &changes.get(address)?.info;
        (!info.is_empty_code_hash()).then_some((info.code_hash, info.code.as_ref()?))
    };
    let (hash, code) = code_of(&to)?;
    match code.eip7702_address() {
        Some(delegate) => code_of(&delegate),
        None => Some((hash, code)),
    }
}

impl StateView for StateBefore<'_> {
    fn code(&mut self, address: Address) -> Option<(B256, Bytecode)> {
        let code_of = |address| {
            let hash = self.account(address)?.original_info().code_hash;
            (hash != KECCAK_EMPTY).then_some((hash, *self.codes.get(&hash)?))
        };
        let (hash, code) = code_of(address)?;
        let (hash, code) = match code.eip7702_address() {
            Some(delegate) => code_of(delegate)?,
            None => (hash, code),
        };
        Some((hash, code.clone()))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Bits {
        self.slot(address, slot).map_or(Bits::UNKNOWN, Bits::of)
    }

    fn is_followed(&self, _: Address, _: U256) -> bool {
        false
    }
}

impl Database for StateBefore<'_> {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.account(address).map(|account| {
            let info = account.original_info();
            AccountInfo { code: None, account_id: None, ..info }
        }))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.codes.get(&code_hash).map(|code| (*code).clone()).unwrap_or_default())
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.slot(address, slot).unwrap_or_default())
    }

    fn block_hash(&mut self, _: u64) -> Result<B256, Infallible> {
        // What follows from a block's hash cannot be foreseen anyway.
        Ok(B256::ZERO)
    }
}

/// Repeats a transaction and gives what its calls teach, inner calls first.
pub(super) fn replay(
    shapes: &CodeShapes,
    env: &EvmEnv,
    tx: &TxEnv,
    before: StateBefore<'_>,
) -> Vec<Sample> {
    let EvmEnv { cfg_env, block_env, .. } = env.clone();
    let recorder = Recorder::new(shapes);
    let mut evm = Context::mainnet()
        .with_block(block_env)
        .with_cfg(cfg_env)
        .with_db(before)
        .build_mainnet_with_inspector(recorder);
    match evm.inspect_one_tx(tx.clone()) {
        Ok(_) => evm.inspector.into_samples(),
        // Something that the changes do not tell, such as a balance that was never looked at.
        Err(_) => Vec::new(),
    }
}

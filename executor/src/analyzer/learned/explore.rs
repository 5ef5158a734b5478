//! Exploring: a function that nobody has called yet is called, for nobody to see.
//!
//! A router's template names a token that has never been seen. Its function is executed on the
//! state as it is, with the inputs that are known, and the [recorder](super::record) beside it; so
//! it has a template before the first real call. What was not known of the inputs is one: an amount
//! that a transfer does not refuse.
//!
//! *Must not know*: when that is worth it.

use super::{
    bits::Bits,
    code_shape::CodeShapes,
    evaluate::StateView,
    profile::Profile,
    record::{FrameInputs, Recorder, Sample},
    template::TemplateKey,
    view::SourceView,
};
use crate::source::StateSource;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256};
use revm::{
    Context, Database, InspectEvm, MainBuilder, MainContext,
    context::TxEnv,
    primitives::{KECCAK_EMPTY, TxKind},
    state::{AccountInfo, Bytecode, EvmState},
};
use std::convert::Infallible;

/// Gas that an explored call may use.
const GAS_LIMIT: u64 = 1_500_000;

/// What an attempt counts that comes to nothing, in gas.
const MISFIT_GAS: u64 = 21_000;

/// A call for which there is no template.
#[derive(Clone, Debug)]
pub(super) struct UnknownCall {
    pub(super) key: TemplateKey,
    pub(super) inputs: FrameInputs,
}

/// Executes an unknown call, and learns from it. Gives the gas that it took.
pub(super) fn explore<S: StateSource>(
    profile: &Profile,
    env: &EvmEnv,
    view: &mut SourceView<'_, S>,
    call: &UnknownCall,
) -> u64 {
    let EvmEnv { cfg_env, mut block_env, .. } = env.clone();
    block_env.basefee = 0;
    block_env.gas_limit = u64::MAX;
    let FrameInputs { code, this, caller, value, calldata } = call.inputs.clone();
    let tx = TxEnv {
        caller,
        kind: TxKind::Call(this),
        value,
        data: calldata,
        gas_limit: GAS_LIMIT,
        chain_id: None,
        ..TxEnv::default()
    };
    let shapes = &profile.shapes;
    let stage = Stage { view, shapes, caller, this, code_hash: code.hash_slow(), code };
    let mut evm = Context::mainnet()
        .with_block(block_env)
        .with_cfg(cfg_env)
        .with_db(stage)
        .build_mainnet_with_inspector(Recorder::new(shapes));
    // It cannot be called like this at all.
    let Ok(result) = evm.inspect_tx(tx) else { return MISFIT_GAS };
    let recorder = std::mem::replace(&mut evm.inspector, Recorder::new(shapes));
    let samples: Vec<Sample> = recorder.into_samples();
    let stage = &mut evm.ctx.journaled_state.database;
    profile.merge_explored(&samples, stage, env, &call.inputs, &result.state);
    result.result.tx_gas_used()
}

/// State as the explored call finds it: a caller that can pay, and the code where it is to run.
struct Stage<'a, 's, S: StateSource> {
    view: &'a mut SourceView<'s, S>,
    shapes: &'a CodeShapes,
    caller: Address,
    this: Address,
    code_hash: B256,
    code: Bytecode,
}

impl<S: StateSource> Database for Stage<'_, '_, S> {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        let info = self.view.account(address);
        if address == self.this {
            let info = info.unwrap_or_default();
            let code = Some(self.code.clone());
            return Ok(Some(AccountInfo { code_hash: self.code_hash, code, ..info }));
        }
        if address == self.caller {
            return Ok(Some(AccountInfo {
                balance: U256::MAX >> 64,
                nonce: 0,
                code_hash: KECCAK_EMPTY,
                account_id: None,
                code: Some(Bytecode::default()),
            }));
        }
        Ok(info)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, Infallible> {
        if code_hash == self.code_hash {
            return Ok(self.code.clone());
        }
        Ok(self.view.code_by_hash(code_hash).unwrap_or_default())
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.view.peek(address, slot).unwrap_or_default())
    }

    fn block_hash(&mut self, _: u64) -> Result<B256, Infallible> {
        Ok(B256::ZERO)
    }
}

impl<S: StateSource> StateView for Stage<'_, '_, S> {
    fn code(&mut self, address: Address) -> Option<(B256, Bytecode)> {
        if address == self.this {
            return Some((self.shapes.of(self.code_hash, &self.code), self.code.clone()));
        }
        self.view.code(address)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Bits {
        self.view.peek(address, slot).map_or(Bits::UNKNOWN, Bits::of)
    }

    fn is_followed(&self, _: Address, _: U256) -> bool {
        false
    }
}

/// Whether an explored call would change a slot: it did, or it stored something that depends on
/// what was not known.
pub(super) fn would_write(
    changes: &EvmState,
    (address, slot): &(Address, U256),
    is_constant: bool,
) -> bool {
    let account = changes.get(address);
    let slot = account.and_then(|account| account.storage.get(slot));
    !is_constant || slot.is_some_and(|slot| slot.is_changed())
}

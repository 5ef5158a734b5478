//! A handler that keeps the fee back instead of paying the beneficiary.
//!
//! Every transaction pays the beneficiary, so paying it during execution would make each depend on
//! the one before. The fee is added when the transaction commits. With this, the beneficiary's
//! account is read only where a transaction really looks at it.

use revm::{
    context_interface::{Block, Cfg, ContextTr, JournalTr, Transaction, result::HaltReason},
    handler::{EvmTr, EvmTrError, FrameResult, FrameTr, Handler},
    interpreter::interpreter_action::FrameInit,
    primitives::{U256, hardfork::SpecId},
    state::EvmState,
};
use std::{cell::Cell, marker::PhantomData};

/// Mainnet's rules with a deferred fee.
pub(super) struct DeferredFeeHandler<EVM, ERROR> {
    fee: Cell<U256>,
    types: PhantomData<(EVM, ERROR)>,
}

impl<EVM, ERROR> DeferredFeeHandler<EVM, ERROR> {
    pub(super) const fn new() -> Self {
        Self { fee: Cell::new(U256::ZERO), types: PhantomData }
    }

    /// The fee of the transaction that ran last, in wei.
    pub(super) fn fee(&self) -> U256 {
        self.fee.get()
    }
}

impl<EVM, ERROR, FRAME> Handler for DeferredFeeHandler<EVM, ERROR>
where
    EVM: EvmTr<Context: ContextTr<Journal: JournalTr<State = EvmState>>, Frame = FRAME>,
    ERROR: EvmTrError<EVM>,
    FRAME: FrameTr<FrameResult = FrameResult, FrameInit = FrameInit>,
{
    type Evm = EVM;
    type Error = ERROR;
    type HaltReason = HaltReason;

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        exec_result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        let (block, tx, cfg, ..) = evm.ctx().all_mut();
        let base_fee = u128::from(block.basefee());
        let price = tx.effective_gas_price(base_fee);
        // EIP-1559: the base fee is burnt.
        let kept = if cfg.spec().into().is_enabled_in(SpecId::LONDON) {
            price.saturating_sub(base_fee)
        } else {
            price
        };
        // EIP-8037: gas left in the reservoir has not been used.
        let gas = exec_result.gas();
        let used = gas.used().saturating_sub(gas.reservoir());
        self.fee.set(U256::from(kept * u128::from(used)));
        Ok(())
    }
}

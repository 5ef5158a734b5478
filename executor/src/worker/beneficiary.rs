//! A handler that keeps the fee back instead of paying the beneficiary.
//!
//! Every transaction pays the beneficiary, so paying it during execution would make each depend on
//! the one before. The fee is added when the transaction commits. With this, the beneficiary's
//! account is read only where a transaction really looks at it, and then it is paid on the spot:
//! what that account goes through in the rest of the transaction is revm's business.

use super::RevmEvm;
use crate::{backend::Recorder, error::SourceError};
use alloy_evm::eth::EthEvmContext;
use revm::{
    context_interface::{
        Block, Cfg, Transaction,
        result::{EVMError, HaltReason},
    },
    handler::{FrameResult, Handler, post_execution},
    primitives::{U256, hardfork::SpecId},
};
use std::{cell::Cell, marker::PhantomData};

/// Mainnet's rules with a deferred fee.
pub(crate) struct DeferredFeeHandler<DB> {
    fee: Cell<Option<U256>>,
    types: PhantomData<DB>,
}

impl<DB> DeferredFeeHandler<DB> {
    pub(crate) const fn new() -> Self {
        Self { fee: Cell::new(None), types: PhantomData }
    }

    /// What is still owed to the beneficiary, in wei. `None` if it has been paid, or no fee is
    /// charged.
    pub(crate) fn owed(&self) -> Option<U256> {
        self.fee.get()
    }
}

impl<DB> Handler for DeferredFeeHandler<DB>
where
    DB: Recorder,
{
    type Evm = RevmEvm<DB>;
    type Error = EVMError<SourceError>;
    type HaltReason = HaltReason;

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        exec_result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        let context: &mut EthEvmContext<DB> = &mut evm.ctx;
        if context.cfg.is_fee_charge_disabled() {
            return Ok(());
        }
        if context.journaled_state.inner.state.contains_key(&context.block.beneficiary) {
            return post_execution::reward_beneficiary(context, exec_result.gas())
                .map_err(Into::into);
        }
        let base_fee = u128::from(context.block.basefee());
        let price = context.tx.effective_gas_price(base_fee);
        // EIP-1559: the base fee is burnt.
        let kept = if context.cfg.spec.is_enabled_in(SpecId::LONDON) {
            price.saturating_sub(base_fee)
        } else {
            price
        };
        // EIP-8037: gas left in the reservoir has not been used.
        let gas = exec_result.gas();
        let used = gas.used().saturating_sub(gas.reservoir());
        self.fee.set(Some(U256::from(kept * u128::from(used))));
        Ok(())
    }
}

//! Gas admission: does a transaction still fit into its block?
//!
//! alloy-evm checks this before it executes a transaction, which the commit half of its executor
//! does not repeat. The order of a serial run is kept: a transaction that does not fit is reported
//! as such even where it would be invalid for another reason as well.

use alloy_evm::{EvmEnv, block::BlockValidationError};
use revm::{
    context_interface::{Cfg, result::ExecutionResult},
    primitives::hardfork::SpecId,
};

/// The block's gas, as transactions use it up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GasAdmission {
    block_gas_limit: u64,
    tx_gas_limit_cap: u64,
    /// EIP-8037: state gas has a budget of its own.
    two_dimensions: bool,
    used: u64,
    regular_used: u64,
    state_used: u64,
}

impl GasAdmission {
    pub(crate) fn new(env: &EvmEnv<SpecId>) -> Self {
        Self {
            block_gas_limit: env.block_env.gas_limit,
            tx_gas_limit_cap: env.cfg_env.tx_gas_limit_cap(),
            two_dimensions: env.cfg_env.enable_amsterdam_eip8037,
            used: 0,
            regular_used: 0,
            state_used: 0,
        }
    }

    /// Checks a transaction's gas limit against what is left.
    pub(crate) fn admit(&self, gas_limit: u64) -> Result<(), BlockValidationError> {
        let used = if self.two_dimensions { self.regular_used } else { self.used };
        self.fits(gas_limit.min(self.tx_gas_limit_cap), used)?;
        if self.two_dimensions {
            self.fits(gas_limit, self.state_used)?;
        }
        Ok(())
    }

    /// Gas that is left for certain, however a transaction divides it.
    pub(crate) fn available(&self) -> u64 {
        let used =
            if self.two_dimensions { self.regular_used.max(self.state_used) } else { self.used };
        self.block_gas_limit.saturating_sub(used)
    }

    fn fits(&self, transaction_gas_limit: u64, used: u64) -> Result<(), BlockValidationError> {
        let block_available_gas = self.block_gas_limit.saturating_sub(used);
        if transaction_gas_limit <= block_available_gas {
            return Ok(());
        }
        Err(BlockValidationError::TransactionGasLimitMoreThanAvailableBlockGas {
            transaction_gas_limit,
            block_available_gas,
        })
    }

    /// Counts a committed transaction.
    pub(crate) fn record<H>(&mut self, result: &ExecutionResult<H>) {
        let gas = result.gas();
        self.used += gas.tx_gas_used();
        self.regular_used += gas.block_regular_gas_used();
        self.state_used += gas.block_state_gas_used();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::context_interface::result::{HaltReason, Output, ResultGas, SuccessReason};

    #[test]
    fn what_is_used_is_gone() {
        let mut env = EvmEnv::<SpecId>::default();
        env.block_env.gas_limit = 100_000;
        let mut admission = GasAdmission::new(&env);
        assert!(admission.admit(100_000).is_ok());
        assert!(admission.admit(100_001).is_err());
        admission.record(&ExecutionResult::<HaltReason>::Success {
            reason: SuccessReason::Stop,
            gas: ResultGas::default().with_total_gas_spent(40_000),
            logs: Vec::new(),
            output: Output::Call(Default::default()),
        });
        assert_eq!(admission.available(), 60_000);
        assert!(admission.admit(60_000).is_ok());
        let error = admission.admit(60_001).unwrap_err();
        assert!(error.to_string().contains("60001") && error.to_string().contains("60000"));
    }
}

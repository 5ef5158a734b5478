//! Mainnet's EVM for backends that differ in little.

use super::{BackendDb, BackendEvm, BackendOutcome, Payment};
use crate::{SourceError, worker};
use alloy_evm::{EvmEnv, precompiles::PrecompilesMap};
use core::fmt;
use revm::{
    context::{ContextSetters, TxEnv},
    context_interface::{
        Block, Transaction,
        result::{EVMError, ResultAndState},
    },
    handler::Handler,
};
use worker::{DeferredFeeHandler, RevmEvm};

/// Mainnet's EVM over a backend's database: instructions that are watched, and a fee that is left
/// owed. Its rules are [`BackendRules::mainnet`](super::BackendRules::mainnet).
pub struct MainnetEvm<'evm>(RevmEvm<BackendDb<'evm>>);

impl<'evm> MainnetEvm<'evm> {
    /// An EVM with the precompiles of its fork.
    pub fn new(env: &EvmEnv, db: BackendDb<'evm>) -> Self {
        let mut evm = worker::mainnet_evm(env, db);
        worker::watch_balances(&mut evm.instruction);
        Self(evm)
    }

    /// The precompiles, for adding others.
    ///
    /// A precompile that looks at balances or nonces, through the journal, is not noticed doing so:
    /// with one, do not claim that [balances commute](super::BackendRules::balances_commute). Name
    /// new ones in [`BackendRules::precompiles`](super::BackendRules::precompiles) as well, or in
    /// [`ordered`](super::BackendRules::ordered) if they keep state beside the journal.
    pub const fn precompiles_mut(&mut self) -> &mut PrecompilesMap {
        &mut self.0.precompiles
    }
}

impl BackendEvm for MainnetEvm<'_> {
    fn transact(&mut self, tx: &TxEnv) -> Result<BackendOutcome, EVMError<SourceError>> {
        let handler = &mut DeferredFeeHandler::new();
        self.0.ctx.set_tx(tx.clone());
        let result = handler.run(&mut self.0);
        // After an error too: what was loaded must not leak into the next transaction.
        let state = self.0.ctx.journaled_state.inner.finalize();
        let mut outcome = BackendOutcome::from(ResultAndState { result: result?, state });
        let to = self.0.ctx.block.beneficiary();
        outcome.owed.extend(handler.owed().map(|amount| Payment { to, amount }));
        outcome.sender_balance_min = tx.max_balance_spending().ok();
        Ok(outcome)
    }
}

impl fmt::Debug for MainnetEvm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MainnetEvm").finish_non_exhaustive()
    }
}

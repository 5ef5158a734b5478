//! Any alloy-evm EVM as a backend.

use super::{BackendDb, BackendEvm, BackendOutcome, BackendRules, EvmBackend};
use crate::SourceError;
use alloy_evm::{Evm, EvmEnv, EvmFactory};
use alloy_primitives::Address;
use revm::{
    context::{BlockEnv, TxEnv},
    context_interface::result::{EVMError, HaltReason},
    primitives::hardfork::SpecId,
};

/// A backend that executes transactions with the EVMs of an alloy-evm [`EvmFactory`].
///
/// Right for every factory, and fast where transactions have little to do with each other *and*
/// with the beneficiary. An alloy-evm EVM pays the beneficiary itself, so two transactions that pay
/// the same one conflict: write an [`EvmBackend`] that leaves the fee [owed](BackendOutcome::owed)
/// for a chain with fees.
#[derive(Clone, Debug)]
pub struct FactoryBackend<F> {
    factory: F,
    ordered: Vec<Address>,
}

impl<F> FactoryBackend<F> {
    /// A backend over a factory.
    pub fn new(factory: F) -> Self {
        Self { factory, ordered: Vec::new() }
    }

    /// Names precompiles that keep state beside the journal. See [`BackendRules::ordered`].
    #[must_use]
    pub fn with_ordered(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.ordered.extend(addresses);
        self
    }
}

impl<F> EvmBackend for FactoryBackend<F>
where
    F: EvmFactory<
            Tx = TxEnv,
            HaltReason = HaltReason,
            Spec = SpecId,
            BlockEnv = BlockEnv,
            Error<SourceError> = EVMError<SourceError>,
        > + Send
        + Sync
        + 'static,
{
    fn rules(&self, _env: &EvmEnv) -> BackendRules {
        BackendRules::default().with_ordered(self.ordered.iter().copied())
    }

    fn create_evm<'evm>(&self, env: &EvmEnv, db: BackendDb<'evm>) -> Box<dyn BackendEvm + 'evm> {
        Box::new(FactoryEvm(self.factory.create_evm(db, env.clone())))
    }
}

/// An EVM of alloy-evm's kind.
#[derive(Debug)]
struct FactoryEvm<E>(E);

impl<E> BackendEvm for FactoryEvm<E>
where
    E: Evm<Tx = TxEnv, HaltReason = HaltReason, Error = EVMError<SourceError>>,
{
    fn transact(&mut self, tx: &TxEnv) -> Result<BackendOutcome, EVMError<SourceError>> {
        self.0.transact_raw(tx.clone()).map(BackendOutcome::from)
    }
}

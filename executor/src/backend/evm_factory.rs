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

    fn create_evm<'evm>(
        &'evm self,
        env: &EvmEnv,
        db: BackendDb<'evm>,
    ) -> Box<dyn BackendEvm + 'evm> {
        let env = env.clone();
        let create = move || self.factory.create_evm(db.clone(), env.clone());
        Box::new(FactoryEvm { evm: create(), create })
    }
}

/// An EVM of alloy-evm's kind.
struct FactoryEvm<E, C> {
    evm: E,
    create: C,
}

impl<E, C> BackendEvm for FactoryEvm<E, C>
where
    E: Evm<Tx = TxEnv, HaltReason = HaltReason, Error = EVMError<SourceError>>,
    C: Fn() -> E,
{
    fn transact(&mut self, tx: &TxEnv) -> Result<BackendOutcome, EVMError<SourceError>> {
        let result = self.evm.transact_raw(tx.clone());
        if result.is_err() {
            // What was loaded stays in the journal of an EVM that has failed, and an alloy-evm EVM
            // cannot be told to forget it.
            self.evm = (self.create)();
        }
        result.map(BackendOutcome::from)
    }
}

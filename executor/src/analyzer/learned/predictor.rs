//! The predictions of one block, transaction by transaction, by what a profile has learned.
//!
//! *Must not know*: what predictions are for.

use super::{
    evaluate::{Extent, Path, StateView},
    forecaster::{Forecast, Forecaster, LearnedPrediction},
    profile::Profile,
    template::TemplateKey,
    view::{Slot, SourceView},
};
use crate::source::StateSource;
use alloy_evm::EvmEnv;
use alloy_primitives::B256;
use revm::{context::TxEnv, context_interface::Transaction, primitives::TxKind};

/// What an instruction that is walked through counts, in gas.
const INSTRUCTION_GAS: u64 = 3;

/// Predicts the transactions of one block by what a [`Profile`] has learned.
#[derive(Debug)]
pub struct ProfilePredictor<'a, S: StateSource> {
    forecaster: Forecaster<'a, SourceView<'a, S>>,
    walking: Walking,
}

/// Whether code is walked through where no template knows what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walking {
    /// As long as the profile's allowance lasts.
    AsAllowed,
    /// Always.
    Always,
}

impl<'a, S: StateSource> ProfilePredictor<'a, S> {
    /// A predictor for one block: its environment, and the state before it.
    pub(super) fn new(profile: &'a Profile, env: &'a EvmEnv, source: &'a S) -> Self {
        let view = SourceView::new(source, &profile.pools.slots);
        Self { forecaster: Forecaster::new(profile, env, view), walking: Walking::AsAllowed }
    }

    /// Walks through whatever no template knows, without regard to the profile's allowance.
    #[must_use]
    pub const fn walking_always(mut self) -> Self {
        self.walking = Walking::Always;
        self
    }

    /// Everything that a transaction is expected to access. `None` if it calls nothing that has been
    /// learned. Where it goes a way that nobody has gone, its code is walked through.
    ///
    /// Transactions are asked for in block order: what one is expected to write is what the next
    /// one finds.
    pub fn predict(&mut self, tx: &TxEnv) -> Option<LearnedPrediction> {
        if self.forecaster.profile.is_empty() {
            return None;
        }
        let Forecast { prediction, .. } = self.forecast(tx)?;
        let Forecaster { desk, view, .. } = &mut self.forecaster;
        view.expect(desk.stored());
        Some(prediction)
    }

    /// Everything that a transaction is expected to access, without consequences for the next one.
    pub(crate) fn expect(&mut self, tx: &TxEnv) -> Option<LearnedPrediction> {
        self.forecast(tx).map(|forecast| forecast.prediction)
    }

    /// How a transaction comes to those of some slots that it is expected to access, by templates:
    /// a walk leads past their sites.
    pub(super) fn paths(&mut self, tx: &TxEnv, slots: &[Slot]) -> Vec<(Slot, Path)> {
        let forecast = self.forecaster.forecast(tx, Extent::Everything, false, slots);
        forecast.map(|forecast| forecast.paths).unwrap_or_default()
    }

    /// The key of the function that a transaction calls, if there is a template for it.
    pub(super) fn key(&mut self, tx: &TxEnv) -> Option<TemplateKey> {
        self.forecaster.resolve(tx).map(|(_, resolved)| resolved.key)
    }

    /// Whether transactions that call the same function are often in each other's way.
    pub(super) fn is_dense(&mut self, tx: &TxEnv) -> bool {
        self.forecaster
            .resolve(tx)
            .is_some_and(|(_, resolved)| resolved.standing.traffic.is_dense())
    }

    /// What the predictor goes by.
    pub(super) const fn profile(&self) -> &'a Profile {
        self.forecaster.profile
    }

    fn forecast(&mut self, tx: &TxEnv) -> Option<Forecast> {
        let allowance = &self.forecaster.profile.walking;
        let walks = self.walking == Walking::Always || allowance.is_left();
        let forecast = self.forecaster.forecast(tx, Extent::Everything, walks, &[])?;
        if self.walking == Walking::AsAllowed {
            allowance.take(forecast.walked as u64 * INSTRUCTION_GAS);
        }
        Some(forecast)
    }

    /// keccak-256 of the code that a transaction calls, if it calls any.
    pub fn called_code(&mut self, tx: &TxEnv) -> Option<B256> {
        match tx.kind() {
            TxKind::Call(to) => self.forecaster.view.code(to).map(|(_, code)| code.hash_slow()),
            TxKind::Create => None,
        }
    }
}

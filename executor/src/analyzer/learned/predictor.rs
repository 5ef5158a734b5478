//! The predictions of one block, transaction by transaction, by what a profile has learned.
//!
//! *Must not know*: what predictions are for.

use super::{
    evaluate::{Extent, Path, StateView},
    explore::{UnknownCall, explore},
    forecaster::{Forecast, Forecaster, LearnedPrediction},
    profile::Profile,
    template::TemplateKey,
    view::{Slot, SourceView},
};
use crate::source::StateSource;
use alloy_evm::EvmEnv;
use alloy_primitives::B256;
use revm::{context::TxEnv, context_interface::Transaction, primitives::TxKind};

/// Functions of which it is remembered that they were explored.
const EXPLORED_MAX: usize = 1 << 16;
/// How often a prediction is made anew, because what it asked for has been explored.
const ROUNDS_MAX: usize = 4;

/// Predicts the transactions of one block by what a [`Profile`] has learned.
#[derive(Debug)]
pub struct ProfilePredictor<'a, S: StateSource> {
    forecaster: Forecaster<'a, SourceView<'a, S>>,
    exploring: Exploring,
    explored_gas: u64,
}

/// Whether functions that nobody has called are executed to learn them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exploring {
    /// As long as the profile's allowance lasts.
    AsAllowed,
    /// Always.
    Always,
}

impl<'a, S: StateSource> ProfilePredictor<'a, S> {
    /// A predictor for one block: its environment, and the state before it.
    pub(super) fn new(profile: &'a Profile, env: &'a EvmEnv, source: &'a S) -> Self {
        let view = SourceView::new(source, &profile.shapes);
        Self {
            forecaster: Forecaster::new(profile, env, view),
            exploring: Exploring::AsAllowed,
            explored_gas: 0,
        }
    }

    /// Explores whatever is unknown, without regard to the profile's allowance.
    #[must_use]
    pub const fn exploring_always(mut self) -> Self {
        self.exploring = Exploring::Always;
        self
    }

    /// Gas that has been used to execute functions that were not known.
    pub const fn explored_gas(&self) -> u64 {
        self.explored_gas
    }

    /// Everything that a transaction is expected to access. `None` if it calls nothing that has been
    /// learned. Functions that nobody has called are explored.
    ///
    /// Transactions are asked for in block order: what one is expected to write is what the next
    /// one finds.
    pub fn predict(&mut self, tx: &TxEnv) -> Option<LearnedPrediction> {
        if self.forecaster.profile.is_empty() {
            return None;
        }
        let Forecast { prediction, stored, .. } = self.explored(tx, &[])?;
        self.forecaster.view.expect(stored);
        Some(prediction)
    }

    /// Everything that a transaction is expected to access, without consequences for the next one,
    /// and without exploring anything.
    pub(crate) fn expect(&mut self, tx: &TxEnv) -> Option<LearnedPrediction> {
        let forecast = self.forecaster.forecast(tx, Extent::Everything, false, &[]);
        forecast.map(|forecast| forecast.prediction)
    }

    /// How a transaction comes to those of some slots that it is expected to access, once what it
    /// calls has been explored.
    pub(super) fn paths(&mut self, tx: &TxEnv, slots: &[Slot]) -> Vec<(Slot, Path)> {
        self.explored(tx, slots).map(|forecast| forecast.paths).unwrap_or_default()
    }

    /// The key of the function that a transaction calls, if there is a template for it.
    pub(super) fn key(&mut self, tx: &TxEnv) -> Option<TemplateKey> {
        self.forecaster.resolve(tx).map(|(_, resolved)| resolved.key)
    }

    /// Whether transactions that call the same function are often in each other's way.
    pub(super) fn is_dense(&mut self, tx: &TxEnv) -> bool {
        self.forecaster.resolve(tx).is_some_and(|(_, resolved)| resolved.is_dense)
    }

    /// What the predictor goes by.
    pub(super) const fn profile(&self) -> &'a Profile {
        self.forecaster.profile
    }

    /// Everything that a transaction is expected to access, without consequences for the next one.
    fn explored(&mut self, tx: &TxEnv, slots: &[Slot]) -> Option<Forecast> {
        let mut forecast = self.forecast(tx, slots);
        for _ in 1..ROUNDS_MAX {
            match &forecast {
                Some(Forecast { explorable, .. }) if !explorable.is_empty() => {
                    if !self.explore(explorable) {
                        break;
                    }
                }
                _ => break,
            }
            forecast = self.forecast(tx, slots);
        }
        forecast
    }

    fn forecast(&mut self, tx: &TxEnv, slots: &[Slot]) -> Option<Forecast> {
        let explores = self.may_explore();
        self.forecaster.forecast(tx, Extent::Everything, explores, slots)
    }

    fn may_explore(&self) -> bool {
        self.exploring == Exploring::Always || self.forecaster.profile.exploring.is_left()
    }

    /// Explores calls. Whether anything was learned.
    fn explore(&mut self, calls: &[UnknownCall]) -> bool {
        let Forecaster { profile, env, .. } = self.forecaster;
        let explored = &profile.templates.explored;
        let before = profile.len();
        for call in calls {
            if !self.may_explore() || explored.contains(&call.key) {
                continue;
            }
            if explored.len() >= EXPLORED_MAX {
                explored.clear();
            }
            explored.insert(call.key);
            let gas = explore(profile, env, &mut self.forecaster.view, call);
            self.explored_gas += gas;
            if self.exploring == Exploring::AsAllowed {
                profile.exploring.take(gas);
            }
        }
        profile.len() > before
    }

    /// keccak-256 of the code that a transaction calls, if it calls any.
    pub fn called_code(&mut self, tx: &TxEnv) -> Option<B256> {
        match tx.kind() {
            TxKind::Call(to) => self.forecaster.view.code(to).map(|(_, code)| code.hash_slow()),
            TxKind::Create => None,
        }
    }
}

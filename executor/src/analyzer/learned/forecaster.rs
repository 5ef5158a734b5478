//! The prediction of one transaction, on any view of state.
//!
//! *Must not know*: where state comes from, or what predictions are for.

use super::{
    access::{AccessKind, LearnedAccess},
    desk::Desk,
    evaluate::{CallInputs, Evaluator, Extent, Path, StateView, Surroundings},
    memo::Question,
    pool::Lent,
    profile::{Profile, Resolved},
    resolver::{CodeId, Resolver},
    template::TemplateKey,
    view::Slot,
};
use alloy_evm::EvmEnv;
use alloy_primitives::U256;
use revm::{context::TxEnv, context_interface::Transaction, primitives::TxKind};
use std::sync::Arc;

/// What a transaction is expected to access.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LearnedPrediction {
    /// Each location once, in no particular order.
    pub accesses: Vec<LearnedAccess>,
    /// Calls that templates speak of, the transaction's own included.
    pub known_calls: usize,
    /// Inner calls that no template is known for.
    pub unknown_calls: usize,
    pub(super) key: TemplateKey,
    /// Whether the template has not proved itself yet, or was wrong lately.
    pub(super) is_doubted: bool,
    pub(super) is_walked: bool,
}

impl LearnedPrediction {
    /// Whether it took more than templates: code was walked through, because none knows what it does.
    pub const fn is_walked(&self) -> bool {
        self.is_walked
    }
}

/// Predicts transactions by what a [`Profile`] has learned.
#[derive(Debug)]
pub(super) struct Forecaster<'a, V> {
    pub(super) profile: &'a Profile,
    pub(super) env: &'a EvmEnv,
    pub(super) view: V,
    resolver: Lent<'a, Resolver>,
    pub(super) desk: Lent<'a, Desk>,
}

/// A prediction, and what it leads to.
#[derive(Debug)]
pub(super) struct Forecast {
    pub(super) prediction: LearnedPrediction,
    /// Instructions that were walked through, because no template knows what they do.
    pub(super) walked: usize,
    /// How the slots that were asked about are come to.
    pub(super) paths: Vec<(Slot, Path)>,
}

impl Forecast {
    /// One that leads to nothing yet.
    const fn new(prediction: LearnedPrediction) -> Self {
        Self { prediction, walked: 0, paths: Vec::new() }
    }
}

impl<'a, V: StateView> Forecaster<'a, V> {
    pub(super) fn new(profile: &'a Profile, env: &'a EvmEnv, view: V) -> Self {
        let (resolver, desk) = (profile.resolver(), profile.pools.desks.lend());
        Self { profile, env, view, resolver, desk }
    }

    /// The code that a transaction calls, and the program of the function.
    pub(super) fn resolve(&mut self, tx: &TxEnv) -> Option<(CodeId, Arc<Resolved>)> {
        let TxKind::Call(to) = tx.kind() else { return None };
        let Self { profile, view, resolver, .. } = self;
        let code = resolver.code(to, || view.code(to))?;
        let selector = tx.input().first_chunk().copied();
        Some((code, resolver.program(&profile.templates, code, selector)?))
    }

    /// What a transaction is expected to access, to some `extent`, and how those of some `slots` are
    /// come to that are accessed. `walks` says whether code is walked through that no template knows.
    /// `None` if it calls nothing that has been learned.
    pub(super) fn forecast(
        &mut self,
        tx: &TxEnv,
        extent: Extent,
        walks: bool,
        slots: &[Slot],
    ) -> Option<Forecast> {
        let (code, resolved) = self.resolve(tx)?;
        let TxKind::Call(to) = tx.kind() else { return None };
        let Self { profile, env, view, resolver, desk, .. } = self;
        let mut prediction = LearnedPrediction {
            accesses: Vec::new(),
            known_calls: 0,
            unknown_calls: 0,
            key: resolved.key,
            is_doubted: resolved.standing.is_doubted(),
            is_walked: false,
        };
        desk.clear();
        let is_contended =
            resolved.contended != 0 && resolved.standing.traffic.is_worth_foreseeing();
        if extent == Extent::Contended && !is_contended {
            return Some(Forecast::new(prediction));
        }
        let inputs = CallInputs {
            code,
            this: to,
            caller: tx.caller(),
            value: Some(tx.value()),
            calldata: desk.bytes.run(tx.input())?,
            is_of_transaction: true,
        };
        let surroundings = Surroundings::of(env, tx);
        let mut evaluator = Evaluator::new(&profile.templates, resolver, desk, view, surroundings);
        evaluator.is_cautious = resolved.standing.is_unreliable();
        evaluator.walks = walks;
        evaluator.extent = extent;
        evaluator.transaction(&resolved, inputs);
        let paths = evaluator.paths(slots);
        let known_calls = evaluator.known_calls();
        let Evaluator { unknown_calls, walked, .. } = evaluator;
        if extent == Extent::Everything {
            desk.account(tx.caller(), AccessKind::Written);
            let is_paid = !tx.value().is_zero();
            desk.account(to, if is_paid { AccessKind::Credited } else { AccessKind::Read });
        }
        prediction.known_calls = known_calls;
        prediction.unknown_calls = unknown_calls;
        prediction.is_walked = walked > 0;
        prediction.accesses = desk.gather();
        Some(Forecast { prediction, walked, paths })
    }

    /// What was asked about the transaction of the last forecast, in order, and the answers.
    pub(super) fn asked(&self) -> &[(Question, U256)] {
        &self.desk.asked
    }
}

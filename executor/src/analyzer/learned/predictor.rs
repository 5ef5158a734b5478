//! The predictions of one block, transaction by transaction, by what a profile has learned.
//!
//! *Must not know*: what predictions are for.

use super::{
    bits::Bits,
    desk::{Access, Desk},
    evaluate::{CallInputs, Evaluator, LearnedAccess, StateView, Surroundings},
    explore::{UnknownCall, explore},
    profile::Profile,
    resolver::Resolver,
    template::TemplateKey,
    view::{Slot, SourceView},
};
use crate::source::StateSource;
use alloy_evm::EvmEnv;
use alloy_primitives::{B256, map::HashMap};
use multilane_state::StateLocation;
use revm::{context::TxEnv, context_interface::Transaction, primitives::TxKind};

/// Functions of which it is remembered that they were explored.
const EXPLORED_MAX: usize = 1 << 16;
/// How often a prediction is made anew, because what it asked for has been explored.
const ROUNDS_MAX: usize = 4;

/// What a transaction is expected to access.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LearnedPrediction {
    /// Each location once, in no particular order.
    pub accesses: Vec<LearnedAccess>,
    /// Inner calls that no template is known for.
    pub unknown_calls: usize,
    /// Samples that the template of the called function was made from.
    pub samples: u32,
    pub(super) key: TemplateKey,
    /// Whether the template has not proved itself yet, or was wrong lately.
    pub(super) is_doubted: bool,
}

/// Predicts the transactions of one block by what a [`Profile`] has learned.
#[derive(Debug)]
pub struct ProfilePredictor<'a, S: StateSource> {
    profile: &'a Profile,
    env: &'a EvmEnv,
    view: SourceView<'a, S>,
    resolver: Resolver,
    desk: Desk,
    /// Positions in the prediction in the making.
    kept: HashMap<StateLocation, usize>,
    exploring: Exploring,
    explored_gas: u64,
}

/// A prediction that has had no consequences.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) learned: Option<LearnedPrediction>,
    /// What is stored where that is of interest, as far as it is known.
    pub(super) stored: Vec<(Slot, Bits)>,
    /// Whether it came upon functions that could be explored.
    pub(super) is_explorable: bool,
}

/// What a prediction says of stored values that are of interest.
fn stored(desk: &Desk) -> impl Iterator<Item = (Slot, Bits)> + '_ {
    desk.accesses().filter_map(|access| match access.location {
        StateLocation::Slot(address, slot) => Some(((address, slot), access.stored?)),
        _ => None,
    })
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
        Self {
            profile,
            env,
            view: SourceView::new(source, &profile.shapes),
            resolver: Resolver::default(),
            desk: profile.take_desk(),
            kept: HashMap::default(),
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

    /// What a transaction is expected to access. `None` if it calls nothing that has been learned.
    ///
    /// Transactions are asked for in block order: what one is expected to write is what the next
    /// one finds.
    pub fn predict(&mut self, tx: &TxEnv) -> Option<LearnedPrediction> {
        if self.profile.is_empty() {
            return None;
        }
        let draft = self.explored_draft(tx);
        let asked = self.view.take_asked();
        if let Some(expected) = self.view.expectations() {
            draft.stored.into_iter().for_each(|(slot, value)| expected.store(slot, value));
            expected.follow(asked);
        }
        draft.learned
    }

    /// What a transaction is expected to access, without consequences for the next one. Functions
    /// that nobody has called are explored.
    pub(super) fn explored_draft(&mut self, tx: &TxEnv) -> Draft {
        let mut evaluated = self.evaluate(tx);
        for _ in 1..ROUNDS_MAX {
            match &evaluated {
                Some((_, explorable)) if !explorable.is_empty() => {
                    if !self.explore(explorable) {
                        break;
                    }
                }
                _ => break,
            }
            evaluated = self.evaluate(tx);
        }
        self.written_down(evaluated)
    }

    /// The same, without exploring anything.
    pub(super) fn draft(&mut self, tx: &TxEnv) -> Draft {
        let evaluated = self.evaluate(tx);
        self.written_down(evaluated)
    }

    /// Takes an evaluation's results from the desk.
    fn written_down(&mut self, evaluated: Option<(LearnedPrediction, Vec<UnknownCall>)>) -> Draft {
        let Some((mut prediction, explorable)) = evaluated else { return Draft::default() };
        self.gather(&mut prediction.accesses);
        Draft {
            learned: Some(prediction),
            stored: stored(&self.desk).collect(),
            is_explorable: !explorable.is_empty(),
        }
    }

    /// The state that predictions are made on.
    pub(super) const fn view(&mut self) -> &mut SourceView<'a, S> {
        &mut self.view
    }

    /// Evaluates the called function's program. The accesses are left on the desk.
    fn evaluate(&mut self, tx: &TxEnv) -> Option<(LearnedPrediction, Vec<UnknownCall>)> {
        let TxKind::Call(to) = tx.kind() else { return None };
        let Self { profile, env, view, resolver, desk, exploring, .. } = self;
        resolver.keep_up_with(&profile.templates);
        let code = resolver.code(to, || view.code(to))?;
        let selector = tx.input().first_chunk().copied();
        let resolved = resolver.program(&profile.templates, code, selector)?;
        let key = resolver.key(code, selector);
        desk.clear();
        let inputs = CallInputs {
            code,
            this: to,
            caller: tx.caller(),
            value: Some(tx.value()),
            calldata: desk.bytes.run(tx.input())?,
        };
        let surroundings = Surroundings::of(env, tx);
        let mut evaluator = Evaluator::new(&profile.templates, resolver, desk, view, surroundings);
        evaluator.is_cautious = resolved.is_unreliable;
        evaluator.explores = *exploring == Exploring::Always || profile.exploring.is_left();
        evaluator.transaction(&resolved, inputs);
        let Evaluator { unknown_calls, explorable, .. } = evaluator;
        desk.account(tx.caller(), true);
        desk.account(to, !tx.value().is_zero());
        let prediction = LearnedPrediction {
            accesses: Vec::new(),
            unknown_calls,
            samples: resolved.samples,
            key,
            is_doubted: resolved.is_doubted,
        };
        Some((prediction, explorable))
    }

    /// Gathers the accesses from the desk, each location once.
    fn gather(&mut self, accesses: &mut Vec<LearnedAccess>) {
        let Self { desk, kept, .. } = self;
        kept.clear();
        for Access { location, writes, .. } in desk.accesses() {
            let at = *kept.entry(*location).or_insert_with(|| {
                accesses.push(LearnedAccess { location: *location, writes: false });
                accesses.len() - 1
            });
            accesses[at].writes |= writes;
        }
    }

    /// Explores calls. Whether anything was learned.
    fn explore(&mut self, calls: &[UnknownCall]) -> bool {
        let Self { profile, env, view, exploring, explored_gas, .. } = self;
        let explored = &profile.templates.explored;
        let before = profile.len();
        for call in calls {
            let is_allowed = *exploring == Exploring::Always || profile.exploring.is_left();
            if !is_allowed || explored.contains(&call.key) {
                continue;
            }
            if explored.len() >= EXPLORED_MAX {
                explored.clear();
            }
            explored.insert(call.key);
            let gas = explore(profile, env, view, call);
            *explored_gas += gas;
            if *exploring == Exploring::AsAllowed {
                profile.exploring.take(gas);
            }
        }
        profile.len() > before
    }

    /// keccak-256 of the code that a transaction calls, if it calls any.
    pub fn called_code(&mut self, tx: &TxEnv) -> Option<B256> {
        match tx.kind() {
            TxKind::Call(to) => self.view.code(to).map(|(_, code)| code.hash_slow()),
            TxKind::Create => None,
        }
    }
}

impl<S: StateSource> Drop for ProfilePredictor<'_, S> {
    fn drop(&mut self) {
        self.profile.put_desk(std::mem::take(&mut self.desk));
    }
}

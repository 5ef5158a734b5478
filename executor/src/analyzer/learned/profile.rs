//! The profile: all templates, shared by everybody who predicts and learns.
//!
//! Concurrent and bounded. What it holds is advice, so a lookup that misses a template which is
//! being replaced does no harm.
//!
//! *Must not know*: files, threads, or who executes blocks.

use super::{
    code_shape::CodeShapes,
    learner::teach,
    evaluate::{Access, CallInputs, Evaluator, LearnedAccess, PartialBytes, StateView, Surroundings},
    record::Sample,
    template::{Template, TemplateKey},
    view::SourceView,
};
use crate::source::StateSource;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256};
use core::fmt;
use dashmap::DashMap;
use multilane_state::StateLocation;
use revm::{
    context::TxEnv, context_interface::Transaction, primitives::TxKind, state::EvmState,
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Templates by key.
#[derive(Default)]
pub(super) struct Templates {
    entries: DashMap<TemplateKey, Entry>,
    /// Counts lookups: the time by which the least useful template is found.
    clock: AtomicU64,
}

struct Entry {
    template: Arc<Template>,
    /// When the template was last asked for.
    used: AtomicU64,
    size: usize,
}

impl Templates {
    /// The template for a key.
    pub(super) fn get(&self, key: &TemplateKey) -> Option<Arc<Template>> {
        let entry = self.entries.get(key)?;
        // Relaxed: the order of uses only decides what is evicted.
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(&entry.template))
    }
}

/// What was learned about how contracts access state.
///
/// One profile may serve any number of executors at a time. It only influences when transactions
/// run; the output is the same with every profile.
pub struct Profile {
    templates: Templates,
    pub(super) shapes: CodeShapes,
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Held while samples are merged, so that none is lost to another one of the same template.
    merging: Mutex<()>,
}

/// What a transaction is expected to access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LearnedPrediction {
    /// Sorted; each location once.
    pub accesses: Vec<LearnedAccess>,
    /// Inner calls that no template is known for.
    pub unknown_calls: usize,
    /// Samples that the template of the called function was made from.
    pub samples: u32,
}

/// Memory for templates, in bytes, unless set otherwise.
const BYTES_MAX: usize = 64 << 20;
/// How much of the memory is freed at once when it is used up, as a divisor.
const EVICTED_SHARE: usize = 8;

impl Profile {
    /// An empty profile that may take 64 MiB of memory.
    pub fn new() -> Self {
        Self::with_capacity(BYTES_MAX)
    }

    /// An empty profile that may take about so many bytes of memory.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            templates: Templates::default(),
            shapes: CodeShapes::default(),
            bytes: AtomicUsize::new(0),
            bytes_max: bytes,
            merging: Mutex::default(),
        }
    }

    /// Number of templates: functions of contract codes that have been learned.
    pub fn len(&self) -> usize {
        self.templates.entries.len()
    }

    /// Whether nothing has been learned.
    pub fn is_empty(&self) -> bool {
        self.templates.entries.is_empty()
    }

    /// Roughly the memory that the templates take, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A predictor for one block: its environment, and the state before it.
    pub fn predictor<'a, S: StateSource>(
        &'a self,
        env: &'a EvmEnv,
        source: &'a S,
    ) -> ProfilePredictor<'a, S> {
        ProfilePredictor { profile: self, env, view: SourceView::new(source, &self.shapes) }
    }

    /// Learns from a transaction that has been executed: `changes` are its finalized state changes.
    pub fn learn(&self, env: &EvmEnv, tx: &TxEnv, changes: &EvmState) {
        teach(self, env, tx, changes);
    }

    /// Predicts a transaction's accesses, where it calls a function that has been learned.
    fn predict<S: StateSource>(
        &self,
        tx: &TxEnv,
        view: &mut SourceView<'_, S>,
        surroundings: Surroundings,
    ) -> Option<LearnedPrediction> {
        let TxKind::Call(to) = tx.kind() else { return None };
        if self.is_empty() {
            return None;
        }
        let (shape, code) = view.code(to)?;
        let template = self.templates.get(&TemplateKey::new(shape, tx.input()))?;
        let mut evaluator = Evaluator::new(&self.templates, view, surroundings);
        let inputs = CallInputs {
            code,
            this: Some(to),
            caller: Some(tx.caller()),
            value: Some(tx.value()),
            calldata: PartialBytes::known(tx.input()),
        };
        evaluator.call(&template, inputs, 0);
        let Evaluator { mut accesses, unknown_calls, .. } = evaluator;
        let account = |address, writes| Access {
            location: StateLocation::Account(address),
            writes,
            stored: None,
        };
        accesses.push(account(tx.caller(), true));
        accesses.push(account(to, !tx.value().is_zero()));
        // Writes sort behind reads of the same location, so the last of each is kept.
        accesses.sort_unstable();
        let mut kept: Vec<LearnedAccess> = Vec::with_capacity(accesses.len());
        for Access { location, writes, stored } in accesses {
            if let (StateLocation::Slot(address, slot), true) = (location, writes) {
                view.expect(address, slot, stored);
            }
            let access = LearnedAccess { location, writes };
            match kept.last_mut() {
                Some(last) if last.location == location => *last = access,
                _ => kept.push(access),
            }
        }
        Some(LearnedPrediction { accesses: kept, unknown_calls, samples: template.samples() })
    }

    /// Takes in what the calls of one transaction taught, inner calls first.
    ///
    /// `view` is the state before the transaction; `was_written` says whether the transaction
    /// changed a slot.
    pub(super) fn merge(
        &self,
        samples: &[Sample],
        view: &mut impl StateView,
        surroundings: Surroundings,
        was_written: &dyn Fn(&(Address, U256)) -> bool,
    ) {
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in samples {
            let known = self.templates.get(&sample.key);
            let mut template = known.map_or_else(Template::default, |known| (*known).clone());
            let present = template.adopt(sample, was_written);
            let inputs = CallInputs {
                code: sample.inputs.code.clone(),
                this: Some(sample.inputs.this),
                caller: Some(sample.inputs.caller),
                value: Some(sample.inputs.value),
                calldata: PartialBytes::known(&sample.inputs.calldata),
            };
            let mut evaluator = Evaluator::new(&self.templates, &mut *view, surroundings);
            let guards = evaluator.guards(&template, inputs);
            template.learn(present, guards.into_iter());
            self.insert(sample.key, template);
        }
    }

    fn insert(&self, key: TemplateKey, template: Template) {
        let size = template.size();
        let used = AtomicU64::new(self.templates.clock.fetch_add(1, Ordering::Relaxed));
        let entry = Entry { template: Arc::new(template), used, size };
        let before = self.templates.entries.insert(key, entry).map_or(0, |before| before.size);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        if self.size() > self.bytes_max {
            self.evict();
        }
    }

    /// Drops what has not been asked for longest.
    fn evict(&self) {
        let mut uses: Vec<(u64, TemplateKey)> = self
            .templates
            .entries
            .iter()
            .map(|entry| (entry.used.load(Ordering::Relaxed), *entry.key()))
            .collect();
        uses.sort_unstable();
        let target = self.bytes_max - self.bytes_max / EVICTED_SHARE;
        for (_, key) in uses {
            if self.size() <= target {
                break;
            }
            if let Some((_, entry)) = self.templates.entries.remove(&key) {
                self.bytes.fetch_sub(entry.size, Ordering::Relaxed);
            }
        }
    }
}

/// Predicts the transactions of one block by what a [`Profile`] has learned.
#[derive(Debug)]
pub struct ProfilePredictor<'a, S: StateSource> {
    profile: &'a Profile,
    env: &'a EvmEnv,
    view: SourceView<'a, S>,
}

impl<S: StateSource> ProfilePredictor<'_, S> {
    /// What a transaction is expected to access. `None` if it calls nothing that has been learned.
    ///
    /// Transactions are asked for in block order: what one is expected to write is what the next
    /// one finds.
    pub fn predict(&mut self, tx: &TxEnv) -> Option<LearnedPrediction> {
        self.profile.predict(tx, &mut self.view, Surroundings::of(self.env, tx))
    }

    /// keccak-256 of the code that a transaction calls, if it calls any.
    pub fn called_code(&mut self, tx: &TxEnv) -> Option<B256> {
        match tx.kind() {
            TxKind::Call(to) => self.view.code(to).map(|(_, code)| code.hash_slow()),
            TxKind::Create => None,
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("templates", &self.len())
            .field("bytes", &self.size())
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

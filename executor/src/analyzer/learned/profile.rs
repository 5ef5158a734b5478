//! The profile: all templates, shared by everybody who predicts and learns.
//!
//! Concurrent and bounded. What it holds is advice, so a lookup that misses a template which is
//! being replaced does no harm.
//!
//! *Must not know*: files, threads, or who executes blocks.

use super::{
    allowance::Allowance,
    bits::Bits,
    code_shape::CodeShapes,
    codec::{ProfileError, decode, encode},
    compile::{Scope, compile},
    evaluate::{Access, CallInputs, Desk, Evaluator, LearnedAccess, StateView, Surroundings},
    explore::{UnknownCall, explore, would_write},
    learner::teach,
    program::Program,
    record::{FrameInputs, Sample},
    resolver::Resolver,
    template::{Template, TemplateKey},
    view::{Slot, SourceView},
};
use crate::source::StateSource;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256, map::HashMap};
use core::fmt;
use dashmap::{DashMap, DashSet};
use multilane_state::StateLocation;
use revm::{context::TxEnv, context_interface::Transaction, primitives::TxKind, state::EvmState};
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

/// Templates by key.
#[derive(Default)]
pub(super) struct Templates {
    entries: DashMap<TemplateKey, Entry>,
    /// Counts lookups: the time by which the least useful template is found.
    clock: AtomicU64,
    /// Counts changes, so that whoever remembers a template knows when to look again.
    generation: AtomicU64,
    /// Functions that have been explored, or could not be.
    explored: DashSet<TemplateKey>,
}

/// A template as it is looked up for predictions.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) program: Arc<Program>,
    /// Samples that the template was made from.
    samples: u32,
    /// Whether predictions by this template have mostly been wrong lately.
    pub(super) is_unreliable: bool,
    /// Whether the template has not proved itself yet, or was wrong lately.
    pub(super) is_doubted: bool,
}

struct Entry {
    template: Arc<Template>,
    /// Made when it is first asked for; `None` if the template is too large for one.
    program: OnceLock<Option<Arc<Program>>>,
    /// When the template was last asked for.
    used: AtomicU64,
    /// Share of the predicted slots that were accessed, the latest predictions counting most, in
    /// parts of [`PRECISION_ONE`].
    precision: AtomicU32,
    /// Predictions that turned out right since the template was changed.
    confirmed: AtomicU32,
    size: usize,
}

impl Templates {
    /// The template for a key.
    fn get(&self, key: &TemplateKey) -> Option<Arc<Template>> {
        let entry = self.entries.get(key)?;
        self.note_use(&entry);
        Some(Arc::clone(&entry.template))
    }

    /// The program for a key, and what is thought of it.
    pub(super) fn resolve(&self, key: &TemplateKey) -> Option<Resolved> {
        let entry = self.entries.get(key)?;
        self.note_use(&entry);
        let make = || compile(&entry.template, Scope::Prediction).map(Arc::new);
        let program = Arc::clone(entry.program.get_or_init(make).as_ref()?);
        let precision = entry.precision.load(Ordering::Relaxed);
        let is_proven = entry.confirmed.load(Ordering::Relaxed) >= PROVEN_FROM;
        Some(Resolved {
            program,
            samples: entry.template.samples(),
            is_unreliable: precision < PRECISION_ONE / 5 * 3,
            is_doubted: !is_proven || precision < PRECISION_ONE / 100 * 99,
        })
    }

    fn note_use(&self, entry: &Entry) {
        // Relaxed: the order of uses only decides what is evicted.
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Moves with each change of a template.
    pub(super) fn generation(&self) -> u64 {
        // Relaxed: who looks a moment too early finds an older template, which does no harm.
        self.generation.load(Ordering::Relaxed)
    }

    /// Whether a function has been explored, or could not be.
    pub(super) fn was_explored(&self, key: &TemplateKey) -> bool {
        self.explored.contains(key)
    }

    /// Notes that a prediction was right in everything.
    fn confirm(&self, key: &TemplateKey) {
        if let Some(entry) = self.entries.get(key) {
            entry.confirmed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how a prediction turned out: how many slots it named, and how many of them were right.
    fn rate(&self, key: &TemplateKey, named: usize, right: usize) {
        let Some(entry) = self.entries.get(key).filter(|_| named > 0) else { return };
        let precision = (right * PRECISION_ONE as usize / named) as u32;
        // Relaxed: an estimate, of which an update may be lost.
        let before = entry.precision.load(Ordering::Relaxed);
        entry.precision.store(before / 2 + precision / 2, Ordering::Relaxed);
    }
}

/// What was learned about how contracts access state.
///
/// One profile may serve any number of executors at a time. It only influences when transactions
/// run; the output is the same with every profile.
pub struct Profile {
    templates: Templates,
    pub(super) shapes: CodeShapes,
    /// What may be spent on transactions that were executed.
    pub(super) lessons: Allowance,
    /// What may be spent on functions that nobody has called.
    exploring: Allowance,
    /// Memory for evaluations that nobody uses at the moment.
    desks: Mutex<Vec<Desk>>,
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Counts samples of settled templates.
    settled_samples: AtomicU32,
    /// Held while samples are merged, so that none is lost to another one of the same template.
    merging: Mutex<()>,
}

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
    key: TemplateKey,
    /// Whether the template has not proved itself yet, or was wrong lately.
    is_doubted: bool,
}

/// Desks that are kept for the next block.
const DESKS_MAX: usize = 8;
/// Memory for templates, in bytes, unless set otherwise.
const BYTES_MAX: usize = 64 << 20;
/// Right predictions from which on a template counts as proven.
const PROVEN_FROM: u32 = 4;
/// One, in fixed point.
const PRECISION_ONE: u32 = 1 << 16;
/// Gas that blocks use for one unit of gas to learn, and to explore, with. A lesson takes about ten
/// times as long as the execution that it repeats.
const LESSON_SHARE: u64 = 1024;
const EXPLORING_SHARE: u64 = 1024;
/// Of so many samples of a settled template, one is taken in.
const SETTLED_SHARE: u32 = 8;
/// Functions of which it is remembered that they were explored.
const EXPLORED_MAX: usize = 1 << 16;
/// How often a prediction is made anew, because what it asked for has been explored.
const ROUNDS_MAX: usize = 4;
/// How much of the memory is freed at once when it is used up, as a divisor.
const EVICTED_SHARE: usize = 8;

impl Profile {
    /// The version of the form in which templates are exported.
    pub const FORMAT: u32 = 1;

    /// An empty profile that may take 64 MiB of memory.
    pub fn new() -> Self {
        Self::with_capacity(BYTES_MAX)
    }

    /// An empty profile that may take about so many bytes of memory.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            templates: Templates::default(),
            shapes: CodeShapes::default(),
            lessons: Allowance::new(LESSON_SHARE),
            exploring: Allowance::new(EXPLORING_SHARE),
            desks: Mutex::default(),
            bytes: AtomicUsize::new(0),
            bytes_max: bytes,
            settled_samples: AtomicU32::new(0),
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

    /// Everything that was learned, as pairs of key and template, in no particular order. Profiles
    /// of another [`FORMAT`](Self::FORMAT) cannot read them.
    pub fn export(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        self.templates.entries.iter().filter_map(|entry| encode(entry.key(), &entry.template))
    }

    /// Takes in a pair that was [exported](Self::export), in place of what is known under its key.
    ///
    /// # Errors
    ///
    /// If it is no template.
    pub fn import(&self, key: &[u8], template: &[u8]) -> Result<(), ProfileError> {
        let (key, template) = decode(key, template)?;
        self.insert(key, template);
        Ok(())
    }

    /// A predictor for one block: its environment, and the state before it.
    pub fn predictor<'a, S: StateSource>(
        &'a self,
        env: &'a EvmEnv,
        source: &'a S,
    ) -> ProfilePredictor<'a, S> {
        ProfilePredictor {
            profile: self,
            env,
            view: SourceView::new(source, &self.shapes),
            resolver: Resolver::default(),
            desk: self.take_desk(),
            kept: HashMap::default(),
            exploring: Exploring::AsAllowed,
            explored_gas: 0,
        }
    }

    /// Learns from a transaction that has been executed: `changes` are its finalized state changes.
    pub fn learn(&self, env: &EvmEnv, tx: &TxEnv, changes: &EvmState) {
        teach(self, env, tx, changes);
    }

    /// Memory for evaluations. Whoever is done with it [puts it back](Self::put_desk).
    fn take_desk(&self) -> Desk {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.pop().unwrap_or_default()
    }

    fn put_desk(&self, desk: Desk) {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        if desks.len() < DESKS_MAX {
            desks.push(desk);
        }
    }

    /// Whether a prediction is by a template that has not proved itself, or was wrong lately, or is
    /// incomplete.
    pub(super) const fn doubts(prediction: &LearnedPrediction) -> bool {
        prediction.is_doubted || prediction.unknown_calls > 0
    }

    /// Compares what a transaction did with what was predicted. Whether there is something to
    /// [`learn`](Self::learn) from it.
    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on the order")]
    pub fn review(&self, prediction: Option<&LearnedPrediction>, changes: &EvmState) -> bool {
        let Some(prediction) = prediction else { return true };
        let slot = |access: &LearnedAccess| match access.location {
            StateLocation::Slot(address, slot) => Some(((address, slot), access.writes)),
            _ => None,
        };
        let predicted: HashMap<(Address, U256), bool> =
            prediction.accesses.iter().filter_map(slot).collect();
        let named = predicted.len();
        let (mut accessed, mut right, mut missed_writes) = (0, 0, 0);
        for (address, account) in changes {
            for (slot, value) in &account.storage {
                let writes = predicted.get(&(*address, *slot));
                accessed += 1;
                right += usize::from(writes.is_some());
                missed_writes += usize::from(value.is_changed() && writes != Some(&true));
            }
        }
        self.templates.rate(&prediction.key, named, right);
        let is_right = right == named && right == accessed && missed_writes == 0;
        if is_right {
            self.templates.confirm(&prediction.key);
        }
        !is_right
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
        was_written: &dyn Fn(&(Address, U256), bool) -> bool,
        is_explored: bool,
    ) {
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in samples {
            let known = self.templates.get(&sample.key);
            if is_explored && known.is_some() {
                continue;
            }
            if known.as_ref().is_some_and(|known| known.is_settled()) && !self.is_nth_sample() {
                continue;
            }
            let mut template = known.map_or_else(Template::default, |known| (*known).clone());
            let present = template.adopt(sample, was_written);
            let guards = self.guards(&template, &sample.inputs, view, surroundings);
            template.learn(present, guards.into_iter(), is_explored);
            self.replace(sample.key, template);
        }
    }

    /// Whether a sample of a settled template is to be taken in.
    fn is_nth_sample(&self) -> bool {
        // Relaxed: it only chooses.
        self.settled_samples.fetch_add(1, Ordering::Relaxed).is_multiple_of(SETTLED_SHARE)
    }

    /// What the guards of a template are for the inputs of a sample.
    fn guards(
        &self,
        template: &Template,
        inputs: &FrameInputs,
        view: &mut impl StateView,
        surroundings: Surroundings,
    ) -> Vec<Option<bool>> {
        let Some(program) = compile(template, Scope::Guards) else { return Vec::new() };
        let (mut desk, mut resolver) = (self.take_desk(), Resolver::default());
        desk.clear();
        let FrameInputs { code, this, caller, value, calldata } = inputs;
        let code = resolver.add(B256::ZERO, code.clone());
        let calldata = desk.bytes.run(calldata);
        let resolved = Arc::new(Resolved {
            program: Arc::new(program),
            samples: template.samples(),
            is_unreliable: false,
            is_doubted: false,
        });
        let inputs = code.zip(calldata).map(|(code, calldata)| CallInputs {
            code,
            this: *this,
            caller: *caller,
            value: Some(*value),
            calldata,
        });
        let mut evaluator =
            Evaluator::new(&self.templates, &mut resolver, &mut desk, view, surroundings);
        let guards = inputs.map(|inputs| evaluator.guards(&resolved, inputs));
        self.put_desk(desk);
        guards.unwrap_or_default()
    }

    /// Takes in what an explored call taught about functions that were not known.
    pub(super) fn merge_explored(
        &self,
        samples: &[Sample],
        view: &mut impl StateView,
        env: &EvmEnv,
        inputs: &FrameInputs,
        changes: &EvmState,
    ) {
        let surroundings = Surroundings { origin: inputs.caller, ..Surroundings::of_block(env) };
        let was_written = |slot: &_, is_constant| would_write(changes, slot, is_constant);
        self.merge(samples, view, surroundings, &was_written, true);
    }

    /// Adds what a block's gas allows to be learned.
    pub(super) fn earn(&self, gas: u64) {
        self.lessons.earn(gas);
        self.exploring.earn(gas);
    }

    /// Replaces a template by what has become of it. What was made of it stays, as long as that
    /// predicts the same: most samples only confirm what is known.
    fn replace(&self, key: TemplateKey, template: Template) {
        let program = self.templates.entries.get(&key).and_then(|entry| {
            let program = entry.program.get().filter(|_| template.predicts_as(&entry.template));
            program.cloned()
        });
        self.insert_made(key, template, program.map_or_else(OnceLock::new, OnceLock::from));
    }

    /// Puts a template in the place of what is known under its key.
    fn insert(&self, key: TemplateKey, template: Template) {
        self.insert_made(key, template, OnceLock::new());
    }

    fn insert_made(
        &self,
        key: TemplateKey,
        template: Template,
        program: OnceLock<Option<Arc<Program>>>,
    ) {
        let size = template.size();
        let used = AtomicU64::new(self.templates.clock.fetch_add(1, Ordering::Relaxed));
        let known =
            self.templates.entries.get(&key).map(|entry| entry.precision.load(Ordering::Relaxed));
        let precision = known.unwrap_or(PRECISION_ONE);
        let precision = AtomicU32::new(precision);
        let confirmed = AtomicU32::new(0);
        let entry =
            Entry { template: Arc::new(template), program, used, precision, confirmed, size };
        let before = self.templates.entries.insert(key, entry).map_or(0, |before| before.size);
        self.templates.generation.fetch_add(1, Ordering::Relaxed);
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

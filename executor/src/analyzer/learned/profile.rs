//! The profile: all templates, shared by everybody who predicts and learns.
//!
//! Concurrent and bounded. What it holds is advice, so a lookup that misses a template which is
//! being replaced does no harm.
//!
//! *Must not know*: files, threads, or who executes blocks.

use super::{
    allowance::Allowance,
    code_shape::{CodeShapes, size_of_code},
    codec::{ProfileError, decode, encode},
    compile::{Scope, compile},
    desk::Desk,
    evaluate::{CallInputs, Evaluator, Path, StateView, Surroundings},
    forecaster::LearnedPrediction,
    learner::teach,
    pool::Pool,
    predictor::ProfilePredictor,
    program::Program,
    record::{FrameInputs, Sample},
    resolver::Resolver,
    template::{Template, TemplateKey},
    traffic::Traffic,
    verdict::Verdict,
    view::Slots,
};
use crate::source::StateSource;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256, map::DefaultHashBuilder};
use core::fmt;
use dashmap::{DashMap, DashSet};
use revm::{
    context::TxEnv,
    state::{Bytecode, EvmState},
};
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

/// Templates by key.
#[derive(Default)]
pub(super) struct Templates {
    entries: DashMap<TemplateKey, Entry, DefaultHashBuilder>,
    /// Functions that templates are, or were, there for: the sizes of codes, and selectors.
    functions: DashSet<(u32, Option<[u8; 4]>), DefaultHashBuilder>,
    pub(super) shapes: CodeShapes,
    /// Counts lookups: the time by which the least useful template is found.
    clock: AtomicU64,
    /// Counts changes, so that whoever remembers a template knows when to look again.
    generation: AtomicU64,
}

/// A template as it is looked up for predictions.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) key: TemplateKey,
    pub(super) program: Arc<Program>,
    /// Sites, by bits, that transactions contend for, or come to them by.
    pub(super) contended: u128,
    /// Whether transactions that call the function are often in each other's way.
    pub(super) is_dense: bool,
    /// Whether it is worth it to foresee where they meet.
    pub(super) is_worth_foreseeing: bool,
    /// Samples that the template was made from.
    pub(super) samples: u32,
    /// Whether predictions by this template have mostly been wrong lately.
    pub(super) is_unreliable: bool,
    /// Whether the template has not proved itself yet, or was wrong lately.
    pub(super) is_doubted: bool,
}

struct Entry {
    template: Arc<Template>,
    /// What the template says of itself, where it is found with less effort.
    contended: u128,
    samples: u32,
    /// Made when it is first asked for; `None` if the template is too large for one.
    program: OnceLock<Option<Arc<Program>>>,
    /// When the template was last asked for.
    used: AtomicU64,
    /// Share of the predicted slots that were accessed, the latest predictions counting most, in
    /// parts of [`PRECISION_ONE`].
    precision: AtomicU32,
    /// Predictions that turned out right since the template was changed.
    confirmed: AtomicU32,
    /// How often transactions that call the function get in each other's way.
    traffic: Arc<Traffic>,
    size: usize,
}

impl Entry {
    /// The program. `None` if there can be none.
    fn program(&self) -> Option<&Arc<Program>> {
        let make = || compile(&self.template, Scope::Prediction).map(Arc::new);
        self.program.get_or_init(make).as_ref()
    }
}

impl Templates {
    /// The key of a code's function, if there may be a template for it.
    pub(super) fn key(
        &self,
        hash: B256,
        code: &Bytecode,
        selector: Option<[u8; 4]>,
    ) -> Option<TemplateKey> {
        let size = size_of_code(code);
        // Working out the shape of a code for the first time takes longer than all else.
        let is_known = || self.functions.contains(&(size, selector));
        let shape = match self.shapes.known(hash) {
            Some(shape) => shape,
            None => is_known().then(|| self.shapes.of(hash, code))?,
        };
        Some(TemplateKey { size, shape, selector })
    }

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
        let program = Arc::clone(entry.program()?);
        let precision = entry.precision.load(Ordering::Relaxed);
        let is_proven = entry.confirmed.load(Ordering::Relaxed) >= PROVEN_FROM;
        Some(Resolved {
            key: *key,
            program,
            contended: entry.contended,
            is_dense: entry.traffic.is_dense(),
            is_worth_foreseeing: entry.traffic.is_worth_foreseeing(),
            samples: entry.samples,
            is_unreliable: precision < PRECISION_ONE / 5 * 2,
            is_doubted: !is_proven || precision < PRECISION_ONE / 100 * 99,
        })
    }

    /// Makes the program for a key, if there is none yet.
    fn prepare(&self, key: &TemplateKey) {
        if let Some(entry) = self.entries.get(key) {
            entry.program();
        }
    }

    /// Whether a template exists that says so of each of a path's sites.
    pub(super) fn are_contended(&self, path: &Path) -> bool {
        path.iter().all(|(key, sites)| {
            let known = self.entries.get(key);
            known.is_some_and(|entry| entry.contended & sites == *sites)
        })
    }

    /// How often transactions that call a function get in each other's way.
    pub(super) fn traffic(&self, key: &TemplateKey) -> Option<Arc<Traffic>> {
        self.entries.get(key).map(|entry| Arc::clone(&entry.traffic))
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

/// Memory for the predictions of a block.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pub(super) desks: Pool<Desk>,
    pub(super) resolvers: Pool<Resolver>,
    pub(super) slots: Pool<Slots>,
}

/// What was learned about how contracts access state.
///
/// One profile may serve any number of executors at a time. It only influences when transactions
/// run; the output is the same with every profile.
pub struct Profile {
    pub(super) templates: Templates,
    /// What may be spent on comparing transactions that were executed with their templates.
    pub(super) reviews: Allowance,
    /// What may be spent on following transactions that were executed.
    pub(super) lessons: Allowance,
    /// What may be spent on walking through code that no template knows.
    pub(super) walking: Allowance,
    /// What may be spent on finding out where transactions get in each other's way.
    pub(super) comparing: Allowance,
    pub(super) pools: Pools,
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Counts samples of settled templates.
    settled_samples: AtomicU32,
    /// Held while samples are merged, so that none is lost to another one of the same template.
    merging: Mutex<()>,
}

/// Memory for templates, in bytes, unless set otherwise.
const BYTES_MAX: usize = 64 << 20;
/// Right predictions from which on a template counts as proven.
const PROVEN_FROM: u32 = 4;
/// One, in fixed point.
const PRECISION_ONE: u32 = 1 << 16;
// Together, learning takes 2 % of the time of sequential execution at most, once what is paid in
// advance is spent.

/// Gas that blocks use for one unit of gas to review with. A review takes half as long as the
/// execution at most.
const REVIEW_SHARE: u64 = 64;
/// Gas that blocks use for one unit of gas to learn with. A lesson takes about ten times as long as
/// the execution that it repeats.
const LESSON_SHARE: u64 = 2048;
/// The same for walks, and for predictions of pairs of transactions, which cost about one execution.
const WALKING_SHARE: u64 = 512;
const COMPARING_SHARE: u64 = 256;
/// Gas for each of these in advance, from which the first blocks are learned. Reviews, of which there
/// are most, have more.
const ADVANCE: i64 = 8_000_000;
/// Of so many samples of a settled template, one is taken in.
const SETTLED_SHARE: u32 = 8;
/// How much of the memory is freed at once when it is used up, as a divisor.
const EVICTED_SHARE: usize = 8;

impl Profile {
    /// The version of the form in which templates are exported.
    pub const FORMAT: u32 = 4;

    /// An empty profile that may take 64 MiB of memory.
    pub fn new() -> Self {
        Self::with_capacity(BYTES_MAX)
    }

    /// An empty profile that may take about so many bytes of memory.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            templates: Templates::default(),
            reviews: Allowance::new(REVIEW_SHARE, 16 * ADVANCE),
            lessons: Allowance::new(LESSON_SHARE, ADVANCE),
            walking: Allowance::new(WALKING_SHARE, ADVANCE),
            comparing: Allowance::new(COMPARING_SHARE, ADVANCE),
            pools: Pools::default(),
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
        // Each template takes some. A look at all shards of the map would take longer than to predict
        // a payment.
        self.size() == 0
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
        ProfilePredictor::new(self, env, source)
    }

    /// Learns from a transaction that has been executed: `changes` are its finalized state changes.
    pub fn learn(&self, env: &EvmEnv, tx: &TxEnv, changes: &EvmState) {
        teach(self, env, tx, changes);
    }

    /// Compares what a transaction did with what was predicted. Whether there is something to
    /// [`learn`](Self::learn) from it.
    pub fn review(&self, prediction: Option<&LearnedPrediction>, changes: &EvmState) -> bool {
        self.take_verdict(prediction.map(|prediction| Verdict::of(prediction, changes)).as_ref())
    }

    /// Notes what came of a prediction, if there was one. Whether there is something to learn.
    pub(super) fn take_verdict(&self, verdict: Option<&Verdict>) -> bool {
        let Some(verdict) = verdict else { return true };
        // Where a walk does better than the template did, that is tried again before long.
        self.templates.rate(&verdict.key, verdict.named, verdict.right);
        let is_known = verdict.is_right && !verdict.is_walked;
        if is_known {
            self.templates.confirm(&verdict.key);
        }
        !is_known
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
            if known.as_ref().is_some_and(|known| known.is_settled()) && !self.is_nth_sample() {
                continue;
            }
            let mut template = known.map_or_else(Template::default, |known| (*known).clone());
            let adopted = template.adopt(sample, was_written);
            let guards = self.guards(&template, &sample.inputs, view, surroundings);
            template.learn(adopted, guards.into_iter());
            self.replace(sample.key, template);
        }
        // Whoever predicts next is in more of a hurry.
        for sample in samples {
            self.templates.prepare(&sample.key);
        }
    }

    /// Notes that transactions contend for what a path leads to.
    pub(super) fn contend(&self, path: &Path) {
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, sites) in path {
            if let Some(known) = self.templates.get(key) {
                let mut template = (*known).clone();
                template.contend(*sites);
                self.replace(*key, template);
            }
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
        let (mut desk, mut resolver) = (self.pools.desks.lend(), self.pools.resolvers.lend());
        let FrameInputs { code, this, caller, value, calldata } = inputs;
        let code = resolver.add(B256::ZERO, code.clone());
        let calldata = desk.bytes.run(calldata);
        let resolved = Arc::new(Resolved {
            key: TemplateKey::default(),
            program: Arc::new(program),
            contended: 0,
            is_dense: false,
            is_worth_foreseeing: false,
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
            is_of_transaction: true,
        });
        let mut evaluator =
            Evaluator::new(&self.templates, &mut resolver, &mut desk, view, surroundings);
        inputs.map(|inputs| evaluator.guards(&resolved, inputs)).unwrap_or_default()
    }

    /// Adds what a block's gas allows to be learned.
    pub(super) fn earn(&self, gas: u64) {
        self.reviews.earn(gas);
        self.lessons.earn(gas);
        self.walking.earn(gas);
        self.comparing.earn(gas);
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
        let known = self
            .templates
            .entries
            .get(&key)
            .map(|entry| (entry.precision.load(Ordering::Relaxed), Arc::clone(&entry.traffic)));
        let (precision, traffic) = known.unwrap_or_else(|| (PRECISION_ONE, Arc::default()));
        let entry = Entry {
            contended: template.contended(),
            samples: template.samples(),
            template: Arc::new(template),
            program,
            used,
            precision: AtomicU32::new(precision),
            confirmed: AtomicU32::new(0),
            traffic,
            size,
        };
        let before = self.templates.entries.insert(key, entry).map_or(0, |before| before.size);
        self.templates.functions.insert((key.size, key.selector));
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
        // Who looks in between finds nothing, which does no harm.
        self.templates.functions.clear();
        for entry in &self.templates.entries {
            self.templates.functions.insert((entry.key().size, entry.key().selector));
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

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
    pool::{Lent, Pool},
    predictor::ProfilePredictor,
    program::Program,
    record::{FrameInputs, Sample},
    resolver::Resolver,
    selection::{Selected, Selection},
    standing::Standing,
    template::{Template, TemplateKey},
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
    /// The functions that are worth foreseeing.
    selection: Selection,
    /// Counts those who predict or learn: the time by which the least useful template is found.
    clock: AtomicU64,
    /// Counts changes, so that whoever remembers that there is no template knows when to look again.
    generation: AtomicU64,
}

/// A template as it is looked up for predictions, by one [`Resolver`].
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) key: TemplateKey,
    pub(super) program: Arc<Program>,
    /// Sites, by bits, that transactions contend for, or come to them by.
    pub(super) contended: u128,
    pub(super) standing: Arc<Standing>,
    /// The version of what the function's template predicts.
    version: u32,
    /// When the program was last read ahead.
    read: AtomicU64,
}

impl Resolved {
    /// Reads the program [ahead](super::ahead) of its use, if that has not been done at this time.
    pub(super) fn read_ahead(&self, time: u64) {
        // Relaxed: it is read by one thread at a time.
        if self.read.load(Ordering::Relaxed) != time {
            self.read.store(time, Ordering::Relaxed);
            self.program.read_ahead();
        }
    }

    /// Whether the template still predicts the same.
    pub(super) fn is_current(&self) -> bool {
        self.version == self.standing.version()
    }
}

struct Entry {
    template: Arc<Template>,
    /// Made when it is first asked for; `None` if the template is too large for one.
    program: OnceLock<Option<Arc<Program>>>,
    standing: Arc<Standing>,
    size: usize,
}

impl Entry {
    /// Whether transactions that call the function meet where that can be known, and it pays to know.
    fn is_worth_foreseeing(&self) -> bool {
        self.template.contended() != 0 && self.standing.traffic.is_worth_foreseeing()
    }

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
        // Most codes without a template end here; the shape of a new one takes longer than all else.
        if !self.functions.contains(&(size, selector)) {
            return None;
        }
        let shape = self.shapes.of(hash, code);
        Some(TemplateKey { size, shape, selector })
    }

    /// The template for a key.
    fn get(&self, key: &TemplateKey) -> Option<Arc<Template>> {
        let entry = self.entries.get(key)?;
        entry.standing.note_use(self.time());
        Some(Arc::clone(&entry.template))
    }

    /// The program for a key, and what is thought of it.
    pub(super) fn resolve(&self, key: &TemplateKey) -> Option<Resolved> {
        let entry = self.entries.get(key)?;
        Some(Resolved {
            key: *key,
            program: Arc::clone(entry.program()?),
            contended: entry.template.contended(),
            standing: Arc::clone(&entry.standing),
            version: entry.standing.version(),
            read: AtomicU64::default(),
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
            known.is_some_and(|entry| entry.template.contended() & sites == *sites)
        })
    }

    /// Finds out anew whether a function is worth foreseeing.
    pub(super) fn reconsider(&self, key: &TemplateKey) {
        if let Some(entry) = self.entries.get(key) {
            self.selection.set(key.selector, &entry.standing.selected, entry.is_worth_foreseeing());
        }
    }

    /// The functions that are worth foreseeing, by selector.
    pub(super) fn selected(&self) -> Selected {
        self.selection.get()
    }

    /// How a function's templates have fared.
    pub(super) fn standing(&self, key: &TemplateKey) -> Option<Arc<Standing>> {
        self.entries.get(key).map(|entry| Arc::clone(&entry.standing))
    }

    /// When it is, by the clock, which moves on.
    fn time(&self) -> u64 {
        // Relaxed: the order of uses only decides what is evicted.
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Moves with each change of a template.
    pub(super) fn generation(&self) -> u64 {
        // Relaxed: who looks a moment too early finds an older template, which does no harm.
        self.generation.load(Ordering::Relaxed)
    }
}

/// Memory for the predictions of a block.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pub(super) desks: Pool<Desk>,
    resolvers: Pool<Resolver>,
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
// Together, learning takes 0.5 % of the time of sequential execution at most, once what is paid in
// advance is spent: on several threads that is a larger share of what is left.

/// Gas that blocks use for one unit of gas to review with. A review takes half as long as the
/// execution at most.
const REVIEW_SHARE: u64 = 256;
/// Gas that blocks use for one unit of gas to learn with. A lesson takes about ten times as long as
/// the execution that it repeats.
const LESSON_SHARE: u64 = 8192;
/// The same for walks, and for predictions of pairs of transactions, which cost about one execution.
const WALKING_SHARE: u64 = 512;
const COMPARING_SHARE: u64 = 1024;
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
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        self.insert(key, template);
        Ok(())
    }

    /// Whether there is anything to foresee of a block that is to be executed.
    pub(crate) fn is_of_use(&self) -> bool {
        !self.templates.selected().is_empty()
    }

    /// A predictor for one block: its environment, and the state before it.
    pub fn predictor<'a, S: StateSource>(
        &'a self,
        env: &'a EvmEnv,
        source: &'a S,
    ) -> ProfilePredictor<'a, S> {
        ProfilePredictor::new(self, env, source)
    }

    /// What looks programs up for a block.
    pub(super) fn resolver(&self) -> Lent<'_, Resolver> {
        let mut resolver = self.pools.resolvers.lend();
        resolver.set_time(self.templates.time());
        resolver
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

    /// How the templates of a code's function have fared, if there is one.
    pub(super) fn standing(
        &self,
        code_hash: B256,
        code: &Bytecode,
        selector: Option<[u8; 4]>,
    ) -> Option<Arc<Standing>> {
        self.templates.standing(&self.templates.key(code_hash, code, selector)?)
    }

    /// Notes what came of a prediction, if there was one. Whether there is something to learn.
    pub(super) fn take_verdict(&self, verdict: Option<&Verdict>) -> bool {
        let Some(verdict) = verdict else { return true };
        // Where a walk does better than the template did, that is tried again before long.
        let is_known = verdict.is_right && !verdict.is_walked;
        if let Some(standing) = self.templates.standing(&verdict.key) {
            standing.rate(verdict.named, verdict.right);
            if is_known {
                standing.confirm();
            }
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
            self.insert(sample.key, template);
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
                self.insert(*key, template);
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
        let (mut desk, mut resolver) = (self.pools.desks.lend(), self.resolver());
        let FrameInputs { code, this, caller, value, calldata } = inputs;
        let code = resolver.add(B256::ZERO, code.clone());
        let calldata = desk.bytes.run(calldata);
        let resolved = Arc::new(Resolved {
            key: TemplateKey::default(),
            program: Arc::new(program),
            contended: 0,
            standing: Arc::default(),
            version: 0,
            read: AtomicU64::default(),
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

    /// Puts a template in the place of what is known under its key. What was made of that stays, as
    /// long as it predicts the same: most samples only confirm what is known.
    fn insert(&self, key: TemplateKey, template: Template) {
        let size = template.size();
        let known = self.templates.entries.get(&key).map(|entry| {
            let program = entry.program.get().filter(|_| template.predicts_as(&entry.template));
            let predicts_as_before =
                program.is_some() && template.contended() == entry.template.contended();
            let program = program.cloned().map_or_else(OnceLock::new, OnceLock::from);
            (program, Arc::clone(&entry.standing), predicts_as_before)
        });
        let (program, standing, predicts_as_before) = known.unwrap_or_default();
        standing.note_use(self.templates.time());
        standing.renew();
        let template = Arc::new(template);
        let entry = Entry { template, program, standing: Arc::clone(&standing), size };
        let before = self.templates.entries.insert(key, entry).map_or(0, |before| before.size);
        if !predicts_as_before {
            // From here on everybody finds the new one.
            standing.supersede();
        }
        self.templates.reconsider(&key);
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
            .map(|entry| (entry.standing.used(), *entry.key()))
            .collect();
        uses.sort_unstable();
        let target = self.bytes_max - self.bytes_max / EVICTED_SHARE;
        for (_, key) in uses {
            if self.size() <= target {
                break;
            }
            if let Some((_, entry)) = self.templates.entries.remove(&key) {
                entry.standing.supersede();
                self.templates.selection.set(key.selector, &entry.standing.selected, false);
                self.bytes.fetch_sub(entry.size, Ordering::Relaxed);
            }
        }
        // Nobody else may keep what was dropped.
        self.pools.resolvers.forget();
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

//! The pipeline: calls the stages in order, for one list of transactions.

use crate::{
    CancellationToken, ExecutionError, ExecutionStats, ExecutorConfig,
    access_list::Foretold,
    admission::GasAdmission,
    analyzer::{
        AccessPrediction, Analyzer, BlockPredictions, CONTENTION_NEAR, Foreseen, LearnedPrediction,
        Profile, SenderNonces, excerpt,
    },
    backend::{BackendRules, EvmBackend},
    conflict_graph::{Conflict, ConflictGraph},
    engine::Engine,
    frontier::{End, Frontier},
    judgement,
    parallel_map::{PARALLEL_FROM, parallel_map},
    partitioner::ExecutionPlan,
    prefetch::Prefetch,
    scheduler::turn_length,
    serial,
    source::StateSource,
    source_cache::{CachedSource, SourceCache},
    speculation::Speculation,
    stats::ExecutionMode,
    telemetry::Stage,
    worker::{Accesses, PrecompileResults},
    workers::Workers,
};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256};
use dashmap::DashMap;
use multilane_state::{
    TxIndex,
    access_list::PostValues,
    multi_version::{AccountValue, CommittedChanges, MultiVersionState},
};
use revm::{
    context::TxEnv,
    context_interface::{
        Cfg,
        result::{HaltReason, ResultAndState},
    },
    database::CacheState,
    primitives::hardfork::SpecId,
    state::Bytecode,
};
use std::{
    fmt,
    ops::{ControlFlow, Range},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// Accounts and slots that a transaction touches, for sizing tables.
const ACCOUNTS_PER_TRANSACTION: usize = 3;
const SLOTS_PER_TRANSACTION: usize = 4;

/// What all workers of one execution share.
pub(crate) struct BlockContext {
    pub(crate) state: MultiVersionState,
    pub(crate) nonces: SenderNonces,
    pub(crate) beneficiary: Address,
    pub(crate) rules: Rules,
    /// Whether the finalized changes of each transaction are wanted beside the committed values.
    pub(crate) keeps_changes: bool,
    /// Whether the block's access list is wanted.
    pub(crate) records_accesses: bool,
    /// The transactions that somebody learns from.
    pub(crate) learned_from: Range<usize>,
    /// What somebody else's access list says, if there is one.
    foretold: Option<Foretold>,
    /// Transactions whose changes are wanted to learn from them, once they are known.
    studied: OnceLock<Box<[bool]>>,
    /// Code that the block's transactions deployed, speculatively or not.
    new_codes: DashMap<B256, NewCode>,
    has_new_codes: AtomicBool,
    /// What precompiles have computed, in executions that stood or not.
    pub(crate) precompile_results: Arc<PrecompileResults>,
    /// What builds the workers' EVMs, unless they are mainnet's.
    backend: Option<Arc<dyn EvmBackend>>,
    /// Accounts whose precompiles keep state of their own.
    ordered: Vec<Address>,
    /// What tells the workers to stop, if anything does.
    cancellation: Option<CancellationToken>,
}

/// Code that came into being in the block.
#[derive(Debug)]
struct NewCode {
    code: Bytecode,
    /// The first transaction that deploys it, if only in an execution that did not stand; `None` is
    /// what happened before the first one.
    writer: Option<TxIndex>,
    is_final: bool,
}

/// Rules that decide how values are validated and merged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whether a balance may be validated by what was needed of it.
    ///
    /// Before Spurious Dragon the mere existence of an account shows in gas and state, and
    /// Amsterdam prices transfers by the recipient's emptiness (EIP-2780) and logs them (EIP-7708):
    /// there, every read of an account is exact.
    pub(crate) balances_commute: bool,
    /// Whether a payment between accounts without code does what it does on mainnet.
    pub(crate) plain_transfers: bool,
    /// Whether empty accounts stay in the state (before EIP-161).
    pub(crate) keep_empty_accounts: bool,
}

impl Rules {
    pub(crate) fn of(env: &EvmEnv, backend: Option<&dyn EvmBackend>) -> Self {
        let rules = Self::of_mainnet(env);
        backend.map_or(rules, |backend| rules.of_backend(&backend.rules(env)))
    }

    fn of_mainnet(env: &EvmEnv) -> Self {
        let cfg = &env.cfg_env;
        let spec = cfg.spec;
        let ordinary_fees = !cfg.is_balance_check_disabled() && !cfg.is_fee_charge_disabled();
        Self {
            balances_commute: spec.is_enabled_in(SpecId::SPURIOUS_DRAGON)
                && !spec.is_enabled_in(SpecId::AMSTERDAM)
                && ordinary_fees,
            plain_transfers: true,
            keep_empty_accounts: !spec.is_enabled_in(SpecId::SPURIOUS_DRAGON),
        }
    }

    /// The same for another EVM.
    const fn of_backend(self, backend: &BackendRules) -> Self {
        Self {
            balances_commute: self.balances_commute && backend.balances_commute,
            plain_transfers: self.plain_transfers && backend.plain_transfers,
            ..self
        }
    }
}

impl BlockContext {
    /// `keeps_changes` says whether somebody wants to see each transaction's finalized changes.
    pub(crate) fn new(env: &EvmEnv, transactions: &[TxEnv], keeps_changes: bool) -> Self {
        let count = transactions.len();
        Self {
            state: MultiVersionState::with_capacity(
                count * ACCOUNTS_PER_TRANSACTION,
                count * SLOTS_PER_TRANSACTION,
            ),
            nonces: SenderNonces::of(transactions),
            beneficiary: env.block_env.beneficiary,
            rules: Rules::of_mainnet(env),
            keeps_changes,
            records_accesses: false,
            learned_from: 0..0,
            foretold: None,
            studied: OnceLock::new(),
            new_codes: DashMap::new(),
            has_new_codes: AtomicBool::new(false),
            precompile_results: Arc::default(),
            backend: None,
            ordered: Vec::new(),
            cancellation: None,
        }
    }

    /// The same block, with what is needed to learn from some of its transactions.
    pub(crate) fn with_learning(mut self, learned_from: Range<usize>) -> Self {
        self.learned_from = learned_from;
        self
    }

    /// The same block, until a token says stop.
    pub(crate) fn with_cancellation(mut self, token: Option<&CancellationToken>) -> Self {
        self.cancellation = token.cloned();
        self
    }

    /// Whether nobody wants the block any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancellation.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// The same block, executed by another EVM if there is one.
    pub(crate) fn with_backend(
        mut self,
        env: &EvmEnv,
        backend: Option<&Arc<dyn EvmBackend>>,
    ) -> Self {
        if let Some(backend) = backend {
            let rules = backend.rules(env);
            self.rules = self.rules.of_backend(&rules);
            self.ordered = rules.ordered;
            self.backend = Some(Arc::clone(backend));
        }
        self
    }

    /// Drops what a block of so many transactions needed, on all threads where that is worth it: a
    /// large one has some hundred thousand entries.
    pub(crate) fn dispose(mut self, transactions: usize, workers: Workers<'_>) {
        if transactions >= PARALLEL_FROM {
            workers.share_out(
                self.state.parts(workers.threads()),
                || (),
                |(), _, part| part.clear(),
            );
        }
    }

    /// What builds the workers' EVMs, unless they are mainnet's.
    pub(crate) fn backend(&self) -> Option<&dyn EvmBackend> {
        self.backend.as_deref()
    }

    /// Whether transactions that look at an account run one after another.
    pub(crate) fn is_ordered(&self, address: &Address) -> bool {
        self.ordered.contains(address)
    }

    /// Has the block's access list recorded, if that `records`, and serves speculative readers what
    /// another such list says.
    pub(crate) fn with_access_lists(mut self, records: bool, foretold: Option<Foretold>) -> Self {
        self.records_accesses = records;
        self.foretold = foretold;
        self
    }

    /// Whether the execution ends at a transaction, because it shows the list to be wrong. It was
    /// executed on final state.
    pub(crate) fn is_list_refuted_by(&self, reader: TxIndex, accesses: &Accesses<'_>) -> bool {
        self.foretold.as_ref().is_some_and(|list| list.is_refuted_by(reader, accesses))
    }

    /// Whether the execution has ended because the list is wrong.
    pub(crate) fn was_list_refuted(&self) -> bool {
        self.foretold.as_ref().is_some_and(Foretold::was_refuted)
    }

    /// What an access list says that speculative readers will find.
    pub(crate) fn foretold(&self) -> Option<&PostValues> {
        self.foretold.as_ref()?.values()
    }

    /// Notes that a speculative reader was served something wrong.
    pub(crate) fn note_conflict(&self) {
        if let Some(foretold) = &self.foretold {
            foretold.note_conflict();
        }
    }

    /// No changes yet, with whatever is to be recorded.
    pub(crate) fn no_changes<'block>(&self) -> CommittedChanges<'block> {
        if self.records_accesses {
            CommittedChanges::with_journal()
        } else {
            CommittedChanges::default()
        }
    }

    /// Whether somebody wants to see the finalized changes of a transaction.
    pub(crate) fn keeps_changes_of(&self, index: TxIndex) -> bool {
        self.keeps_changes || self.studied.get().is_some_and(|studied| studied[index.get()])
    }

    /// Keeps the changes of transactions that are to be learned from. Called once, before the first
    /// of them is executed.
    pub(crate) fn study(&self, studied: Box<[bool]>) {
        // The only writer; the workers start after this.
        let _ = self.studied.set(studied);
    }

    /// Takes over what was changed before the first transaction (system calls).
    #[expect(clippy::iter_over_hash_type, reason = "each item goes to an entry of its own")]
    pub(crate) fn seed(&self, before: &CacheState) {
        for (address, cached) in &before.accounts {
            let value = cached.account.as_ref().map(|account| AccountValue::from(&account.info));
            self.state.account(*address).load(value);
            for (slot, value) in cached.account.iter().flat_map(|account| &account.storage) {
                self.state.slot(*address, *slot).load(*value);
            }
        }
        for (hash, code) in &before.contracts {
            self.add_new_code(*hash, code, None);
        }
    }

    /// Code that the block deployed, by its hash.
    pub(crate) fn new_code(&self, hash: &B256) -> Option<Bytecode> {
        self.new_code_if(hash, |_| true)
    }

    /// The same, as far as a transaction may know of it; at the frontier that is what is final.
    ///
    /// Code with this hash may be older than the block as well. A later transaction that deploys it
    /// too must not spare this one the read from the source: it may fail.
    pub(crate) fn new_code_before(
        &self,
        hash: &B256,
        reader: TxIndex,
        at_frontier: bool,
    ) -> Option<Bytecode> {
        self.new_code_if(
            hash,
            |new| {
                if at_frontier { new.is_final } else { new.writer < Some(reader) }
            },
        )
    }

    fn new_code_if(&self, hash: &B256, is_known: impl Fn(&NewCode) -> bool) -> Option<Bytecode> {
        // Acquire pairs with the release in `add_new_code`; without the flag every account read
        // would look into the map, which is nearly always empty.
        if !self.has_new_codes.load(Ordering::Acquire) {
            return None;
        }
        let new = self.new_codes.get(hash)?;
        is_known(&new).then(|| new.code.clone())
    }

    /// Notes code that a transaction deploys, or, with `None`, that is there before the first one.
    pub(crate) fn add_new_code(&self, hash: B256, code: &Bytecode, writer: Option<TxIndex>) {
        let is_final = writer.is_none();
        self.new_codes
            .entry(hash)
            .and_modify(|new| {
                new.writer = new.writer.min(writer);
                new.is_final |= is_final;
            })
            .or_insert_with(|| NewCode { code: code.clone(), writer, is_final });
        self.has_new_codes.store(true, Ordering::Release);
    }

    /// Notes that code which a transaction has deployed is final.
    pub(crate) fn commit_new_code(&self, hash: &B256) {
        if let Some(mut new) = self.new_codes.get_mut(hash) {
            new.is_final = true;
        }
    }
}

impl fmt::Debug for BlockContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockContext").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// A predictor in place of the executor's own: transactions, and whether payments commute.
pub(crate) type Predictor = dyn Fn(&[TxEnv], bool) -> Vec<AccessPrediction> + Send + Sync;

/// What predicts the accesses of a block's transactions.
#[derive(Clone, Copy)]
pub(crate) enum Foresight<'a> {
    /// The executor's own analyzer, with what has been learned, if anything is to be.
    Analyzer(Option<&'a Profile>),
    /// Somebody else.
    Predictor(&'a Predictor),
    /// An access list: what readers are served comes from it, so that nothing depends on anything.
    AccessList,
}

/// What the executor has decided about a block.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: ExecutionPlan,
    pub(crate) stats: ExecutionStats,
    /// What there is for a learner to compare with.
    pub(crate) predictions: BlockPredictions,
    /// What planning has read of the source, where somebody reads ahead and would read it again.
    pub(crate) read: Option<Arc<SourceCache>>,
}

/// Predicts, builds the graph, partitions, and judges whether threads are worth it.
///
/// `claimed_gas` is what the block is said to use, where somebody says so.
pub(crate) fn plan<S: StateSource>(
    transactions: &[TxEnv],
    (env, balances_commute): (&EvmEnv, bool),
    workers: Workers<'_>,
    foresight: Foresight<'_>,
    source: &S,
    claimed_gas: Option<u64>,
    config: &ExecutorConfig,
) -> Planned {
    let stage = Stage::Plan.enter();
    let read = (config.prefetch_threads > 0).then(Arc::<SourceCache>::default);
    let threads = workers.threads();
    let unplanned = |reason| Planned {
        plan: ExecutionPlan::default(),
        stats: ExecutionStats {
            threads,
            mode: ExecutionMode::Sequential(reason),
            transactions: transactions.len(),
            plan_time: stage.elapsed(),
            ..ExecutionStats::default()
        },
        predictions: BlockPredictions::default(),
        read: None,
    };
    let gas_limits = transactions.iter().map(|tx| tx.gas_limit);
    let spec = env.cfg_env.spec;
    if config.allow_sequential
        && let Some(reason) = judgement::at_a_glance(gas_limits, claimed_gas, || spec, threads)
    {
        return unplanned(reason);
    }
    let (predictions, learned): (Vec<_>, Vec<_>) = match foresight {
        Foresight::Predictor(predict) => {
            let mut predictions = predict(transactions, balances_commute);
            // Advice of the wrong length is still only advice.
            predictions.resize_with(transactions.len(), AccessPrediction::default);
            (predictions, Vec::new())
        }
        Foresight::AccessList => {
            (parallel_map(workers, transactions, |_, tx| AccessPrediction::of_gas(tx)), Vec::new())
        }
        Foresight::Analyzer(profile) => {
            let analyzer = Analyzer::new(transactions, balances_commute);
            match profile.filter(|profile| profile.is_of_use()) {
                Some(profile) => {
                    let predict = |at, tx: &_, contended: Option<&_>| match contended {
                        Some(contended) => analyzer.predict_with(TxIndex::new(at), tx, contended),
                        None => analyzer.predict(TxIndex::new(at), tx),
                    };
                    match &read {
                        None => {
                            profile.predict_block((env, source), transactions, workers, predict)
                        }
                        Some(read) => {
                            let source = CachedSource::over(source, Arc::clone(read));
                            profile.predict_block((env, &&source), transactions, workers, predict)
                        }
                    }
                }
                None => {
                    let predict = |at, tx: &_| analyzer.predict(TxIndex::new(at), tx);
                    (parallel_map(workers, transactions, predict), Vec::new())
                }
            }
        }
    };
    let graph = ConflictGraph::new(&predictions);
    let foreseen = match foresight {
        Foresight::Analyzer(Some(_)) => {
            let part = excerpt(env.block_env.number, transactions.len());
            foreseen(&graph, part, &predictions, &learned)
        }
        _ => Vec::new(),
    };
    let plan = ExecutionPlan::new(&predictions, &graph);
    let reason = judgement::of_plan(&plan, &predictions, claimed_gas, spec);
    let stats = ExecutionStats {
        threads,
        mode: match reason.filter(|_| config.allow_sequential) {
            Some(reason) => ExecutionMode::Sequential(reason),
            None => ExecutionMode::Parallel,
        },
        transactions: transactions.len(),
        predicted_edges: graph.conflicts().len(),
        lanes: plan.lanes(),
        critical_path_gas: plan.critical_path_gas(),
        predicted_gas: plan.gas(),
        plan_time: stage.elapsed(),
        ..ExecutionStats::default()
    };
    Planned { plan, stats, predictions: BlockPredictions { learned, foreseen }, read }
}

/// The conflicts of a graph that end in a part of the block, with whether only the profile says so.
/// What was learned comes last in each prediction.
fn foreseen(
    graph: &ConflictGraph,
    part: Range<usize>,
    predictions: &[AccessPrediction],
    learned: &[Option<Arc<LearnedPrediction>>],
) -> Vec<Foreseen> {
    let foreseen = |&Conflict { earlier, later, access }: &Conflict| {
        let of_profile = learned.get(later.get()).and_then(Option::as_ref);
        let of_profile = of_profile.map_or(0, |prediction| prediction.accesses.len());
        let all = predictions[later.get()].accesses.len();
        Foreseen { earlier, later, is_learned: access as usize + of_profile >= all }
    };
    // They are ordered by their later end.
    let before = |end: usize| graph.conflicts().partition_point(|c| c.later.get() < end);
    graph.conflicts()[before(part.start)..before(part.end)].iter().map(foreseen).collect()
}

/// Transactions to execute as planned.
#[derive(Debug)]
pub(crate) struct Execution<'run, 'block> {
    pub(crate) workers: Workers<'run>,
    pub(crate) block: &'block BlockContext,
    pub(crate) env: &'run EvmEnv,
    pub(crate) transactions: &'run [TxEnv],
    /// What happened before the first transaction.
    pub(crate) changes: CommittedChanges<'block>,
    /// Where the block's gas limit is to be kept.
    pub(crate) admission: Option<GasAdmission>,
    /// Who reads ahead, if anybody does.
    pub(crate) prefetch: Option<Prefetch<'run>>,
}

/// Hands over a final result. May end the execution early by breaking.
type Deliver<'a> = &'a mut dyn FnMut(usize, ResultAndState<HaltReason>) -> ControlFlow<()>;

impl<'block> Execution<'_, 'block> {
    /// Executes all transactions. The end has the results, up to the first failure.
    pub(crate) fn run<S: StateSource>(
        self,
        planned: &mut Planned,
        source: &S,
    ) -> Result<End<'block>, ExecutionError> {
        self.run_with(planned, source, None)
    }

    /// Executes all transactions and hands the final results to `deliver`, in block order, on the
    /// calling thread, while later ones still run.
    pub(crate) fn stream<S: StateSource>(
        self,
        planned: &mut Planned,
        source: &S,
        deliver: Deliver<'_>,
    ) -> Result<End<'block>, ExecutionError> {
        self.run_with(planned, source, Some(deliver))
    }

    fn run_with<S: StateSource>(
        self,
        planned: &mut Planned,
        source: &S,
        deliver: Option<Deliver<'_>>,
    ) -> Result<End<'block>, ExecutionError> {
        let Some(prefetch) = self.prefetch else { return self.execute(planned, source, deliver) };
        let source = &CachedSource::over(source, planned.read.clone().unwrap_or_default());
        prefetch
            .beside(source, self.env, self.transactions, || self.execute(planned, &source, deliver))
    }

    fn execute<S: StateSource>(
        self,
        planned: &mut Planned,
        source: &S,
        deliver: Option<Deliver<'_>>,
    ) -> Result<End<'block>, ExecutionError> {
        let stage = Stage::Execute.enter();
        let Self { workers, block, env, transactions, mut changes, admission, .. } = self;
        if !block.learned_from.is_empty() {
            changes.note_rewrites(CONTENTION_NEAR, block.learned_from.clone());
        }
        let Planned { plan, stats, .. } = planned;
        let threads = workers.threads();
        let speculation = Speculation::new(threads, turn_length(plan, threads));
        let frontier = Frontier::new(transactions.len(), speculation, block, changes, admission);
        let end = if let ExecutionMode::Sequential(_) = stats.mode {
            let (executions, mut end) =
                serial::run(block, env, transactions, frontier, source, deliver)?;
            stats.executions = executions;
            end.contention.in_vain = None;
            end
        } else {
            let streams = deliver.is_some();
            let engine = Engine::new(block, plan, env, transactions, frontier, streams, threads);
            let counts = match deliver {
                Some(deliver) => engine.run(workers, source, deliver)?,
                None => engine.run(workers, source, |_, _| ControlFlow::Continue(()))?,
            };
            stats.executions = counts.executions;
            stats.put_off = counts.put_off;
            stats.conflicts = counts.conflicts.total();
            stats.conflict_kinds = counts.conflicts;
            engine.into_end()
        };
        stats.execution_time = stage.elapsed();
        Ok(end)
    }
}

//! Building a block from candidates.
//!
//! Candidates are executed in windows, each of them a small block for the engine on the state that
//! the windows before have left. A window is a row of candidates that fit into the block whatever
//! gas they turn out to use, so that what fits is never a guess; the first one of a window is let in
//! by the gas that is really left. A candidate that cannot be executed ends its window: it is
//! skipped, and those after it go on in the next one.

use super::{ParallelExecutor, final_error, open};
use crate::{
    CancellationToken, ExecutionError, ExecutionMode, ExecutionStats, SequentialReason,
    StateSource,
    admission::GasAdmission,
    error::SourceFailure,
    parallel_map::parallel_map,
    pipeline::Execution,
    sequential,
    source::SourceDb,
    source_cache::{CachedDb, CachedSource},
    state_history::{StateAt, StateHistory},
    telemetry::{self, Stage},
    tx_envs::tx_env,
};
use alloy_consensus::{Transaction, TxEnvelope, transaction::Recovered};
use alloy_evm::{
    Evm, EvmEnv, EvmFactory,
    block::{BlockExecutor, BlockExecutorFactory, BlockValidationError},
    eth::{EthEvmFactory, EthTxResult},
};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use revm::{
    context_interface::result::{HaltReason, ResultAndState},
    database::{State, states::bundle_state::BundleRetention},
};
use std::{collections::VecDeque, iter::Enumerate, ops::ControlFlow};

/// Candidates in the first window.
const WINDOW_START: usize = 512;
/// Candidates in a window at least, where there are so many that fit.
const WINDOW_MIN: usize = 16;

/// A block made from candidates.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct BuiltBlock {
    /// The candidates that are in the block, in their order.
    pub transactions: Vec<Recovered<TxEnvelope>>,
    /// The candidates that are not, in their order, with reasons.
    pub skipped: Vec<Skipped>,
    /// What executing the block produces: the same as
    /// [`execute_block`](ParallelExecutor::execute_block) of these transactions.
    pub output: BlockOutput,
}

/// A candidate that is not in the block.
#[derive(Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Its position among the candidates, counted from zero.
    pub candidate: usize,
    /// The candidate.
    pub transaction: Recovered<TxEnvelope>,
    /// Why it is not in the block.
    pub reason: SkipReason,
}

/// Why a candidate is not in a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// Its gas limit is more than the block had left when it was its turn.
    #[error("gas limit {limit} is more than the {available} that the block has left")]
    Gas {
        /// The candidate's gas limit, in gas.
        limit: u64,
        /// What the block had left, in gas.
        available: u64,
    },
    /// Its blobs are more than the block had left (EIP-4844).
    #[error("blob gas {used} is more than the {available} that the block has left")]
    BlobGas {
        /// The candidate's blob gas, in gas.
        used: u64,
        /// What the block had left, in gas.
        available: u64,
    },
    /// It is not valid on the state that it would have found: its nonce, its balance, its fees.
    #[error(transparent)]
    Invalid(BlockValidationError),
}

impl ParallelExecutor {
    /// Fills a block with candidates.
    ///
    /// The outcome is that of a serial builder that takes the candidates in their order: one that
    /// does not fit (by its gas limit, or its blobs) or is invalid on the state that it finds is
    /// skipped, with the reason, and later ones are still tried, by the same sender too. `block`
    /// says what there is besides transactions: environment, withdrawals, uncles; its own
    /// transactions are not looked at.
    ///
    /// Candidates are taken as they are needed, so an iterator may choose them late, and ends the
    /// block by ending, at a deadline for instance. Execution is on all workers while candidates
    /// are mostly valid; each invalid one costs a new start. The size of the block in bytes
    /// (EIP-7934) is not limited.
    ///
    /// # Errors
    ///
    /// See [`ExecutionError`]; the index is that of the candidate. An invalid candidate is not an
    /// error.
    pub fn build_block<S: StateSource>(
        &self,
        chain: &ChainSpec,
        block: &BlockInput,
        candidates: impl IntoIterator<Item = Recovered<TxEnvelope>>,
        source: &S,
    ) -> Result<(BuiltBlock, ExecutionStats), ExecutionError> {
        let env = chain.evm_env(&block.header);
        let _block = telemetry::enter_block("build_block", env.block_env.number, None);
        let records = self.config.access_lists || sequential::commits_to_access_list(chain, block);
        let source = CachedSource::new(source);
        let failure = SourceFailure::default();
        let outside = |error| ExecutionError::from_block_error(error, None, &failure);
        let mut state = State::builder()
            .with_database(SourceDb::new(open(&&source)?, failure.clone()))
            .with_bundle_update()
            .with_bal_builder_if(records)
            .build();
        let evm = EthEvmFactory::default().create_evm(&mut state, env.clone());
        let factory = sequential::block_executor_factory(chain);
        let mut executor = factory.create_executor(evm, sequential::execution_context(block));
        executor.apply_pre_execution_changes().map_err(outside)?;

        let mut history = StateHistory::before(&executor.evm().db().cache);
        let blob_gas_max = chain
            .blob_params(block.header.timestamp)
            .map_or(u64::MAX, |params| params.max_blob_gas_per_block());
        let mut candidates = Candidates::new(candidates, &env, blob_gas_max);
        let mut built = BuiltBlock::default();
        let mut stats = ExecutionStats {
            threads: self.workers().threads(),
            mode: ExecutionMode::Sequential(SequentialReason::SmallBlock),
            ..ExecutionStats::default()
        };
        loop {
            let window = candidates.window(&mut built.skipped);
            if window.is_empty() {
                break;
            }
            let position = built.transactions.len();
            let parent = Parent { source: &source, history: &history, position };
            let ran = self.run_window(&env, &window, candidates.admission, &history, &parent)?;
            absorb(&mut stats, &ran.stats);
            let mut window = window.into_iter();
            for (last, Candidate { transaction, .. }) in ran.finals.into_iter().zip(&mut window) {
                history.record(built.transactions.len() + 1, &last.state);
                candidates.include(&last, &transaction);
                executor.evm_mut().db_mut().bump_bal_index();
                executor.commit_transaction(EthTxResult {
                    result: last,
                    blob_gas_used: transaction.blob_gas_used().unwrap_or_default(),
                    tx_type: transaction.tx_type(),
                });
                built.transactions.push(transaction);
            }
            candidates.learn(built.transactions.len() - position, ran.refused.is_some());
            if let Some(reason) = ran.refused
                && let Some(Candidate { position, transaction }) = window.next()
            {
                built.skipped.push(Skipped { candidate: position, transaction, reason });
            }
            candidates.put_back(window);
        }

        let stage = Stage::Finish.enter();
        executor.evm_mut().db_mut().bump_bal_index();
        let (_, result) = executor.finish().map_err(outside)?;
        state.merge_transitions(BundleRetention::Reverts);
        built.output = BlockOutput {
            receipts: result.receipts,
            requests: result.requests,
            gas_used: result.gas_used,
            blob_gas_used: result.blob_gas_used,
            bundle: state.take_bundle(),
            access_list: state.take_built_alloy_bal(),
        };
        stats.transactions = built.transactions.len();
        stats.finish_time = stage.elapsed();
        drop(stage);
        telemetry::executed(&stats);
        Ok((built, stats))
    }

    /// Executes candidates until one of them cannot be.
    fn run_window<S: StateSource>(
        &self,
        env: &EvmEnv,
        window: &[Candidate],
        admission: GasAdmission,
        history: &StateHistory,
        parent: &S,
    ) -> Result<WindowEnd, ExecutionError> {
        let tx_envs =
            parallel_map(self.workers(), window, |_, candidate| tx_env(&candidate.transaction));
        let block = self.context(env, &tx_envs, parent, true);
        // Code of earlier windows is new in the block too, and travels with its accounts.
        history.codes().for_each(|(hash, code)| block.add_new_code(*hash, code, None));
        let mut planned = self.plan(&tx_envs, env, parent);
        let execution =
            Execution { admission: Some(admission), ..self.execution(&block, env, &tx_envs) };
        let mut finals = Vec::with_capacity(window.len());
        let end = execution.stream(&mut planned, parent, &mut |_, last| {
            finals.push(last);
            ControlFlow::Continue(())
        })?;
        let refused = match end.failure {
            None => None,
            Some((index, cause)) => {
                let Candidate { position, transaction } = &window[index];
                match final_error(*position, cause, *transaction.hash()) {
                    ExecutionError::InvalidBlock { cause, .. } => Some(SkipReason::from(cause)),
                    error => return Err(error),
                }
            }
        };
        Ok(WindowEnd { finals, refused, stats: planned.stats })
    }
}

impl From<BlockValidationError> for SkipReason {
    fn from(error: BlockValidationError) -> Self {
        match error {
            BlockValidationError::TransactionGasLimitMoreThanAvailableBlockGas {
                transaction_gas_limit: limit,
                block_available_gas: available,
            } => Self::Gas { limit, available },
            error => Self::Invalid(error),
        }
    }
}

/// The state that a window's first candidate finds.
struct Parent<'a, S> {
    source: &'a CachedSource<'a, S>,
    history: &'a StateHistory,
    /// How many transactions are in the block.
    position: usize,
}

impl<'a, S: StateSource> StateSource for Parent<'a, S> {
    type Db = StateAt<'a, CachedDb<'a, S::Db>>;
    type Error = S::Error;

    fn open(&self) -> Result<Self::Db, S::Error> {
        self.source.open().map(|db| StateAt::new(self.history, self.position, db))
    }

    fn cancellation(&self) -> Option<&CancellationToken> {
        self.source.cancellation()
    }
}

/// A transaction that may get into the block.
#[derive(Debug)]
struct Candidate {
    position: usize,
    transaction: Recovered<TxEnvelope>,
}

/// What became of a window.
struct WindowEnd {
    /// The results of the candidates that are in the block: the first so many of the window.
    finals: Vec<ResultAndState<HaltReason>>,
    /// Why the one after them is not.
    refused: Option<SkipReason>,
    stats: ExecutionStats,
}

/// The candidates that are undecided, and the room that is left for them.
struct Candidates<I: Iterator> {
    /// Some that have been in a window, which ended before they were reached.
    returned: VecDeque<Candidate>,
    unseen: Enumerate<I>,
    admission: GasAdmission,
    blob_gas_available: u64,
    /// Candidates in the next window at most. Where windows end early, what was done for the rest
    /// of them was in vain.
    length: usize,
}

impl<I: Iterator<Item = Recovered<TxEnvelope>>> Candidates<I> {
    fn new(
        candidates: impl IntoIterator<IntoIter = I>,
        env: &EvmEnv,
        blob_gas_available: u64,
    ) -> Self {
        Self {
            returned: VecDeque::new(),
            unseen: candidates.into_iter().enumerate(),
            admission: GasAdmission::new(env),
            blob_gas_available,
            length: WINDOW_START,
        }
    }

    /// The next candidates that fit for certain. Those whose turn it is and that do not fit are
    /// skipped.
    fn window(&mut self, skipped: &mut Vec<Skipped>) -> Vec<Candidate> {
        let mut window = Vec::new();
        let (mut gas, mut blob_gas) = (self.admission.available(), self.blob_gas_available);
        while window.len() < self.length {
            let Some(candidate) = self.next() else { break };
            let limit = candidate.transaction.gas_limit();
            let blobs = candidate.transaction.blob_gas_used().unwrap_or_default();
            if window.is_empty() {
                // Every candidate before this one is decided, so what is left is no estimate.
                if let Err(reason) = self.admit(limit, blobs) {
                    let Candidate { position, transaction } = candidate;
                    skipped.push(Skipped { candidate: position, transaction, reason });
                    continue;
                }
            } else if limit > gas || blobs > blob_gas {
                self.returned.push_front(candidate);
                break;
            }
            gas = gas.saturating_sub(limit);
            blob_gas = blob_gas.saturating_sub(blobs);
            window.push(candidate);
        }
        window
    }

    fn next(&mut self) -> Option<Candidate> {
        self.returned.pop_front().or_else(|| {
            let (position, transaction) = self.unseen.next()?;
            Some(Candidate { position, transaction })
        })
    }

    fn admit(&self, limit: u64, blobs: u64) -> Result<(), SkipReason> {
        self.admission.admit(limit)?;
        let available = self.blob_gas_available;
        if blobs > available {
            return Err(SkipReason::BlobGas { used: blobs, available });
        }
        Ok(())
    }

    /// Takes an included candidate's gas from the room that is left.
    fn include(&mut self, last: &ResultAndState<HaltReason>, transaction: &TxEnvelope) {
        self.admission.record(&last.result);
        let blobs = transaction.blob_gas_used().unwrap_or_default();
        self.blob_gas_available = self.blob_gas_available.saturating_sub(blobs);
    }

    /// Chooses the length of the next window by how the last one went.
    fn learn(&mut self, included: usize, ended_early: bool) {
        self.length = if ended_early {
            (2 * included).max(WINDOW_MIN)
        } else {
            self.length.saturating_mul(2)
        };
    }

    /// Takes back what is left of a window.
    fn put_back(&mut self, rest: impl DoubleEndedIterator<Item = Candidate>) {
        for candidate in rest.rev() {
            self.returned.push_front(candidate);
        }
    }
}

/// Adds up what several windows tell.
fn absorb(stats: &mut ExecutionStats, window: &ExecutionStats) {
    if stats.executions == 0 || window.mode == ExecutionMode::Parallel {
        stats.mode = window.mode;
    }
    stats.executions += window.executions;
    stats.put_off += window.put_off;
    stats.conflicts += window.conflicts;
    stats.conflict_kinds += window.conflict_kinds;
    stats.predicted_edges += window.predicted_edges;
    stats.lanes += window.lanes;
    stats.critical_path_gas += window.critical_path_gas;
    stats.predicted_gas += window.predicted_gas;
    stats.plan_time += window.plan_time;
    stats.execution_time += window.execution_time;
}

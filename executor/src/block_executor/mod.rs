//! A drop-in for alloy-evm's block executors.
//!
//! A client that knows nothing but alloy-evm's traits gets parallel execution by being handed
//! another factory. The client's database is one handle that one thread
//! reads; the workers read the parent state from handles of their own, which the factory is told
//! how to open. What comes of that is advice: a result is used only where the client's own database
//! holds everything that the transaction found. Everything else is executed by the executor that is
//! wrapped, one transaction after another. *Must not know*: what the wrapped executor does around
//! the transactions.

mod ahead;
mod executor;
mod judge;
mod prospect;

pub use executor::ParallelBlockExecutor;

use crate::{
    EthereumFactory, ExecutionStats, ParallelExecutor, StateSource, backend::Mainnet,
    tx_envs::tx_env,
};
use alloy_consensus::{TransactionEnvelope, transaction::Recovered};
use alloy_evm::{
    EvmEnv, EvmFactory, FromRecoveredTx, FromTxWithEncoded,
    block::{BlockExecutorFactory, StateDB},
};
use core::fmt;
use judge::Judge;
use prospect::Prospect;
use revm::{Inspector, context::TxEnv, inspector::NoOpInspector};
use std::{
    any::TypeId,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A [`BlockExecutorFactory`] whose executors run on several threads, around another factory.
///
/// Its executors do what those of the wrapped factory do, with the same results, receipts, errors
/// and changes of the database. `blocks` is asked about each block when an executor is created for
/// it: where the [`Lookahead`] says where the parent state is,
///
/// - [`execute_block`](alloy_evm::block::BlockExecutor::execute_block) executes the transactions on all workers, and
///   commits them in order on the calling thread;
/// - `execute_transaction` and its like, called one by one, find results that are ready, where the
///   lookahead knew the transactions. They are executed from
///   `apply_pre_execution_changes` on.
///
/// Where it gives `None`, or the EVM has an inspector (which is to see everything in order), the
/// wrapped executor does all the work.
///
/// The source need not be right. Each result is compared with the database that the client gave the
/// EVM, account by account and slot by slot: the database sees the reads of a serial run, and has
/// the last word. A source that lags behind costs speed, as [`served`](Self::served) shows.
///
/// An executor that has a [profile](ParallelExecutor::with_profile) learns from the blocks here too.
///
/// The workers run the EVM of the [`ParallelExecutor`], under the rules of the client's. Whatever
/// else the client has changed in its EVM after creating it (wrapped precompiles, for instance) is
/// used by the wrapped executor alone. A factory that executes transactions in a way of its own, in
/// `execute_transaction_without_commit`, is not for this.
pub struct ParallelBlockExecutorFactory<F, P, B = Mainnet> {
    inner: F,
    executor: Arc<ParallelExecutor<B>>,
    blocks: P,
    counts: Counts,
    listener: Option<Listener>,
}

/// Who is told of each block that was executed ahead.
type Listener = Arc<dyn Fn(&ExecutionStats) + Send + Sync>;

/// What is known of a block before it is executed.
#[derive(Clone, Debug)]
pub struct Lookahead<S> {
    source: S,
    transactions: Arc<[TxEnv]>,
}

impl<S> Lookahead<S> {
    /// The parent state is to be had from `source`. One that can be
    /// [cancelled](crate::Cancellable) ends what runs ahead, and not the client's block.
    pub fn new(source: S) -> Self {
        Self { source, transactions: [].into() }
    }

    /// The transactions will be these, which helps a client that executes one after another.
    ///
    /// A transaction that the client then does not execute, or another one that it does, is
    /// noticed, and costs nothing but time.
    #[must_use]
    pub fn with_transactions<'a, T: 'a>(
        mut self,
        transactions: impl IntoIterator<Item = &'a Recovered<T>>,
    ) -> Self
    where
        TxEnv: FromRecoveredTx<T>,
    {
        self.transactions = transactions.into_iter().map(tx_env).collect();
        self
    }
}

/// How many transactions were served from speculation since a factory was made, and how many not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Transactions whose results were ready, and stood.
    pub speculative: u64,
    /// Executions by the wrapped executor.
    pub serial: u64,
}

#[derive(Debug, Default)]
struct Counts {
    speculative: AtomicU64,
    serial: AtomicU64,
}

impl<F, P, B> ParallelBlockExecutorFactory<F, P, B> {
    /// Wraps a factory. `blocks` tells what is known of a block, by its environment and its
    /// execution context; it is called once for each executor, on the thread that creates it.
    pub fn new<S>(inner: F, executor: Arc<ParallelExecutor<B>>, blocks: P) -> Self
    where
        F: BlockExecutorFactory,
        P: Fn(&EvmEnv, &F::ExecutionCtx<'_>) -> Option<Lookahead<S>>,
    {
        Self { inner, executor, blocks, counts: Counts::default(), listener: None }
    }

    /// Tells `listener` how each block went that was executed ahead, or that was judged not to be
    /// worth it ([`ExecutionStats::mode`]).
    ///
    /// It is called when the last result is there, before the client has finished the block: on the
    /// client's thread in `execute_block`, on a thread of its own otherwise. A block that the client
    /// gives up, or that is invalid, is not told of.
    #[must_use]
    pub fn with_stats(
        mut self,
        listener: impl Fn(&ExecutionStats) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The factory that is wrapped.
    pub const fn inner(&self) -> &F {
        &self.inner
    }

    /// How many transactions were served from speculation so far.
    pub fn served(&self) -> Served {
        // Relaxed: counters that nothing else depends on.
        Served {
            speculative: self.counts.speculative.load(Ordering::Relaxed),
            serial: self.counts.serial.load(Ordering::Relaxed),
        }
    }
}

impl<F, P, S, B, T> BlockExecutorFactory for ParallelBlockExecutorFactory<F, P, B>
where
    F: EthereumFactory<Transaction = T>,
    T: TransactionEnvelope,
    TxEnv: FromRecoveredTx<T> + FromTxWithEncoded<T>,
    P: Fn(&EvmEnv, &F::ExecutionCtx<'_>) -> Option<Lookahead<S>> + 'static,
    S: StateSource + Send + 'static,
    B: 'static,
{
    type EvmFactory = F::EvmFactory;
    type TxExecutionResult = F::TxExecutionResult;
    type ExecutionCtx<'a> = F::ExecutionCtx<'a>;
    type Transaction = T;
    type Receipt = F::Receipt;
    type Executor<'a, DB: StateDB, I: Inspector<<F::EvmFactory as EvmFactory>::Context<DB>>> =
        ParallelBlockExecutor<'a, F, S, B, DB, I>;

    fn evm_factory(&self) -> &Self::EvmFactory {
        self.inner.evm_factory()
    }

    fn create_executor<'a, DB, I>(
        &'a self,
        evm: <F::EvmFactory as EvmFactory>::Evm<DB, I>,
        context: F::ExecutionCtx<'a>,
    ) -> Self::Executor<'a, DB, I>
    where
        DB: StateDB,
        I: Inspector<<F::EvmFactory as EvmFactory>::Context<DB>>,
    {
        let env = prospect::env_of(&evm);
        // An inspector is to see every transaction, in order.
        let is_inspected = typeid::of::<I>() != TypeId::of::<NoOpInspector>();
        let known = if is_inspected { None } else { (self.blocks)(&env, &context) };
        let judge = Judge::new(&env, &self.counts);
        let prospect = known.map(|known| Prospect {
            factory: &self.inner,
            executor: &self.executor,
            context: context.clone(),
            env,
            known,
            listener: self.listener.clone(),
        });
        ParallelBlockExecutor::new(self.inner.create_executor(evm, context), prospect, judge)
    }
}

impl<F, P, B> fmt::Debug for ParallelBlockExecutorFactory<F, P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelBlockExecutorFactory")
            .field("executor", &self.executor)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

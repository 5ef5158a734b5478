//! Executes a block's transactions ahead of a client that asks for one after another.
//!
//! A thread of its own plays the calling thread of the engine: it works like the others, and sends
//! final results over a bounded channel. A client that goes away ends it.

use super::{
    Listener,
    judge::NotedSource,
    prospect::{speculate, tell},
};
use crate::{ExecutionStats, ParallelExecutor, StateSource};
use alloy_evm::EvmEnv;
use revm::{
    context::TxEnv,
    context_interface::result::{HaltReason, ResultAndState},
    database::CacheState,
};
use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
};

/// How many results wait for the client, beside those that wait in the engine.
const WAITING_MAX: usize = 256;

type Final = ResultAndState<HaltReason>;

/// An execution in progress.
#[derive(Debug)]
pub(super) struct Ahead {
    transactions: Arc<[TxEnv]>,
    /// `None` only while this is dropped.
    results: Option<Receiver<Final>>,
    /// The transaction of the next result.
    next: usize,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Starts executing. `None` if the system refuses to start a thread.
    pub(super) fn start<S: StateSource + Send + 'static, B: 'static>(
        executor: Arc<ParallelExecutor<B>>,
        env: EvmEnv,
        before: CacheState,
        transactions: Arc<[TxEnv]>,
        source: NotedSource<S>,
        listener: Option<Listener>,
    ) -> Option<Self> {
        let (sender, results) = mpsc::sync_channel(WAITING_MAX);
        let own = Arc::clone(&transactions);
        let run = move || {
            let stats = send_results(&executor, &env, before, &own, &source, &sender);
            tell(listener.as_ref(), stats);
        };
        let thread = thread::Builder::new().name("multilane-ahead".to_string()).spawn(run).ok()?;
        Some(Self { transactions, results: Some(results), next: 0, thread: Some(thread) })
    }

    /// The result of a transaction, if it is one of those that are still to come.
    ///
    /// Waits for it. The client has passed over those before it, if there are any.
    pub(super) fn take(&mut self, tx: &TxEnv) -> Option<Final> {
        let results = self.results.as_ref()?;
        let passed_over = self.transactions[self.next..].iter().position(|it| it == tx)?;
        self.next += passed_over + 1;
        let mut last = None;
        for _ in 0..=passed_over {
            last = Some(results.recv().ok()?);
        }
        last
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Nobody listens any more, so the next result ends the thread.
        self.results = None;
        if let Some(thread) = self.thread.take() {
            // What became of it has been seen by its results.
            let _ = thread.join();
        }
    }
}

/// Executes transactions and sends what is final, as far as it gets.
fn send_results<S: StateSource, B>(
    executor: &ParallelExecutor<B>,
    env: &EvmEnv,
    before: CacheState,
    transactions: &[TxEnv],
    source: &NotedSource<S>,
    results: &SyncSender<Final>,
) -> Option<ExecutionStats> {
    let mut send = |_, last| match results.send(last) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    speculate(executor, env, transactions, source, || Some(before), &mut send)
}

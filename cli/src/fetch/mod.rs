//! `multilane fetch`: blocks and the state that they read, from a node into an archive.
//!
//! ```text
//! node ──block──> check: hash, roots, senders ─┐
//!      ──trace──> advice on the prestate ──────┤
//!      <─reads──> execute sequentially, record ┴─> check: gas, receipts ──> stage ──> commit
//! ```
//!
//! The prestate that is written is what execution read, so it is enough to execute the block again;
//! and it is right as far as the header can tell, because the results were the header's. A node's
//! `prestateTracer` output only saves requests.
//!
//! | file | does | does not know |
//! |---|---|---|
//! | [`node`] | requests, retries, what a refusal means | what answers are for |
//! | [`chain`] | fork schedule of the node's chain | the node |
//! | [`block`], [`verify`] | checks before and after execution | state |
//! | [`trace`], [`state`], [`prestate`] | state while the block executes | files |
//! | [`archive`] | whole blocks on disk, whenever the process dies | the node |
//! | [`task`] | one block, from download to stage | other blocks |
//!
//! This file runs the tasks, commits what they finish, and reports.

mod archive;
mod args;
mod block;
mod chain;
mod error;
mod node;
mod prestate;
mod state;
mod summary;
mod task;
mod trace;
mod verify;

pub(crate) use args::FetchArgs;

use anyhow::Context;
use archive::{Archive, StagedBlock};
use args::FetchFormat;
use chain::Chain;
use error::BlockError;
use indicatif::{ProgressBar, ProgressStyle};
use node::{Node, NodeError};
use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};
use summary::{FetchedBlock, Summary};
use task::Shared;
use tokio::{sync::watch, task::JoinSet};

/// A block in the archive disagrees with its own header.
const VERDICT: u8 = 1;
/// Bad usage, or something that the node or the disk refused.
const UNUSABLE: u8 = 2;
/// 128 + SIGINT, as shells report it.
const INTERRUPTED: u8 = 130;

/// Fetches blocks, and prints what was done.
///
/// # Errors
///
/// Whatever keeps all blocks from being fetched: bad arguments, an unreachable node, an archive
/// that cannot be written. The failure of a single block is printed, and told by the exit status.
pub(crate) fn run(args: FetchArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Execution runs on threads of its own; these two only move bytes.
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the network threads")?;
    let summary = runtime.block_on(fetch(&args))?;
    let mut out = io::stdout().lock();
    match args.format {
        FetchFormat::Table => writeln!(out, "{}", summary.line())?,
        FetchFormat::Json => {
            writeln!(out, "{}", serde_json::json!({ "summary": summary }))?;
        }
    }
    Ok(ExitCode::from(match summary {
        Summary { interrupted: true, .. } => INTERRUPTED,
        Summary { verdict: true, .. } => VERDICT,
        Summary { failed: 1.., .. } => UNUSABLE,
        _ => return Ok(ExitCode::SUCCESS),
    }))
}

async fn fetch(args: &FetchArgs) -> anyhow::Result<Summary> {
    let start = Instant::now();
    let (ask_to_stop, stop) = watch::channel(false);
    let ask_to_stop = Arc::new(ask_to_stop);
    tokio::spawn(stop_on_ctrl_c(ask_to_stop.clone()));

    let timeout = Duration::from_secs(args.timeout);
    let node = Node::new(&args.rpc, timeout, args.retries, stop)?;
    let mut summary = Summary::default();
    let (chain, numbers) = match survey(&node, args).await {
        Ok(surveyed) => surveyed,
        Err(error) if is_interruption(&error) => {
            summary.interrupted = true;
            summary.finish(node.requests(), start.elapsed());
            return Ok(summary);
        }
        Err(error) => return Err(error),
    };
    summary.blocks = numbers.len();
    let archive = Archive::open(&args.to, &chain)?;
    let missing: Vec<u64> =
        numbers.into_iter().filter(|&number| args.force || !archive.has(number)).collect();
    summary.skipped = summary.blocks - missing.len();

    let shared = Arc::new(Shared { node, chain, archive, no_traces: AtomicBool::new(false) });
    let mut run = Run {
        shared: shared.clone(),
        format: args.format,
        progress: progress_bar(missing.len()),
        summary,
    };
    let done = run.fetch_all(&missing, args.concurrency.get(), &ask_to_stop).await;
    run.progress.finish_and_clear();
    let Run { mut summary, shared: last, .. } = run;
    drop(last);
    summary.finish(shared.node.requests(), start.elapsed());
    // Every task has ended, so nobody else holds the archive any more.
    if let Some(shared) = Arc::into_inner(shared) {
        shared.archive.close()?;
    }
    done?;
    Ok(summary)
}

/// Asks the node which chain it is on, and which blocks are meant.
async fn survey(node: &Node, args: &FetchArgs) -> anyhow::Result<(Chain, Vec<u64>)> {
    let chain = Chain::new(node.chain_id().await?, args.genesis.as_deref())?;
    let latest = if args.blocks.needs_latest() { node.latest().await? } else { 0 };
    let numbers = args.blocks.resolve(latest).context("--blocks")?;
    Ok((chain, numbers))
}

fn is_interruption(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(NodeError::Interrupted))
}

/// The first Ctrl-C lets finished blocks be committed; the second one ends the process, which
/// leaves whole blocks too, but fewer.
async fn stop_on_ctrl_c(ask_to_stop: Arc<watch::Sender<bool>>) {
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    ask_to_stop.send_replace(true);
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(INTERRUPTED.into());
    }
}

/// A progress bar on stderr, which shows nothing where that is no terminal.
fn progress_bar(blocks: usize) -> ProgressBar {
    let bar = ProgressBar::new(blocks as u64);
    let template = "{bar:30} {pos}/{len} blocks  {elapsed_precise}  eta {eta}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A run in progress.
#[derive(Debug)]
struct Run {
    shared: Arc<Shared>,
    format: FetchFormat,
    progress: ProgressBar,
    summary: Summary,
}

type TaskResult = (u64, Result<(FetchedBlock, StagedBlock), BlockError>);

impl Run {
    /// Fetches all blocks, so many at a time. Returns the error that ended the run early, if any.
    async fn fetch_all(
        &mut self,
        numbers: &[u64],
        concurrency: usize,
        ask_to_stop: &watch::Sender<bool>,
    ) -> anyhow::Result<()> {
        let mut waiting = numbers.iter().copied();
        let mut tasks: JoinSet<TaskResult> = JoinSet::new();
        let mut fatal = None;
        loop {
            while tasks.len() < concurrency && !*ask_to_stop.borrow() {
                let Some(number) = waiting.next() else { break };
                let shared = self.shared.clone();
                tasks.spawn(async move { (number, task::fetch_block(shared, number).await) });
            }
            let Some(first) = tasks.join_next().await else { break };
            // Blocks that finish while others are committed are committed together, so that the
            // code store is not written once a block where it is large.
            let mut staged = Vec::new();
            let mut next = Some(first);
            while let Some(result) = next {
                let (number, result) = result.context("a task panicked")?;
                match result {
                    Ok(block) => staged.push(block),
                    Err(BlockError::Node(NodeError::Interrupted)) => {
                        // Also how the tasks beside a fatal failure end.
                        self.summary.interrupted |= fatal.is_none();
                    }
                    Err(error) if error.is_fatal() => {
                        ask_to_stop.send_replace(true);
                        let error = anyhow::Error::new(error).context(format!("block {number}"));
                        fatal.get_or_insert(error);
                    }
                    Err(error) => self.report_failure(number, &error),
                }
                next = tasks.try_join_next();
            }
            if let Err(error) = self.commit(staged).await {
                ask_to_stop.send_replace(true);
                fatal.get_or_insert(error);
            }
        }
        if fatal.is_none() && waiting.next().is_some() {
            self.summary.interrupted = true;
        }
        fatal.map_or(Ok(()), Err)
    }

    async fn commit(&mut self, blocks: Vec<(FetchedBlock, StagedBlock)>) -> anyhow::Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let (fetched, staged): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || shared.archive.commit(staged))
            .await
            .context("writing the archive")??;
        for block in fetched {
            self.report(&block)?;
        }
        Ok(())
    }

    fn report(&mut self, block: &FetchedBlock) -> anyhow::Result<()> {
        self.summary.count(block);
        self.progress.inc(1);
        self.progress.set_message(format!("{} requests", self.shared.node.requests()));
        if self.format == FetchFormat::Json {
            let line = serde_json::to_string(block)?;
            self.progress.suspend(|| writeln!(io::stdout().lock(), "{line}"))?;
        }
        Ok(())
    }

    fn report_failure(&mut self, number: u64, error: &BlockError) {
        self.summary.count_failure(error);
        self.progress.inc(1);
        self.progress.suspend(|| eprintln!("error: block {number}: {error}"));
    }
}

//! `multilane replay`: execute blocks with both engines and verify what comes out.
//!
//! For each block: [`crate::source`] loads it, and [`access_lists`] its access list if there is one;
//! [`execution`] runs the engines and their clocks, [`verdict`] judges the result, and [`report`] is
//! printed by [`table`] or [`json`]. A block that fails does
//! not end the run; the exit status tells.

mod access_lists;
pub(crate) mod execution;
mod json;
pub(crate) mod report;
mod roots;
mod settings;
mod table;
pub(crate) mod verdict;

use crate::{
    args::{Engine, Format, ReplayArgs},
    chain,
    exit::Exit,
    interrupt::Interrupt,
    profile_file,
    progress::Progress,
    source::{FoundBlock, Source},
};
use access_lists::AccessLists;
use anyhow::Context;
use execution::{Engines, Execution};
use multilane::{AccessHints, ExecutorConfig, ParallelExecutor, analyzer::Profile};
use multilane_fixtures::archive::ArchivedBlock;
use report::{BlockReport, Executed, Failure, FailureKind, Summary};
use settings::{ListUse, Settings};
use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
    sync::Arc,
};
use verdict::Verdict;

/// Runs the command.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::from(args);
    let chain = args.genesis.as_deref().map(chain::read_genesis).transpose()?;
    let source = Source::open(&args.paths, args.blocks.as_ref(), chain.as_ref())?;
    let interrupt = Interrupt::listen()?;
    let profile = args.profile.as_deref().map(profile_file::load).transpose()?.map(Arc::new);
    let engines = engines(&settings, &interrupt, profile.as_ref())?;
    let lists = AccessLists::open(args)?;

    let out = io::stdout();
    let (blocks, summary) = replay(&settings, &source, &engines, &lists, &interrupt, &out)?;
    // Ctrl-C during the last block interrupts nothing but its repetitions, which counts as well.
    let interrupted = interrupt.requested();

    let mut out = BufWriter::new(out.lock());
    match settings.format {
        Format::Table => table::print(&mut out, &settings, &blocks, &summary)?,
        Format::Json => json::print_summary(&mut out, &settings, &summary, interrupted)?,
    }
    out.flush()?;
    if let (Some(path), Some(profile)) = (&args.profile, &profile) {
        profile_file::save(path, profile)?;
    }
    if interrupted {
        eprintln!("interrupted after {} of {} blocks", summary.blocks, source.blocks().count());
        return Ok(Exit::Interrupted.into());
    }
    let exit = match (summary.unreadable, summary.failed()) {
        (0, 0) => Exit::Success,
        (0, _) => Exit::Failed,
        _ => Exit::Unusable,
    };
    Ok(exit.into())
}

fn engines(
    settings: &Settings,
    interrupt: &Interrupt,
    profile: Option<&Arc<Profile>>,
) -> anyhow::Result<Engines> {
    let config = ExecutorConfig::new()
        .with_threads(settings.threads)
        .with_allow_sequential(settings.allow_sequential)
        .with_access_lists(settings.access_lists == ListUse::Saved);
    let parallel = settings.engine.runs_parallel().then(|| ParallelExecutor::new(config));
    let parallel = parallel.transpose().context("starting the worker threads")?;
    let with_profile = |executor: ParallelExecutor| {
        Arc::new(match profile {
            Some(profile) => executor.with_profile(Arc::clone(profile)),
            None => executor,
        })
    };
    Ok(Engines {
        sequential: settings.engine.runs_sequential(),
        parallel: parallel.map(with_profile),
        access_lists: settings.access_lists == ListUse::Saved,
        repeat: settings.repeat,
        interrupt: interrupt.clone(),
    })
}

/// Replays block after block. JSON lines are printed as blocks finish; for a table the reports are
/// returned.
fn replay(
    settings: &Settings,
    source: &Source,
    engines: &Engines,
    lists: &AccessLists,
    interrupt: &Interrupt,
    out: &io::Stdout,
) -> anyhow::Result<(Vec<BlockReport>, Summary)> {
    let (mut blocks, mut summary) = (Vec::new(), Summary::default());
    let progress = Progress::new(source.blocks().count(), "blocks", settings.is_quiet);
    for found in source.blocks() {
        if interrupt.requested() {
            break;
        }
        progress.start(format!("block {}", found.number()));
        if settings.is_verbose {
            progress.suspend(|| eprintln!("replaying block {}", found.number()));
        }
        let report = replay_block(settings, engines, lists, &found);
        summary.add(&report);
        if let Some(complaint) = report.complaint() {
            progress.suspend(|| eprintln!("{complaint}"));
        }
        let is_verified = report.is_verified();
        match settings.format {
            Format::Table => blocks.push(report),
            Format::Json => {
                progress.suspend(|| json::print_block(&mut out.lock(), settings, &report))?;
            }
        }
        progress.finish_one();
        if settings.fail_fast && !is_verified {
            break;
        }
    }
    progress.clear();
    Ok((blocks, summary))
}

fn replay_block(
    settings: &Settings,
    engines: &Engines,
    lists: &AccessLists,
    found: &FoundBlock<'_>,
) -> BlockReport {
    let replay = || {
        let block = load(found)?;
        let execution = execute(engines, &block, &lists.hints(&block.input)?)?;
        lists.keep(&block.input, execution.output.access_list.as_ref())?;
        Ok(judge(settings.engine, &block, execution))
    };
    BlockReport { number: found.number(), origin: found.origin().to_owned(), result: replay() }
}

/// Reads a block that was found.
pub(crate) fn load(found: &FoundBlock<'_>) -> Result<ArchivedBlock, Failure> {
    // The messages of the libraries' errors contain those of their causes.
    found
        .load()
        .map_err(|error| Failure { kind: FailureKind::Unreadable, error: error.to_string() })
}

/// Executes a block on the engines and judges what comes out.
pub(crate) fn execute_block(
    engine: Engine,
    engines: &Engines,
    block: &ArchivedBlock,
) -> Result<Executed, Failure> {
    Ok(judge(engine, block, execute(engines, block, &AccessHints::None)?))
}

fn execute(
    engines: &Engines,
    block: &ArchivedBlock,
    hints: &AccessHints,
) -> Result<Execution, Failure> {
    engines
        .execute(block, hints)
        .map_err(|error| Failure { kind: FailureKind::NotExecuted, error: error.to_string() })
}

fn judge(engine: Engine, block: &ArchivedBlock, execution: Execution) -> Executed {
    Executed {
        fork: chain::fork_name(&block.chain, &block.input.header),
        txs: block.input.transactions.len(),
        gas_used: execution.output.gas_used,
        verdict: Verdict::of(block, &execution, engine),
        sequential: execution.sequential,
        parallel: execution.parallel,
    }
}

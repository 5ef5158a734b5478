//! `multilane replay`: execute blocks with both engines and verify what comes out.
//!
//! For each block: [`source`] loads it, [`execution`] runs the engines and their clocks, [`verdict`]
//! judges the result, and [`report`] is printed by [`table`] or [`json`]. A block that fails does
//! not end the run; the exit status tells.

pub(crate) mod chain;
mod execution;
mod json;
mod progress;
mod report;
mod roots;
mod settings;
pub(crate) mod source;
mod table;
mod timing;
mod verdict;

use crate::{
    args::{Format, ReplayArgs},
    exit::Exit,
    interrupt::Interrupt,
    profile_file,
};
use anyhow::Context;
use execution::Engines;
use multilane::{ExecutorConfig, ParallelExecutor, analyzer::Profile};
use progress::Progress;
use report::{BlockReport, Executed, Failure, FailureKind, Summary};
use settings::Settings;
use source::{FoundBlock, Source};
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
    let profile = Arc::new(match &args.profile {
        Some(path) => profile_file::load(path)?,
        None => Profile::new(),
    });
    let engines = engines(&settings, &interrupt, &profile)?;

    let out = io::stdout();
    let (blocks, summary) = replay(&settings, &source, &engines, &interrupt, &out)?;
    // Ctrl-C during the last block interrupts nothing but its repetitions, which counts as well.
    let interrupted = interrupt.requested();

    let mut out = BufWriter::new(out.lock());
    match settings.format {
        Format::Table => table::print(&mut out, &settings, &blocks, &summary)?,
        Format::Json => json::print_summary(&mut out, &settings, &summary, interrupted)?,
    }
    out.flush()?;
    if let Some(path) = &args.profile {
        profile_file::save(path, &profile)?;
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
    profile: &Arc<Profile>,
) -> anyhow::Result<Engines> {
    let config = ExecutorConfig::new()
        .with_threads(settings.threads)
        .with_allow_sequential(settings.allow_sequential);
    let parallel = settings.engine.runs_parallel().then(|| ParallelExecutor::new(config));
    let parallel = parallel.transpose().context("starting the worker threads")?;
    Ok(Engines {
        sequential: settings.engine.runs_sequential(),
        parallel: parallel.map(|executor| executor.with_profile(Arc::clone(profile))),
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
    interrupt: &Interrupt,
    out: &io::Stdout,
) -> anyhow::Result<(Vec<BlockReport>, Summary)> {
    let (mut blocks, mut summary) = (Vec::new(), Summary::default());
    let progress = Progress::new(source.blocks().count(), settings.is_quiet);
    for found in source.blocks() {
        if interrupt.requested() {
            break;
        }
        progress.start(found.number());
        if settings.is_verbose {
            progress.suspend(|| eprintln!("replaying block {}", found.number()));
        }
        let report = replay_block(settings, engines, &found);
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
        progress.finish_block();
        if settings.fail_fast && !is_verified {
            break;
        }
    }
    progress.clear();
    Ok((blocks, summary))
}

fn replay_block(settings: &Settings, engines: &Engines, found: &FoundBlock<'_>) -> BlockReport {
    BlockReport {
        number: found.number(),
        origin: found.origin().to_owned(),
        result: execute_block(settings, engines, found),
    }
}

fn execute_block(
    settings: &Settings,
    engines: &Engines,
    found: &FoundBlock<'_>,
) -> Result<Executed, Failure> {
    // The messages of the libraries' errors contain those of their causes.
    let block = found
        .load()
        .map_err(|error| Failure { kind: FailureKind::Unreadable, error: error.to_string() })?;
    let execution = engines
        .execute(&block)
        .map_err(|error| Failure { kind: FailureKind::NotExecuted, error: error.to_string() })?;
    Ok(Executed {
        fork: chain::fork_name(&block.chain, &block.input.header),
        txs: block.input.transactions.len(),
        gas_used: execution.output.gas_used,
        verdict: Verdict::of(&block, &execution, settings.engine),
        sequential: execution.sequential,
        parallel: execution.parallel,
    })
}

//! Real blocks through the arms, after everything that `multilane replay` verifies.

use super::{
    args::BlocksArgs,
    arms::Arms,
    case::{Case, State},
    check::check,
    figures::{Figures, Subject},
    measurement::measure,
    session::Session,
    settings::Settings,
};
use crate::{
    args::Engine,
    chain,
    replay::{
        execute_block,
        execution::Engines,
        load,
        report::{BlockReport, Executed, Failure},
    },
    source::{FoundBlock, Source},
};
use multilane::{ExecutorConfig, ParallelExecutor, Shared, state::BlockInput};
use multilane_fixtures::archive::{ArchivedBlock, MergedBlocks};
use std::{process::ExitCode, sync::Arc};

/// Measures the blocks at the paths.
pub(crate) fn run(args: &BlocksArgs) -> anyhow::Result<ExitCode> {
    let chain = args.genesis.as_deref().map(chain::read_genesis).transpose()?;
    let source = Source::open(&args.paths, args.blocks.as_ref(), chain.as_ref())?;
    let settings = Settings::new(&args.run)?;
    let blocks = if args.merged { 1 } else { source.blocks().count() };
    let mut session = Session::new(settings, blocks, "blocks")?;
    if args.merged {
        measure_merged(&mut session, &source)?;
    } else {
        measure_blocks(&mut session, &source)?;
    }
    session.finish()
}

/// Measures all blocks as one.
fn measure_merged(session: &mut Session, source: &Source) -> std::io::Result<()> {
    let mut blocks = Vec::new();
    for found in source.blocks() {
        match load(&found) {
            Ok(block) => blocks.push(block),
            Err(failure) => {
                let complaint = complaint(&found, Err(failure)).unwrap_or_default();
                session.unusable(&complaint);
                return Ok(());
            }
        }
    }
    let count = blocks.len();
    session.step(&format!("{count} blocks as one"));
    let merged = match MergedBlocks::new(blocks) {
        Ok(Some(merged)) => merged,
        Ok(None) => return Ok(()),
        Err(error) => {
            session.unusable(&error.to_string());
            return Ok(());
        }
    };
    let fork = chain::fork_name(&merged.chain, &merged.candidates.header);
    match execute_merged(session, merged) {
        Ok(figures) => session.measured(Subject::Merged { blocks: count, fork }, figures),
        Err(error) => {
            session.wrong(&format!("{count} blocks as one: {error:#}"));
            Ok(())
        }
    }
}

fn execute_merged(session: &Session, merged: MergedBlocks) -> anyhow::Result<Vec<Figures>> {
    let MergedBlocks { chain, mut candidates, prestate } = merged;
    let transactions = std::mem::take(&mut candidates.transactions);
    let all = transactions.len();
    let builder = ParallelExecutor::new(ExecutorConfig::new())?;
    let (built, _) = builder.build_block(&chain, &candidates, transactions, &Shared(&prestate))?;
    let block = BlockInput { transactions: built.transactions, ..candidates };
    session.note(&format!("{} of {all} transactions are valid", block.transactions.len()));
    let case = Case { chain: &chain, block: &block, prestate: &prestate, is_independent: false };
    measure_case(session, case, built.output.gas_used)
}

/// Measures block after block, until Ctrl-C.
pub(super) fn measure_blocks(session: &mut Session, source: &Source) -> std::io::Result<()> {
    for found in source.blocks() {
        if session.interrupt.requested() {
            break;
        }
        session.step(&format!("block {}", found.number()));
        measure_block(session, &found)?;
    }
    Ok(())
}

fn measure_block(session: &mut Session, found: &FoundBlock<'_>) -> std::io::Result<()> {
    let number = found.number();
    let block = match load(found) {
        Ok(block) => block,
        Err(failure) => {
            let complaint = complaint(found, Err(failure)).unwrap_or_default();
            session.unusable(&complaint);
            return Ok(());
        }
    };
    let executed = match verify(session, &block) {
        Ok(executed) if executed.verdict.is_verified() => executed,
        failed => {
            let findings: Vec<_> = failed
                .iter()
                .flat_map(|executed| &executed.verdict.findings)
                .map(|finding| format!("\n    {finding}"))
                .collect();
            let complaint = complaint(found, failed).unwrap_or_default();
            session.wrong(&format!("{complaint}{}", findings.concat()));
            return Ok(());
        }
    };
    match execute(session, &block, &executed) {
        Ok(figures) => session.measured(Subject::Block { number, fork: executed.fork }, figures),
        Err(error) => {
            session.wrong(&format!("block {number} ({}): {error:#}", found.origin()));
            Ok(())
        }
    }
}

/// What `multilane replay` says of such a block.
fn complaint(found: &FoundBlock<'_>, result: Result<Executed, Failure>) -> Option<String> {
    let (number, origin) = (found.number(), found.origin().to_owned());
    BlockReport { number, origin, result }.complaint()
}

/// Everything that `multilane replay` verifies.
fn verify(session: &Session, block: &ArchivedBlock) -> Result<Executed, Failure> {
    let engines = Engines {
        sequential: true,
        parallel: session.executors.first().map(Arc::clone),
        access_lists: false,
        repeat: 0,
        interrupt: session.interrupt.clone(),
    };
    execute_block(Engine::Both, &engines, block)
}

fn execute(
    session: &Session,
    block: &ArchivedBlock,
    executed: &Executed,
) -> anyhow::Result<Vec<Figures>> {
    let ArchivedBlock { chain, input, prestate, .. } = block;
    let case = Case { chain: chain.as_ref(), block: input, prestate, is_independent: false };
    measure_case(session, case, executed.gas_used)
}

fn measure_case<DB: State>(
    session: &Session,
    case: Case<'_, DB>,
    gas_used: u64,
) -> anyhow::Result<Vec<Figures>> {
    let arms = Arms::new(case, &session.executors)?;
    let (_, differences) = check(&arms)?;
    anyhow::ensure!(differences.is_empty(), "the outputs differ\n{differences}");
    measure(&arms, gas_used, session.settings.repeat, &session.interrupt)
}

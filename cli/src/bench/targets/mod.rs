//! `multilane bench targets`: is it as fast as it is meant to be?
//!
//! [`target`] lists what is demanded. Here everything is measured that the list asks for: every
//! generated block and the real ones as the other forms of `bench` do it, and the blocks that grow
//! ([`growth`]). [`judgement`] makes verdicts of it, which [`table`] or [`json`] prints. A target
//! that is missed is a finding and no failure.

mod growth;
mod json;
mod judgement;
mod table;
mod target;

use super::{
    args::TargetsArgs, blocks::measure_blocks, figures::Subject, session::Session,
    settings::Settings, table::print_environment, workloads::measure_workload,
};
use crate::{args::Format, source::Source};
use growth::{FIRST_TXS, Growth, sizes};
use judgement::{Evidence, Judgement, judge};
use multilane_fixtures::workload::{Workload, WorkloadBlock, WorkloadError, WorkloadSettings};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
};
use target::TARGETS;

/// Where real blocks are looked for if nobody says.
const DEFAULT_ARCHIVE: &str = "../shared/data/mainnet";

/// Measures, judges and prints.
pub(crate) fn run(args: &TargetsArgs) -> anyhow::Result<ExitCode> {
    let archive = archive(args);
    let source = archive.map(|path| Source::open(&[path], None, None)).transpose()?;
    let growing = growing();
    let block_count = source.as_ref().map_or(0, |source| source.blocks().count());
    let steps = Workload::all().len() + growing.len() + block_count;
    let mut session = Session::new(Settings::new(&args.run_args())?, steps, "blocks")?;

    let missing_workloads = measure_workloads(&mut session, args.txs)?;
    if let Some(source) = &source {
        measure_blocks(&mut session, source)?;
    }
    let growths = measure_growths(&mut session, &growing, args.txs)?;

    let is_interrupted = session.interrupt.requested();
    let otherwise = if is_interrupted { "interrupted" } else { "could not be measured" };
    let is_block = |subject: &Subject| matches!(subject, Subject::Block { .. });
    let measured_blocks = session.rows().iter().filter(|row| is_block(&row.subject)).count();
    let evidence = Evidence {
        rows: session.rows(),
        growths: &growths,
        missing_workloads: &missing_workloads,
        missing_blocks: match &source {
            None => Some("no archive: name one with --archive DIR"),
            Some(_) if measured_blocks < block_count => Some(otherwise),
            Some(_) => None,
        },
        otherwise,
    };
    let judgements: Vec<_> = TARGETS.iter().map(|target| judge(*target, &evidence)).collect();
    print(&session, &judgements, &growths)?;
    Ok(session.exit())
}

/// The archive that was named, or the default one where it is there.
fn archive(args: &TargetsArgs) -> Option<PathBuf> {
    let default = || Some(PathBuf::from(DEFAULT_ARCHIVE)).filter(|path| path.is_dir());
    args.archive.as_deref().map(Path::to_path_buf).or_else(default)
}

/// The workloads that a target wants to see growing, none twice.
fn growing() -> Vec<&'static Workload> {
    let names: BTreeSet<_> = TARGETS
        .iter()
        .flat_map(|target| match target.subject {
            target::Subject::Growth(names) => names,
            _ => &[],
        })
        .collect();
    Workload::all().iter().filter(|workload| names.contains(&workload.name())).collect()
}

/// Measures every workload that is there, and gives those that are not with the reason.
fn measure_workloads(
    session: &mut Session,
    txs: Option<NonZeroUsize>,
) -> io::Result<BTreeMap<&'static str, String>> {
    let mut missing = BTreeMap::new();
    let settings = with_transactions(txs.map(Into::into));
    for workload in Workload::all() {
        if session.interrupt.requested() {
            break;
        }
        let name = workload.name();
        session.step(&format!("generating {name}"));
        match workload.generate(&settings) {
            Ok(block) => measure_workload(session, workload, settings.seed, &block)?,
            Err(error @ WorkloadError::MissingPackages { .. }) => {
                session.left_out(&format!("{name}: {error}"));
                // Short, for a row; where they were looked for has just been said.
                missing.insert(name, "needs `npm ci --prefix fixtures/uniswap`".to_owned());
            }
            Err(error) => session.unusable(&format!("{name}: {error}")),
        }
    }
    Ok(missing)
}

fn measure_growths(
    session: &mut Session,
    growing: &[&'static Workload],
    txs: Option<NonZeroUsize>,
) -> io::Result<Vec<Growth>> {
    let mut growths = Vec::new();
    for workload in growing {
        if session.interrupt.requested() {
            break;
        }
        let name = workload.name();
        session.step(&format!("generating {name} in several sizes"));
        let sizes = sizes(txs.map_or(FIRST_TXS, Into::into));
        let blocks = sizes.map(|size| workload.generate(&with_transactions(Some(size))));
        let blocks: Vec<WorkloadBlock> = match blocks.into_iter().collect() {
            Ok(blocks) => blocks,
            Err(error) => {
                session.unusable(&format!("{name}: {error}"));
                continue;
            }
        };
        match growth::measure(session, workload, &blocks) {
            Ok(growth) => {
                growths.push(growth);
                session.measured_without_row();
            }
            Err(error) => session.wrong(&format!("{name}: {error:#}")),
        }
    }
    Ok(growths)
}

fn with_transactions(transactions: Option<usize>) -> WorkloadSettings {
    let mut settings = WorkloadSettings::default();
    settings.transactions = transactions;
    settings
}

fn print(session: &Session, judgements: &[Judgement], growths: &[Growth]) -> io::Result<()> {
    session.print(|out| match session.settings.format {
        Format::Table => {
            print_environment(out, &session.settings, session.environment(), session.rows())?;
            table::print(out, judgements, growths)
        }
        Format::Json => {
            growths.iter().try_for_each(|growth| json::print_growth(out, growth))?;
            judgements.iter().try_for_each(|judgement| json::print_target(out, judgement))?;
            session.print_summary(out)
        }
    })
}

//! `multilane bench`: what threads gain, beside baselines that nobody can call slow.
//!
//! [`workloads`] generates blocks and [`blocks`] loads real ones. A [`session`] takes each through
//! the [`arms`]: [`check`]ed first, then against the clock in turn ([`measurement`]). What comes out
//! ([`figures`]) is printed by [`table`] or [`json`], and drawn by [`report`]; [`targets`] judges it
//! instead. A block that fails does not end the run; the exit status tells.

mod args;
mod arms;
mod bare;
mod blocks;
mod case;
mod check;
mod date;
mod environment;
mod figures;
mod json;
mod limit;
mod measurement;
mod outcome;
mod paired;
mod process;
mod report;
mod session;
mod settings;
mod table;
mod targets;
mod workloads;

pub(crate) use args::BenchArgs;

use args::BenchCommand;
use std::process::ExitCode;

/// Runs the command.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(BenchCommand::Blocks(blocks)) => blocks::run(blocks),
        Some(BenchCommand::Targets(targets)) => targets::run(targets),
        None if args.list => {
            workloads::list()?;
            Ok(ExitCode::SUCCESS)
        }
        None => workloads::run(args),
    }
}

//! The command line of Multilane: from the words that a user types to an exit status.
//!
//! This file knows exit statuses and nothing else; [`args`] knows the flags, and each command has a
//! file of its own.

mod args;
mod bench;
mod chain;
mod exit;
mod fetch;
mod interrupt;
mod json;
mod mode;
mod predict;
mod profile_file;
mod progress;
mod replay;
mod source;
mod speedups;
mod text;
mod timing;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::process::ExitCode;

/// Execution allocates in every worker at once, which the system allocator serves worst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        None => help(),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Fetch(args)) => fetch::run(args),
        Some(Command::Predict(args)) => predict::run(&args),
        Some(Command::Replay(args)) => replay::run(&args),
    };
    exit::report(done)
}

fn help() -> anyhow::Result<ExitCode> {
    Cli::command().print_help()?;
    Ok(ExitCode::SUCCESS)
}

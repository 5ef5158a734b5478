//! What a bench will do: the arguments with every default filled in.

use super::args::RunArgs;
use crate::args::Format;
use anyhow::{Context, ensure};
use multilane::{ExecutorConfig, ParallelExecutor, analyzer::Profile};
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

/// The settings of a run that reports need as well.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Numbers of worker threads, in the user's order, none twice.
    pub(crate) threads: Vec<usize>,
    /// Timed executions of each arm.
    pub(crate) repeat: usize,
    pub(crate) force_parallel: bool,
    /// Whether there are executors that learn, beside those that do not.
    pub(crate) learns: bool,
    pub(crate) format: Format,
    pub(crate) report: Option<PathBuf>,
    pub(crate) is_quiet: bool,
    pub(crate) is_verbose: bool,
}

impl Settings {
    /// Fills in the defaults. Warns on standard error of more threads than cores.
    ///
    /// # Errors
    ///
    /// If the report could not be written where it is asked for: better known before an hour of
    /// measuring than after it.
    pub(crate) fn new(args: &RunArgs) -> anyhow::Result<Self> {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut threads: Vec<usize> = Vec::new();
        let asked = if args.threads.is_empty() { &[cores][..] } else { &args.threads };
        for count in asked {
            if !threads.contains(&count.get()) {
                threads.push(count.get());
            }
        }
        if let Some(most) = threads.iter().max().filter(|most| **most > cores.get()) {
            eprintln!("warning: {most} threads on {cores} cores: they will wait for each other");
        }
        if let Some(report) = &args.report {
            check_report_path(report)?;
        }
        Ok(Self {
            threads,
            repeat: args.repeat.get(),
            force_parallel: args.force_parallel,
            learns: args.learn,
            format: args.format,
            report: args.report.clone(),
            is_quiet: args.quiet,
            is_verbose: args.verbose,
        })
    }

    /// One executor for each number of threads; behind all of them, those that learn. They live as
    /// long as the run, as a node's would.
    pub(crate) fn executors(&self) -> anyhow::Result<Vec<Arc<ParallelExecutor>>> {
        let executor = |threads: &usize| {
            let config = ExecutorConfig::new()
                .with_threads(*threads)
                .with_allow_sequential(!self.force_parallel);
            ParallelExecutor::new(config).context("starting the worker threads")
        };
        let plain = self.threads.iter().map(|threads| executor(threads).map(Arc::new));
        let profile = Arc::new(Profile::new());
        let learning = self.threads.iter().filter(|_| self.learns).map(|threads| {
            executor(threads).map(|executor| Arc::new(executor.with_profile(profile.clone())))
        });
        plain.chain(learning).collect()
    }
}

fn check_report_path(path: &Path) -> anyhow::Result<()> {
    ensure!(!path.is_dir(), "--report {}: this is a directory", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        ensure!(
            folder.is_dir(),
            "--report {}: there is no directory {}",
            path.display(),
            folder.display()
        );
    }
    Ok(())
}

//! One run: the blocks that were measured so far, and where results go.
//!
//! It knows nothing of where blocks come from.

use super::{
    environment::Environment,
    figures::{BlockTotals, Figures, Row, Subject},
    json,
    outcome::Outcome,
    report,
    settings::Settings,
    table,
};
use crate::{args::Format, exit::Exit, interrupt::Interrupt, progress::Progress};
use multilane::ParallelExecutor;
use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
    sync::Arc,
};

/// A run in progress.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) executors: Vec<Arc<ParallelExecutor>>,
    pub(crate) interrupt: Interrupt,
    environment: Environment,
    progress: Progress,
    blocks: usize,
    rows: Vec<Row>,
    outcome: Outcome,
}

impl Session {
    /// Gets ready for a number of blocks.
    pub(crate) fn new(settings: Settings, blocks: usize, units: &str) -> anyhow::Result<Self> {
        let environment = Environment::new();
        if !environment.versions.is_optimised {
            eprintln!(
                "warning: this is a debug build: its figures mean nothing (build with --release)"
            );
        }
        Ok(Self {
            executors: settings.executors()?,
            interrupt: Interrupt::listen()?,
            progress: Progress::new(blocks, units, settings.is_quiet),
            settings,
            environment,
            blocks,
            rows: Vec::new(),
            outcome: Outcome::default(),
        })
    }

    /// Says what is being done.
    pub(crate) fn step(&self, step: &str) {
        self.progress.start(step.to_owned());
        if self.settings.is_verbose {
            self.progress.suspend(|| eprintln!("{step}"));
        }
    }

    /// Says what a reader of the figures should know.
    pub(crate) fn note(&self, note: &str) {
        self.progress.suspend(|| eprintln!("{note}"));
    }

    /// Takes in what was measured of a block.
    pub(crate) fn measured(&mut self, subject: Subject, figures: Vec<Figures>) -> io::Result<()> {
        self.outcome.measured += 1;
        for figures in figures {
            let row = Row { subject, figures };
            if self.settings.format == Format::Json {
                self.progress.suspend(|| json::print_row(&mut io::stdout().lock(), &row))?;
            }
            self.rows.push(row);
        }
        self.progress.finish_one();
        Ok(())
    }

    /// Tells of a block that cannot be generated or read.
    pub(crate) fn unusable(&mut self, complaint: &str) {
        self.outcome.unusable += 1;
        self.complain(complaint);
    }

    /// Tells of a block whose output is wrong, or that cannot be executed.
    pub(crate) fn wrong(&mut self, complaint: &str) {
        self.outcome.wrong += 1;
        self.complain(complaint);
    }

    fn complain(&self, complaint: &str) {
        self.progress.suspend(|| eprintln!("error: {complaint}"));
        self.progress.finish_one();
    }

    /// Counts a block whose measurement gives no row.
    pub(crate) fn measured_without_row(&mut self) {
        self.outcome.measured += 1;
        self.progress.finish_one();
    }

    /// What was measured so far.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Where and how the run is.
    pub(crate) const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Tells of a block that is left out, which is no failure.
    pub(crate) fn left_out(&self, reason: &str) {
        self.progress.suspend(|| eprintln!("left out: {reason}"));
        self.progress.finish_one();
    }

    /// Prints and writes what there is.
    pub(crate) fn finish(self) -> anyhow::Result<ExitCode> {
        let Self { settings, environment, rows, .. } = &self;
        let totals = self.totals();
        self.print(|out| match settings.format {
            Format::Table => table::print(out, settings, environment, rows, &totals),
            Format::Json => self.print_summary(out),
        })?;
        if let Some(path) = &settings.report {
            let is_interrupted = self.interrupt.requested();
            report::write(path, settings, environment, rows, &totals, is_interrupted)?;
            eprintln!("report written to {}", path.display());
        }
        Ok(self.exit())
    }

    /// Lets `print` write to standard output, where no progress is shown any more.
    pub(crate) fn print(
        &self,
        print: impl FnOnce(&mut BufWriter<io::StdoutLock<'_>>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.progress.clear();
        let mut out = BufWriter::new(io::stdout().lock());
        print(&mut out)?;
        out.flush()
    }

    /// Prints the last line of a report for programs.
    pub(crate) fn print_summary(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { settings, environment, outcome, .. } = self;
        let is_interrupted = self.interrupt.requested();
        json::print_summary(out, settings, environment, outcome, &self.totals(), is_interrupted)
    }

    /// How the run ended. Says on standard error if that was too early.
    pub(crate) fn exit(&self) -> ExitCode {
        if self.interrupt.requested() {
            eprintln!("interrupted after {} of {}", self.outcome.measured, self.blocks);
            return Exit::Interrupted.into();
        }
        self.outcome.exit().into()
    }

    fn totals(&self) -> Vec<BlockTotals> {
        let of_blocks = self.rows.iter().any(|row| matches!(row.subject, Subject::Block { .. }));
        if of_blocks { BlockTotals::of(&self.rows, &self.settings.threads) } else { Vec::new() }
    }
}

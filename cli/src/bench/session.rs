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

    /// Takes in what was measured of a block; nothing, if Ctrl-C came first.
    pub(crate) fn measured(&mut self, subject: Subject, figures: Vec<Figures>) -> io::Result<()> {
        if figures.is_empty() {
            return Ok(());
        }
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

    /// Tells of a block that is left out, which is no failure.
    pub(crate) fn left_out(&self, reason: &str) {
        self.progress.suspend(|| eprintln!("left out: {reason}"));
        self.progress.finish_one();
    }

    /// Prints and writes what there is.
    pub(crate) fn finish(self) -> anyhow::Result<ExitCode> {
        let Self { settings, environment, rows, outcome, .. } = &self;
        let is_interrupted = self.interrupt.requested();
        self.progress.clear();

        let of_blocks = rows.iter().any(|row| matches!(row.subject, Subject::Block { .. }));
        let totals = if of_blocks { BlockTotals::of(rows, &settings.threads) } else { Vec::new() };
        let mut out = BufWriter::new(io::stdout().lock());
        match settings.format {
            Format::Table => table::print(&mut out, settings, environment, rows, &totals)?,
            Format::Json => json::print_summary(
                &mut out,
                settings,
                environment,
                outcome,
                &totals,
                is_interrupted,
            )?,
        }
        out.flush()?;
        if let Some(path) = &settings.report {
            report::write(path, settings, environment, rows, &totals, is_interrupted)?;
            eprintln!("report written to {}", path.display());
        }
        if is_interrupted {
            eprintln!("interrupted after {} of {}", outcome.measured, self.blocks);
            return Ok(Exit::Interrupted.into());
        }
        Ok(outcome.exit().into())
    }
}

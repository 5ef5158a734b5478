//! What a replay will do: the arguments with every default filled in.

use crate::args::{Engine, Format, ReplayArgs};
use std::{num::NonZeroUsize, thread};

/// The settings of a run that reports need as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) threads: usize,
    pub(crate) engine: Engine,
    /// Timed executions of each engine.
    pub(crate) repeat: usize,
    pub(crate) format: Format,
    pub(crate) allow_sequential: bool,
    pub(crate) fail_fast: bool,
    pub(crate) is_quiet: bool,
    pub(crate) is_verbose: bool,
}

impl From<&ReplayArgs> for Settings {
    fn from(args: &ReplayArgs) -> Self {
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            threads: args.threads.unwrap_or_else(cores).get(),
            engine: args.engine,
            repeat: args.repeat.get(),
            format: args.format,
            allow_sequential: !args.force_parallel,
            fail_fast: args.fail_fast,
            is_quiet: args.quiet,
            is_verbose: args.verbose,
        }
    }
}

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
    pub(crate) access_lists: ListUse,
}

/// What becomes of block access lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListUse {
    /// Nothing.
    None,
    /// They are recorded and saved.
    Saved,
    /// The parallel engine takes them as advice.
    Advisory,
    /// Each block has to have its list.
    Enforced,
}

impl From<&ReplayArgs> for ListUse {
    fn from(args: &ReplayArgs) -> Self {
        if args.save_access_lists.is_some() {
            Self::Saved
        } else if args.access_lists.is_none() {
            Self::None
        } else if args.enforce_access_lists {
            Self::Enforced
        } else {
            Self::Advisory
        }
    }
}

impl ListUse {
    /// The word for it in reports, if there is anything to report.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Saved => Some("saved"),
            Self::Advisory => Some("advisory"),
            Self::Enforced => Some("enforced"),
        }
    }
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
            access_lists: ListUse::from(args),
        }
    }
}

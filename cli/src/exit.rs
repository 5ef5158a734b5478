//! What the process tells its caller.

use std::{io, process::ExitCode};

/// How a command ended. The numbers are part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything that was asked for is done, and everything verified.
    Success,
    /// A block does not verify, or could not be executed.
    Failed,
    /// The arguments make no sense, or input could not be read.
    Unusable,
    /// The user pressed Ctrl-C.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Unusable => 2,
            Exit::Interrupted => INTERRUPTED,
        })
    }
}

/// 128 + SIGINT, as shells report it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Shows the error that ended a command and gives the status for it.
pub(crate) fn report(done: anyhow::Result<Exit>) -> Exit {
    match done {
        Ok(exit) => exit,
        // Whoever reads the output has seen enough (`multilane replay | head`).
        Err(error) if is_broken_pipe(&error) => Exit::Success,
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::Unusable
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

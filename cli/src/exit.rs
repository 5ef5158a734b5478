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
pub(crate) fn report(done: anyhow::Result<ExitCode>) -> ExitCode {
    match done {
        Ok(code) => code,
        // Whoever reads the output has seen enough (`multilane replay | head`).
        Err(error) if is_broken_pipe(&error) => Exit::Success.into(),
        Err(error) => {
            eprintln!("error: {}", message(&error));
            Exit::Unusable.into()
        }
    }
}

/// An error with its causes. The messages of the libraries' errors contain those of their causes
/// already; nothing is said twice.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn messages_say_nothing_twice() {
        let error = anyhow!("no such file").context("block.json: no such file").context("block 7");
        assert_eq!(message(&error), "block 7: block.json: no such file");
    }

    #[test]
    fn a_closed_pipe_is_found_among_the_causes() {
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&closed.context("printing")));
        assert!(!is_broken_pipe(&anyhow!("another error")));
    }
}

//! A test that hangs must fail.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

/// Far more than any test here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Ends the process if it is not dropped in time: a thread that hangs cannot be ended otherwise.
#[derive(Debug)]
pub(crate) struct Watchdog(#[expect(dead_code, reason = "dropping it is the signal")] Sender<()>);

impl Watchdog {
    pub(crate) fn new(test: &'static str) -> Self {
        let (alive, dropped) = channel();
        thread::spawn(move || {
            if dropped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test} hangs");
                std::process::abort();
            }
        });
        Self(alive)
    }
}

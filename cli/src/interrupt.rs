//! Ctrl-C: the first asks to stop at the next good moment, the second stops at once.

use crate::exit;
use anyhow::Context;
use std::{
    future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

/// Whether the user has asked to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen for Ctrl-C. When this returns, the signal no longer kills the process.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let requested = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the Ctrl-C listener")?;
        let (ready, listening) = mpsc::channel();
        thread::Builder::new()
            .name("ctrl-c".into())
            .spawn(move || runtime.block_on(listen(&requested, &ready)))
            .context("starting the Ctrl-C listener")?;
        listening.recv().context("the Ctrl-C listener did not start")?;
        Ok(interrupt)
    }

    /// Whether the command should stop at the next good moment.
    pub(crate) fn requested(&self) -> bool {
        // Nothing else is published through the flag.
        self.0.load(Ordering::Relaxed)
    }
}

async fn listen(interrupt: &Interrupt, ready: &mpsc::Sender<()>) {
    let mut first = pin!(tokio::signal::ctrl_c());
    // The handler is installed by the first poll, so poll once before saying that we listen.
    tokio::select! {
        biased;
        result = &mut first => if result.is_err() { return },
        () = future::ready(()) => {
            let _ = ready.send(());
            if first.await.is_err() {
                return;
            }
        }
    }
    interrupt.0.store(true, Ordering::Relaxed);
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(exit::INTERRUPTED.into());
    }
}

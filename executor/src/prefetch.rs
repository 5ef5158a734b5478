//! Prefetching: what transactions are expected to read, fetched before they do.
//!
//! An execution reads one thing after the other, and with a slow source it mostly waits. Threads that
//! do nothing else go through the block ahead of it, and read what is predicted through the cache
//! that the workers read from. Whatever they miss, or the source refuses them, the execution reads
//! itself.
//!
//! *Must not know*: schedules, what is executed.

use crate::{
    analyzer::{Analyzer, PredictedLocation, Profile, ProfilePredictor},
    source::StateSource,
    source_cache::CachedSource,
};
use alloy_evm::EvmEnv;
use multilane_state::{StateLocation, TxIndex};
use revm::{
    Database,
    context::TxEnv,
    primitives::{Address, KECCAK_EMPTY, TxKind},
};
use std::{
    num::NonZeroUsize,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

/// Who prefetches, and by what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefetch<'a> {
    pub(crate) threads: NonZeroUsize,
    /// What calls are known to access, beside what their fields tell.
    pub(crate) profile: Option<&'a Profile>,
}

impl Prefetch<'_> {
    /// Runs something that executes transactions over a source, and fetches for it meanwhile.
    ///
    /// When it is over, reads that have begun are waited for.
    pub(crate) fn beside<S: StateSource, T>(
        self,
        source: &CachedSource<'_, S>,
        env: &EvmEnv,
        transactions: &[TxEnv],
        run: impl FnOnce() -> T,
    ) -> T {
        // Accounts that matter where balances do not commute are fetched whatever is predicted.
        let analyzer = Analyzer::new(transactions, true);
        let round = Round {
            analyzer: &analyzer,
            transactions,
            next: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            for number in 0..self.threads.get() {
                let fetch = || {
                    let predictor = self.profile.map(|profile| profile.predictor(env, &source));
                    // Unwind safety: a source that panics costs this thread, and the execution runs
                    // into it by itself.
                    let _ =
                        panic::catch_unwind(AssertUnwindSafe(|| round.fetch(&source, predictor)));
                };
                let thread = thread::Builder::new().name(format!("multilane-prefetch-{number}"));
                // A thread less is no reason to fail.
                if thread.spawn_scoped(scope, fetch).is_err() {
                    break;
                }
            }
            let _end = End(&round.is_over);
            run()
        })
    }
}

/// One block.
struct Round<'a> {
    analyzer: &'a Analyzer,
    transactions: &'a [TxEnv],
    /// The next transaction to fetch for.
    next: AtomicUsize,
    is_over: AtomicBool,
}

impl Round<'_> {
    fn fetch<S: StateSource>(&self, source: &S, mut predictor: Option<ProfilePredictor<'_, S>>) {
        let Ok(mut db) = source.open() else { return };
        let is_cancelled = || source.cancellation().is_some_and(|token| token.is_cancelled());
        // Relaxed, here and below: nothing depends on when a number or the end is seen.
        while !self.is_over.load(Ordering::Relaxed) && !is_cancelled() {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(tx) = self.transactions.get(at) else { return };
            fetch_account(&mut db, tx.caller);
            if let TxKind::Call(to) = tx.kind {
                fetch_account(&mut db, to);
            }
            for access in self.analyzer.predict(TxIndex::new(at), tx).accesses {
                if let PredictedLocation::State(location) = access.location {
                    fetch(&mut db, location);
                }
            }
            let learned = predictor.as_mut().and_then(|predictor| predictor.expect(tx));
            for access in learned.into_iter().flat_map(|prediction| prediction.accesses) {
                fetch(&mut db, access.location);
            }
        }
    }
}

/// Reads something into the cache. What the source says to it, the execution is told again.
fn fetch(db: &mut impl Database, location: StateLocation) {
    match location {
        StateLocation::Account(address) => fetch_account(db, address),
        StateLocation::Slot(address, slot) => _ = db.storage(address, slot),
        _ => {}
    }
}

/// Reads an account and its code.
fn fetch_account(db: &mut impl Database, address: Address) {
    if let Ok(Some(info)) = db.basic(address)
        && info.code.is_none()
        && info.code_hash != KECCAK_EMPTY
    {
        let _ = db.code_by_hash(info.code_hash);
    }
}

/// Tells the threads that it is over, whatever happens on the calling one.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

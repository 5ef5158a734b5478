//! Sources that panic. No panic crosses the API: it becomes an error that names the transaction, or
//! nothing at all where a serial run would not have met it.

use crate::{
    forced,
    hooked::{Hooked, ReadLog},
    state_source::{assert_serial_block, failing_reads, run_ahead},
    watchdog::Watchdog,
    workload::Workload,
};
use multilane::{ExecutionError, Shared};
use std::{any::Any, panic, sync::Once, thread};

/// Keeps panics that say that they are deliberate out of the test's output.
pub(crate) fn silence() {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !message(info.payload()).starts_with("deliberate") {
                report(info);
            }
        }));
    });
}

fn message(payload: &dyn Any) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}

#[test]
fn a_panic_in_a_read_is_an_internal_error_of_the_transaction_that_reads() {
    let _watchdog = Watchdog::new("panicking reads");
    silence();
    let workload = Workload::mixed(21, 40);
    let executor = forced(4);
    let mut panicked = 0;
    for (read, transaction) in failing_reads(&workload) {
        // Before the first transaction the calling thread reads, as in a serial run.
        let Some(transaction) = transaction else { continue };
        let hook = |asked| {
            assert!(asked != read, "deliberate: {asked:?}");
            Ok(())
        };
        let db = Hooked { db: &workload.prestate, hook };
        let error = executor
            .execute_block(&workload.chain, &workload.input, &Shared(&db))
            .expect_err("the source panics");
        match &error {
            ExecutionError::Internal { transaction: Some(index), cause } => {
                assert_eq!(*index, transaction, "{read:?}: {error}");
                assert!(cause.contains("deliberate"), "{read:?}: {error}");
            }
            _ => panic!("{read:?}: {error}"),
        }
        panicked += 1;
    }
    assert!(panicked > 50, "{panicked} reads panicked");
    assert_serial_block(&executor, &workload);
}

#[test]
fn a_panic_in_a_read_that_a_serial_run_never_makes_is_nothing() {
    let _watchdog = Watchdog::new("panicking speculation");
    silence();
    let ahead = run_ahead();
    let executor = ahead.executor(4);
    let mut speculated = 0;
    for _ in 0..20 {
        let reads = ReadLog::default();
        let hook = |read| {
            reads.note(read);
            ahead.hold_back(read, &reads);
            assert!(read != ahead.only_speculative, "deliberate: {read:?}");
            Ok(())
        };
        let db = Hooked { db: &ahead.workload.prestate, hook };
        ahead.assert_succeeds(&executor, &Shared(&db));
        speculated += usize::from(reads.contains(ahead.only_speculative));
    }
    assert!(speculated > 0, "no speculation read what a serial run does not");
}

#[derive(Debug, thiserror::Error)]
#[error("not opened")]
struct NotOpened;

#[test]
fn a_panic_in_opening_the_source_for_another_worker_does_not_cross_the_api() {
    let _watchdog = Watchdog::new("panicking open");
    silence();
    let workload = Workload::mixed(22, 60);
    let caller = thread::current().id();
    let source = || {
        assert!(thread::current().id() == caller, "deliberate: opening the source");
        Ok::<_, NotOpened>(revm::database::WrapDatabaseRef(&workload.prestate))
    };
    let (env, transactions) = (workload.env(), workload.tx_envs());
    let mut results = 0;
    let count = |_, _| {
        results += 1;
        Ok::<_, std::convert::Infallible>(())
    };
    forced(4).execute_ordered(&env, &transactions, &source, count).expect("the block is valid");
    assert_eq!(results, transactions.len(), "the calling thread gets everything done alone");
}

//! `execute_ordered`: order, equality with plain revm, and sinks that fail, lag or panic.

use crate::{
    THREADS, forced,
    hooked::Hooked,
    serial::{self, assert_same_result},
    watchdog::Watchdog,
    workload::Workload,
};
use multilane::{ExecutionMode, ExecutorConfig, OrderedError, ParallelExecutor, Shared};
use revm::context_interface::result::{HaltReason, ResultAndState};
use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// Executes a workload and compares every result with plain revm's.
#[track_caller]
pub(crate) fn assert_serial(executor: &ParallelExecutor, workload: &Workload) {
    let (env, transactions) = (workload.env(), workload.tx_envs());
    let (expected, _) = serial::run(&env, &transactions, &workload.prestate);
    let results = collect(executor, workload);
    assert_eq!(results.len(), expected.len());
    for (index, (expected, result)) in expected.iter().zip(&results).enumerate() {
        assert_same_result(expected, result, &format!("transaction {index}"));
    }
}

fn collect(executor: &ParallelExecutor, workload: &Workload) -> Vec<ResultAndState<HaltReason>> {
    let caller = thread::current().id();
    let mut results = Vec::new();
    let stats = executor
        .execute_ordered(
            &workload.env(),
            &workload.tx_envs(),
            &Shared(&workload.prestate),
            |index, result| {
                assert_eq!(index, results.len(), "results come in order");
                assert_eq!(thread::current().id(), caller, "on the calling thread");
                results.push(result);
                Ok::<_, Infallible>(())
            },
        )
        .expect("the block is valid");
    assert_eq!(stats.transactions, results.len());
    assert!(stats.executions >= stats.transactions);
    if !executor.config().allow_sequential {
        assert_eq!(stats.mode, ExecutionMode::Parallel);
    }
    results
}

#[test]
fn results_are_those_of_plain_revm_in_order_and_on_the_calling_thread() {
    let _watchdog = Watchdog::new("ordered results");
    for seed in [1, 2] {
        let workload = Workload::mixed(seed, 300);
        for threads in THREADS {
            assert_serial(&forced(threads), &workload);
        }
    }
    let own_judgement = ParallelExecutor::new(ExecutorConfig::new().with_threads(1)).unwrap();
    assert_serial(&own_judgement, &Workload::mixed(3, 100));
}

#[test]
fn results_do_not_depend_on_nonces_being_checked() {
    let _watchdog = Watchdog::new("no nonce check");
    let workload = Workload::contended(4, 120);
    let mut env = workload.env();
    env.cfg_env.disable_nonce_check = true;
    let mut transactions = workload.tx_envs();
    for (index, tx) in transactions.iter_mut().enumerate() {
        tx.nonce = [0, 7, u64::MAX - 1][index % 3];
    }
    let (expected, _) = serial::run(&env, &transactions, &workload.prestate);
    for threads in THREADS {
        let sink = |index: usize, result| {
            assert_same_result(&expected[index], &result, &format!("transaction {index}"));
            Ok::<_, Infallible>(())
        };
        forced(threads)
            .execute_ordered(&env, &transactions, &Shared(&workload.prestate), sink)
            .expect("the block is valid");
    }
}

#[derive(Debug, PartialEq)]
struct Full;

#[test]
fn a_sink_that_fails_is_not_called_again() {
    let _watchdog = Watchdog::new("failing sink");
    let workload = Workload::mixed(5, 300);
    for threads in THREADS {
        let executor = forced(threads);
        for last in [0, 1, 150, 299] {
            let mut calls = 0;
            let error = executor
                .execute_ordered(
                    &workload.env(),
                    &workload.tx_envs(),
                    &Shared(&workload.prestate),
                    |index, _| {
                        assert_eq!(index, calls);
                        calls += 1;
                        if index == last { Err(Full) } else { Ok(()) }
                    },
                )
                .expect_err("the sink failed");
            assert!(matches!(error, OrderedError::Sink(Full)), "{error:?}");
            assert_eq!(calls, last + 1);
        }
        assert_serial(&executor, &workload);
    }
}

#[test]
fn an_invalid_transaction_ends_the_block_after_the_results_before_it() {
    let _watchdog = Watchdog::new("invalid transaction");
    let workload = Workload::mixed(6, 100);
    let mut transactions = workload.tx_envs();
    transactions[60].nonce += 9;
    for threads in THREADS {
        let mut calls = 0;
        let sink = |_, _| {
            calls += 1;
            Ok::<_, Infallible>(())
        };
        let error = forced(threads)
            .execute_ordered(&workload.env(), &transactions, &Shared(&workload.prestate), sink)
            .expect_err("the nonce is too high");
        assert_eq!(calls, 60);
        let OrderedError::Execution(error) = error else { panic!("{error:?}") };
        let said = error.to_string();
        assert!(said.contains("transaction 60") && said.contains("nonce"), "{said}");
    }
}

#[test]
fn a_slow_sink_loses_nothing() {
    let _watchdog = Watchdog::new("slow sink");
    let workload = Workload::mixed(7, 250);
    let (expected, _) = serial::run(&workload.env(), &workload.tx_envs(), &workload.prestate);
    for threads in [1, 2, 8] {
        let mut next = 0;
        let sink = |index, result| {
            thread::sleep(Duration::from_millis(1));
            assert_eq!(index, next);
            assert_same_result(&expected[index], &result, &format!("transaction {index}"));
            next += 1;
            Ok::<_, Infallible>(())
        };
        forced(threads)
            .execute_ordered(
                &workload.env(),
                &workload.tx_envs(),
                &Shared(&workload.prestate),
                sink,
            )
            .expect("the block is valid");
        assert_eq!(next, expected.len());
    }
}

/// While a sink is busy the workers run ahead, but not further than a few thousand results that wait
/// for it: what they have done and nobody takes is memory.
#[test]
fn workers_wait_for_a_sink_that_stands_still() {
    const PAYMENTS: usize = 6_000;
    /// Results that may wait, and transactions that may be begun.
    const AHEAD_MAX: usize = 4_096;
    let _watchdog = Watchdog::new("back-pressure");
    let workload = Workload::payments(PAYMENTS);
    for threads in [2, 4] {
        // Two accounts a payment are read, and the beneficiary's.
        let reads = AtomicUsize::new(0);
        let hook = |_| {
            reads.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let db = Hooked { db: &workload.prestate, hook };
        let begun = || reads.load(Ordering::Relaxed) / 2;
        let mut handed_over = 0;
        let sink = |index: usize, _| {
            handed_over += 1;
            // Stands still until the others do.
            let mut before = 0;
            while index == 0 && begun() < PAYMENTS && (begun() < AHEAD_MAX || begun() > before) {
                before = begun();
                thread::sleep(Duration::from_millis(50));
            }
            if index == 0 {
                assert!((AHEAD_MAX..=AHEAD_MAX + 1).contains(&begun()), "{} begun", begun());
            }
            Ok::<_, Infallible>(())
        };
        forced(threads)
            .execute_ordered(&workload.env(), &workload.tx_envs(), &Shared(&db), sink)
            .expect("the block is valid");
        assert_eq!(handed_over, PAYMENTS);
    }
}

#[test]
fn a_panic_of_the_sink_reaches_the_caller() {
    let _watchdog = Watchdog::new("panicking sink");
    crate::panics::silence();
    let workload = Workload::mixed(8, 200);
    for threads in THREADS {
        let executor = forced(threads);
        for last in [0, 120] {
            let mut calls = 0;
            let run = AssertUnwindSafe(|| {
                executor.execute_ordered(
                    &workload.env(),
                    &workload.tx_envs(),
                    &Shared(&workload.prestate),
                    |index, _| {
                        calls += 1;
                        assert!(index < last, "deliberate: the sink has enough");
                        Ok::<_, Infallible>(())
                    },
                )
            });
            let payload = catch_unwind(run).expect_err("the panic is the caller's own");
            let message = payload.downcast_ref::<&str>().copied();
            assert_eq!(message, Some("deliberate: the sink has enough"));
            assert_eq!(calls, last + 1);
            assert_serial(&executor, &workload);
        }
    }
}

/// On one thread the same worker executes and delivers, in turn.
#[test]
fn one_thread_delivers_while_it_executes() {
    const PAYMENTS: usize = 1_000;
    const AHEAD_MAX: usize = 400;
    let _watchdog = Watchdog::new("delivery on one thread");
    let workload = Workload::payments(PAYMENTS);
    let reads = AtomicUsize::new(0);
    let hook = |_| {
        reads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let db = Hooked { db: &workload.prestate, hook };
    let sink = |index, _| {
        // Two accounts a payment, and the beneficiary's.
        let begun = reads.load(Ordering::Relaxed) / 2;
        assert!(begun <= index + AHEAD_MAX, "{begun} were begun when {index} was delivered");
        Ok::<_, Infallible>(())
    };
    forced(1)
        .execute_ordered(&workload.env(), &workload.tx_envs(), &Shared(&db), sink)
        .expect("the block is valid");
}

//! One executor used by several threads, and executors used inside another thread pool.

use crate::{forced, ordered::assert_serial, watchdog::Watchdog, workload::Workload};
use multilane::Shared;
use rayon::ThreadPoolBuilder;
use std::{convert::Infallible, thread};

#[test]
fn threads_share_an_executor() {
    let _watchdog = Watchdog::new("shared executor");
    let workloads =
        [Workload::mixed(61, 150), Workload::contended(62, 150), Workload::mixed(63, 9)];
    for threads in [1, 2, 4] {
        let executor = forced(threads);
        thread::scope(|scope| {
            for workload in &workloads {
                let executor = &executor;
                scope.spawn(move || {
                    for _ in 0..10 {
                        assert_serial(executor, workload);
                    }
                });
            }
        });
    }
}

#[test]
fn an_executor_works_inside_another_pool() {
    let _watchdog = Watchdog::new("nested pools");
    let workloads: Vec<_> = (0..8).map(|seed| Workload::mixed(70 + seed, 120)).collect();
    for pool_threads in [1, 4] {
        // Small stacks, so that nesting would show.
        let outer =
            ThreadPoolBuilder::new().num_threads(pool_threads).stack_size(4 << 20).build().unwrap();
        for threads in [1, 2, 4] {
            let shared = forced(threads);
            outer.scope(|scope| {
                for workload in &workloads {
                    scope.spawn(|_| {
                        assert_serial(&shared, workload);
                        assert_serial(&forced(threads), workload);
                    });
                }
            });
        }
    }
}

#[test]
fn an_executor_works_inside_the_global_pool() {
    let _watchdog = Watchdog::new("global pool");
    let workloads: Vec<_> = (0..8).map(|seed| Workload::contended(80 + seed, 120)).collect();
    let executor = forced(4);
    rayon::scope(|scope| {
        for workload in &workloads {
            scope.spawn(|_| assert_serial(&executor, workload));
        }
    });
}

/// The workers of the outer block are busy until its sink returns, so the inner one must not wait
/// for them.
#[test]
fn a_sink_may_use_its_executor() {
    let _watchdog = Watchdog::new("executor within its own sink");
    let (inner, outer) = (Workload::mixed(90, 50), Workload::mixed(91, 300));
    for threads in [1, 2, 4] {
        let executor = forced(threads);
        let mut called = 0;
        let sink = |index: usize, _| {
            if index.is_multiple_of(100) {
                assert_serial(&executor, &inner);
            }
            called += 1;
            Ok::<_, Infallible>(())
        };
        executor
            .execute_ordered(&outer.env(), &outer.tx_envs(), &Shared(&outer.prestate), sink)
            .expect("the block is valid");
        assert_eq!(called, outer.input.transactions.len());
    }
}

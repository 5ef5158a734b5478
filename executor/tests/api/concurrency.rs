//! One executor used by several threads, and executors used inside another thread pool.

use crate::{forced, ordered::assert_serial, watchdog::Watchdog, workload::Workload};
use rayon::ThreadPoolBuilder;
use std::thread;

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

#[test]
fn zz_reentrant() {
    let inner = Workload::mixed(90, 50);
    let outer = Workload::mixed(91, 300);
    let executor = forced(2);
    let mut done = false;
    executor
        .execute_ordered(
            &outer.env(),
            &outer.tx_envs(),
            &multilane::Shared(&outer.prestate),
            |_, _| {
                if !done {
                    assert_serial(&executor, &inner);
                    done = true;
                }
                Ok::<_, std::convert::Infallible>(())
            },
        )
        .unwrap();
}

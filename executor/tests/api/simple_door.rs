//! `execute_block_ref`: plain revm in, plain revm out.

use crate::{
    THREADS, forced,
    serial::{self, assert_same_bundle},
    watchdog::Watchdog,
    workload::Workload,
};
use multilane::{ExecutorConfig, ParallelExecutor};

#[test]
fn results_and_bundle_are_those_of_plain_revm() {
    let _watchdog = Watchdog::new("execute_block_ref");
    for workload in [Workload::mixed(41, 250), Workload::contended(42, 250), Workload::empty()] {
        let (env, transactions) = (workload.env(), workload.tx_envs());
        let (expected, bundle) = serial::run(&env, &transactions, &workload.prestate);
        let expected: Vec<_> = expected.into_iter().map(|expected| expected.result).collect();
        let by_itself = ParallelExecutor::new(ExecutorConfig::new()).unwrap();
        for executor in THREADS.map(forced).into_iter().chain([by_itself]) {
            let (results, changes) = executor
                .execute_block_ref(&workload.prestate, &env, &transactions)
                .expect("the block is valid");
            assert_eq!(results, expected);
            assert_same_bundle(bundle.clone(), changes, &executor.config().threads);
        }
    }
}

//! Every workload of the fixtures, small.

use crate::predictors::Prediction;
use multilane::{Shared, sequential, verification::compare_outputs};
use multilane_fixtures::workload::{Workload, WorkloadBlock, WorkloadError, WorkloadSettings};
use revm::database::WrapDatabaseRef;

const TRANSACTIONS: usize = 200;
const THREADS: [usize; 3] = [2, 4, 8];

/// A block in which few accounts and pools are shared by many, or `None` where the Uniswap
/// packages are missing and may be.
pub(crate) fn generate(workload: &Workload, seed: u64) -> Option<WorkloadBlock> {
    let mut settings = WorkloadSettings::default();
    settings.transactions = Some(TRANSACTIONS);
    settings.traders = Some(50);
    settings.pools = Some(8);
    settings.zipf = Some(1.0);
    settings.hot_ratio = Some(0.5);
    settings.seed = seed;
    generate_with(workload, &settings)
}

/// A block with these settings, or `None` where the Uniswap packages are missing and may be.
pub(crate) fn generate_with(
    workload: &Workload,
    settings: &WorkloadSettings,
) -> Option<WorkloadBlock> {
    match workload.generate(settings) {
        Ok(block) => Some(block),
        Err(error @ WorkloadError::MissingPackages { .. }) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            eprintln!("LEFT OUT: {}: {error}", workload.name());
            None
        }
        Err(error) => panic!("{}: {error}", workload.name()),
    }
}

/// Executes a block of every workload with every executor, and compares with the oracle.
fn compare(predictions: &[Prediction], seed: u64) {
    let executors: Vec<_> = predictions
        .iter()
        .flat_map(|prediction| THREADS.map(|threads| (*prediction, threads)))
        .map(|(prediction, threads)| {
            (format!("{prediction:?}, {threads} threads"), prediction.executor(threads))
        })
        .collect();
    for workload in Workload::all() {
        let Some(WorkloadBlock { chain, block, prestate, .. }) = generate(workload, seed) else {
            continue;
        };
        let name = workload.name();
        let serial = sequential::execute_block(&chain, &block, WrapDatabaseRef(&prestate))
            .unwrap_or_else(|error| panic!("{name}: sequential: {error}"));
        for (executor_name, executor) in &executors {
            let (parallel, stats) = executor
                .execute_block(&chain, &block, &Shared(&prestate))
                .unwrap_or_else(|error| panic!("{name}: {executor_name}: {error}"));
            let differences = compare_outputs(&serial, &parallel);
            assert!(differences.is_empty(), "{name}: {executor_name}, {stats:?}: {differences:#?}");
            // Nothing is executed that is neither final nor a conflict.
            assert_eq!(
                stats.executions,
                stats.transactions + stats.conflicts,
                "{name}: {executor_name}"
            );
        }
    }
}

#[test]
fn own_predictions() {
    compare(&[Prediction::Own], 1);
}

#[test]
fn wrong_predictions() {
    compare(&[Prediction::Empty, Prediction::Swapped, Prediction::Random(3)], 2);
}

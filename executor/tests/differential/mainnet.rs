//! Every block of the mainnet archive.

use crate::predictors::Prediction;
use multilane::{ParallelExecutor, Shared, sequential, verification::compare_outputs};
use multilane_fixtures::archive::{ArchivedBlock, BlockArchive};
use revm::database::WrapDatabaseRef;
use std::path::Path;

const THREADS: [usize; 4] = [1, 2, 4, 8];

/// The archive beside the project, if this machine has it.
pub(crate) fn archive() -> Option<BlockArchive> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/mainnet"));
    if path.exists() {
        return Some(BlockArchive::open(path).expect("the archive can be opened"));
    }
    assert!(std::env::var_os("CI").is_none(), "the mainnet archive is missing");
    eprintln!("LEFT OUT: mainnet blocks, because ../shared/data/mainnet is not there");
    None
}

/// Executes every block with every executor, and compares with the oracle.
fn compare(executors: &[(String, ParallelExecutor)]) {
    let Some(archive) = archive() else { return };
    for entry in archive.entries() {
        let ArchivedBlock { origin, chain, input, prestate, .. } =
            archive.load(entry).expect("the block can be loaded");
        let serial = sequential::execute_block(&chain, &input, WrapDatabaseRef(&prestate))
            .unwrap_or_else(|error| panic!("{origin}: sequential: {error}"));
        for (name, executor) in executors {
            let (parallel, stats) = executor
                .execute_block(&chain, &input, &Shared(&prestate))
                .unwrap_or_else(|error| panic!("{origin}: {name}: {error}"));
            let differences = compare_outputs(&serial, &parallel);
            assert!(differences.is_empty(), "{origin}: {name}, {stats:?}: {differences:#?}");
        }
    }
}

#[test]
fn own_predictions_at_every_thread_count() {
    compare(
        &THREADS.map(|threads| (format!("{threads} threads"), Prediction::Own.executor(threads))),
    );
}

#[test]
fn wrong_and_hostile_predictions() {
    compare(&Prediction::ALL.map(|prediction| (format!("{prediction:?}"), prediction.executor(4))));
}

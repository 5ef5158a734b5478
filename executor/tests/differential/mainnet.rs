//! Every block of the mainnet archive.

use crate::predictors::Prediction;
use multilane::{Shared, sequential, verification::compare_outputs};
use multilane_fixtures::archive::{ArchivedBlock, BlockArchive};
use revm::database::WrapDatabaseRef;
use std::path::Path;

const THREADS: [usize; 4] = [1, 2, 4, 8];

/// The archive beside the project, if this machine has it.
fn archive() -> Option<BlockArchive> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/mainnet"));
    if path.exists() {
        return Some(BlockArchive::open(path).expect("the archive can be opened"));
    }
    assert!(std::env::var_os("CI").is_none(), "the mainnet archive is missing");
    println!("LEFT OUT: mainnet blocks, because ../shared/data/mainnet is not there");
    None
}

fn compare(block: &ArchivedBlock, prediction: Prediction, threads: usize) {
    let serial =
        sequential::execute_block(&block.chain, &block.input, WrapDatabaseRef(&block.prestate))
            .unwrap_or_else(|error| panic!("{}: sequential: {error}", block.origin));
    let executor = prediction.executor(threads);
    let (parallel, stats) = executor
        .execute_block(&block.chain, &block.input, &Shared(&block.prestate))
        .unwrap_or_else(|error| {
            panic!("{}: {prediction:?}, {threads} threads: {error}", block.origin)
        });
    let differences = compare_outputs(&serial, &parallel);
    assert!(
        differences.is_empty(),
        "{}: {prediction:?}, {threads} threads, {stats:?}: {differences:#?}",
        block.origin
    );
}

fn for_each_block(check: impl Fn(&ArchivedBlock)) {
    let Some(archive) = archive() else { return };
    for entry in archive.entries() {
        check(&archive.load(entry).expect("the block can be loaded"));
    }
}

#[test]
fn own_predictions_at_every_thread_count() {
    for_each_block(|block| {
        for threads in THREADS {
            compare(block, Prediction::Own, threads);
        }
    });
}

#[test]
fn wrong_and_hostile_predictions() {
    for_each_block(|block| {
        for prediction in Prediction::ALL {
            compare(block, prediction, 4);
        }
    });
}

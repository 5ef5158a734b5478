//! The embedded sample: equal to the oracle, and to what the headers commit to.

use crate::{THREADS, forced, watchdog::Watchdog};
use multilane::{
    ParallelExecutor, Shared, sequential,
    state::{BlockOutput, StateError},
    verification::{Check, StateRoots, compare_outputs, verify_block},
};
use multilane_fixtures::{
    archive::{ArchivedBlock, BlockArchive},
    sample::sample_files,
};
use revm::database::WrapDatabaseRef;

/// Everything that a block's header commits to and that its witness lets us check.
pub(crate) fn checks(block: &ArchivedBlock, output: &BlockOutput) -> Vec<Check> {
    let root = || {
        let witness = block.witness.as_ref().expect("every block of the sample has a witness");
        let mut trie = witness.trie()?;
        trie.apply_bundle(&output.bundle)?;
        trie.root()
    };
    let root = root().map_err(|error: StateError| error.to_string());
    let roots = StateRoots::unavailable("not before Byzantium").with_after_block(root);
    verify_block(&block.chain, &block.input, output, &roots)
}

#[test]
fn every_block_is_serial_and_honours_its_header() {
    let _watchdog = Watchdog::new("sample");
    let archive = BlockArchive::from_files("sample", sample_files()).unwrap();
    let executors: Vec<ParallelExecutor> = THREADS.map(forced).into();
    assert!(archive.entries().len() > 10);
    for entry in archive.entries() {
        let block = archive.load(entry).unwrap();
        let ArchivedBlock { chain, input, prestate, .. } = &block;
        let expected = sequential::execute_block(chain, input, WrapDatabaseRef(prestate)).unwrap();
        for executor in &executors {
            let (output, _) = executor.execute_block(chain, input, &Shared(prestate)).unwrap();
            let threads = executor.config().threads;
            let differences = compare_outputs(&expected, &output);
            assert!(differences.is_empty(), "{} at {threads}: {differences:#?}", block.origin);
            for check in checks(&block, &output) {
                assert!(check.outcome.is_ok(), "{} at {threads}: {check}", block.origin);
            }
        }
    }
}

//! The same block again and again: no schedule gives another result.

use crate::{forced, watchdog::Watchdog, workload::Workload};
use multilane::{Shared, sequential, verification::compare_outputs};
use revm::database::WrapDatabaseRef;

const REPETITIONS: usize = 200;

#[test]
fn a_contended_block_gives_one_result() {
    let _watchdog = Watchdog::new("repetition");
    let Workload { chain, input, prestate, .. } = &Workload::contended(91, 150);
    let expected = sequential::execute_block(chain, input, WrapDatabaseRef(prestate)).unwrap();
    let executor = forced(4);
    let (mut conflicts, mut put_off) = (0, 0);
    for repetition in 0..REPETITIONS {
        let (output, stats) = executor.execute_block(chain, input, &Shared(prestate)).unwrap();
        let differences = compare_outputs(&expected, &output);
        assert!(differences.is_empty(), "repetition {repetition}, {stats:?}: {differences:#?}");
        assert_eq!(stats.executions, stats.transactions + stats.conflicts, "{stats:?}");
        conflicts += stats.conflicts;
        put_off += stats.put_off;
    }
    eprintln!("{conflicts} conflicts and {put_off} put off in {REPETITIONS} repetitions");
}

//! Blocks without transactions, with one, and with very many.

use crate::{
    THREADS, forced,
    state_source::assert_serial_block,
    watchdog::Watchdog,
    workload::{BENEFICIARY, ETHER, Workload, person},
};
use multilane::{Shared, sequential, verification::compare_outputs};
use revm::database::WrapDatabaseRef;

const MANY: usize = 20_000;
/// Pays for a transfer's gas many times over.
const ENOUGH: u128 = ETHER / 100;

#[test]
fn none_and_one() {
    let _watchdog = Watchdog::new("small blocks");
    let mut one = Workload::empty();
    one.fund(person(0x5E, 0), ETHER);
    one.pay(person(0x5E, 0), person(0xF0, 0), 7);
    for workload in [Workload::empty(), one] {
        for threads in THREADS {
            assert_serial_block(&forced(threads), &workload);
        }
    }
}

fn check(workload: &Workload) {
    let Workload { chain, input, prestate, .. } = workload;
    assert_eq!(input.transactions.len(), MANY);
    let expected = sequential::execute_block(chain, input, WrapDatabaseRef(prestate)).unwrap();
    assert!(expected.receipts.iter().all(|receipt| receipt.status()));
    for threads in THREADS {
        let (output, stats) =
            forced(threads).execute_block(chain, input, &Shared(prestate)).unwrap();
        let differences = compare_outputs(&expected, &output);
        assert!(differences.is_empty(), "{threads} threads: {differences:#?}");
        eprintln!(
            "{threads} threads: {} executions, {} conflicts, {:?}",
            stats.executions, stats.conflicts, stats.execution_time
        );
    }
}

#[test]
fn many_independent_transfers() {
    let _watchdog = Watchdog::new("independent transfers");
    check(&Workload::payments(MANY));
}

#[test]
fn many_transfers_of_which_each_pays_for_the_next() {
    let _watchdog = Watchdog::new("chained transfers");
    let mut workload = Workload::empty();
    // Fees eat up to 0.00021 of it at each step, and what is left goes on.
    let fee = 21_000 * 10_000_000_000;
    let mut purse = fee * (MANY as u128 + 1);
    workload.fund(person(0x5E, 0), purse);
    for id in 0..MANY {
        purse -= fee;
        workload.pay(person(0x5E, id), person(0x5E, id + 1), purse);
    }
    check(&workload);
}

#[test]
fn many_transfers_of_one_sender() {
    let _watchdog = Watchdog::new("transfers of one sender");
    let mut workload = Workload::empty();
    workload.fund(person(0x5E, 0), ENOUGH * MANY as u128);
    for id in 0..MANY {
        let to = if id % 100 == 0 { BENEFICIARY } else { person(0xF0, id) };
        workload.pay(person(0x5E, 0), to, 1);
    }
    check(&workload);
}

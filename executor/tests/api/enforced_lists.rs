//! An enforced access list (EIP-7928) that is wrong ends the block where that shows first, and not
//! after all of it has been executed for nothing.

use crate::{
    THREADS,
    contracts::Contract,
    forced,
    hooked::Hooked,
    state_source::assert_serial_block,
    watchdog::Watchdog,
    workload::{ETHER, Workload, person},
};
use alloy_eips::eip7928::BlockAccessList;
use alloy_evm::block::BlockValidationError;
use alloy_primitives::U256;
use multilane::{
    AccessHints, ExecutionError, ParallelExecutor, Shared, sequential,
    state::{
        StateLocation,
        access_list::{AccessListError, Deviation},
    },
};
use revm::database::WrapDatabaseRef;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

const PAYMENTS: usize = 4_000;

/// Two calls that count, one after the other, and payments that have nothing to do with them.
fn counting() -> (Workload, BlockAccessList) {
    let mut workload = Workload::empty();
    for id in 0..PAYMENTS {
        workload.fund(person(0x5E, id), ETHER);
    }
    for id in 0..2 {
        workload.call(person(0x5E, id), Contract::Counter.address(), 0, Default::default());
    }
    for id in 2..PAYMENTS {
        workload.pay(person(0x5E, id), person(0xF0, id), 1);
    }
    let Workload { chain, input, prestate, .. } = &workload;
    let serial =
        sequential::execute_block_with_access_list(chain, input, WrapDatabaseRef(prestate));
    let list = serial.unwrap().access_list.expect("it was asked for");
    (workload, list)
}

/// What the executor says of a list, and how often it asked the source until then.
fn enforce(
    executor: &ParallelExecutor,
    workload: &Workload,
    list: &BlockAccessList,
) -> (Result<(), ExecutionError>, usize) {
    let reads = AtomicUsize::new(0);
    let hook = |_| {
        reads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let db = Hooked { db: &workload.prestate, hook };
    let hints = AccessHints::Enforced(Arc::new(list.clone()));
    let Workload { chain, input, .. } = workload;
    let ended = executor.execute_block_hinted(chain, input, &Shared(&db), &hints);
    (ended.map(drop), reads.into_inner())
}

fn list_error(error: &ExecutionError) -> (Option<usize>, &AccessListError) {
    let ExecutionError::InvalidBlock { transaction, cause: BlockValidationError::Other(cause) } =
        error
    else {
        panic!("{error}")
    };
    (*transaction, cause.downcast_ref().unwrap_or_else(|| panic!("{error}")))
}

#[test]
fn a_list_that_misleads_ends_the_block_where_it_does() {
    let _watchdog = Watchdog::new("misleading list");
    let (workload, exact) = counting();
    let counter = Contract::Counter.address();
    let mut wrong = exact.clone();
    let account = wrong.iter_mut().find(|account| account.address == counter).unwrap();
    let change = &mut account.storage_changes[0].changes[0];
    assert_eq!(change.new_value, U256::ONE);
    change.new_value = U256::from(7);
    // Something else that is wrong, which comes later.
    let last = person(0xF0, PAYMENTS - 1);
    let account = wrong.iter_mut().find(|account| account.address == last).unwrap();
    account.balance_changes[0].post_balance = U256::from(2);

    for threads in THREADS {
        let executor = forced(threads);
        let (accepted, all_reads) = enforce(&executor, &workload, &exact);
        accepted.unwrap();
        assert!(all_reads > 2 * PAYMENTS, "{all_reads}");
        let (refused, reads) = enforce(&executor, &workload, &wrong);
        let error = refused.expect_err("the list is wrong");
        let (transaction, AccessListError::Deviation { location, deviation, .. }) =
            list_error(&error)
        else {
            panic!("{error}")
        };
        assert_eq!(transaction, Some(0), "{error}");
        assert_eq!(*location, StateLocation::Slot(counter, U256::ZERO));
        let found = Deviation::Change {
            field: "value",
            listed: Some("7".to_string()),
            actual: Some("1".to_string()),
        };
        assert_eq!(**deviation, found);
        assert!(reads < all_reads / 4, "{reads} of {all_reads} reads at {threads} threads");
        assert_serial_block(&executor, &workload);
    }
}

#[test]
fn a_list_that_no_block_can_have_is_refused_unexecuted() {
    let _watchdog = Watchdog::new("malformed list");
    let (workload, mut list) = counting();
    list.reverse();
    for threads in THREADS {
        let (refused, reads) = enforce(&forced(threads), &workload, &list);
        let error = refused.expect_err("the list is out of order");
        assert!(matches!(list_error(&error), (None, AccessListError::Malformed(_))), "{error}");
        assert_eq!(reads, 0);
    }
}

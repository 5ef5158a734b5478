use super::*;
use crate::{
    analyzer::{AccessPrediction, PredictedAccess, PredictedLocation},
    conflict_graph::ConflictGraph,
};
use alloy_primitives::Address;
use multilane_state::StateLocation;

/// Each transaction of as much gas, and what it reads and writes, if anything.
fn plan(gas: u64, accounts: &[Option<u8>]) -> ExecutionPlan {
    let predictions: Vec<_> = accounts
        .iter()
        .map(|account| {
            let location = account.map(Address::with_last_byte).map(StateLocation::Account);
            let access = |location| PredictedAccess {
                location: PredictedLocation::State(location),
                reads: true,
                writes: true,
            };
            AccessPrediction { gas, accesses: location.map(access).into_iter().collect() }
        })
        .collect();
    ExecutionPlan::new(&predictions, &ConflictGraph::new(&predictions))
}

fn scheduler(plan: &ExecutionPlan, depth: usize) -> Scheduler<'_> {
    Scheduler::new(plan, Vec::new(), 2, depth, false)
}

fn index(position: usize) -> TxIndex {
    TxIndex::new(position)
}

/// Takes one turn after another, and begins with what is free. How many transactions were dispatched.
fn dispatch_all(scheduler: &Scheduler<'_>) -> usize {
    let mut dispatched = 0;
    while let Some(task) = scheduler.next_task() {
        let Task::Dispatch(positions) = task else { panic!("{task:?}") };
        dispatched += positions.len();
        for position in positions {
            scheduler.dispatch(index(position));
        }
    }
    dispatched
}

const WORKER: fn(usize) -> WorkerId = WorkerId::new;

#[test]
fn whoever_finishes_the_last_predecessor_takes_the_successor() {
    // 0 -> 1 -> 3 share an account; 2 is alone.
    let plan = plan(TURN_GAS, &[Some(1), Some(1), None, Some(1)]);
    let scheduler = scheduler(&plan, 100);
    assert_eq!(dispatch_all(&scheduler), 4);
    let status = [0, 1, 2, 3].map(|at| scheduler.status(index(at)));
    let [executing, waiting] = [Status::Executing, Status::Unclaimed];
    assert_eq!(status, [executing, waiting, executing, waiting]);
    assert_eq!(scheduler.finish_execution(index(2), WORKER(1)), None);
    assert_eq!(scheduler.finish_execution(index(0), WORKER(0)), Some(index(1)));
    assert_eq!(scheduler.finish_execution(index(1), WORKER(0)), Some(index(3)));
    assert_eq!(scheduler.status(index(3)), Status::Executing);
}

#[test]
fn a_chain_that_begins_before_its_turn_goes_on_before_it() {
    // 5 -> 6 -> 7 share an account.
    let plan = plan(TURN_GAS, &[None, None, None, None, None, Some(1), Some(1), Some(1)]);
    let scheduler = Scheduler::new(&plan, vec![index(5)], 2, 100, false);
    assert_eq!(scheduler.next_task(), Some(Task::Claimed(index(5))));
    assert_eq!(scheduler.next_task(), Some(Task::Dispatch(0..1)));
    assert_eq!(scheduler.finish_execution(index(5), WORKER(0)), Some(index(6)));
    // It was overtaken, and has to wait for its turn now.
    assert!(scheduler.is_early(index(5)));
    scheduler.push_ready(index(5));
    assert_eq!(scheduler.next_task(), Some(Task::Dispatch(1..2)));
    assert_eq!(scheduler.finish_execution(index(6), WORKER(0)), Some(index(7)));
    for position in 2..6 {
        assert_eq!(scheduler.next_task(), Some(Task::Dispatch(position..position + 1)));
    }
    assert!(!scheduler.is_early(index(5)));
    assert_eq!(scheduler.next_task(), Some(Task::Overtaken(index(5))));
    assert_eq!(scheduler.next_task(), Some(Task::Dispatch(6..7)));
    assert!(!scheduler.dispatch(index(6)) && !scheduler.dispatch(index(7)));
    assert_eq!(scheduler.status(index(7)), Status::Executing);
}

#[test]
fn nothing_starts_beyond_the_depth_and_nobody_wakes_up_for_little() {
    let plan = plan(TURN_GAS, &[None; 40]);
    let scheduler = scheduler(&plan, 16);
    let taken = || dispatch_all(&scheduler);
    assert_eq!(taken(), 16);
    // A quarter of the depth has to be free. Whoever is awake takes less.
    scheduler.advance(3);
    assert!(!scheduler.is_worth_waking(3));
    assert_eq!(taken(), 3);
    scheduler.advance(7);
    assert!(scheduler.is_worth_waking(7));
    assert_eq!(taken(), 4);
    // The end of the block is reached to the last one.
    scheduler.advance(24);
    assert_eq!(taken(), 17);
    scheduler.advance(25);
    assert!(!scheduler.is_worth_waking(25));
}

#[test]
fn what_a_busy_worker_has_not_come_to_is_taken_by_another() {
    let plan = plan(TURN_GAS / 4, &[None; 32]);
    let scheduler = scheduler(&plan, 100);
    let turns: Vec<_> = (0..8).map(|at| Some(Task::Dispatch(4 * at..4 * at + 4))).collect();
    let taken: Vec<_> = (0..8).map(|_| scheduler.next_task()).collect();
    assert_eq!(taken, turns);
    assert!(scheduler.dispatch(index(0)));
    assert!(scheduler.dispatch(index(1)));
    assert!(scheduler.dispatch(index(2)));
    // Not one that waits for its turn somewhere.
    scheduler.put_off(index(1));
    assert_eq!(scheduler.next_task(), Some(Task::Claimed(index(3))));
    assert_eq!(scheduler.next_task(), Some(Task::Claimed(index(4))));
    assert!(!scheduler.dispatch(index(3)));
    scheduler.push_ready(index(1));
    assert_eq!(scheduler.next_task(), Some(Task::Claimed(index(1))));
}

#[test]
fn what_was_overtaken_comes_back() {
    let plan = plan(TURN_GAS, &[None; 8]);
    let scheduler = scheduler(&plan, 100);
    assert_eq!(scheduler.next_task(), Some(Task::Dispatch(0..1)));
    assert!(scheduler.dispatch(index(0)));
    // While it is executed there is nothing to be done about it.
    scheduler.push_ready(index(0));
    assert_eq!(scheduler.next_task(), Some(Task::Dispatch(1..2)));
    assert_eq!(scheduler.finish_execution(index(0), WORKER(0)), None);
    scheduler.push_ready(index(0));
    assert_eq!(scheduler.next_task(), Some(Task::Overtaken(index(0))));
    scheduler.finish_again(index(0), WORKER(1));
    assert_eq!(scheduler.status(index(0)), Status::Executed { by: WORKER(1) });
}

#[test]
fn what_the_frontier_makes_final_does_not_call_up_those_behind_the_cursor() {
    let mut accounts = [None; 40];
    (accounts[0], accounts[39]) = (Some(1), Some(1));
    let plan = plan(TURN_GAS, &accounts);
    let scheduler = scheduler(&plan, 100);
    // Its holder has executed the first one before anybody dispatched it.
    assert!(scheduler.claim(index(0)));
    scheduler.finish_at_frontier(index(0));
    assert_eq!(scheduler.next_task(), Some(Task::Dispatch(0..1)));
    assert_eq!(scheduler.status(index(39)), Status::Unclaimed);
    assert_eq!(dispatch_all(&scheduler), 39);
    assert_eq!(scheduler.status(index(39)), Status::Executing);
}

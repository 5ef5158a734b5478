//! `inspect_block`: inspectors and sinks that fail, lag or panic, and what a source is asked.

use crate::{
    THREADS, forced,
    hooked::{Hooked, Read, Refused},
    panics::silence,
    state_source::{assert_serial_block, failing_reads},
    watchdog::Watchdog,
    workload::{ETHER, Workload, person},
};
use multilane::{ExecutionError, Inspected, OrderedError, ParallelExecutor, Shared, StateSource};
use multilane_state::BlockOutput;
use revm::{
    Inspector,
    interpreter::{CallInputs, CallOutcome},
};
use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

/// Counts calls, and may not like a transaction.
#[derive(Debug, Default)]
struct Calls {
    count: usize,
    panics: bool,
}

impl<CTX> Inspector<CTX> for Calls {
    fn call(&mut self, _context: &mut CTX, _inputs: &mut CallInputs) -> Option<CallOutcome> {
        assert!(!self.panics, "deliberate: I have seen enough");
        self.count += 1;
        None
    }
}

/// Inspects a workload, and gives how many transactions the sink got.
fn inspect<S: StateSource>(
    executor: &ParallelExecutor,
    workload: &Workload,
    source: &S,
    inspector: impl Fn(usize) -> Calls + Sync,
) -> (usize, Result<BlockOutput, ExecutionError>) {
    let mut seen = 0;
    let sink = |index, _: Inspected<Calls>| {
        assert_eq!(index, seen);
        seen += 1;
        Ok::<_, Infallible>(())
    };
    let ran = executor.inspect_block(&workload.chain, &workload.input, source, inspector, sink);
    let ran = ran.map(|(output, _)| output).map_err(|error| match error {
        OrderedError::Execution(error) => error,
        error => panic!("{error}"),
    });
    (seen, ran)
}

/// A block of payments, so that every transaction is a call.
fn payments() -> Workload {
    let mut workload = Workload::empty();
    workload.fund(person(1, 0), ETHER);
    (0..60).for_each(|id| workload.pay(person(1, 0), person(2, id), 1));
    workload
}

#[test]
fn a_panicking_inspector_is_an_internal_error_of_its_transaction() {
    let _watchdog = Watchdog::new("panicking inspectors");
    silence();
    let workload = payments();
    let source = Shared(&workload.prestate);
    for threads in THREADS {
        let executor = forced(threads);
        for (fails_at, in_maker) in [(0, false), (33, false), (59, false), (33, true)] {
            let inspector = |index| {
                assert!(!in_maker || index < fails_at, "deliberate: no inspector");
                Calls { count: 0, panics: index >= fails_at }
            };
            let (seen, ran) = inspect(&executor, &workload, &source, inspector);
            assert_eq!(seen, fails_at, "those before it have been handed over");
            match ran.expect_err("an inspector panics") {
                ExecutionError::Internal { transaction, cause } => {
                    assert_eq!(transaction, Some(fails_at), "{cause}");
                    assert!(cause.starts_with("deliberate"), "{cause}");
                }
                error => panic!("{error}"),
            }
        }
        let (seen, ran) = inspect(&executor, &workload, &source, |_| Calls::default());
        assert!(ran.is_ok() && seen == 60, "the executor works for the next block");
        assert_serial_block(&executor, &workload);
    }
}

#[test]
fn a_sink_may_refuse_and_may_panic() {
    let _watchdog = Watchdog::new("inspection sinks");
    silence();
    let workload = payments();
    let Workload { chain, input, prestate, .. } = &workload;
    for threads in THREADS {
        let executor = forced(threads);
        let inspect =
            |sink: &mut dyn FnMut(usize, Inspected<Calls>) -> Result<(), &'static str>| {
                executor.inspect_block(chain, input, &Shared(prestate), |_| Calls::default(), sink)
            };
        let refused = inspect(&mut |index, Inspected { inspector, .. }| {
            assert_eq!(inspector.count, 1, "an inspector sees one transaction");
            if index == 7 { Err("enough") } else { Ok(()) }
        });
        assert!(matches!(refused, Err(OrderedError::Sink("enough"))), "{refused:?}");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            inspect(&mut |index, _| {
                assert!(index < 7, "deliberate: the sink");
                Ok(())
            })
        }));
        assert!(panicked.is_err(), "a panic of the caller's own goes on to the caller");
        assert!(inspect(&mut |_, _| Ok(())).is_ok(), "the executor works for the next block");
    }
}

#[test]
fn a_source_is_asked_for_each_thing_once() {
    let _watchdog = Watchdog::new("inspection reads");
    let workload = Workload::mixed(32, 120);
    let asked = Mutex::new(Vec::new());
    let hook = |read: Read| {
        asked.lock().unwrap().push(read);
        Ok(())
    };
    let db = Hooked { db: &workload.prestate, hook };
    let (seen, ran) = inspect(&forced(1), &workload, &Shared(&db), |_| Calls::default());
    assert!(ran.is_ok() && seen == 120);
    let mut asked = asked.into_inner().unwrap();
    let reads = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(reads, asked.len(), "both passes read through one cache");
}

#[test]
fn a_source_that_fails_is_the_error_of_a_serial_run() {
    let _watchdog = Watchdog::new("inspection of failing sources");
    let workload = Workload::mixed(33, 40);
    let executor = forced(2);
    for (read, transaction) in failing_reads(&workload).into_iter().step_by(5) {
        let hook = |asked| if asked == read { Err(Refused(read)) } else { Ok(()) };
        let db = Hooked { db: &workload.prestate, hook };
        let (seen, ran) = inspect(&executor, &workload, &Shared(&db), |_| Calls::default());
        match ran.expect_err("the block needs the read") {
            ExecutionError::State { transaction: failed, cause } => {
                assert_eq!((failed, cause.location()), (transaction, read.location()));
            }
            error => panic!("{error}"),
        }
        assert_eq!(seen, 0);
    }
}

#[test]
fn a_sink_may_use_the_executor() {
    let _watchdog = Watchdog::new("nested inspection");
    let workload = payments();
    let executor = forced(4);
    let Workload { chain, input, prestate, .. } = &workload;
    let sink = |index, _: Inspected<Calls>| {
        if index % 20 == 0 {
            let (seen, ran) =
                inspect(&executor, &workload, &Shared(prestate), |_| Calls::default());
            assert!(ran.is_ok() && seen == 60);
        }
        Ok::<_, Infallible>(())
    };
    executor
        .inspect_block(chain, input, &Shared(prestate), |_| Calls::default(), sink)
        .expect("the block is valid");
}

//! Sources of parent state: one handle a worker, failing ones, slow ones.

use crate::{
    THREADS, forced,
    hooked::{Hooked, Read, ReadLog, Refused},
    ordered,
    predictions::blind,
    serial::{self, assert_same_result},
    watchdog::Watchdog,
    workload::{CHOOSER, ETHER, Workload, person},
};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256};
use multilane::{
    ExecutionError, ExecutorConfig, OrderedError, ParallelExecutor, Shared, StateSource,
    sequential, verification::compare_outputs,
};
use revm::{
    Database,
    context::TxEnv,
    context_interface::result::{HaltReason, ResultAndState},
    database::{CacheDB, EmptyDB, WrapDatabaseRef},
    state::{AccountInfo, Bytecode},
};
use std::{
    cell::Cell,
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Executes a whole block and compares it with the oracle.
#[track_caller]
pub(crate) fn assert_serial_block(executor: &ParallelExecutor, workload: &Workload) {
    let Workload { chain, input, prestate, .. } = workload;
    let expected = sequential::execute_block(chain, input, WrapDatabaseRef(prestate)).unwrap();
    let (output, _) = executor.execute_block(chain, input, &Shared(prestate)).unwrap();
    let differences = compare_outputs(&expected, &output);
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Executes transactions over a source and compares each result with the expected one.
#[track_caller]
fn assert_results<S: StateSource>(
    executor: &ParallelExecutor,
    (env, transactions): (&EvmEnv, &[TxEnv]),
    source: &S,
    expected: &[ResultAndState<HaltReason>],
) {
    let sink = |index: usize, result| {
        assert_same_result(&expected[index], &result, &format!("transaction {index}"));
        Ok::<_, Infallible>(())
    };
    executor.execute_ordered(env, transactions, source, sink).expect("the block is valid");
}

/// A handle that cannot be shared: it counts its reads without any synchronization.
struct Counting<'a> {
    db: WrapDatabaseRef<&'a CacheDB<EmptyDB>>,
    reads: Cell<usize>,
    /// Where the count goes in the end.
    total: &'a AtomicUsize,
}

impl Counting<'_> {
    fn count(&self) {
        self.reads.set(self.reads.get() + 1);
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.total.fetch_add(self.reads.get(), Ordering::Relaxed);
    }
}

impl Database for Counting<'_> {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        self.count();
        self.db.basic(address)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, Infallible> {
        self.count();
        self.db.code_by_hash(code_hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Infallible> {
        self.count();
        self.db.storage(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Infallible> {
        self.count();
        self.db.block_hash(number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the vault is locked")]
struct Locked;

#[test]
fn each_worker_opens_a_handle_of_its_own() {
    let _watchdog = Watchdog::new("handles");
    let workload = Workload::mixed(11, 200);
    let (env, transactions) = (workload.env(), workload.tx_envs());
    let (expected, _) = serial::run(&env, &transactions, &workload.prestate);
    for threads in THREADS {
        let (opened, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let source = || {
            opened.fetch_add(1, Ordering::Relaxed);
            let db = WrapDatabaseRef(&workload.prestate);
            Ok::<_, Infallible>(Counting { db, reads: Cell::new(0), total: &total })
        };
        assert_results(&forced(threads), (&env, &transactions), &source, &expected);
        assert!((1..=threads).contains(&opened.into_inner()));
        assert!(total.into_inner() > 100, "the handles are closed and have counted");
    }
}

#[test]
fn a_source_that_the_caller_cannot_open_fails_the_block() {
    let _watchdog = Watchdog::new("closed source");
    let workload = Workload::mixed(12, 60);
    let caller = thread::current().id();
    let source = || {
        if thread::current().id() == caller {
            return Err(Locked);
        }
        Ok(WrapDatabaseRef(&workload.prestate))
    };
    for threads in THREADS {
        let executor = forced(threads);
        let whole = executor.execute_block(&workload.chain, &workload.input, &source).map(drop);
        let ordered = executor.execute_ordered(
            &workload.env(),
            &workload.tx_envs(),
            &source,
            |_, _| -> Result<(), Infallible> { panic!("there is no result") },
        );
        let ordered = ordered.map(drop).map_err(|error| match error {
            OrderedError::Execution(error) => error,
            error => panic!("{error}"),
        });
        for error in [whole.unwrap_err(), ordered.unwrap_err()] {
            let ExecutionError::State { transaction: None, cause } = &error else {
                panic!("{error}")
            };
            assert_eq!(cause.location(), None);
            assert_eq!(cause.cause().downcast_ref::<Locked>(), Some(&Locked));
            assert_eq!(error.to_string(), "state source failed: opening it: the vault is locked");
        }
        assert_serial_block(&executor, &workload);
    }
}

#[test]
fn workers_that_cannot_open_the_source_are_done_without() {
    let _watchdog = Watchdog::new("half-closed source");
    let workload = Workload::mixed(13, 200);
    let expected = sequential::execute_block(
        &workload.chain,
        &workload.input,
        WrapDatabaseRef(&workload.prestate),
    )
    .unwrap();
    let caller = thread::current().id();
    let source = || {
        if thread::current().id() != caller {
            return Err(Locked);
        }
        Ok(WrapDatabaseRef(&workload.prestate))
    };
    for threads in THREADS {
        let (output, _) =
            forced(threads).execute_block(&workload.chain, &workload.input, &source).unwrap();
        assert_eq!(compare_outputs(&expected, &output), []);
    }
}

/// Everything that a serial run of a block reads, with the transaction that fails if the read does.
pub(crate) fn failing_reads(workload: &Workload) -> Vec<(Read, Option<usize>)> {
    let log = ReadLog::default();
    let noting = |read| {
        log.note(read);
        Ok(())
    };
    let Workload { chain, input, prestate, .. } = workload;
    let db = Hooked { db: prestate, hook: noting };
    sequential::execute_block(chain, input, WrapDatabaseRef(&db)).expect("the block is valid");
    let failing = |read| match serial_failure(workload, read) {
        ExecutionError::State { transaction, cause } => {
            assert_eq!(cause.location(), read.location());
            (read, transaction)
        }
        error => panic!("{read:?}: {error}"),
    };
    log.into_reads().into_iter().map(failing).collect()
}

/// What a serial run says if a read fails.
fn serial_failure(workload: &Workload, failing: Read) -> ExecutionError {
    let hook = |read| if read == failing { Err(Refused(read)) } else { Ok(()) };
    let db = Hooked { db: &workload.prestate, hook };
    sequential::execute_block(&workload.chain, &workload.input, WrapDatabaseRef(&db))
        .expect_err("the block needs the read")
}

#[test]
fn a_read_that_fails_gives_the_error_of_the_serial_run() {
    let _watchdog = Watchdog::new("failing reads");
    let workload = Workload::mixed(14, 40);
    let reads = failing_reads(&workload);
    for kind in [
        |read: &Read| matches!(read, Read::Account(_)),
        |read: &Read| matches!(read, Read::Code(_)),
        |read: &Read| matches!(read, Read::Slot(..)),
        |read: &Read| matches!(read, Read::BlockHash(_)),
    ] {
        assert!(reads.iter().any(|(read, transaction)| kind(read) && transaction.is_some()));
    }
    let executors = [2, 4].map(forced);
    for (failing, _) in reads {
        let expected = serial_failure(&workload, failing);
        let hook = |read| if read == failing { Err(Refused(read)) } else { Ok(()) };
        let db = Hooked { db: &workload.prestate, hook };
        for executor in &executors {
            let error = executor
                .execute_block(&workload.chain, &workload.input, &Shared(&db))
                .map(|(_, stats)| stats)
                .expect_err(&format!("the block needs {failing:?}"));
            assert_eq!(error.to_string(), expected.to_string(), "{failing:?}");
            let ExecutionError::State { cause, .. } = &error else { panic!("{error}") };
            assert_eq!(cause.location(), failing.location());
            assert_eq!(cause.cause().downcast_ref::<Refused>(), Some(&Refused(failing)));
        }
    }
    for executor in &executors {
        assert_serial_block(executor, &workload);
    }
}

/// A block of which a speculation reads what a serial run never does: the second transaction looks
/// into the slot that the first one names, and the first one is held back until it has.
pub(crate) struct RunAhead {
    pub(crate) workload: Workload,
    first_sender: Address,
    pub(crate) only_speculative: Read,
}

pub(crate) fn run_ahead() -> RunAhead {
    let mut workload = Workload::empty();
    for id in 0..12 {
        workload.fund(person(0x5E, id), ETHER);
    }
    workload.store(CHOOSER, 0, 9);
    workload.store(CHOOSER, 5, 55);
    workload.store(CHOOSER, 9, 99);
    let chosen = U256::from(5).to_be_bytes::<32>();
    workload.call(person(0x5E, 0), CHOOSER, 0, chosen.into());
    for id in 1..12 {
        workload.call(person(0x5E, id), CHOOSER, 0, Default::default());
    }
    RunAhead {
        workload,
        first_sender: person(0x5E, 0),
        only_speculative: Read::Slot(CHOOSER, U256::from(9)),
    }
}

impl RunAhead {
    /// An executor to which all transactions look independent.
    pub(crate) fn executor(&self, threads: usize) -> ParallelExecutor {
        forced(threads).with_predictor(blind)
    }

    /// Delays the first transaction until a speculation has gone wrong, or for a while.
    pub(crate) fn hold_back(&self, read: Read, reads: &ReadLog) {
        let deadline = Instant::now() + Duration::from_millis(50);
        while read == Read::Account(self.first_sender)
            && !reads.contains(self.only_speculative)
            && Instant::now() < deadline
        {
            thread::yield_now();
        }
    }

    #[track_caller]
    pub(crate) fn assert_succeeds<S: StateSource>(&self, executor: &ParallelExecutor, source: &S) {
        let Workload { chain, input, prestate, .. } = &self.workload;
        let expected = sequential::execute_block(chain, input, WrapDatabaseRef(prestate)).unwrap();
        let stored = &expected.bundle.state[&CHOOSER].storage[&U256::ONE];
        assert_eq!(stored.present_value, U256::from(55));
        let (output, _) = executor.execute_block(chain, input, source).unwrap();
        assert_eq!(compare_outputs(&expected, &output), []);
    }
}

#[test]
fn a_failing_read_that_a_serial_run_never_makes_is_nothing() {
    let _watchdog = Watchdog::new("failing speculation");
    let ahead = run_ahead();
    for threads in THREADS {
        let executor = ahead.executor(threads);
        let mut speculated = 0;
        for _ in 0..20 {
            let reads = ReadLog::default();
            let hook = |read| {
                reads.note(read);
                ahead.hold_back(read, &reads);
                if read == ahead.only_speculative { Err(Refused(read)) } else { Ok(()) }
            };
            let db = Hooked { db: &ahead.workload.prestate, hook };
            ahead.assert_succeeds(&executor, &Shared(&db));
            speculated += usize::from(reads.contains(ahead.only_speculative));
        }
        assert_eq!(speculated > 0, threads > 1, "{speculated} speculations at {threads} threads");
    }
}

/// While one worker waits for the source, others go on: with four workers a block takes much less
/// time than with one, on any number of cores, since what is shared out is waiting and not work.
#[test]
fn waiting_for_a_slow_source_is_overlapped() {
    let _watchdog = Watchdog::new("slow source");
    let workload = Workload::payments(400);
    let (env, transactions) = (workload.env(), workload.tx_envs());
    let (expected, _) = serial::run(&env, &transactions, &workload.prestate);
    let times = [1, 4].map(|threads| {
        let (waiting, together_max) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let hook = |_| {
            let together = waiting.fetch_add(1, Ordering::Relaxed) + 1;
            together_max.fetch_max(together, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(100));
            waiting.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        };
        let db = Hooked { db: &workload.prestate, hook };
        let executor = forced(threads);
        let start = Instant::now();
        assert_results(&executor, (&env, &transactions), &Shared(&db), &expected);
        let time = start.elapsed();
        eprintln!("sleeping 100 microseconds a read, {threads} threads: {time:?}");
        assert_eq!(together_max.into_inner(), threads, "waits at the same time");
        time
    });
    // 3.5 times as fast on an idle machine; a busy one may not wake everybody in time.
    assert!(times[1] * 3 < times[0] * 2, "{times:?}");
    ordered::assert_serial(&forced(4), &workload);
}

/// Threads that only read fetch most of what a slow source is asked for, each thing once, and
/// nothing changes but who waits.
#[test]
fn what_is_expected_is_fetched_ahead() {
    let _watchdog = Watchdog::new("prefetching");
    let workload = Workload::payments(400);
    let (env, transactions) = (workload.env(), workload.tx_envs());
    let (expected, _) = serial::run(&env, &transactions, &workload.prestate);
    for threads in [1, 4] {
        let (reads, ahead) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let hook = |_| {
            let reader = thread::current();
            let is_ahead = reader.name().is_some_and(|name| name.contains("prefetch"));
            reads.fetch_add(1, Ordering::Relaxed);
            ahead.fetch_add(usize::from(is_ahead), Ordering::Relaxed);
            thread::sleep(Duration::from_micros(100));
            Ok(())
        };
        let db = Hooked { db: &workload.prestate, hook };
        let config = ExecutorConfig::new()
            .with_threads(threads)
            .with_allow_sequential(false)
            .with_prefetch_threads(8);
        let executor = ParallelExecutor::new(config).expect("threads can be started");
        assert_results(&executor, (&env, &transactions), &Shared(&db), &expected);
        let (reads, ahead) = (reads.into_inner(), ahead.into_inner());
        assert!(2 * ahead > reads, "{threads} threads: {ahead} of {reads} reads");
        assert_serial_block(&executor, &workload);
    }
}

/// A source that fails or panics for whoever reads ahead is a source that fails or panics for an
/// execution only where that reads as well.
#[test]
fn nobody_hears_of_what_was_fetched_in_vain() {
    let _watchdog = Watchdog::new("prefetching in vain");
    let workload = Workload::payments(100);
    let (env, transactions) = (workload.env(), workload.tx_envs());
    let (expected, _) = serial::run(&env, &transactions, &workload.prestate);
    let is_ahead = || thread::current().name().is_some_and(|name| name.contains("prefetch"));
    let failing = |read| if is_ahead() { Err(Refused(read)) } else { Ok(()) };
    let panicking = |_| {
        assert!(!is_ahead(), "of no use to anybody");
        Ok(())
    };
    let hooks: [&(dyn Fn(Read) -> Result<(), Refused> + Sync); 2] = [&failing, &panicking];
    for hook in hooks {
        let db = Hooked { db: &workload.prestate, hook };
        let config = ExecutorConfig::new().with_threads(2).with_prefetch_threads(3);
        let executor = ParallelExecutor::new(config.with_allow_sequential(false)).unwrap();
        assert_results(&executor, (&env, &transactions), &Shared(&db), &expected);
    }
}

//! Tokens: every door ends soon after one is cancelled, hands over nothing that is not final, and
//! leaves the executor as it was.

use crate::{
    THREADS,
    block_factory::{ForkedAtGenesis, context},
    building::payment,
    forced,
    hooked::{Hooked, Read, Refused},
    ordered::assert_serial,
    state_source::assert_serial_block,
    watchdog::Watchdog,
    workload::{Workload, person},
};
use alloy_evm::eth::{
    EthBlockExecutorFactory, EthEvmFactory, receipt_builder::AlloyReceiptBuilder,
};
use alloy_hardforks::EthereumHardfork;
use multilane::{
    AccessHints, Cancellable, CancellationToken, ExecutionError, ExecutorConfig, OrderedError,
    ParallelExecutor, Shared, StateSource,
};
use revm::inspector::NoOpInspector;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// More than may wait for a sink, so that the others cannot be done while it is at the first few.
const PAYMENTS: usize = 6_000;

/// What the doors that take a source say, one after another.
fn through_every_door<S: StateSource>(
    executor: &ParallelExecutor,
    workload: &Workload,
    source: &S,
) -> Vec<(&'static str, Result<(), ExecutionError>)> {
    fn of_ordered(result: Result<(), OrderedError<Infallible>>) -> Result<(), ExecutionError> {
        result.map_err(|error| match error {
            OrderedError::Execution(error) => error,
            error => panic!("{error}"),
        })
    }
    let Workload { chain, input, .. } = workload;
    let factory = EthBlockExecutorFactory::new(
        AlloyReceiptBuilder::default(),
        ForkedAtGenesis { newest: EthereumHardfork::Prague },
        EthEvmFactory::default(),
    );
    let advice = AccessHints::Advisory(Arc::default());
    let ordered = executor
        .execute_ordered(&workload.env(), &workload.tx_envs(), source, |_, _| Ok(()))
        .map(drop);
    let inspected =
        executor.inspect_block(chain, input, source, |_| NoOpInspector, |_, _| Ok(())).map(drop);
    let with_factory = executor.execute_block_with(
        &factory,
        workload.env(),
        context(&[]),
        &input.transactions,
        source,
        |_, _| {},
    );
    let candidates = input.transactions.clone();
    vec![
        ("execute_ordered", of_ordered(ordered)),
        ("execute_block", executor.execute_block(chain, input, source).map(drop)),
        (
            "execute_block_observed",
            executor.execute_block_observed(chain, input, source, |_, _| {}).map(drop),
        ),
        (
            "execute_block_hinted",
            executor.execute_block_hinted(chain, input, source, &advice).map(drop),
        ),
        ("execute_block_with", with_factory.map(drop)),
        ("inspect_block", of_ordered(inspected)),
        ("build_block", executor.build_block(chain, input, candidates, source).map(drop)),
    ]
}

#[test]
fn a_token_that_was_cancelled_before_stops_every_door() {
    let _watchdog = Watchdog::new("cancelled before");
    let workload = Workload::mixed(101, 200);
    let token = CancellationToken::new();
    let source = Cancellable::new(Shared(&workload.prestate), token.clone());
    let own_judgement = ParallelExecutor::new(ExecutorConfig::new().with_threads(1)).unwrap();
    for executor in [forced(1), forced(4), own_judgement] {
        for (door, result) in through_every_door(&executor, &workload, &source) {
            assert!(result.is_ok(), "{door}: {result:?}");
        }
    }
    token.cancel();
    assert!(token.is_cancelled());
    let own_judgement = ParallelExecutor::new(ExecutorConfig::new().with_threads(1)).unwrap();
    for executor in [forced(1), forced(4), own_judgement] {
        for (door, result) in through_every_door(&executor, &workload, &source) {
            let is_cancelled =
                matches!(result, Err(ExecutionError::Cancelled { transaction: None | Some(0) }));
            assert!(is_cancelled, "{door}: {result:?}");
        }
        assert_serial_block(&executor, &workload);
    }
}

/// A token that is cancelled by a read: what comes after it is counted.
struct Fuse {
    token: CancellationToken,
    burns_at: Read,
    reads_after: AtomicUsize,
}

impl Fuse {
    fn new(burns_at: Read) -> Self {
        Self { token: CancellationToken::new(), burns_at, reads_after: AtomicUsize::new(0) }
    }

    fn burn(&self, read: Read) -> Result<(), Refused> {
        if read == self.burns_at {
            self.token.cancel();
        } else if self.token.is_cancelled() {
            self.reads_after.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// No worker begins a read once the token is cancelled, so that at most the reads that the others
/// were about to make come after it: of thousands.
#[test]
fn a_block_ends_at_the_next_read() {
    let _watchdog = Watchdog::new("cancelled on the way");
    let workload = Workload::payments(PAYMENTS);
    let burns_at = Read::Account(person(0x5E, 700));
    for threads in THREADS {
        let executor = forced(threads);
        let (mut doors, mut reads_after) = (0, 0);
        loop {
            let fuse = Fuse::new(burns_at);
            let db = Hooked { db: &workload.prestate, hook: |read| fuse.burn(read) };
            let source = Cancellable::new(Shared(&db), fuse.token.clone());
            // Each door once, with a token that is still good when it comes to it.
            let results = through_every_door_but(doors, &executor, &workload, &source);
            let Some((door, result)) = results else { break };
            let Err(ExecutionError::Cancelled { transaction: Some(at) }) = result else {
                panic!("{door} at {threads} threads: {result:?}");
            };
            // One whose reads have all been made is still executed.
            assert!(at <= 701, "{door} at {threads} threads goes on to {at}");
            reads_after += fuse.reads_after.into_inner();
            doors += 1;
        }
        assert_eq!(doors, 3);
        assert!(reads_after <= doors * threads, "{reads_after} reads at {threads} threads");
        assert_serial(&executor, &workload);
    }
}

/// One of three doors with engines of their own: streaming, whole blocks, building.
fn through_every_door_but<S: StateSource>(
    skipped: usize,
    executor: &ParallelExecutor,
    workload: &Workload,
    source: &S,
) -> Option<(&'static str, Result<(), ExecutionError>)> {
    let Workload { chain, input, .. } = workload;
    Some(match skipped {
        0 => {
            let mut next = 0;
            let sink = |index, _| {
                assert_eq!(index, next);
                next += 1;
                Ok::<_, Infallible>(())
            };
            let ended =
                executor.execute_ordered(&workload.env(), &workload.tx_envs(), source, sink);
            let Err(OrderedError::Execution(error)) = ended else { panic!("{ended:?}") };
            if let ExecutionError::Cancelled { transaction } = &error {
                assert_eq!(*transaction, Some(next), "all that is final was handed over");
            }
            ("execute_ordered", Err(error))
        }
        1 => ("execute_block", executor.execute_block(chain, input, source).map(drop)),
        2 => {
            let candidates = (0..PAYMENTS).map(|id| payment(person(0x5E, id), 0, 21_000, 1));
            let built = executor.build_block(chain, input, candidates, source);
            ("build_block", built.map(drop))
        }
        _ => return None,
    })
}

/// A sink that has enough may say so by the token, as any thread may.
#[test]
fn a_sink_may_cancel() {
    let _watchdog = Watchdog::new("cancelling sink");
    let workload = Workload::payments(PAYMENTS);
    for threads in THREADS {
        let executor = forced(threads);
        let token = CancellationToken::new();
        let source = Cancellable::new(Shared(&workload.prestate), token.clone());
        let mut handed_over = 0;
        let sink = |index, _| {
            assert_eq!(index, handed_over);
            handed_over += 1;
            if index == 5 {
                token.cancel();
            }
            Ok::<_, Infallible>(())
        };
        let ended = executor.execute_ordered(&workload.env(), &workload.tx_envs(), &source, sink);
        let Err(OrderedError::Execution(ExecutionError::Cancelled { transaction })) = ended else {
            panic!("{threads} threads: {ended:?}");
        };
        assert_eq!(transaction, Some(handed_over), "all that is final was handed over");
        assert!(handed_over < PAYMENTS);
        assert_serial(&executor, &workload);
    }
}

//! The drop-in block executor where it cannot, or must not, run ahead.

use crate::{
    block_factory::{CHAIN_ID, ForkedAtGenesis, context},
    forced,
    watchdog::Watchdog,
    workload::Workload,
};
use alloy_consensus::ReceiptEnvelope;
use alloy_evm::{
    EvmEnv, EvmFactory,
    block::{BlockExecutionResult, BlockExecutor, BlockExecutorFactory},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutorFactory, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder,
    },
};
use alloy_hardforks::EthereumHardfork;
use multilane::{Lookahead, ParallelBlockExecutorFactory, Served, StateSource};
use revm::{
    Inspector,
    context::CfgEnv,
    context_interface::ContextTr,
    database::{
        BundleState, CacheDB, EmptyDB, State, WrapDatabaseRef,
        states::bundle_state::BundleRetention,
    },
    interpreter::{CallInputs, CallOutcome},
    primitives::hardfork::SpecId,
};
use std::{convert::Infallible, io::ErrorKind, sync::Arc};

type Eth = EthBlockExecutorFactory<AlloyReceiptBuilder, ForkedAtGenesis, EthEvmFactory>;

fn eth() -> Eth {
    let spec = ForkedAtGenesis { newest: EthereumHardfork::Prague };
    Eth::new(AlloyReceiptBuilder::default(), spec, EthEvmFactory::default())
}

fn env(workload: &Workload) -> EvmEnv {
    let mut env = workload.env();
    env.cfg_env = CfgEnv::new_with_spec(SpecId::PRAGUE).with_chain_id(CHAIN_ID);
    env
}

/// Executes a block through a factory. `count` says how many transactions the client bothers with.
fn execute<F>(factory: &F, workload: &Workload, count: usize) -> Outcome
where
    F: for<'a> BlockExecutorFactory<
            EvmFactory = EthEvmFactory,
            ExecutionCtx<'a> = EthBlockExecutionCtx<'a>,
            Transaction = alloy_consensus::TxEnvelope,
            Receipt = ReceiptEnvelope,
        >,
{
    let mut state =
        State::builder().with_database_ref(&workload.prestate).with_bundle_update().build();
    let evm = factory.evm_factory().create_evm(&mut state, env(workload));
    let mut executor = factory.create_executor(evm, context(&[]));
    executor.apply_pre_execution_changes().unwrap();
    for tx in &workload.input.transactions[..count] {
        executor.execute_transaction(tx).unwrap();
    }
    let result = executor.apply_post_execution_changes().unwrap();
    state.merge_transitions(BundleRetention::Reverts);
    (result, state.take_bundle())
}

type Outcome = (BlockExecutionResult<ReceiptEnvelope>, BundleState);

/// What a client gets with a source, transaction by transaction.
fn with_source<S>(workload: &Workload, count: usize, source: S) -> (Outcome, Served)
where
    S: StateSource + Clone + Send + 'static,
{
    let transactions = workload.input.transactions.clone();
    let known = move |_: &EvmEnv, _: &EthBlockExecutionCtx<'_>| {
        Some(Lookahead::new(source.clone()).with_transactions(&transactions))
    };
    let factory = ParallelBlockExecutorFactory::new(eth(), Arc::new(forced(3)), known);
    (execute(&factory, workload, count), factory.served())
}

#[test]
fn a_source_that_fails_is_done_without() {
    let _watchdog = Watchdog::new("drop-in, failing source");
    let workload = Workload::mixed(71, 120);
    let all = workload.input.transactions.len();
    let expected = execute(&eth(), &workload, all);

    let refuses =
        || Err::<CacheDB<EmptyDB>, _>(std::io::Error::new(ErrorKind::BrokenPipe, "closed"));
    let (outcome, served) = with_source(&workload, all, refuses);
    assert!(outcome == expected && served.speculative == 0, "{served:?}");

    let db = Arc::new(workload.prestate.clone());
    let panics = move || -> Result<WrapDatabaseRef<Arc<_>>, Infallible> {
        assert!(Arc::strong_count(&db) == 0, "the test breaks the source");
        Ok(WrapDatabaseRef(Arc::clone(&db)))
    };
    let (outcome, served) = with_source(&workload, all, panics);
    assert!(outcome == expected && served.speculative == 0, "{served:?}");
}

/// What runs ahead ends with the executor, and nothing of it is left for the next block.
#[test]
fn a_client_may_stop_early() {
    let _watchdog = Watchdog::new("drop-in, given up");
    let workload = Workload::mixed(72, 400);
    let db = Arc::new(workload.prestate.clone());
    let source = move || Ok::<_, Infallible>(WrapDatabaseRef(Arc::clone(&db)));
    for count in [0, 1, 5, 400] {
        let (outcome, served) = with_source(&workload, count, source.clone());
        assert!(outcome == execute(&eth(), &workload, count), "after {count} transactions");
        assert_eq!((served.speculative, served.serial), (count as u64, 0));
    }
}

/// Counts calls.
#[derive(Debug, Default)]
struct Calls(usize);

impl<C: ContextTr> Inspector<C> for Calls {
    fn call(&mut self, _: &mut C, _: &mut CallInputs) -> Option<CallOutcome> {
        self.0 += 1;
        None
    }
}

#[test]
fn an_inspector_sees_everything() {
    let _watchdog = Watchdog::new("drop-in, inspector");
    let workload = Workload::mixed(73, 100);
    let db = Arc::new(workload.prestate.clone());
    let source = move || Ok::<_, Infallible>(WrapDatabaseRef(Arc::clone(&db)));
    let known =
        move |_: &EvmEnv, _: &EthBlockExecutionCtx<'_>| Some(Lookahead::new(source.clone()));
    let factory = ParallelBlockExecutorFactory::new(eth(), Arc::new(forced(3)), known);

    let calls = |executes: &dyn Fn(&mut State<_>, EvmEnv, &mut Calls)| {
        let mut state = State::builder().with_database_ref(&workload.prestate).build();
        let mut calls = Calls::default();
        executes(&mut state, env(&workload), &mut calls);
        calls.0
    };
    let expected = calls(&|state, env, calls| {
        let evm = eth().evm_factory().create_evm_with_inspector(state, env, calls);
        eth()
            .create_executor(evm, context(&[]))
            .execute_block(&workload.input.transactions)
            .unwrap();
    });
    let inspected = calls(&|state, env, calls| {
        let evm = factory.evm_factory().create_evm_with_inspector(state, env, calls);
        let executor = factory.create_executor(evm, context(&[]));
        executor.execute_block(&workload.input.transactions).unwrap();
    });
    assert!(expected > 100, "{expected} calls");
    assert_eq!(expected, inspected);
    assert_eq!(factory.served().speculative, 0);
}

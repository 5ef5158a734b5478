//! Inspectors: what they see in parallel is what they see in a serial run.

use crate::{
    drop_in::context,
    generated::{self, Plan},
    mainnet,
};
use alloy_eips::eip2930::AccessList;
use alloy_evm::{
    Evm, EvmFactory,
    block::{BlockExecutor, BlockExecutorFactory},
    eth::{EthBlockExecutorFactory, EthEvmFactory, receipt_builder::AlloyReceiptBuilder},
};
use alloy_rpc_types_trace::geth::{
    CallConfig, CallFrame, GethDefaultTracingOptions, PreStateConfig, PreStateFrame,
};
use multilane::{
    ExecutorConfig, Inspected, ParallelExecutor, Shared, sequential, verification::compare_outputs,
};
use multilane_fixtures::{
    archive::{ArchivedBlock, BlockArchive},
    sample::sample_files,
};
use multilane_state::{BlockInput, ChainSpec};
use proptest::prelude::*;
use revm::{
    DatabaseRef,
    context_interface::result::{HaltReason, ResultAndState},
    database::{State, WrapDatabaseRef},
};
use revm_inspectors::{
    access_list::AccessListInspector,
    tracing::{CallTraceArena, TracingInspector, TracingInspectorConfig},
};
use std::{collections::BTreeMap, convert::Infallible, fmt::Debug};

const THREADS: [usize; 3] = [1, 2, 4];

/// A tracer of calls and steps, and one of slots.
type Tracers = (TracingInspector, AccessListInspector);

fn tracers() -> Tracers {
    let config = TracingInspectorConfig::from_geth_config(&GethDefaultTracingOptions::default())
        .set_steps_and_state_diffs(true)
        .set_record_logs(true);
    (TracingInspector::new(config), AccessListInspector::new(AccessList::default()))
}

/// All that can be told of a transaction.
#[derive(Debug)]
struct Traces {
    result: ResultAndState<HaltReason>,
    arena: CallTraceArena,
    calls: CallFrame,
    prestate: PreStateFrame,
    difference: PreStateFrame,
    access_list: AccessList,
}

impl Traces {
    fn new<DB>((calls, slots): Tracers, result: ResultAndState<HaltReason>, before: DB) -> Self
    where
        DB: DatabaseRef<Error: Debug>,
    {
        let geth = calls.geth_builder();
        let prestate = |config| geth.geth_prestate_traces(&result, &config, &before).unwrap();
        let gas_used = result.result.tx_gas_used();
        Self {
            calls: geth.geth_call_traces(CallConfig::default().with_log(), gas_used),
            prestate: prestate(PreStateConfig::default()),
            difference: prestate(PreStateConfig {
                diff_mode: Some(true),
                ..PreStateConfig::default()
            }),
            access_list: slots.into_access_list(),
            arena: calls.into_traces(),
            result,
        }
    }

    #[track_caller]
    fn assert_same(&self, other: &Self, context: &str) {
        assert_eq!(self.result.result, other.result.result, "{context}: result");
        let accounts = |traces: &Self| BTreeMap::from_iter(traces.result.state.clone());
        let (own, others) = (accounts(self), accounts(other));
        assert!(own.keys().eq(others.keys()), "{context}: accounts");
        for (address, account) in own {
            assert_eq!(account, others[&address], "{context}: account {address}");
        }
        assert_eq!(self.calls, other.calls, "{context}: calls");
        assert_eq!(self.arena, other.arena, "{context}: steps");
        assert_eq!(self.prestate, other.prestate, "{context}: state before");
        assert_eq!(self.difference, other.difference, "{context}: state difference");
        assert_eq!(self.access_list, other.access_list, "{context}: access list");
    }
}

/// The oracle: alloy-evm's executor with an inspector, one transaction after another.
fn trace_serially<DB>(chain: &ChainSpec, block: &BlockInput, db: DB) -> Option<Vec<Traces>>
where
    DB: DatabaseRef<Error: std::error::Error + Send + Sync + 'static> + Debug,
{
    let mut state =
        State::builder().with_database(WrapDatabaseRef(db)).with_bundle_update().build();
    let factory = EthBlockExecutorFactory::new(
        AlloyReceiptBuilder::default(),
        chain.clone(),
        EthEvmFactory::default(),
    );
    let context = context(block);
    let env = chain.evm_env(&block.header);
    let evm = EthEvmFactory::default().create_evm_with_inspector(&mut state, env, tracers());
    let mut executor = factory.create_executor(evm, context);
    executor.evm_mut().disable_inspector();
    executor.apply_pre_execution_changes().ok()?;
    executor.evm_mut().enable_inspector();
    let mut all = Vec::new();
    for transaction in &block.transactions {
        let result = executor.execute_transaction_without_commit(transaction).ok()?;
        let seen = std::mem::replace(executor.evm_mut().inspector_mut(), tracers());
        all.push(Traces::new(seen, result.result.clone(), &**executor.evm().db()));
        executor.commit_transaction(result);
    }
    Some(all)
}

/// Traces a block in every way, and compares.
fn check<DB>(origin: &str, chain: &ChainSpec, block: &BlockInput, db: &DB)
where
    DB: DatabaseRef<Error: std::error::Error + Send + Sync + 'static> + Sync + Debug,
{
    let expected = trace_serially(chain, block, db);
    let output = sequential::execute_block(chain, block, WrapDatabaseRef(db));
    for threads in THREADS {
        for allow_sequential in [true, false] {
            let config =
                ExecutorConfig::new().with_threads(threads).with_allow_sequential(allow_sequential);
            let executor = ParallelExecutor::new(config).unwrap();
            let mut seen = 0;
            let sink =
                |index: usize, Inspected { inspector, result, prestate, .. }: Inspected<_>| {
                    assert_eq!(index, seen, "{origin}: in order");
                    seen += 1;
                    let expected = &expected.as_ref().expect("the block is valid")[index];
                    let traces = Traces::new(inspector, result, &prestate);
                    expected.assert_same(
                        &traces,
                        &format!("{origin}, transaction {index} at {threads} threads"),
                    );
                    Ok::<_, Infallible>(())
                };
            let ran = executor.inspect_block(chain, block, &Shared(db), |_| tracers(), sink);
            match (&output, ran) {
                (Ok(output), Ok((parallel, _))) => {
                    assert_eq!(compare_outputs(output, &parallel), [], "{origin}");
                    assert_eq!(seen, block.transactions.len(), "{origin}");
                }
                (Err(serial), Err(parallel)) => {
                    assert_eq!(serial.to_string(), parallel.to_string(), "{origin}");
                    assert_eq!(seen, 0, "{origin}: nobody sees a transaction of a bad block");
                }
                (serial, parallel) => panic!("{origin}: {serial:?}, inspected {parallel:?}"),
            }
        }
    }
}

fn check_archived(block: &ArchivedBlock) {
    check(&block.origin, &block.chain, &block.input, &block.prestate);
}

#[test]
fn every_block_of_the_sample() {
    let archive = BlockArchive::from_files("sample", sample_files()).unwrap();
    for entry in archive.entries() {
        check_archived(&archive.load(entry).unwrap());
    }
}

#[test]
fn blocks_of_mainnet() {
    let Some(archive) = mainnet::archive() else { return };
    for entry in archive.entries().iter().step_by(6) {
        check_archived(&archive.load(entry).expect("the block can be loaded"));
    }
}

fn check_plan(plan: &Plan) {
    check("generated", &ChainSpec::mainnet(), &plan.block(), &plan.prestate());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn random_mixes(plan in generated::plan()) {
        check_plan(&plan);
    }
}

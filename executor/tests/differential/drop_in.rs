//! The same client over alloy-evm's own factory and over the one that wraps it: what it sees is the
//! same.

use crate::{
    client::{Imported, Style, import},
    contracts::Contract,
    generated::plan,
    mainnet::archive,
    workloads,
};
use alloy_consensus::ReceiptEnvelope;
use alloy_evm::{
    EvmEnv,
    block::BlockExecutionError,
    eth::{
        EthBlockExecutionCtx, EthBlockExecutorFactory, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder,
    },
};
use alloy_primitives::{Address, U256};
use multilane::{
    ExecutionMode, ExecutorConfig, Lookahead, ParallelBlockExecutorFactory, ParallelExecutor,
    analyzer::Profile, verification::compare_outputs,
};
use multilane_fixtures::{
    archive::ArchivedBlock,
    workload::{Workload, WorkloadBlock},
};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use proptest::prelude::*;
use revm::{DatabaseRef, database::WrapDatabaseRef, state::AccountInfo};
use std::{
    borrow::Cow,
    convert::Infallible,
    fmt::Debug,
    sync::{Arc, Mutex},
};

const THREADS: [usize; 4] = [1, 2, 4, 8];

type Eth<E = EthEvmFactory> = EthBlockExecutorFactory<AlloyReceiptBuilder, ChainSpec, E>;

fn eth(chain: &ChainSpec) -> Eth {
    eth_with(chain, EthEvmFactory::default())
}

pub(crate) fn eth_with<E>(chain: &ChainSpec, evm_factory: E) -> Eth<E> {
    Eth::new(AlloyReceiptBuilder::default(), chain.clone(), evm_factory)
}

pub(crate) fn context(block: &BlockInput) -> EthBlockExecutionCtx<'_> {
    EthBlockExecutionCtx {
        parent_hash: block.header.parent_hash,
        parent_beacon_block_root: block.header.parent_beacon_block_root,
        ommers: &block.ommers,
        withdrawals: block.withdrawals.as_deref().map(Cow::Borrowed),
        extra_data: block.header.extra_data.clone(),
        tx_count_hint: None,
        slot_number: block.header.slot_number,
    }
}

fn forced(threads: usize) -> Arc<ParallelExecutor> {
    let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
    Arc::new(ParallelExecutor::new(config).expect("threads can be started"))
}

/// A database that a client or a worker may own.
trait Owned:
    DatabaseRef<Error: std::error::Error + Send + Sync + 'static> + Debug + Send + Sync + 'static
{
}

impl<T> Owned for T where
    T: DatabaseRef<Error: std::error::Error + Send + Sync + 'static>
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Whatever the client does, at whatever thread count: it sees what it sees with alloy-evm's own
/// factory. The client has `prestate` before the block, and the workers have `source`. Gives how many
/// results of whole blocks, or of transactions one by one, were ready and not, at several threads.
fn check<DB: Owned, S: Owned>(
    name: &str,
    (chain, block): (&ChainSpec, &BlockInput),
    prestate: &DB,
    source: &Arc<S>,
    (styles, threads): (&[Style], &[usize]),
) -> (u64, u64) {
    let mut served = (0, 0);
    let env = || chain.evm_env(&block.header);
    let db = || WrapDatabaseRef(prestate);
    for style in styles.iter().copied() {
        let serial = import(&eth(chain), env(), context(block), &block.transactions, db(), style);
        for threads in threads {
            let transactions = block.transactions.clone();
            let source = Arc::clone(source);
            let known = move |_: &EvmEnv, _: &EthBlockExecutionCtx<'_>| {
                let source = Arc::clone(&source);
                let open = move || Ok::<_, Infallible>(WrapDatabaseRef(Arc::clone(&source)));
                Some(Lookahead::new(open).with_transactions(&transactions))
            };
            let factory = ParallelBlockExecutorFactory::new(eth(chain), forced(*threads), known);
            let parallel =
                import(&factory, env(), context(block), &block.transactions, db(), style);
            assert_same(&format!("{name}: {style:?} at {threads} threads"), &serial, parallel);
            let ahead = match style {
                Style::WholeBlock => true,
                Style::OneByOne => *threads > 1,
                Style::Hesitating => false,
            };
            if ahead {
                served.0 += factory.served().speculative;
                served.1 += factory.served().serial;
            }
        }
    }
    served
}

type Result = std::result::Result<Imported<ReceiptEnvelope>, BlockExecutionError>;

fn assert_same(name: &str, serial: &Result, parallel: Result) {
    let (serial, parallel) = match (serial, parallel) {
        (Ok(serial), Ok(parallel)) => (serial, parallel),
        (Err(serial), Err(parallel)) => {
            return assert_eq!(serial.to_string(), parallel.to_string(), "{name}");
        }
        (serial, parallel) => panic!("{name}: serial {serial:?}, parallel {parallel:?}"),
    };
    let output = |imported: &Imported<_>| BlockOutput {
        receipts: imported.result.receipts.clone(),
        requests: imported.result.requests.clone(),
        gas_used: imported.result.gas_used,
        blob_gas_used: imported.result.blob_gas_used,
        bundle: imported.bundle.clone(),
        access_list: None,
    };
    let differences = compare_outputs(&output(serial), &output(&parallel));
    assert!(differences.is_empty(), "{name}: {differences:#?}");
    assert_eq!(serial.hooked, parallel.hooked, "{name}: state hook");
    assert_eq!(serial.read, parallel.read, "{name}: reads");
}

#[test]
fn mainnet_at_every_thread_count() {
    let Some(archive) = archive() else { return };
    for entry in archive.entries() {
        let ArchivedBlock { origin, chain, input, prestate, .. } =
            archive.load(entry).expect("the block can be loaded");
        let source = Arc::new(prestate.clone());
        let (_, serial) =
            check(&origin, (&chain, &input), &prestate, &source, (&Style::ALL[..2], &THREADS));
        assert_eq!(serial, 0, "{origin}: a result was not ready");
    }
}

#[test]
fn generated_workloads() {
    for workload in Workload::all() {
        let Some(WorkloadBlock { chain, block, prestate, .. }) = workloads::generate(workload, 3)
        else {
            continue;
        };
        let (name, source) = (workload.name(), Arc::new(prestate.clone()));
        let (ready, serial) =
            check(name, (&chain, &block), &prestate, &source, (&Style::ALL, &[2, 4]));
        assert!(ready > 0 && serial == 0, "{name}: {ready} results were ready, {serial} not");
    }
}

/// A client gets at what an execution tells about itself, and its executor learns.
#[test]
fn statistics_are_told_and_a_profile_learns() {
    let Some(WorkloadBlock { chain, block, prestate, .. }) =
        workloads::generate(Workload::by_name("erc20").expect("the workload exists"), 7)
    else {
        return;
    };
    let (count, source) = (block.transactions.len(), Arc::new(prestate.clone()));
    for (style, threads) in [(Style::WholeBlock, 1), (Style::WholeBlock, 3), (Style::OneByOne, 3)] {
        let profile = Arc::new(Profile::new());
        let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
        let executor = ParallelExecutor::new(config).expect("threads can be started");
        let executor = Arc::new(executor.with_profile(Arc::clone(&profile)));
        let (transactions, source) = (block.transactions.clone(), Arc::clone(&source));
        let known = move |_: &EvmEnv, _: &EthBlockExecutionCtx<'_>| {
            let source = Arc::clone(&source);
            let open = move || Ok::<_, Infallible>(WrapDatabaseRef(Arc::clone(&source)));
            Some(Lookahead::new(open).with_transactions(&transactions))
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&told);
        let factory = ParallelBlockExecutorFactory::new(eth(&chain), executor, known)
            .with_stats(move |stats| note.lock().unwrap().push(stats.clone()));
        let db = WrapDatabaseRef(&prestate);
        import(
            &factory,
            chain.evm_env(&block.header),
            context(&block),
            &block.transactions,
            db,
            style,
        )
        .expect("the block is valid");
        let told = told.lock().unwrap();
        let [stats] = &told[..] else { panic!("{style:?}: {told:?}") };
        assert_eq!((stats.threads, stats.transactions), (threads, count), "{style:?}");
        assert_eq!(stats.mode, ExecutionMode::Parallel);
        assert!(stats.executions >= count, "{style:?}: {stats:?}");
        assert!(profile.export().next().is_some(), "{style:?}: nothing was learned");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Valid blocks and invalid ones, of every fork.
    #[test]
    fn random_mixes(plan in plan()) {
        let (chain, block, prestate) = (ChainSpec::mainnet(), plan.block(), plan.prestate());
        check("random mix", (&chain, &block), &prestate, &Arc::new(plan.prestate()), (&Style::ALL, &[3]));
    }

    /// The workers see another state than the client has: some accounts are richer, and some slots
    /// have other values. That costs time alone.
    #[test]
    fn a_source_that_is_wrong(plan in plan(), wrong in any::<[bool; 4]>()) {
        let (chain, block, prestate) = (ChainSpec::mainnet(), plan.block(), plan.prestate());
        let mut source = plan.prestate();
        for slot in (0_u8..4).filter(|slot| wrong[usize::from(*slot)]) {
            let contract = Contract::ALL[usize::from(slot) * 3 % Contract::ALL.len()];
            source
                .insert_account_storage(contract.address(), U256::from(slot), U256::from(9))
                .expect("the database is in memory");
            let info = AccountInfo::from_balance(U256::from(slot));
            source.insert_account_info(Address::left_padding_from(&[0xF0, slot]), info);
        }
        check("wrong source", (&chain, &block), &prestate, &Arc::new(source), (&Style::ALL, &[3]));
    }
}

//! What does the way from an execution to a final result cost? Scheduling, validation and merging,
//! as blocks grow.
//!
//! These stages have no door of their own: they belong to one execution. So this bench runs the
//! cheapest transactions that there are, plain transfers, through all of them, beside the same
//! transactions on bare revm. The difference is theirs. What a transaction costs must not grow with
//! the block.
//!
//! The judgement that would run such a block sequentially is switched off. With one thread nothing
//! is guessed, and every stage but the handing over between threads is there.
//!
//! Run with `cargo bench -p multilane-benches --bench frontier`, or a part of it by name:
//! `-- 'raw/.*/10000'`.

use alloy_evm::{EvmEnv, FromRecoveredTx};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use multilane::{ExecutorConfig, ParallelExecutor, Shared};
use multilane_fixtures::workload::{Workload, WorkloadBlock, WorkloadSettings};
use multilane_state::Prestate;
use revm::{
    Context, ExecuteCommitEvm, MainBuilder, MainContext,
    context::TxEnv,
    database::{CacheDB, WrapDatabaseRef},
};
use std::{convert::Infallible, error::Error, time::Duration};

/// The allocator of the command line, so that the figures compare.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Transfers that have nothing in common, and transfers that are one chain.
const WORKLOADS: [&str; 2] = ["raw", "raw-chained"];

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];

const THREADS: [usize; 2] = [1, 2];

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_secs(1))
        .sample_size(10);
    let executors = THREADS.map(|threads| {
        let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
        ParallelExecutor::new(config).map(|executor| (threads, executor))
    });
    let executors = executors.into_iter().collect::<Result<Vec<_>, _>>()?;
    for name in WORKLOADS {
        let workload = Workload::by_name(name).ok_or_else(|| format!("no workload {name}"))?;
        for size in SIZES {
            let mut settings = WorkloadSettings::default();
            settings.transactions = Some(size);
            bench_block(&mut criterion, &executors, name, &workload.generate(&settings)?);
        }
    }
    criterion.final_summary();
    Ok(())
}

fn bench_block(
    criterion: &mut Criterion,
    executors: &[(usize, ParallelExecutor)],
    name: &str,
    generated: &WorkloadBlock,
) {
    let WorkloadBlock { chain, block, prestate, .. } = generated;
    let env = chain.evm_env(&block.header);
    let transactions = block.transactions.iter();
    let transactions: Vec<_> =
        transactions.map(|tx| TxEnv::from_recovered_tx(tx.inner(), tx.signer())).collect();
    let size = transactions.len();

    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(size as u64));
    group.bench_function(BenchmarkId::new("bare", size), |b| {
        b.iter(|| execute_bare(&env, &transactions, prestate));
    });
    for (threads, executor) in executors {
        group.bench_function(BenchmarkId::new(format!("{threads}_threads"), size), |b| {
            b.iter(|| {
                let sink = |_, result| {
                    drop(result);
                    Ok::<_, Infallible>(())
                };
                executor.execute_ordered(&env, &transactions, &Shared(prestate), sink)
            });
        });
    }
    group.finish();
}

/// The transactions on one revm instance, one after another. Gives the gas that they used.
fn execute_bare(env: &EvmEnv, transactions: &[TxEnv], prestate: &Prestate) -> u64 {
    let mut evm = Context::mainnet()
        .with_cfg(env.cfg_env.clone())
        .with_block(env.block_env.clone())
        .with_db(CacheDB::new(WrapDatabaseRef(prestate)))
        .build_mainnet();
    let gas = |tx: &TxEnv| evm.transact_commit(tx.clone()).map_or(0, |result| result.tx_gas_used());
    transactions.iter().map(gas).sum()
}

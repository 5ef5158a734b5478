//! What does fetching ahead gain where every read waits? Blocks over a source that sleeps for a
//! while, as a disk or another machine would make it wait, with and without threads that only read.
//!
//! The state itself is in memory, so what is measured is waiting. Sleeps take longer than they are
//! asked to, by some 50 microseconds, in all arms alike.
//!
//! Run with `cargo bench -p multilane-benches --bench prefetch`.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use multilane::{ExecutorConfig, ParallelExecutor, Shared, analyzer::Profile};
use multilane_fixtures::workload::{Workload, WorkloadBlock, WorkloadSettings};
use multilane_state::Prestate;
use revm::{
    DatabaseRef,
    primitives::{Address, B256, U256},
    state::{AccountInfo, Bytecode},
};
use std::{error::Error, sync::Arc, thread, time::Duration};

/// The allocator of the command line, so that the figures compare.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKLOADS: [&str; 2] = ["erc20", "amm"];
const SIZE: usize = 300;
const THREADS: usize = 2;
const PREFETCH_THREADS: usize = 16;
const LATENCY: Duration = Duration::from_micros(100);

/// State in memory that is slow to give anything away.
struct Slow<'a>(&'a Prestate);

impl DatabaseRef for Slow<'_> {
    type Error = <Prestate as DatabaseRef>::Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Self::Error> {
        thread::sleep(LATENCY);
        self.0.basic_ref(address)
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Self::Error> {
        thread::sleep(LATENCY);
        self.0.code_by_hash_ref(code_hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Self::Error> {
        thread::sleep(LATENCY);
        self.0.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Self::Error> {
        thread::sleep(LATENCY);
        self.0.block_hash_ref(number)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_secs(1))
        .sample_size(10);
    for name in WORKLOADS {
        let workload = Workload::by_name(name).ok_or_else(|| format!("no workload {name}"))?;
        let mut settings = WorkloadSettings::default();
        settings.transactions = Some(SIZE);
        bench_block(&mut criterion, name, &workload.generate(&settings)?)?;
    }
    criterion.final_summary();
    Ok(())
}

fn bench_block(
    criterion: &mut Criterion,
    name: &str,
    WorkloadBlock { chain, block, prestate, .. }: &WorkloadBlock,
) -> Result<(), Box<dyn Error>> {
    let config = ExecutorConfig::new().with_threads(THREADS).with_allow_sequential(false);
    let ahead = config.clone().with_prefetch_threads(PREFETCH_THREADS);
    let slow = Slow(prestate);
    let mut group = criterion.benchmark_group(format!("prefetch/{name}"));
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(SIZE as u64));
    for (arm, config, learns) in [
        ("off", &config, false),
        ("inferred", &ahead, false),
        ("off-learned", &config, true),
        ("learned", &ahead, true),
    ] {
        let mut executor = ParallelExecutor::new(config.clone())?;
        if learns {
            executor = executor.with_profile(Arc::new(Profile::new()));
            // Learned from the same block, with nothing to wait for.
            executor.execute_block(chain, block, &Shared(prestate))?;
        }
        group.bench_function(BenchmarkId::new(arm, SIZE), |bencher| {
            bencher.iter(|| executor.execute_block(chain, block, &Shared(&slow)));
        });
    }
    group.finish();
    Ok(())
}

//! What does it cost to be watched? Spans, an access list, a token to cancel by: each is off unless
//! somebody asks for it, and is measured beside the same block without it.
//!
//! What is off costs less than what is on, so where `spans` and `token` are not above `off`, neither
//! costs anything that can be measured when it is off. An access list that is wanted is work; that
//! one which is not wanted costs nothing shows in `off` against the other benches.
//!
//! Run with `cargo bench -p multilane-benches --bench observers`.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use multilane::{Cancellable, CancellationToken, ExecutorConfig, ParallelExecutor, Shared};
use multilane_fixtures::workload::{Workload, WorkloadBlock, WorkloadSettings};
use std::{error::Error, time::Duration};
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

/// The allocator of the command line, so that the figures compare.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKLOADS: [&str; 2] = ["raw", "erc20"];
/// A small block, for what is done once a block, and a large one, for all else.
const SIZES: [usize; 2] = [50, 5_000];
const THREADS: usize = 2;

/// Takes everything, and does nothing with it.
struct Everything;

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_secs(1))
        .sample_size(20);
    for name in WORKLOADS {
        let workload = Workload::by_name(name).ok_or_else(|| format!("no workload {name}"))?;
        for size in SIZES {
            let mut settings = WorkloadSettings::default();
            settings.transactions = Some(size);
            bench_block(&mut criterion, name, &workload.generate(&settings)?)?;
        }
    }
    criterion.final_summary();
    Ok(())
}

fn bench_block(
    criterion: &mut Criterion,
    name: &str,
    generated: &WorkloadBlock,
) -> Result<(), Box<dyn Error>> {
    let WorkloadBlock { chain, block, prestate, .. } = generated;
    let count = block.transactions.len();
    let config = ExecutorConfig::new().with_threads(THREADS).with_allow_sequential(false);
    let plain = ParallelExecutor::new(config.clone())?;
    let listing = ParallelExecutor::new(config.with_access_lists(true))?;
    let source = Shared(prestate);
    let cancellable = Cancellable::new(source, CancellationToken::new());
    plain.execute_block(chain, block, &source)?;

    let mut group = criterion.benchmark_group(format!("observers/{name}"));
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(count as u64));
    group.bench_function(BenchmarkId::new("off", count), |bencher| {
        bencher.iter(|| plain.execute_block(chain, block, &source));
    });
    group.bench_function(BenchmarkId::new("spans", count), |bencher| {
        tracing::subscriber::with_default(Everything, || {
            bencher.iter(|| plain.execute_block(chain, block, &source));
        });
    });
    group.bench_function(BenchmarkId::new("token", count), |bencher| {
        bencher.iter(|| plain.execute_block(chain, block, &cancellable));
    });
    group.bench_function(BenchmarkId::new("access-list", count), |bencher| {
        bencher.iter(|| listing.execute_block(chain, block, &source));
    });
    group.finish();
    Ok(())
}

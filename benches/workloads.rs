//! What do threads gain on generated blocks, and does it last as blocks grow?
//!
//! The main workloads at 10, 100 and 1,000 million gas, on the sequential engine and on the parallel
//! one, over all cores; the executor decides by itself whether it uses them. `multilane bench` has
//! all workloads and two more baselines; this bench is for comparing one commit with the next.
//!
//! Run with `cargo bench -p multilane-benches --bench workloads`, or a part of it by name:
//! `-- 'erc20/.*/100'`.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use multilane::{ExecutorConfig, ParallelExecutor, Shared, sequential};
use multilane_fixtures::workload::{Workload, WorkloadBlock, WorkloadError, WorkloadSettings};
use revm::database::WrapDatabaseRef;
use std::{error::Error, time::Duration};

/// The allocator of the command line, so that the figures compare.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default of `multilane bench`, one workload with conflicts everywhere, and real swaps.
const WORKLOADS: [&str; 5] = ["raw", "erc20", "amm", "mint", "uniswap-v3-pools"];

/// Million gas of a block.
const SIZES_MGAS: [u64; 3] = [10, 100, 1_000];

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_secs(1))
        .sample_size(10);
    let executor = ParallelExecutor::new(ExecutorConfig::new())?;
    for name in WORKLOADS {
        for size_mgas in SIZES_MGAS {
            let Some(workload) = Workload::by_name(name) else {
                return Err(format!("there is no workload {name}").into());
            };
            let mut settings = WorkloadSettings::default();
            settings.gas = Some(size_mgas * 1_000_000);
            match workload.generate(&settings) {
                Ok(block) => bench_block(&mut criterion, &executor, name, size_mgas, &block)?,
                Err(error @ WorkloadError::MissingPackages { .. }) => {
                    eprintln!("left out: {name}: {error}");
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    criterion.final_summary();
    Ok(())
}

fn bench_block(
    criterion: &mut Criterion,
    executor: &ParallelExecutor,
    name: &str,
    size_mgas: u64,
    generated: &WorkloadBlock,
) -> Result<(), Box<dyn Error>> {
    let WorkloadBlock { chain, block, prestate, .. } = generated;
    // A block that fails would be timed up to its failure.
    let expected = sequential::execute_block(chain, block, WrapDatabaseRef(prestate))?;
    let (output, _) = executor.execute_block(chain, block, &Shared(prestate))?;
    assert!(output == expected, "{name}: the engines disagree");

    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(block.transactions.len() as u64));
    group.bench_function(BenchmarkId::new("sequential", size_mgas), |b| {
        b.iter(|| sequential::execute_block(chain, block, WrapDatabaseRef(prestate)));
    });
    group.bench_function(BenchmarkId::new("parallel", size_mgas), |b| {
        b.iter(|| executor.execute_block(chain, block, &Shared(prestate)));
    });
    group.finish();
    Ok(())
}

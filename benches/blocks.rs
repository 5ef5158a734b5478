//! What do threads gain? Whole blocks on the sequential engine and on the parallel one, over all
//! cores: those of the embedded sample, and some of mainnet where the shared archive is there.
//!
//! Both engines start from the same loaded block and prestate in memory; loading and verifying are
//! not timed. The executor decides by itself whether a block runs in parallel, as it does for every
//! user: on one core the two engines do the same.
//!
//! Run with `cargo bench -p multilane-benches --bench blocks`, or one block by name: `-- 19426586`.

use criterion::{Criterion, Throughput};
use multilane::{ExecutorConfig, ParallelExecutor, Shared, sequential};
use multilane_fixtures::{
    archive::{ArchivedBlock, BlockArchive},
    sample::sample_files,
};
use revm::database::WrapDatabaseRef;
use std::{error::Error, path::Path, time::Duration};

/// The allocator of the command line, so that the figures compare.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Mainnet blocks of different kinds: one sender paying out, and mixed traffic of several eras.
const MAINNET: [u64; 5] = [5_891_667, 11_743_952, 13_217_637, 17_666_333, 19_426_586];

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_secs(1))
        .sample_size(30);
    let executor = ParallelExecutor::new(ExecutorConfig::new())?;

    let sample = BlockArchive::from_files("embedded sample", sample_files())?;
    for entry in sample.entries() {
        bench_block(&mut criterion, &executor, "sample", &sample.load(entry)?)?;
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/mainnet");
    if path.is_dir() {
        let mainnet = BlockArchive::open(path)?;
        for entry in mainnet.entries().iter().filter(|entry| MAINNET.contains(&entry.number)) {
            bench_block(&mut criterion, &executor, "mainnet", &mainnet.load(entry)?)?;
        }
    } else {
        eprintln!("left out: mainnet blocks, because {} is not there", path.display());
    }

    criterion.final_summary();
    Ok(())
}

fn bench_block(
    criterion: &mut Criterion,
    executor: &ParallelExecutor,
    chain_name: &str,
    archived: &ArchivedBlock,
) -> Result<(), Box<dyn Error>> {
    let ArchivedBlock { chain, input, prestate, .. } = archived;
    // A block that fails would be timed up to its failure.
    let expected = sequential::execute_block(chain, input, WrapDatabaseRef(prestate))?;
    let (output, _) = executor.execute_block(chain, input, &Shared(prestate))?;
    assert!(output == expected, "{}: the engines disagree", archived.origin);

    let mut group = criterion.benchmark_group(format!("{chain_name}/{}", input.header.number));
    group.throughput(Throughput::Elements(input.transactions.len() as u64));
    group.bench_function("sequential", |b| {
        b.iter(|| sequential::execute_block(chain, input, WrapDatabaseRef(prestate)));
    });
    group.bench_function("parallel", |b| {
        b.iter(|| executor.execute_block(chain, input, &Shared(prestate)));
    });
    group.finish();
    Ok(())
}

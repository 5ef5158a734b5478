//! Profiles, from well learned to hostile ones.

use crate::mainnet::archive;
use multilane::{
    ExecutionStats, ExecutorConfig, ParallelExecutor, Shared, analyzer::Profile, sequential,
    verification::compare_outputs,
};
use multilane_fixtures::{
    archive::ArchivedBlock,
    workload::{Workload, WorkloadBlock, WorkloadSettings},
};
use multilane_state::{BlockInput, ChainSpec, Prestate};
use revm::{DatabaseRef, database::WrapDatabaseRef};
use std::{error::Error, sync::Arc};

const THREADS: [usize; 3] = [2, 4, 8];

fn executor(threads: usize, profile: &Arc<Profile>) -> ParallelExecutor {
    let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
    ParallelExecutor::new(config).expect("threads can be started").with_profile(Arc::clone(profile))
}

/// What an execution needs of a generated block.
fn parts(block: &WorkloadBlock) -> (&ChainSpec, &BlockInput, &Prestate) {
    (&block.chain, &block.block, &block.prestate)
}

fn block(workload: &str, seed: u64) -> WorkloadBlock {
    let mut settings = WorkloadSettings::default();
    settings.transactions = Some(300);
    settings.seed = seed;
    let workload = Workload::by_name(workload).expect("the workload exists");
    workload.generate(&settings).expect("the workload can be generated")
}

/// Executes a block, and compares with the oracle.
fn run<DB>(
    name: &str,
    executor: &ParallelExecutor,
    (chain, block, prestate): (&ChainSpec, &BlockInput, &DB),
) -> ExecutionStats
where
    DB: DatabaseRef<Error: Error + Send + Sync + 'static> + Sync,
{
    let serial = sequential::execute_block(chain, block, WrapDatabaseRef(prestate))
        .unwrap_or_else(|error| panic!("{name}: sequential: {error}"));
    let (parallel, stats) = executor
        .execute_block(chain, block, &Shared(prestate))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let differences = compare_outputs(&serial, &parallel);
    assert!(differences.is_empty(), "{name}, {stats:?}: {differences:#?}");
    stats
}

/// A profile in which each function has the template of another one.
fn inverted(profile: &Profile) -> Arc<Profile> {
    let mut pairs: Vec<_> = profile.export().collect();
    pairs.sort();
    let hostile = Profile::new();
    let (keys, mut templates): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    if !templates.is_empty() {
        templates.rotate_left(1);
    }
    for (key, template) in keys.iter().zip(&templates) {
        hostile.import(key, template).expect("what was exported can be imported");
    }
    Arc::new(hostile)
}

/// A profile whose templates have had bytes changed; those that are still templates.
fn damaged(profile: &Profile) -> Arc<Profile> {
    let mut pairs: Vec<_> = profile.export().collect();
    pairs.sort();
    let hostile = Profile::new();
    let mut random = 7_u64;
    let mut next = |below: usize| {
        // xorshift64: any sequence will do, as long as it is the same in every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    for (key, template) in pairs {
        for _ in 0..16 {
            let mut changed = template.clone();
            for _ in 0..3 {
                let at = next(changed.len());
                changed[at] = next(256) as u8;
            }
            if hostile.import(&key, &changed).is_ok() {
                break;
            }
        }
    }
    assert!(!hostile.is_empty(), "some damaged templates are templates");
    Arc::new(hostile)
}

#[test]
fn blocks_that_teach_and_blocks_that_profit() {
    for workload in ["erc20-dependent", "amm", "lending", "mint"] {
        let [warm_up, next] = [1, 2].map(|seed| block(workload, seed));
        for threads in THREADS {
            let profile = Arc::new(Profile::new());
            let executor = executor(threads, &profile);
            run(workload, &executor, parts(&warm_up));
            assert!(!profile.is_empty(), "{workload}: something was learned");
            run(workload, &executor, parts(&next));
            run(workload, &executor, parts(&warm_up));
        }
    }
}

#[test]
fn what_transactions_contend_for_is_foreseen() {
    for workload in ["amm", "lending", "mint", "hybrid"] {
        let blocks = [1, 2, 3].map(|seed| block(workload, seed));
        let learning = executor(4, &Arc::new(Profile::new()));
        let [.., after] = blocks.each_ref().map(|block| run(workload, &learning, parts(block)));
        let new = executor(4, &Arc::new(Profile::new()));
        let without = run(workload, &new, parts(&blocks[2]));
        assert!(after.predicted_edges > without.predicted_edges, "{workload}: {after:?}");
    }
}

#[test]
fn the_same_blocks_teach_the_same() {
    for workload in ["amm", "lending"] {
        let blocks = [1, 2].map(|seed| block(workload, seed));
        let taught = |threads: usize| {
            let profile = Arc::new(Profile::new());
            let executor = executor(threads, &profile);
            for block in &blocks {
                run(workload, &executor, parts(block));
            }
            let mut templates: Vec<_> = profile.export().collect();
            templates.sort();
            templates
        };
        let by_two = taught(2);
        assert!(by_two == taught(2) && by_two == taught(8), "{workload}");
    }
}

#[test]
fn hostile_profiles() {
    for workload in ["erc20-dependent", "amm", "lending"] {
        let [warm_up, next] = [1, 2].map(|seed| block(workload, seed));
        let profile = Arc::new(Profile::new());
        run(workload, &executor(4, &profile), parts(&warm_up));
        for hostile in [inverted(&profile), damaged(&profile)] {
            for threads in THREADS {
                run(workload, &executor(threads, &hostile), parts(&next));
            }
        }
    }
}

#[test]
fn mainnet_learned_in_order_and_hostile() {
    let Some(archive) = archive() else { return };
    let profile = Arc::new(Profile::new());
    let learning = executor(4, &profile);
    for entry in archive.entries() {
        let ArchivedBlock { origin, chain, input, prestate, .. } =
            archive.load(entry).expect("the block can be loaded");
        run(&origin, &learning, (&chain, &input, &prestate));
        if entry.number % 5 == 0 {
            run(&origin, &executor(4, &inverted(&profile)), (&chain, &input, &prestate));
        }
    }
}

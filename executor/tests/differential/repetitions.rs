//! The same blocks again and again, at every number of threads and under every prediction: what one
//! schedule hides, another one shows.
//!
//! `MULTILANE_REPETITIONS=1000 cargo test --test differential repetitions` takes a while; without
//! the variable there are a few.

use crate::{mainnet, predictors::Prediction, workloads};
use multilane::{
    ParallelExecutor, Shared, sequential,
    state::{BlockInput, BlockOutput, ChainSpec},
    verification::compare_outputs,
};
use multilane_fixtures::{
    archive::{ArchivedBlock, ParentState},
    workload::Workload,
};
use multilane_state::Prestate;
use revm::{DatabaseRef, database::WrapDatabaseRef};
use std::{error::Error, ops::RangeInclusive, sync::Arc};

const REPETITIONS: usize = 3;
const THREADS: RangeInclusive<usize> = 2..=8;

/// A block with the output of the oracle.
struct Subject<DB> {
    name: String,
    chain: Arc<ChainSpec>,
    input: BlockInput,
    prestate: DB,
    expected: BlockOutput,
}

impl<DB: DatabaseRef<Error: Error + Send + Sync + 'static> + Sync> Subject<DB> {
    fn new(name: String, chain: Arc<ChainSpec>, input: BlockInput, prestate: DB) -> Self {
        let expected = sequential::execute_block(&chain, &input, WrapDatabaseRef(&prestate))
            .unwrap_or_else(|error| panic!("{name}: sequential: {error}"));
        Self { name, chain, input, prestate, expected }
    }

    fn repeat(&self, repetition: usize, executor: &ParallelExecutor) {
        let Self { name, chain, input, prestate, expected } = self;
        let (output, stats) = executor
            .execute_block(chain, input, &Shared(prestate))
            .unwrap_or_else(|error| panic!("{name}, repetition {repetition}: {error}"));
        let differences = compare_outputs(expected, &output);
        assert!(
            differences.is_empty(),
            "{name}, repetition {repetition}, {stats:?}: {differences:#?}"
        );
    }
}

#[test]
fn every_schedule_gives_the_same() {
    let repetitions = std::env::var("MULTILANE_REPETITIONS")
        .map_or(REPETITIONS, |number| number.parse().expect("MULTILANE_REPETITIONS is a number"));
    let generated: Vec<Subject<Prestate>> = Workload::all()
        .iter()
        .filter_map(|workload| {
            let block = workloads::generate(workload, 1)?;
            let chain = Arc::new(block.chain);
            Some(Subject::new(workload.name().to_owned(), chain, block.block, block.prestate))
        })
        .collect();
    let real: Vec<Subject<ParentState>> = mainnet::archive()
        .iter()
        .flat_map(|archive| archive.entries().iter().map(|entry| archive.load(entry)))
        .map(|block| {
            let ArchivedBlock { origin, chain, input, prestate, .. } =
                block.expect("the block can be loaded");
            Subject::new(origin, chain, input, prestate)
        })
        .collect();
    for repetition in 0..repetitions {
        let threads = THREADS.start() + repetition % THREADS.count();
        let prediction = match Prediction::ALL[repetition % Prediction::ALL.len()] {
            Prediction::Random(_) => Prediction::Random(repetition as u64),
            other => other,
        };
        let executor = prediction.executor(threads);
        generated.iter().for_each(|subject| subject.repeat(repetition, &executor));
        real.iter().for_each(|subject| subject.repeat(repetition, &executor));
        if (repetition + 1) % 50 == 0 {
            eprintln!("{} of {repetitions}", repetition + 1);
        }
    }
    eprintln!("{repetitions} repetitions of {} blocks", generated.len() + real.len());
}

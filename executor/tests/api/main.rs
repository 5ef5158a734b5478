//! The parallel executor as a library: its doors, its sources, and what it does when they break.
//!
//! Whether generated and real blocks give the serial result is the business of `differential`. Here
//! it is everything around that: order and back-pressure, handles that fail, lag or panic, hostile
//! predictions, executors shared and nested, and blocks of unusual sizes.

mod backends;
mod block_factory;
mod building;
mod cancellation;
mod concurrency;
#[path = "../differential/contracts.rs"]
mod contracts;
mod drop_in;
mod enforced_lists;
mod hooked;
mod inspection;
mod ordered;
mod panics;
mod predictions;
mod repetition;
mod sample;
mod serial;
mod simple_door;
mod sizes;
mod state_source;
mod watchdog;
mod workload;

use multilane::{ExecutorConfig, ParallelExecutor};

const THREADS: [usize; 4] = [1, 2, 4, 8];

/// An executor that never falls back to sequential execution.
fn forced(threads: usize) -> ParallelExecutor {
    let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
    ParallelExecutor::new(config).expect("threads can be started")
}

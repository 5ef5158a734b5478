//! The arm `limit`: what threads could give at most on this machine.
//!
//! Each thread executes its contiguous share of the block as a block of its own, through the
//! sequential engine, on its own copy of the state. Nobody waits for anybody. What a parallel
//! executor does besides that (ordering, validating, merging) comes on top of it, so that nothing
//! that executes the same transactions with the same EVM is faster.

use super::case::{Case, State};
use anyhow::anyhow;
use multilane::{
    Shared, StateSource, sequential,
    state::{BlockInput, BlockOutput},
};
use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// The block's transactions in as many contiguous shares of nearly equal length.
pub(crate) fn shares(block: &BlockInput, threads: usize) -> Vec<BlockInput> {
    let count = block.transactions.len();
    let bound = |thread: usize| count * thread / threads;
    let share = |thread: usize| BlockInput {
        header: block.header.clone(),
        hash: None,
        transactions: block.transactions[bound(thread)..bound(thread + 1)].to_vec(),
        ommers: Vec::new(),
        ommer_count: 0,
        withdrawals: block.withdrawals.as_ref().map(|_| Vec::new()),
    };
    (0..threads).map(share).collect()
}

/// Executes all shares at once. The time is from the first thread that starts, all of them being
/// ready, to the last one that is done.
///
/// # Errors
///
/// If a share cannot be executed: then the transactions are not independent.
pub(crate) fn run<DB: State>(
    case: Case<'_, DB>,
    shares: &[BlockInput],
) -> anyhow::Result<Duration> {
    let ready = Barrier::new(shares.len());
    let alone = |share: &BlockInput| {
        let prestate = case.prestate.clone();
        ready.wait();
        let start = Instant::now();
        let Ok(db) = Shared(&prestate).open();
        let output = sequential::execute_block(case.chain, share, db);
        (start, Instant::now(), output)
    };
    let alone = &alone;
    // Outputs are dropped here, when everybody is done.
    let finished: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            shares.iter().map(|share| scope.spawn(move || alone(share))).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut span: Option<(Instant, Instant)> = None;
    for thread in finished {
        let (start, end, output) = thread.map_err(|_| anyhow!("a thread panicked"))?;
        let _: BlockOutput = output?;
        let (first, last) = span.unwrap_or((start, end));
        span = Some((first.min(start), last.max(end)));
    }
    Ok(span.map(|(first, last)| last - first).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use multilane_fixtures::workload::{Workload, WorkloadSettings};

    #[test]
    fn shares_are_the_whole_block_in_order() {
        let mut settings = WorkloadSettings::default();
        settings.transactions = Some(10);
        let workload = Workload::by_name("raw").expect("raw is a workload");
        let block = workload.generate(&settings).unwrap().block;
        for threads in [1, 2, 3, 16] {
            let shares = shares(&block, threads);
            assert_eq!(shares.len(), threads);
            let joined: Vec<_> = shares.into_iter().flat_map(|share| share.transactions).collect();
            assert_eq!(joined, block.transactions, "{threads} threads");
        }
    }
}

//! The head start: which transactions begin before their turn?
//!
//! Workers take transactions in block order, and a long one near the end keeps one of them busy when
//! nothing is left for the others. How long a transaction takes nobody knows beforehand, least of
//! all from its gas: proofs take many times the time. But a proof is long, and comes with a generous
//! gas limit. Begun first, a transaction that stands has cost nothing, and few are tried.
//!
//! A chain is long whatever its transactions are. One that takes more than its share of what comes
//! after its head goes on alone in the end, unless it begins first.
//!
//! *Must not know*: state, threads at work.

use crate::partitioner::ExecutionPlan;
use multilane_state::TxIndex;
use revm::{context::TxEnv, context_interface::Transaction};
use std::cmp::Reverse;

/// How many of them there are at most for each thread.
const PER_THREAD: usize = 2;
/// How many times the mean weight makes a transaction stand out.
const OUTSTANDING: u64 = 4;
/// Bytes of calldata that count even where there are none: a limit alone says something too.
const DATA: u64 = 500;

/// The heads of chains that would keep the block waiting, and the transactions that may take the
/// longest by far and are not expected to wait for another one; in either part the longest first.
pub(crate) fn head_start(
    transactions: &[TxEnv],
    plan: &ExecutionPlan,
    threads: usize,
) -> Vec<TxIndex> {
    let weights = || transactions.iter().map(weight);
    let mean = weights().fold(0, u64::saturating_add) / transactions.len().max(1) as u64;
    // What comes early has its turn early.
    let late = transactions.len() / 3;
    let mut outstanding: Vec<_> = weights()
        .enumerate()
        .skip(late)
        .map(|(at, weight)| (weight, TxIndex::new(at)))
        .filter(|(weight, _)| *weight > mean.saturating_mul(OUTSTANDING))
        .filter(|(_, index)| plan.predecessors(*index) == 0)
        .collect();
    outstanding.sort_by_key(|(weight, index)| (Reverse(*weight), *index));
    let mut chains: Vec<_> = plan
        .chains()
        .iter()
        .filter(|chain| chain.gas.saturating_mul(threads as u64) > chain.rest)
        .collect();
    chains.sort_by_key(|chain| (Reverse(chain.gas), chain.head));
    let heads = chains.into_iter().map(|chain| chain.head).take(threads);
    let outstanding = outstanding.into_iter().take(threads * PER_THREAD).map(|(_, index)| index);
    heads.chain(outstanding).collect()
}

/// What suggests that a transaction takes long.
fn weight(tx: &TxEnv) -> u64 {
    tx.gas_limit().saturating_mul(tx.input().len() as u64 + DATA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analyzer::{AccessPrediction, PredictedAccess, PredictedLocation},
        conflict_graph::ConflictGraph,
    };
    use alloy_primitives::Address;
    use multilane_state::StateLocation;

    /// A block of a hundred transactions, some with other gas limits and lengths of calldata.
    fn block(special: &[(usize, u64, usize)]) -> Vec<TxEnv> {
        let mut block = vec![TxEnv { gas_limit: 200_000, ..TxEnv::default() }; 100];
        for (at, gas_limit, data) in special {
            block[*at].gas_limit = *gas_limit;
            block[*at].data = vec![1; *data].into();
        }
        block
    }

    fn plan(depends: &[usize]) -> ExecutionPlan {
        let access = PredictedAccess {
            location: PredictedLocation::State(StateLocation::Account(Address::ZERO)),
            reads: true,
            writes: true,
        };
        let predictions: Vec<_> = (0..100)
            .map(|at| AccessPrediction {
                accesses: depends.contains(&at).then_some(access).into_iter().collect(),
                gas: 1,
            })
            .collect();
        ExecutionPlan::new(&predictions, &ConflictGraph::new(&predictions))
    }

    fn positions(block: &[TxEnv], depends: &[usize]) -> Vec<usize> {
        head_start(block, &plan(depends), 2).into_iter().map(TxIndex::get).collect()
    }

    #[test]
    fn where_all_are_alike_nobody_is_ahead() {
        assert!(positions(&block(&[]), &[]).is_empty());
        assert!(head_start(&[], &ExecutionPlan::default(), 2).is_empty());
    }

    #[test]
    fn the_heaviest_come_first() {
        let proofs = [(60, 3_000_000, 500), (70, 500_000, 20_000), (99, 5_000_000, 5_000)];
        assert_eq!(positions(&block(&proofs), &[]), [99, 70, 60]);
    }

    #[test]
    fn those_that_have_to_wait_or_come_early_anyway_do_not() {
        let proofs = [(10, 5_000_000, 900), (50, 5_000_000, 900), (90, 5_000_000, 900)];
        assert_eq!(positions(&block(&proofs), &[20, 90]), [50]);
    }

    #[test]
    fn a_chain_that_would_go_on_alone_begins_first() {
        let ends: Vec<_> = (60..100).collect();
        assert_eq!(positions(&block(&[(99, 5_000_000, 900), (70, 5_000_000, 900)]), &ends), [60]);
        // This one has been there long enough when the block ends.
        let whole: Vec<_> = (0..40).collect();
        assert!(positions(&block(&[]), &whole).is_empty());
        assert!(positions(&block(&[]), &[97, 98, 99]).is_empty());
    }

    #[test]
    fn there_are_few() {
        let proofs: Vec<_> = (50..60).map(|at| (at, 5_000_000, 9_000)).collect();
        assert_eq!(positions(&block(&proofs), &[]), [50, 51, 52, 53]);
    }
}

//! The partitioner: conflict graph to execution plan.

use crate::{analyzer::AccessPrediction, conflict_graph::ConflictGraph};
use multilane_state::TxIndex;

/// A chain of less than one part in so many of the block's gas keeps nobody waiting for long.
const CHAIN_SHARE: u64 = 8;

/// What may run beside what, and how long the block takes at best.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionPlan {
    /// For each transaction, how many others it waits for.
    predecessors: Vec<u32>,
    /// `successors[bounds[i]..bounds[i + 1]]` wait for transaction i.
    successors: Vec<TxIndex>,
    bounds: Vec<u32>,
    lanes: usize,
    chains: Vec<Chain>,
    critical_path_gas: u64,
    gas: u64,
}

/// A chain of transactions that wait for one another, of a good part of the block's gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Its first transaction, which waits for none.
    pub(crate) head: TxIndex,
    /// Expected gas of its heaviest path.
    pub(crate) gas: u64,
    /// Expected gas of everything in the block from the head on.
    pub(crate) rest: u64,
}

impl ExecutionPlan {
    /// Plans a block.
    pub fn new(predictions: &[AccessPrediction], graph: &ConflictGraph) -> Self {
        let transactions = graph.transactions();
        let mut predecessors = vec![0; transactions];
        let mut bounds = vec![0_u32; transactions + 1];
        for conflict in graph.conflicts() {
            predecessors[conflict.later.get()] += 1;
            bounds[conflict.earlier.get() + 1] += 1;
        }
        for at in 1..bounds.len() {
            bounds[at] += bounds[at - 1];
        }
        let mut next = bounds.clone();
        let mut successors = vec![TxIndex::FIRST; graph.conflicts().len()];
        for conflict in graph.conflicts() {
            let slot = &mut next[conflict.earlier.get()];
            successors[*slot as usize] = conflict.later;
            *slot += 1;
        }
        let mut plan =
            Self { predecessors, successors, bounds, lanes: count_lanes(graph), ..Self::default() };
        plan.follow_chains(predictions);
        plan
    }

    /// Finds the heaviest paths, from the end of the block: successors come later.
    fn follow_chains(&mut self, predictions: &[AccessPrediction]) {
        let gas = || predictions.iter().map(|prediction| prediction.gas);
        self.gas = gas().fold(0, u64::saturating_add);
        let mut heaviest = vec![0; predictions.len()];
        let mut rest: u64 = 0;
        for (position, gas) in gas().enumerate().rev() {
            let head = TxIndex::new(position);
            let after = self.successors(head).iter().map(|next| heaviest[next.get()]).max();
            let chain = gas.saturating_add(after.unwrap_or_default());
            heaviest[position] = chain;
            rest = rest.saturating_add(gas);
            self.critical_path_gas = self.critical_path_gas.max(chain);
            if after.is_some() && self.predecessors(head) == 0 && chain >= self.gas / CHAIN_SHARE {
                self.chains.push(Chain { head, gas: chain, rest });
            }
        }
    }

    /// The chains that are a good part of the block.
    pub(crate) fn chains(&self) -> &[Chain] {
        &self.chains
    }

    /// How many transactions this one waits for.
    pub(crate) fn predecessors(&self, index: TxIndex) -> u32 {
        self.predecessors[index.get()]
    }

    /// The transactions that wait for this one.
    pub(crate) fn successors(&self, index: TxIndex) -> &[TxIndex] {
        let [start, end] = [0, 1].map(|after| self.bounds[index.get() + after] as usize);
        &self.successors[start..end]
    }

    /// Number of transactions.
    pub const fn transactions(&self) -> usize {
        self.predecessors.len()
    }

    /// Number of lanes: groups of transactions that touch nothing in common.
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    /// Expected gas of the heaviest chain: no number of threads gets below the time that it takes.
    pub const fn critical_path_gas(&self) -> u64 {
        self.critical_path_gas
    }

    /// Expected gas of all transactions.
    pub const fn gas(&self) -> u64 {
        self.gas
    }
}

/// Connected components, by union of the ends of each edge.
fn count_lanes(graph: &ConflictGraph) -> usize {
    let mut parent: Vec<u32> = (0..graph.transactions() as u32).collect();
    let mut lanes = graph.transactions();
    for conflict in graph.conflicts() {
        let [a, b] = [conflict.earlier, conflict.later].map(|end| find(&mut parent, end.get()));
        if a != b {
            // Towards the smaller root, which keeps the forest shallow on chains.
            parent[a.max(b)] = a.min(b) as u32;
            lanes -= 1;
        }
    }
    lanes
}

fn find(parent: &mut [u32], mut node: usize) -> usize {
    while parent[node] as usize != node {
        let grandparent = parent[parent[node] as usize];
        parent[node] = grandparent;
        node = grandparent as usize;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyzer::{PredictedAccess, PredictedLocation};
    use alloy_primitives::Address;
    use multilane_state::StateLocation;

    fn plan(accesses: &[(u64, &[u8])]) -> ExecutionPlan {
        let predictions: Vec<_> = accesses
            .iter()
            .map(|(gas, locations)| AccessPrediction {
                gas: *gas,
                accesses: locations
                    .iter()
                    .map(|id| PredictedAccess {
                        location: PredictedLocation::State(StateLocation::Account(
                            Address::with_last_byte(*id),
                        )),
                        reads: true,
                        writes: true,
                    })
                    .collect(),
            })
            .collect();
        ExecutionPlan::new(&predictions, &ConflictGraph::new(&predictions))
    }

    #[test]
    fn lanes_and_critical_path() {
        // 0 -> 2 -> 4 share 1 and 3; 1 -> 3 share 2; 5 is alone.
        let plan = plan(&[(10, &[1]), (5, &[2]), (10, &[1, 3]), (6, &[2]), (7, &[3]), (20, &[])]);
        assert_eq!(plan.lanes(), 3);
        assert_eq!(plan.critical_path_gas(), 27);
        assert_eq!(plan.gas(), 58);
        let successors = |index| -> Vec<_> {
            plan.successors(TxIndex::new(index)).iter().map(|s| s.get()).collect()
        };
        assert_eq!([successors(0), successors(2), successors(5)], [vec![2], vec![4], vec![]]);
        assert_eq!(plan.predecessors(TxIndex::new(4)), 1);
    }

    #[test]
    fn long_chains_are_told_by_their_heads() {
        // 0 is alone, 1 -> 3 -> 4 are a chain, and 2 -> 5 a light one.
        let plan =
            plan(&[(50, &[]), (10, &[1]), (1, &[2]), (10, &[1]), (12, &[1]), (2, &[2]), (9, &[])]);
        let head = TxIndex::new(1);
        assert_eq!(plan.chains(), [Chain { head, gas: 32, rest: 44 }]);
    }

    #[test]
    fn an_empty_block_has_an_empty_plan() {
        let plan = plan(&[]);
        assert_eq!((plan.lanes(), plan.gas(), plan.critical_path_gas()), (0, 0, 0));
    }
}

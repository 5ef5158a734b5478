//! What an execution tells about itself. Nothing here influences a result.

use crate::validation::Validity;
use multilane_state::StateLocation;
use std::{ops::AddAssign, time::Duration};

/// How one block was executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutionStats {
    /// Workers that were available, the calling thread included.
    pub threads: usize,
    /// Whether the block ran in parallel, and why not.
    pub mode: ExecutionMode,
    /// Transactions in the block.
    pub transactions: usize,
    /// Incarnations executed to their end: equal to `transactions` where nothing had to be repeated.
    pub executions: usize,
    /// Incarnations that ended early and began again later, because they came to a slot where an
    /// earlier transaction had to go first.
    pub put_off: usize,
    /// Incarnations whose result did not stand. A transaction may have several.
    pub conflicts: usize,
    /// The same, by what did not stand.
    pub conflict_kinds: ConflictKinds,
    /// Edges of the predicted conflict graph.
    pub predicted_edges: usize,
    /// Lanes of the execution plan.
    pub lanes: usize,
    /// Predicted gas on the heaviest chain of the conflict graph.
    pub critical_path_gas: u64,
    /// Predicted gas of all transactions.
    pub predicted_gas: u64,
    /// Time to predict, build the graph and partition it.
    pub plan_time: Duration,
    /// Time from the first transaction to the last commit.
    pub execution_time: Duration,
    /// Time from there to the output: receipts, what comes after the last transaction, and the
    /// state changes with their reverts. Zero where results are only handed over, and in blocks that
    /// run sequentially as a whole, where it cannot be told from the execution.
    pub finish_time: Duration,
    /// Time to learn from the block: of the finish where there is one, and else behind it. Zero
    /// without a profile.
    pub learn_time: Duration,
}

/// Conflicts by what did not stand first: an incarnation counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConflictKinds {
    /// An account: its nonce, its code or its existence, or a balance that was not enough.
    pub accounts: usize,
    /// A storage slot.
    pub slots: usize,
    /// The execution itself: it ended in an error, or in a panic, which on guessed state means
    /// nothing.
    pub errors: usize,
}

impl ConflictKinds {
    /// All of them.
    pub const fn total(&self) -> usize {
        self.accounts + self.slots + self.errors
    }

    /// Counts what validation has found.
    pub(crate) const fn count(&mut self, validity: Validity) {
        match validity {
            Validity::Valid => {}
            Validity::Conflict(StateLocation::Slot(..)) => self.slots += 1,
            Validity::Conflict(_) => self.accounts += 1,
            Validity::Error => self.errors += 1,
        }
    }
}

impl AddAssign for ConflictKinds {
    fn add_assign(&mut self, other: Self) {
        self.accounts += other.accounts;
        self.slots += other.slots;
        self.errors += other.errors;
    }
}

/// Whether a block ran in parallel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecutionMode {
    /// On several workers, with validation and ordered commit.
    #[default]
    Parallel,
    /// On the calling thread alone, by the executor's own judgement.
    Sequential(SequentialReason),
}

/// Why the executor ran a block sequentially.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SequentialReason {
    /// Only one worker is configured.
    OneThread,
    /// Too little work to pay for starting workers.
    SmallBlock,
    /// The predicted critical path is nearly the whole block.
    OneChain,
    /// Nearly all transactions are plain transfers, which take longer to commit than to execute.
    MostlyTransfers,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, U256};

    #[test]
    fn conflicts_are_counted_by_what_did_not_stand() {
        let mut kinds = ConflictKinds::default();
        let account = Validity::Conflict(StateLocation::Account(Address::ZERO));
        let slot = Validity::Conflict(StateLocation::Slot(Address::ZERO, U256::ZERO));
        for validity in [Validity::Valid, account, slot, slot, Validity::Error] {
            kinds.count(validity);
        }
        kinds += ConflictKinds { accounts: 3, ..ConflictKinds::default() };
        assert_eq!(kinds, ConflictKinds { accounts: 4, slots: 2, errors: 1 });
        assert_eq!(kinds.total(), 7);
    }
}

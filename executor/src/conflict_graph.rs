//! The conflict graph: which transaction is expected to read what an earlier one writes?

use crate::analyzer::{AccessPrediction, PredictedLocation};
use multilane_state::TxIndex;
use revm::primitives::map::{HashMap, hash_map::Entry};

/// An expected conflict: `later` reads what `earlier` writes.
///
/// Two writes without a read are no conflict: every write has a version of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The writer.
    pub earlier: TxIndex,
    /// The reader.
    pub later: TxIndex,
    /// Where they meet; the first such location where there are several.
    pub location: PredictedLocation,
}

/// Expected conflicts, ordered by their later end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictGraph {
    transactions: usize,
    conflicts: Vec<Conflict>,
}

impl ConflictGraph {
    /// Builds the graph of a block's predictions, in time linear in the number of accesses.
    ///
    /// A reader gets an edge from the last earlier writer of a location only: earlier ones are
    /// ordered before that writer by their own edges, or do not matter to the value.
    pub fn new(predictions: &[AccessPrediction]) -> Self {
        let mut conflicts = Vec::new();
        let accesses = predictions.iter().map(|prediction| prediction.accesses.len()).sum();
        let mut last_writer: HashMap<PredictedLocation, TxIndex> = HashMap::default();
        last_writer.reserve(accesses);
        let mut earlier_of_this: Vec<TxIndex> = Vec::new();
        for (index, prediction) in predictions.iter().enumerate() {
            let later = TxIndex::new(index);
            earlier_of_this.clear();
            for access in &prediction.accesses {
                let earlier = match last_writer.entry(access.location) {
                    Entry::Occupied(mut entry) => {
                        let earlier = *entry.get();
                        if access.writes {
                            entry.insert(later);
                        }
                        Some(earlier)
                    }
                    Entry::Vacant(entry) => {
                        if access.writes {
                            entry.insert(later);
                        }
                        None
                    }
                };
                if let Some(earlier) = earlier
                    && access.reads
                    && earlier != later
                    && !earlier_of_this.contains(&earlier)
                {
                    earlier_of_this.push(earlier);
                    conflicts.push(Conflict { earlier, later, location: access.location });
                }
            }
        }
        Self { transactions: predictions.len(), conflicts }
    }

    /// Number of transactions.
    pub const fn transactions(&self) -> usize {
        self.transactions
    }

    /// The expected conflicts, ordered by their later end.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyzer::PredictedAccess;
    use alloy_primitives::Address;
    use multilane_state::StateLocation;

    fn location(id: u8) -> PredictedLocation {
        PredictedLocation::State(StateLocation::Account(Address::with_last_byte(id)))
    }

    fn prediction(accesses: &[(u8, bool, bool)]) -> AccessPrediction {
        let accesses = accesses
            .iter()
            .map(|(id, reads, writes)| PredictedAccess {
                location: location(*id),
                reads: *reads,
                writes: *writes,
            })
            .collect();
        AccessPrediction { accesses, gas: 1 }
    }

    #[test]
    fn a_reader_waits_for_the_last_writer_and_names_the_location() {
        let graph = ConflictGraph::new(&[
            prediction(&[(1, true, true)]),
            prediction(&[(1, true, true), (2, false, true)]),
            prediction(&[(1, true, false), (2, true, false)]),
            prediction(&[(2, false, true)]),
            prediction(&[(2, true, false), (3, true, true)]),
        ]);
        let edges: Vec<_> = graph
            .conflicts()
            .iter()
            .map(|c| (c.earlier.get(), c.later.get(), c.location))
            .collect();
        assert_eq!(edges, [(0, 1, location(1)), (1, 2, location(1)), (3, 4, location(2))]);
    }

    #[test]
    fn a_transaction_does_not_conflict_with_itself() {
        let graph = ConflictGraph::new(&[prediction(&[(1, true, true), (1, true, true)])]);
        assert!(graph.conflicts().is_empty());
    }
}

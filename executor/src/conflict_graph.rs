//! The conflict graph: which transaction is expected to read what an earlier one writes?

use crate::analyzer::AccessPrediction;
use core::hash::BuildHasher;
use multilane_state::TxIndex;
use revm::primitives::map::DefaultHashBuilder;
use std::hint::black_box;

/// How many accesses before its turn the place of a location is fetched into the cache.
const LOOKAHEAD: usize = 16;

/// An expected conflict: `later` reads what `earlier` writes.
///
/// Two writes without a read are no conflict: every write has a version of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The writer.
    pub earlier: TxIndex,
    /// The reader.
    pub later: TxIndex,
    /// Where they meet: the position among the reader's predicted accesses; the first such access
    /// where there are several.
    pub access: u32,
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
        let hasher = DefaultHashBuilder::default();
        let all = predictions.iter().flat_map(|prediction| &prediction.accesses);
        let hashes: Vec<u64> = all.map(|access| hasher.hash_one(access.location)).collect();
        let mut last_writers = LastWriters::with_capacity(hashes.len());
        let mut ahead = hashes.iter().skip(LOOKAHEAD);
        let mut hashes = hashes.iter();
        let mut conflicts = Vec::new();
        let mut earlier_of_this: Vec<TxIndex> = Vec::new();
        for (index, prediction) in predictions.iter().enumerate() {
            let later = TxIndex::new(index);
            earlier_of_this.clear();
            for ((position, access), hash) in (0..).zip(&prediction.accesses).zip(&mut hashes) {
                if let Some(hash) = ahead.next() {
                    last_writers.fetch(*hash);
                }
                let writer = last_writers.of(*hash);
                let earlier = *writer;
                if access.writes {
                    *writer = Some(later);
                }
                if let Some(earlier) = earlier
                    && access.reads
                    && earlier != later
                    && !earlier_of_this.contains(&earlier)
                {
                    earlier_of_this.push(earlier);
                    conflicts.push(Conflict { earlier, later, access: position });
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

/// The last transaction that is expected to write each location.
///
/// In a block of many thousands of transactions every look at this table would wait for main memory.
/// So a place is small, it holds no location but bits of its hash, and it can be fetched ahead of
/// time. Two locations with the same bits make a conflict that is none, which is one piece of bad
/// advice in billions of accesses.
struct LastWriters {
    /// Open addressing with linear probing. A tag of zero marks a free place.
    places: Vec<(u32, Option<TxIndex>)>,
}

impl LastWriters {
    fn with_capacity(locations: usize) -> Self {
        // At most half full.
        Self { places: vec![(0, None); (locations * 2).next_power_of_two()] }
    }

    /// Where the search for a location begins.
    fn home(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.places.len() - 1)
    }

    /// Brings the place of a location into the cache. Nothing waits for what is read here.
    fn fetch(&self, hash: u64) {
        black_box(self.places[self.home(hash)].0);
    }

    /// The last writer of a location, to be read and set.
    fn of(&mut self, hash: u64) -> &mut Option<TxIndex> {
        let tag = hash as u32 | 1;
        let mut at = self.home(hash);
        while self.places[at].0 != tag && self.places[at].0 != 0 {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at].0 = tag;
        &mut self.places[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyzer::{PredictedAccess, PredictedLocation};
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
    fn a_reader_waits_for_the_last_writer_and_names_the_access() {
        let graph = ConflictGraph::new(&[
            prediction(&[(1, true, true)]),
            prediction(&[(1, true, true), (2, false, true)]),
            prediction(&[(1, true, false), (2, true, false)]),
            prediction(&[(2, false, true)]),
            prediction(&[(2, true, false), (3, true, true)]),
        ]);
        let edges: Vec<_> =
            graph.conflicts().iter().map(|c| (c.earlier.get(), c.later.get(), c.access)).collect();
        assert_eq!(edges, [(0, 1, 0), (1, 2, 0), (3, 4, 0)]);
    }

    #[test]
    fn many_locations_keep_their_own_writers() {
        let account = |id: usize| {
            let location = StateLocation::Account(Address::left_padding_from(&id.to_be_bytes()));
            let location = PredictedLocation::State(location);
            AccessPrediction {
                accesses: vec![PredictedAccess { location, reads: true, writes: true }],
                gas: 1,
            }
        };
        let predictions: Vec<_> = (0..3_000).map(|at| account(at % 1_000)).collect();
        let graph = ConflictGraph::new(&predictions);
        let edges = graph.conflicts().iter().map(|c| (c.earlier.get(), c.later.get()));
        assert!(edges.eq((1_000..3_000).map(|later| (later - 1_000, later))));
    }

    #[test]
    fn a_transaction_does_not_conflict_with_itself() {
        let graph = ConflictGraph::new(&[prediction(&[(1, true, true), (1, true, true)])]);
        assert!(graph.conflicts().is_empty());
    }
}

//! The writes of executed transactions that are not committed yet.

use crate::TxIndex;
use std::collections::VecDeque;

/// Pending writes to one location, in block order, one a writer.
///
/// Most locations have one at most, which is kept without an allocation. Some have hundreds, such
/// as the account of a sender that pays many; they come and go mostly at the two ends.
#[derive(Debug)]
pub(super) struct PendingWrites<W> {
    /// The earliest one.
    first: Option<(TxIndex, W)>,
    /// The others. Empty if there is no first.
    rest: VecDeque<(TxIndex, W)>,
}

impl<W> Default for PendingWrites<W> {
    fn default() -> Self {
        Self { first: None, rest: VecDeque::new() }
    }
}

impl<W> PendingWrites<W> {
    /// How many writers come before `reader`.
    pub(super) fn below(&self, reader: TxIndex) -> usize {
        match &self.first {
            Some((writer, _)) if *writer < reader => {
                1 + self.rest.partition_point(|(writer, _)| *writer < reader)
            }
            _ => 0,
        }
    }

    /// The write at a position in block order, with its writer.
    pub(super) fn get(&self, position: usize) -> Option<&(TxIndex, W)> {
        match position.checked_sub(1) {
            None => self.first.as_ref(),
            Some(position) => self.rest.get(position),
        }
    }

    /// Adds a write, in place of an earlier one of the same writer.
    pub(super) fn insert(&mut self, writer: TxIndex, write: W) {
        let new = (writer, write);
        match &mut self.first {
            None => self.first = Some(new),
            Some(first) if first.0 == writer => *first = new,
            Some(first) if writer < first.0 => {
                self.rest.push_front(std::mem::replace(first, new));
            }
            Some(_) => match self.rest.binary_search_by_key(&writer, |(writer, _)| *writer) {
                Ok(at) => self.rest[at] = new,
                Err(at) => self.rest.insert(at, new),
            },
        }
    }

    /// Takes the write of a writer away, if there is one.
    pub(super) fn remove(&mut self, writer: TxIndex) {
        match &self.first {
            None => {}
            Some((first, _)) if *first == writer => self.first = self.rest.pop_front(),
            Some(_) => {
                if let Ok(at) = self.rest.binary_search_by_key(&writer, |(writer, _)| *writer) {
                    self.rest.remove(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_stay_in_block_order() {
        let index = TxIndex::new;
        let mut pending = PendingWrites::default();
        for writer in [5, 3, 9, 1, 3] {
            pending.insert(index(writer), 10 * writer);
        }
        let values = |pending: &PendingWrites<usize>| -> Vec<usize> {
            (0..).map_while(|at| pending.get(at).map(|(_, value)| *value)).collect()
        };
        assert_eq!(values(&pending), [10, 30, 50, 90]);
        assert_eq!(
            [0, 1, 2, 4, 9, 10].map(|reader| pending.below(index(reader))),
            [0, 0, 1, 2, 3, 4]
        );
        for writer in [1, 9, 7] {
            pending.remove(index(writer));
        }
        assert_eq!(values(&pending), [30, 50]);
        pending.remove(index(3));
        pending.remove(index(5));
        assert!(values(&pending).is_empty());
    }
}

//! Whose turn it is at a slot that one transaction after another changes.

use crate::TxIndex;
use std::collections::VecDeque;

/// How many times somebody has to wait in vain to make up for a conflict.
const CONFLICT: u8 = 2;
/// More than this is not remembered, so that it is noticed when the conflicts end.
const HEAT_MAX: u8 = 8;

/// The transactions that have come to a slot and are not done, in block order.
///
/// A transaction that comes while an earlier one is in line waits until it is the first, unless it
/// cannot wait. One that comes late, when later ones have been let through, goes ahead of those that
/// wait; the others will turn out to be overtaken.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Grows with conflicts, and with turns that were worth waiting for; falls with those that were
    /// not. At zero nobody waits.
    heat: u8,
    line: VecDeque<Visitor>,
}

#[derive(Debug)]
struct Visitor {
    index: TxIndex,
    waits: bool,
}

impl Turns {
    /// Notes a conflict: turns are to be taken from now on.
    pub(super) fn note_conflict(&mut self) {
        self.heat = (self.heat + CONFLICT).min(HEAT_MAX);
    }

    /// Gets in line. Whether it is the visitor's turn; if not and if it can, it waits.
    pub(super) fn enter(&mut self, index: TxIndex, can_wait: bool) -> bool {
        let at = self.line.partition_point(|visitor| visitor.index < index);
        let waits = at > 0 && can_wait;
        match self.line.get_mut(at) {
            Some(visitor) if visitor.index == index => visitor.waits = waits,
            _ => self.line.insert(at, Visitor { index, waits }),
        }
        !waits
    }

    /// Whether a visitor waits.
    pub(super) fn is_waiting(&self, index: TxIndex) -> bool {
        let found = self.line.binary_search_by_key(&index, |visitor| visitor.index);
        found.is_ok_and(|at| self.line[at].waits)
    }

    /// Leaves the line. `changed` says whether the value is another one now, so that it was right to
    /// wait for it. `turn_of` is told whose turn it is. Whether turns are still to be taken.
    pub(super) fn leave(
        &mut self,
        index: TxIndex,
        changed: bool,
        mut turn_of: impl FnMut(TxIndex),
    ) -> bool {
        let Ok(at) = self.line.binary_search_by_key(&index, |visitor| visitor.index) else {
            return true;
        };
        self.line.remove(at);
        let is_waited_for = self.line.get(at).is_some_and(|next| next.waits);
        if is_waited_for && changed {
            self.heat = (self.heat + 1).min(HEAT_MAX);
        } else if is_waited_for {
            self.heat = self.heat.saturating_sub(1);
        }
        let is_contended = self.heat > 0;
        for (position, visitor) in self.line.iter_mut().enumerate() {
            if position > 0 && is_contended {
                break;
            }
            if std::mem::take(&mut visitor.waits) {
                turn_of(visitor.index);
            }
        }
        is_contended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAN_WAIT: bool = true;

    fn index(position: usize) -> TxIndex {
        TxIndex::new(position)
    }

    fn leave(turns: &mut Turns, position: usize, changed: bool) -> (bool, Vec<usize>) {
        let mut next = Vec::new();
        let is_contended = turns.leave(index(position), changed, |it| next.push(it.get()));
        (is_contended, next)
    }

    #[test]
    fn the_first_in_block_order_has_its_turn() {
        let mut turns = Turns::default();
        turns.note_conflict();
        assert!(turns.enter(index(4), CAN_WAIT));
        assert!(!turns.enter(index(6), CAN_WAIT));
        assert!(!turns.enter(index(5), CAN_WAIT));
        // It comes late, and does not wait for a later one; nor does one that cannot wait.
        assert!(turns.enter(index(2), CAN_WAIT));
        assert!(turns.enter(index(7), !CAN_WAIT));
        assert_eq!([5, 6, 7].map(|it| turns.is_waiting(index(it))), [true, true, false]);
        assert_eq!(leave(&mut turns, 2, true), (true, vec![]));
        assert_eq!(leave(&mut turns, 4, true), (true, vec![5]));
        assert!(!turns.is_waiting(index(5)));
        assert!(turns.enter(index(5), CAN_WAIT));
        assert_eq!(leave(&mut turns, 5, true), (true, vec![6]));
        assert_eq!(leave(&mut turns, 9, true), (true, vec![]));
    }

    #[test]
    fn who_waits_in_vain_ends_it_for_all() {
        let mut turns = Turns::default();
        turns.note_conflict();
        for position in 0..5 {
            assert_eq!(turns.enter(index(position), CAN_WAIT), position == 0);
        }
        assert_eq!(leave(&mut turns, 0, false), (true, vec![1]));
        assert_eq!(leave(&mut turns, 1, false), (false, vec![2, 3, 4]));
    }
}

//! What the calls of one block have been seen to do, by contract and function.
//!
//! Where one call after another is put off at a contended slot, even beginning to execute the next
//! one is work in vain: it is put in line at once. Now and then one is executed all the same, to
//! notice when they go elsewhere. *Must not know*: values, outcomes.

use crate::analyzer::call_of;
use alloy_primitives::Address;
use multilane_state::multi_version::SlotEntry;
use revm::{context::TxEnv, primitives::map::HashMap};
use std::{
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// So many calls in a row that met at a slot are taken for a rule.
const RULE_FROM: u32 = 4;
/// One call in so many is executed as if there were no rule.
const CHECK_EVERY: u32 = 8;

/// A contract, and the selector of a function.
type Call = (Address, [u8; 4]);

/// The habits of a block's calls.
#[derive(Debug, Default)]
pub(crate) struct CallHabits<'block> {
    habits: Mutex<HashMap<Call, Habit<'block>>>,
    /// Whether there are any: in most blocks nobody ever looks into the map.
    is_used: AtomicBool,
}

#[derive(Debug, Default)]
struct Habit<'block> {
    /// Where such calls have been in line lately.
    slot: Option<&'block SlotEntry>,
    /// How many in a row have met there.
    met: u32,
    /// How many were put in line because of it.
    expected: u32,
    /// Whether one has asked a precompile for something whose result is kept.
    computes: bool,
}

impl<'block> CallHabits<'block> {
    /// The slot at which a transaction will be in line, if that can be told.
    pub(crate) fn slot_of(&self, tx: &TxEnv) -> Option<&'block SlotEntry> {
        let mut habits = self.used()?;
        let habit = habits.get_mut(&call_of(tx)?)?;
        let slot = habit.slot.filter(|slot| slot.is_contended())?;
        if habit.met < RULE_FROM || habit.computes {
            return None;
        }
        habit.expected += 1;
        (!habit.expected.is_multiple_of(CHECK_EVERY)).then_some(slot)
    }

    /// Whether an execution may end where it is not its turn. Not if it goes on to compute what
    /// the next one will be glad to find.
    pub(crate) fn can_wait(&self, tx: &TxEnv) -> bool {
        let Some(habits) = self.used() else { return true };
        let habit = call_of(tx).and_then(|call| habits.get(&call));
        habit.is_none_or(|habit| !habit.computes)
    }

    /// Learns from an execution: the slots at which it was in line, and whether it asked a
    /// precompile for something whose result is kept.
    pub(crate) fn learn(&self, tx: &TxEnv, lines: &[&'block SlotEntry], computed: bool) {
        if lines.is_empty() && !computed && !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        let Some(call) = call_of(tx) else { return };
        let mut habits = self.lock();
        let habit = habits.entry(call).or_default();
        habit.computes |= computed;
        if habit.slot.is_some_and(|known| lines.iter().any(|slot| ptr::eq(*slot, known))) {
            habit.met = habit.met.saturating_add(1);
        } else {
            habit.slot = lines.first().copied();
            habit.met = lines.len().min(1) as u32;
        }
        self.is_used.store(true, Ordering::Relaxed);
    }

    /// The habits, if there are any.
    fn used(&self) -> Option<MutexGuard<'_, HashMap<Call, Habit<'block>>>> {
        // Relaxed: whoever does not see it yet executes one transaction more.
        self.is_used.load(Ordering::Relaxed).then(|| self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Call, Habit<'block>>> {
        // A panic elsewhere leaves a habit that is wrong at worst, which costs time only.
        self.habits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Bytes, U256};
    use multilane_state::multi_version::MultiVersionState;
    use revm::primitives::TxKind;

    const COMPUTED: bool = true;

    fn call(contract: u8, selector: u8) -> TxEnv {
        TxEnv {
            kind: TxKind::Call(Address::with_last_byte(contract)),
            data: Bytes::from([selector; 36]),
            ..TxEnv::default()
        }
    }

    #[test]
    fn calls_that_always_meet_are_expected_there() {
        let state = MultiVersionState::with_capacity(2, 2);
        let [slot, other] = [0, 1].map(|key| state.slot(Address::ZERO, U256::from(key)));
        slot.note_conflict();
        other.note_conflict();
        let habits = CallHabits::default();
        let (swap, transfer) = (call(1, 1), call(1, 2));
        assert!(habits.slot_of(&swap).is_none());
        for _ in 0..RULE_FROM {
            assert!(habits.slot_of(&swap).is_none());
            habits.learn(&swap, &[other, slot], !COMPUTED);
            habits.learn(&transfer, &[], !COMPUTED);
        }
        // One in a while is executed to see whether the rule still holds.
        let expected: Vec<_> = (0..CHECK_EVERY).filter_map(|_| habits.slot_of(&swap)).collect();
        assert_eq!(expected.len(), CHECK_EVERY as usize - 1);
        assert!(expected.iter().all(|slot| ptr::eq(*slot, other)));
        assert!(habits.slot_of(&transfer).is_none());
        // Wherever else it goes, there is no rule any more.
        habits.learn(&swap, &[slot], !COMPUTED);
        assert!(habits.slot_of(&swap).is_none());
    }

    #[test]
    fn nobody_is_expected_where_nobody_waits_any_more() {
        let state = MultiVersionState::with_capacity(1, 1);
        let slot = state.slot(Address::ZERO, U256::ZERO);
        let habits = CallHabits::default();
        for _ in 0..RULE_FROM {
            habits.learn(&call(1, 1), &[slot], !COMPUTED);
        }
        assert!(habits.slot_of(&call(1, 1)).is_none());
        slot.note_conflict();
        assert!(habits.slot_of(&call(1, 1)).is_some());
    }

    #[test]
    fn what_computes_is_not_put_off() {
        let state = MultiVersionState::with_capacity(1, 1);
        let slot = state.slot(Address::ZERO, U256::ZERO);
        slot.note_conflict();
        let habits = CallHabits::default();
        let prove = call(1, 1);
        assert!(habits.can_wait(&prove));
        habits.learn(&prove, &[slot], COMPUTED);
        for _ in 0..RULE_FROM {
            habits.learn(&prove, &[slot], !COMPUTED);
        }
        assert!(!habits.can_wait(&prove));
        assert!(habits.slot_of(&prove).is_none());
        assert!(habits.can_wait(&call(1, 2)));
    }
}

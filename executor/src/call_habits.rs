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

/// What is to be expected of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation<'block> {
    /// The contended slot that it will come to, where it is to be in line at once.
    pub(crate) slot: Option<&'block SlotEntry>,
    /// Whether its execution may end where it is not its turn. Not if it goes on to compute what the
    /// next one will be glad to find.
    pub(crate) can_wait: bool,
}

impl Expectation<'_> {
    const NOTHING: Self = Self { slot: None, can_wait: true };
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

impl<'block> Habit<'block> {
    fn expectation(&mut self, is_first: bool) -> Expectation<'block> {
        let is_rule = is_first && self.met >= RULE_FROM && !self.computes;
        let slot = self.slot.filter(|slot| is_rule && slot.is_contended());
        self.expected += u32::from(slot.is_some());
        let is_check = self.expected.is_multiple_of(CHECK_EVERY);
        Expectation { slot: slot.filter(|_| !is_check), can_wait: !self.computes }
    }

    fn learn(&mut self, lines: &[&'block SlotEntry], computed: bool) {
        self.computes |= computed;
        if self.slot.is_some_and(|known| lines.iter().any(|slot| ptr::eq(*slot, known))) {
            self.met = self.met.saturating_add(1);
        } else {
            self.slot = lines.first().copied();
            self.met = lines.len().min(1) as u32;
        }
    }
}

impl<'block> CallHabits<'block> {
    /// What is to be expected of a transaction that is about to be executed. Only one that has not
    /// begun before is put in line.
    pub(crate) fn expect(&self, tx: &TxEnv, is_first: bool) -> Expectation<'block> {
        // Relaxed: whoever does not see the first habit yet executes one transaction more.
        if !self.is_used.load(Ordering::Relaxed) {
            return Expectation::NOTHING;
        }
        let mut habits = self.lock();
        match call_of(tx).and_then(|call| habits.get_mut(&call)) {
            Some(habit) => habit.expectation(is_first),
            None => Expectation::NOTHING,
        }
    }

    /// Learns from an execution: the slots at which it was in line, and whether it asked a
    /// precompile for something whose result is kept.
    pub(crate) fn learn(&self, tx: &TxEnv, lines: &[&'block SlotEntry], computed: bool) {
        let is_habit = !lines.is_empty() || computed;
        if !is_habit && !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        let Some(call) = call_of(tx) else { return };
        let mut habits = self.lock();
        if is_habit {
            habits.entry(call).or_default().learn(lines, computed);
            self.is_used.store(true, Ordering::Relaxed);
        } else if let Some(habit) = habits.get_mut(&call) {
            habit.learn(lines, computed);
        }
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
    const FIRST: bool = true;

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
        assert!(habits.expect(&swap, FIRST).slot.is_none());
        for _ in 0..RULE_FROM {
            assert!(habits.expect(&swap, FIRST).slot.is_none());
            habits.learn(&swap, &[other, slot], !COMPUTED);
            habits.learn(&transfer, &[], !COMPUTED);
        }
        // One in a while is executed to see whether the rule still holds.
        let expected: Vec<_> =
            (0..CHECK_EVERY).filter_map(|_| habits.expect(&swap, FIRST).slot).collect();
        assert_eq!(expected.len(), CHECK_EVERY as usize - 1);
        assert!(expected.iter().all(|slot| ptr::eq(*slot, other)));
        assert!(habits.expect(&swap, !FIRST).slot.is_none());
        assert!(habits.expect(&transfer, FIRST).slot.is_none());
        // Wherever else it goes, there is no rule any more.
        habits.learn(&swap, &[slot], !COMPUTED);
        assert!(habits.expect(&swap, FIRST).slot.is_none());
    }

    #[test]
    fn nobody_is_expected_where_nobody_waits_any_more() {
        let state = MultiVersionState::with_capacity(1, 1);
        let slot = state.slot(Address::ZERO, U256::ZERO);
        let habits = CallHabits::default();
        for _ in 0..RULE_FROM {
            habits.learn(&call(1, 1), &[slot], !COMPUTED);
        }
        assert!(habits.expect(&call(1, 1), FIRST).slot.is_none());
        slot.note_conflict();
        assert!(habits.expect(&call(1, 1), FIRST).slot.is_some());
    }

    #[test]
    fn what_computes_is_not_put_off() {
        let state = MultiVersionState::with_capacity(1, 1);
        let slot = state.slot(Address::ZERO, U256::ZERO);
        slot.note_conflict();
        let habits = CallHabits::default();
        let prove = call(1, 1);
        assert!(habits.expect(&prove, FIRST).can_wait);
        habits.learn(&prove, &[slot], COMPUTED);
        for _ in 0..RULE_FROM {
            habits.learn(&prove, &[slot], !COMPUTED);
        }
        assert!(!habits.expect(&prove, FIRST).can_wait);
        assert!(habits.expect(&prove, FIRST).slot.is_none());
        assert!(habits.expect(&call(1, 2), FIRST).can_wait);
    }
}

//! Sums and differences: one form for offsets and pointers, however code has added them up, and what
//! a write makes of the value before.

use super::{Arena, Node, NodeId, Origin};
use crate::analyzer::learned::access::AccessKind;
use alloy_primitives::U256;
use revm::bytecode::opcode::{ADD, SUB};

/// How many addends a difference may be worked out of.
const ADDENDS_MAX: usize = 16;

impl Arena {
    /// A sum in one form: `x + constant`, with all constants in one, so that an offset is the same
    /// expression however it was added up.
    pub(super) fn sum(&mut self, a: NodeId, b: NodeId) -> Origin {
        let (variable_a, constant_a) = self.split_sum(a);
        let (variable_b, constant_b) = self.split_sum(b);
        let constant = constant_a.wrapping_add(constant_b);
        let variable = match (variable_a, variable_b) {
            (None, None) => return Origin::Constant,
            (Some(one), None) | (None, Some(one)) => Some(one),
            (Some(a), Some(b)) => self.add(Node::Apply(ADD, [a.min(b), a.max(b), a.min(b)])),
        };
        let Some(variable) = variable else { return Origin::Opaque };
        if constant.is_zero() {
            return Origin::Known(variable);
        }
        match self.constant(constant) {
            Some(constant) => self.origin(Node::Apply(ADD, [variable, constant, variable])),
            None => Origin::Opaque,
        }
    }

    fn split_sum(&self, id: NodeId) -> (Option<NodeId>, U256) {
        match self.get(id) {
            Node::Constant(value) => (None, *value),
            Node::Apply(ADD, [variable, constant, _]) => match self.get(*constant) {
                Node::Constant(value) => (Some(*variable), *value),
                _ => (Some(id), U256::ZERO),
            },
            _ => (Some(id), U256::ZERO),
        }
    }

    /// A difference in the form of a sum, if nothing is left of what is subtracted but a constant.
    /// That is how code gets the length of what it has put into memory: two pointers, of which one
    /// is the other one and more.
    pub(super) fn difference(&mut self, from: NodeId, what: NodeId) -> Option<Origin> {
        let (mut addends, constant) = self.addends(from)?;
        let (subtracted, less) = self.addends(what)?;
        for addend in subtracted {
            let at = addends.iter().position(|known| *known == addend)?;
            addends.remove(at);
        }
        let constant = constant.wrapping_sub(less);
        let mut addends = addends.into_iter();
        let Some(mut sum) = addends.next() else { return Some(Origin::Constant) };
        for addend in addends {
            let Origin::Known(more) = self.sum(sum, addend) else { return None };
            sum = more;
        }
        self.plus(sum, constant).map(Origin::Known)
    }

    /// What a slot's new value is, beside what the slot held: that and more, or less.
    pub(in crate::analyzer::learned) fn kind_of_write(
        &self,
        slot: NodeId,
        value: NodeId,
    ) -> AccessKind {
        let is_before = |id: NodeId| matches!(self.get(id), Node::Load(at) if *at == slot);
        let mut rest = value;
        while let Node::Apply(SUB, [from, ..]) = self.get(rest) {
            rest = *from;
        }
        if is_before(rest) {
            return if rest == value { AccessKind::Written } else { AccessKind::Debited };
        }
        let Some((addends, constant)) = self.addends(value) else { return AccessKind::Written };
        let is_count_down = addends.len() == 1 && constant.bit(U256::BITS - 1);
        match addends.iter().filter(|addend| is_before(**addend)).count() {
            1 if is_count_down => AccessKind::Debited,
            1 => AccessKind::Credited,
            _ => AccessKind::Written,
        }
    }

    /// What is added up to a value: expressions that are no sums, and a constant. `None` if there are
    /// too many.
    fn addends(&self, id: NodeId) -> Option<(Vec<NodeId>, U256)> {
        let (mut open, mut addends, mut constant) = (vec![id], Vec::new(), U256::ZERO);
        while let Some(id) = open.pop() {
            match self.get(id) {
                Node::Constant(value) => constant = constant.wrapping_add(*value),
                Node::Apply(ADD, [a, b, _]) => open.extend([*b, *a]),
                _ => addends.push(id),
            }
            if open.len() + addends.len() > ADDENDS_MAX {
                return None;
            }
        }
        Some((addends, constant))
    }

    /// A value and so many more.
    pub(in crate::analyzer::learned) fn plus(&mut self, id: NodeId, more: U256) -> Option<NodeId> {
        let constant = self.constant(more)?;
        match self.sum(id, constant) {
            Origin::Known(sum) => Some(sum),
            Origin::Constant => self.constant(self.split_sum(id).1.wrapping_add(more)),
            Origin::Opaque => None,
        }
    }

    /// How much larger one value is than another, if it always is by the same.
    pub(in crate::analyzer::learned) fn distance(&self, from: NodeId, to: NodeId) -> Option<U256> {
        let ((variable_from, constant_from), (variable_to, constant_to)) =
            (self.split_sum(from), self.split_sum(to));
        (variable_from == variable_to).then(|| constant_to.wrapping_sub(constant_from))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Environment, *};

    #[test]
    fn offsets_are_one_expression_however_they_were_added_up() {
        let mut arena = Arena::default();
        let caller = arena.origin(Node::Environment(Environment::Caller));
        let add = |arena: &mut Arena, origin, constant: u64| {
            arena.apply(ADD, &[(Origin::Constant, U256::from(constant)), (origin, U256::ZERO)])
        };
        let one = add(&mut arena, caller, 4);
        let five = add(&mut arena, one, 1);
        assert_eq!(five, add(&mut arena, caller, 5));
        assert_eq!(caller, add(&mut arena, caller, 0));
    }

    #[test]
    fn what_is_subtracted_again_vanishes() {
        let mut arena = Arena::default();
        let [here, size] = [Environment::This, Environment::CalldataSize]
            .map(|fact| arena.add(Node::Environment(fact)).unwrap());
        let start = arena.plus(here, U256::from(0x80)).unwrap();
        let Origin::Known(both) = arena.sum(start, size) else { panic!("it is no constant") };
        let end = arena.plus(both, U256::from(0x20)).unwrap();
        let difference = |arena: &mut Arena, from, what| {
            arena
                .apply(SUB, &[(Origin::Known(from), U256::ZERO), (Origin::Known(what), U256::ZERO)])
        };
        let length = difference(&mut arena, end, start);
        assert_eq!(arena.plus(size, U256::from(0x20)).map(Origin::Known), Some(length));
        assert_eq!(difference(&mut arena, start, here), Origin::Constant);
        // More is subtracted than there is.
        let Origin::Known(other) = difference(&mut arena, here, size) else { panic!() };
        assert_eq!(*arena.get(other), Node::Apply(SUB, [here, size, here]));
    }

    #[test]
    fn a_balance_is_credited_and_debited() {
        let mut arena = Arena::default();
        let [slot, other] = [1, 2].map(|slot| arena.constant(U256::from(slot)).unwrap());
        let [before, elsewhere] = [slot, other].map(|slot| arena.add(Node::Load(slot)).unwrap());
        let amount = arena.add(Node::Environment(Environment::Value)).unwrap();
        let apply = |arena: &mut Arena, instruction, a: NodeId, b: NodeId| {
            let operands = [a, b].map(|id| (Origin::Known(id), U256::ZERO));
            let Origin::Known(id) = arena.apply(instruction, &operands) else { panic!() };
            id
        };
        let more = apply(&mut arena, ADD, amount, before);
        let one_more = arena.plus(before, U256::ONE).unwrap();
        let less = apply(&mut arena, SUB, before, amount);
        let even_less = apply(&mut arena, SUB, less, elsewhere);
        let one_less = arena.plus(before, U256::MAX).unwrap();
        let mixed = apply(&mut arena, ADD, less, amount);
        let moved = apply(&mut arena, ADD, elsewhere, amount);
        let negated = apply(&mut arena, SUB, amount, before);
        for (value, kind) in [
            (more, AccessKind::Credited),
            (one_more, AccessKind::Credited),
            (less, AccessKind::Debited),
            (even_less, AccessKind::Debited),
            (one_less, AccessKind::Debited),
            (mixed, AccessKind::Written),
            (moved, AccessKind::Written),
            (negated, AccessKind::Written),
            (before, AccessKind::Written),
        ] {
            assert_eq!(arena.kind_of_write(slot, value), kind, "{:?}", arena.get(value));
        }
    }
}

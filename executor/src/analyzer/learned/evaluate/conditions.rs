//! Conditions: which actions of a call are done?

use super::{Evaluator, Extent, Here, StateView};
use crate::analyzer::learned::{
    bits::ones,
    program::{Action, Condition, Deed, Part},
};

impl<V: StateView> Evaluator<'_, V> {
    /// Whether an action is done, by its condition.
    pub(super) fn is_done(&mut self, here: Here<'_>, action: &Action) -> bool {
        match action.condition {
            Condition::Always => return true,
            _ if self.is_cautious && !action.usually => return false,
            // An edge too many costs less than to work out whether it is there. Of several things
            // that may be returned one has to be the right one.
            _ if self.extent == Extent::Contended
                && action.usually
                && !matches!(action.deed, Deed::Output(_)) =>
            {
                return true;
            }
            Condition::Literals(literals) => {
                if let Some(hold) = self.literals(here, literals) {
                    return hold;
                }
            }
            Condition::Neighbours => {}
        }
        let nearest = match self.desk.frames[here.frame].nearest {
            Some(nearest) => nearest,
            None => self.nearest(here),
        };
        nearest >> action.site & 1 == 1
    }

    /// Whether it is beyond doubt that an action is done, by its condition.
    pub(super) fn is_certain(&mut self, here: Here<'_>, action: &Action) -> bool {
        match action.condition {
            Condition::Always => true,
            Condition::Literals(literals) => self.literals(here, literals) == Some(true),
            Condition::Neighbours => false,
        }
    }

    /// Whether no sample has gone the way that a call goes.
    pub(super) fn goes_new_way(&mut self, here: Here<'_>) -> bool {
        !here.program.ways.is_known(|guard| self.guard(here, usize::from(guard)))
    }

    /// Whether all of some literals hold. `None` if that cannot be known.
    fn literals(&mut self, here: Here<'_>, literals: Part) -> Option<bool> {
        // Actions under the same conditions follow one another.
        if let Some((last, hold)) = self.desk.frames[here.frame].literals
            && last == literals
        {
            return hold;
        }
        let mut all = Some(true);
        for literal in &here.program.literals[literals.range()] {
            match self.guard(here, usize::from(literal.guard)) {
                Some(holds) if holds == literal.holds => {}
                Some(_) => {
                    all = Some(false);
                    break;
                }
                None => all = None,
            }
        }
        self.desk.frames[here.frame].literals = Some((literals, all));
        all
    }

    pub(super) fn guard(&mut self, here: Here<'_>, guard: usize) -> Option<bool> {
        let bit = 1_u128 << guard;
        let frame = &mut self.desk.frames[here.frame];
        if frame.asked & bit == 0 {
            frame.asked |= bit;
            let condition = here.program.guards.get(guard).copied().flatten()?;
            if let Some(value) = self.value(here, condition) {
                let frame = &mut self.desk.frames[here.frame];
                frame.known |= bit;
                frame.held |= if value.is_zero() { 0 } else { bit };
            }
        }
        let frame = &self.desk.frames[here.frame];
        (frame.known & bit != 0).then_some(frame.held & bit != 0)
    }

    /// The sites of the samples that are most alike.
    fn nearest(&mut self, here: Here<'_>) -> u128 {
        let majority = &here.program.majority;
        for guard in ones(majority.asked()) {
            self.guard(here, usize::from(guard));
        }
        let frame = &mut self.desk.frames[here.frame];
        let nearest = majority.nearest(frame.known, frame.held);
        frame.nearest = Some(nearest);
        nearest
    }
}

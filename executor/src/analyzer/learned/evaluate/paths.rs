//! Paths: which sites of which templates lead to an access?

use super::{Evaluator, StateView};
use crate::analyzer::learned::{
    desk::Access,
    program::{Action, Deed, Operand, Program, WriteStep},
    template::TemplateKey,
    view::Slot,
};
use multilane_state::StateLocation;

/// The sites, by bits, through which an access is come to: its own first, then for each call around
/// it those of the call.
pub(in crate::analyzer::learned) type Path = Vec<(TemplateKey, u128)>;

impl<V: StateView> Evaluator<'_, V> {
    /// How those of some slots are come to that the transaction accesses. One that is accessed in
    /// several ways is there several times.
    pub(in crate::analyzer::learned) fn paths(&self, slots: &[Slot]) -> Vec<(Slot, Path)> {
        if slots.is_empty() {
            return Vec::new();
        }
        let asked = self.desk.accesses().filter_map(|access| match access.location {
            StateLocation::Slot(address, slot) if slots.contains(&(address, slot)) => {
                Some(((address, slot), self.path(access)?))
            }
            _ => None,
        });
        asked.collect()
    }

    fn path(&self, access: &Access) -> Option<Path> {
        let mut frame = self.desk.frames.iter().find(|frame| frame.id == access.call)?;
        let slot = slot_of(frame.resolved.program.action_at(access.site?)?)?;
        let is_access = |action: &Action| slot_of(action) == Some(slot);
        let mut path = vec![(frame.resolved.key, sites(&frame.resolved.program, is_access))];
        while let Some(place) = (frame.id.0 as usize).checked_sub(1) {
            let parent = self.desk.calls[place].parent;
            frame = self.desk.frames.iter().find(|frame| frame.id == parent)?;
            let number = place - frame.calls;
            let is_call = |action: &Action| matches!(action.deed, Deed::Call(at) if usize::from(at) == number);
            path.push((frame.resolved.key, sites(&frame.resolved.program, is_call)));
        }
        Some(path)
    }
}

/// The slot that an action accesses.
const fn slot_of(action: &Action) -> Option<Operand> {
    match action.deed {
        Deed::Slot(slot, _) | Deed::Write(WriteStep { slot, .. }) => Some(slot),
        Deed::Account(_) | Deed::Call(_) | Deed::Output(_) => None,
    }
}

fn sites(program: &Program, is_wanted: impl Fn(&Action) -> bool) -> u128 {
    let wanted = program.actions.iter().filter(|action| is_wanted(action));
    wanted.fold(0, |sites, action| sites | 1 << action.site)
}

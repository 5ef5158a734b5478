//! Validation: are the reads still what a serial run would have read?
//!
//! Called at the commit frontier, where every earlier transaction is final. An execution is a
//! function of the values that it was served, so one whose served values all stand is the execution
//! that a serial run would have done. That is the only authority by which a result gets out.

use crate::worker::TxOutcome;
use multilane_state::StateLocation;

/// A read that does not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// The outcome is what a serial run gives.
    Valid,
    /// What was read here is not what a serial run reads.
    Conflict(StateLocation),
    /// The execution ended in an error, which on guessed state means nothing.
    Error,
}

/// Validates a speculative outcome.
pub(crate) fn validate(outcome: &TxOutcome<'_>) -> Validity {
    if outcome.result.is_err() {
        return Validity::Error;
    }
    for read in &outcome.accesses.account_reads {
        let stands = read.entry.committed().is_some_and(|actual| read.stands(actual.as_ref()));
        if !stands {
            return Validity::Conflict(StateLocation::Account(read.entry.address()));
        }
    }
    for read in &outcome.accesses.slot_reads {
        if !read.stands() {
            read.entry.note_conflict();
            return Validity::Conflict(StateLocation::Slot(
                read.entry.address(),
                read.entry.slot(),
            ));
        }
    }
    Validity::Valid
}

//! Block access lists (EIP-7928): which accounts and slots a block accesses, and the value that
//! each change leaves.
//!
//! - [`AccessJournal`] notes accesses as they become final, and makes the list of them;
//! - [`PostValues`] reads a list as the values that each transaction finds;
//! - [`first_deviation`] says where a list differs from what a block really did.
//!
//! In a list, index 0 is what happens before the first transaction, `i + 1` is transaction `i`, and
//! the last index is what happens after the last transaction. *Must not know*: who executes, or
//! whether a list is to be trusted.

mod deviation;
mod journal;
mod post_values;
#[cfg(test)]
mod tests;

pub use deviation::{AccessListError, Deviation, Recorded, check_form, first_deviation};
pub use journal::AccessJournal;
pub use post_values::PostValues;

use crate::TxIndex;
use alloy_eips::eip7928::BlockAccessIndex;

/// The index in a list of whoever writes; nobody is what comes before the first transaction.
fn index_of(writer: Option<TxIndex>) -> BlockAccessIndex {
    writer.map_or(BlockAccessIndex::PRE_EXECUTION, |writer| {
        BlockAccessIndex::from_tx_index(writer.get() as u64)
    })
}

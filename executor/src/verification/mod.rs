//! Is an execution right? Two independent questions, and no execution here.
//!
//! - [`verify_block`]: does the output agree with what the block's own header commits to?
//! - [`compare_outputs`]: do two engines agree with each other, down to the reverts?
//!
//! This module must not know how an output was produced, nor where a block or its state comes from.

mod check;
mod comparison;
mod header_commitments;
mod intermediate_roots;
mod state_roots;
#[cfg(test)]
mod tests;

pub use check::{Check, CheckKind, CheckOutcome};
pub use comparison::{Difference, DifferencePlace, compare_outputs};
pub use header_commitments::verify_block;
pub use intermediate_roots::IntermediateRoots;
pub use state_roots::StateRoots;

//! Learned predictions: how accessed locations follow from a call, found out from earlier calls.
//!
//! ```text
//!   committed transaction ─▶ replay ─▶ record ─▶ samples ─▶ template ─┐
//!                                                                     ▼
//!   coming transaction ───────────────▶ evaluate ◀─────────────── profile
//!                                          ▼
//!                                   expected accesses
//! ```
//!
//! For each function of each code ([`TemplateKey`](template::TemplateKey)) there is a
//! [`template`]: the slots, accounts and inner calls of the function as
//! [`expression`]s over its calldata, caller, value and what it loads. [`record`] finds the
//! expressions by following an execution instruction by instruction; [`evaluate`] computes them for
//! a call that has not been executed yet. Inner calls have templates of their own, so a router's
//! template and a pair's make one prediction for a pair that has never been seen with this router.
//!
//! *Must not know*: schedules. What is learned is advice; the same block with any profile gives the
//! same output.

mod access;
mod ahead;
mod allowance;
mod arithmetic;
mod bits;
mod block;
mod byte_arena;
mod code_shape;
mod codec;
mod compile;
mod contention;
mod desk;
mod evaluate;
mod excerpt;
mod expression;
mod forecaster;
mod learner;
mod majority;
mod memo;
mod memory;
mod pool;
mod predictor;
mod profile;
mod program;
mod record;
mod replay;
mod resolver;
mod selection;
mod standing;
mod template;
mod traffic;
mod verdict;
mod view;
mod ways;

pub use access::{AccessKind, LearnedAccess};
pub use codec::ProfileError;
pub(crate) use contention::{Contention, Foreseen, NEAR as CONTENTION_NEAR};
pub(crate) use excerpt::excerpt;
pub use forecaster::LearnedPrediction;
pub(crate) use learner::{BlockPredictions, Learner};
pub use predictor::ProfilePredictor;
pub use profile::Profile;

#[cfg(test)]
mod tests;

//! State for parallel EVM execution.
//!
//! This crate holds everything that a block executor needs to know *about* state, and nothing about
//! how a block is scheduled:
//!
//! - [`BlockInput`] and [`BlockOutput`]: the two ends of the pipeline;
//! - [`ChainSpec`]: which rules apply to which block;
//! - [`access_list`]: block access lists (EIP-7928), recorded, compared, and read as values;
//! - [`StateLocation`]: the full key under which a transaction reads or writes;
//! - [`Prestate`]: read-only parent state, from a dump, a prestate trace, or a [`Witness`] whose trie
//!   nodes prove every value against the parent's state root;
//! - [`WitnessTrie`]: the post-state root over the same witness.
//!
//! It starts no threads, and it does not know revm's handler, files or the command line.

pub mod access_list;
mod block;
mod chain_spec;
mod code;
mod error;
mod location;
pub mod multi_version;
mod prestate;
mod prestate_trace;
mod trie;
mod version;
mod witness;

pub use block::{BlockInput, BlockOutput};
pub use chain_spec::ChainSpec;
pub use code::{analyse_code, unshared_code};
pub use error::StateError;
pub use location::StateLocation;
pub use prestate::{Prestate, PrestateAccount};
pub use trie::WitnessTrie;
pub use version::TxIndex;
pub use witness::{Witness, WitnessState};

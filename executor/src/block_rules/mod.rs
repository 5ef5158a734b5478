//! The rules that a block must keep before it is worth executing.
//!
//! Execution judges transactions against state; [`verify_block`](crate::verification::verify_block)
//! judges the header against what execution produced. What is left is here, and needs no state:
//!
//! - [`check_header`]: a header against its parent, fork by fork;
//! - [`check_body`]: transactions, ommers and withdrawals against their own header.
//!
//! Transaction types by fork, chain ids, the gas cap of EIP-7825 and the number of blobs in one
//! transaction are revm's to judge and not repeated here.
//!
//! Not judged anywhere in this crate: proof of work (difficulty adjustment, mix hash, nonce), the
//! kinship of ommers, and the consensus layer.

mod body;
mod error;
mod header;
#[cfg(test)]
mod tests;

pub use body::{MAX_RLP_BLOCK_SIZE, check_body};
pub use error::{BlockRuleError, HeaderField};
pub use header::check_header;

//! What is known of a block's state roots.

use alloy_primitives::B256;
use std::borrow::Cow;

/// State roots computed beside an execution, or the reasons why they could not be.
///
/// They come from whoever holds the state as a trie; an output alone has no root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRoots {
    /// The root after the whole block.
    pub after_block: Result<B256, Cow<'static, str>>,
    /// The root after each transaction. Only receipts before Byzantium carry it (EIP-658), so it
    /// is not asked for in later blocks; see [`IntermediateRoots`](super::IntermediateRoots).
    pub after_transactions: Result<Vec<B256>, Cow<'static, str>>,
}

impl StateRoots {
    /// No roots, for one reason.
    pub fn unavailable(reason: impl Into<Cow<'static, str>>) -> Self {
        let reason = reason.into();
        Self { after_block: Err(reason.clone()), after_transactions: Err(reason) }
    }

    /// Adds the root after the whole block, or why there is none.
    #[must_use]
    pub fn with_after_block(mut self, root: Result<B256, impl Into<Cow<'static, str>>>) -> Self {
        self.after_block = root.map_err(Into::into);
        self
    }

    /// Adds the roots after each transaction, or why there are none.
    #[must_use]
    pub fn with_after_transactions(
        mut self,
        roots: Result<Vec<B256>, impl Into<Cow<'static, str>>>,
    ) -> Self {
        self.after_transactions = roots.map_err(Into::into);
        self
    }
}

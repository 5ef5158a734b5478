//! A block that is measured, with the state that it starts from.

use multilane::state::{BlockInput, ChainSpec};
use revm::DatabaseRef;
use std::error::Error;

/// State that every arm can read: all threads through one reference, or each from a copy.
pub(crate) trait State:
    DatabaseRef<Error: Error + Send + Sync + 'static> + Clone + Send + Sync
{
}

impl<DB> State for DB where
    DB: DatabaseRef<Error: Error + Send + Sync + 'static> + Clone + Send + Sync
{
}

/// A block and its prestate, wherever they come from.
#[derive(Debug)]
pub(crate) struct Case<'a, DB> {
    pub(crate) chain: &'a ChainSpec,
    pub(crate) block: &'a BlockInput,
    pub(crate) prestate: &'a DB,
    /// Whether the transactions have nothing in common, so that shares of the block can run alone.
    pub(crate) is_independent: bool,
}

impl<DB> Clone for Case<'_, DB> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<DB> Copy for Case<'_, DB> {}

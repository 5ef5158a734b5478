//! Block access lists (EIP-7928) that somebody else made: what they are worth to an execution.
//!
//! A list says which value each change of a block leaves. Speculative readers are served these
//! values, so with a list that is right nothing is ever executed in vain and nobody waits for
//! anybody. What was served is validated at the frontier as always, so a list that is wrong changes
//! how long a block takes, and not what comes out. Where a list is *enforced*, the block is held
//! against it in the end, or where an execution on final state first finds what the list denies.

use crate::{ExecutionError, worker::Accesses};
use alloy_eips::eip7928::{BlockAccessIndex, BlockAccessList};
use alloy_evm::block::BlockValidationError;
use multilane_state::{
    TxIndex,
    access_list::{
        AccessJournal, AccessListError, PostValues, Recorded, check_form, first_deviation,
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// A list that has led to more conflicts than this is not asked any more.
///
/// Not one: before Cancun a contract's end wipes slots that its block's list does not name.
const CONFLICTS_MAX: usize = 4;

/// What is known about a block's accesses before it is executed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum AccessHints {
    /// Nothing but the block itself.
    #[default]
    None,
    /// A block access list as advice. The result is the same whatever it says.
    Advisory(Arc<BlockAccessList>),
    /// A block access list that is part of the block. If it is not exactly that of the execution,
    /// the block is invalid.
    Enforced(Arc<BlockAccessList>),
}

impl AccessHints {
    /// The list, if there is one.
    pub(crate) const fn list(&self) -> Option<&Arc<BlockAccessList>> {
        match self {
            Self::None => None,
            Self::Advisory(list) | Self::Enforced(list) => Some(list),
        }
    }

    /// The list that the block has to have.
    pub(crate) const fn enforced(&self) -> Option<&Arc<BlockAccessList>> {
        match self {
            Self::None | Self::Advisory(_) => None,
            Self::Enforced(list) => Some(list),
        }
    }

    /// Whether the list that a block of so many transactions has to have can be anybody's at all.
    /// It costs a look at the list, and what it refuses need not be executed.
    pub(crate) fn check_form(&self, transactions: usize) -> Result<(), ExecutionError> {
        let Some(enforced) = self.enforced() else { return Ok(()) };
        check_form(enforced, transactions).map_err(|error| refused(error, transactions))
    }

    /// Holds a block of so many transactions against the list that it has to have, up to the one
    /// that `failed`, if one did. What deviates before it is what is wrong with the block.
    pub(crate) fn check(
        &self,
        journal: &AccessJournal<'_>,
        list: &BlockAccessList,
        transactions: usize,
        failed: Option<usize>,
    ) -> Result<(), ExecutionError> {
        let Some(enforced) = self.enforced() else { return Ok(()) };
        let end = failed.map(|transaction| BlockAccessIndex::from_tx_index(transaction as u64));
        let recorded = Recorded { list, transactions, end };
        first_deviation(enforced, recorded, |location| journal.first_access(location))
            .map_err(|error| refused(error, transactions))
    }
}

/// A block of so many transactions whose list is not its own.
fn refused(error: AccessListError, transactions: usize) -> ExecutionError {
    ExecutionError::InvalidBlock {
        transaction: error.transaction(transactions),
        cause: BlockValidationError::other(error),
    }
}

/// The values that speculative readers are served, as long as they turn out right.
#[derive(Debug)]
pub(crate) struct Foretold {
    values: PostValues,
    conflicts: AtomicUsize,
    /// Whether the execution is to end where the list turns out wrong.
    is_law: bool,
    refuted: AtomicBool,
}

impl Foretold {
    /// `is_law` says whether the execution is to end where the list turns out wrong.
    pub(crate) fn new(list: Arc<BlockAccessList>, is_law: bool) -> Self {
        Self {
            values: PostValues::new(list),
            conflicts: AtomicUsize::new(0),
            is_law,
            refuted: AtomicBool::new(false),
        }
    }

    /// Whether the execution ends here: on final state, the transaction has found what the list
    /// denies.
    ///
    /// Only what is executed at the frontier is looked at: with a list that is right that is next to
    /// nothing, and a list that misleads anybody has the misled executed again there.
    pub(crate) fn is_refuted_by(&self, reader: TxIndex, accesses: &Accesses<'_>) -> bool {
        if !self.is_law {
            return false;
        }
        let account = accesses.account_reads.iter().any(|read| {
            self.values.account(read.entry.address(), reader, read.served) != read.served
        });
        let refuted = account
            || accesses.slot_reads.iter().any(|read| {
                let listed = self.values.slot(read.entry.address(), read.entry.slot(), reader);
                listed.is_some_and(|value| value != read.served)
            });
        if refuted {
            // Relaxed: read when the workers have ended.
            self.refuted.store(true, Ordering::Relaxed);
        }
        refuted
    }

    /// Whether the execution has ended because of the list.
    pub(crate) fn was_refuted(&self) -> bool {
        self.refuted.load(Ordering::Relaxed)
    }

    /// The values, unless they have been wrong too often.
    pub(crate) fn values(&self) -> Option<&PostValues> {
        // Relaxed: whoever learns of it late is served a few more wrong values.
        (self.conflicts.load(Ordering::Relaxed) <= CONFLICTS_MAX).then_some(&self.values)
    }

    /// Notes that somebody was served something wrong.
    pub(crate) fn note_conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }
}

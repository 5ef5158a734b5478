//! State roots after each transaction, which receipts carry before Byzantium.

use alloy_evm::eth::dao_fork::{DAO_HARDFORK_ACCOUNTS, DAO_HARDFORK_BENEFICIARY};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks};
use alloy_primitives::{Address, B256, U256};
use multilane_state::{BlockInput, ChainSpec};
use revm::{
    DatabaseRef,
    state::{Account, EvmState, TransactionId},
};
use std::{borrow::Cow, error::Error};

/// A state trie that follows transactions.
pub trait RootTracker {
    /// Why changes could not be applied, or the root not computed.
    type Error: Error;

    /// Applies the finalized changes of one transaction, as revm would commit them.
    ///
    /// # Errors
    ///
    /// If the trie does not hold what the changes need.
    fn apply(&mut self, changes: &EvmState) -> Result<(), Self::Error>;

    /// The state root after everything that was applied.
    ///
    /// # Errors
    ///
    /// If the trie does not hold what the root needs.
    fn root(&mut self) -> Result<B256, Self::Error>;
}

/// Collects the state root after each transaction of a block.
///
/// Its [`observe`](Self::observe) is meant as the observer of
/// [`sequential::execute_block_observed`](crate::sequential::execute_block_observed). A failure
/// does not stop the execution that is observed; it becomes the reason for which there are no roots.
#[derive(Debug)]
pub struct IntermediateRoots<T> {
    tracker: T,
    roots: Vec<B256>,
    /// Accounts whose balance was moved before the first transaction.
    moved: Vec<Address>,
    failure: Option<Cow<'static, str>>,
}

impl<T: RootTracker> IntermediateRoots<T> {
    /// Whether the receipts of a block carry state roots (before EIP-658).
    pub fn needed(chain: &ChainSpec, block: &BlockInput) -> bool {
        !chain.is_byzantium_active_at_block(block.header.number)
    }

    /// Starts from a trie of the state before a block, read from `parent` where the block's fork
    /// changes it before the first transaction.
    ///
    /// That is the DAO fork (EIP-779): the chain moves the balances before the fork block's
    /// transactions, alloy-evm does so after them. The roots in between show the chain's order.
    pub fn new<DB: DatabaseRef<Error: Error>>(
        chain: &ChainSpec,
        block: &BlockInput,
        parent: &DB,
        tracker: T,
    ) -> Self {
        let mut roots = Self { tracker, roots: Vec::new(), moved: Vec::new(), failure: None };
        let dao_fork = chain.ethereum_fork_activation(EthereumHardfork::Dao);
        if dao_fork.transitions_at_block(block.header.number) {
            roots.move_dao_balances(parent);
        }
        roots
    }

    /// Applies the changes of the next transaction and notes the root after it.
    pub fn observe(&mut self, transaction: usize, changes: &EvmState) {
        if self.failure.is_some() {
            return;
        }
        if let Some(address) =
            self.moved.iter().find(|address| changes.get(*address).is_some_and(Account::is_touched))
        {
            // Its balance as executed is the one from before the move.
            self.failure = Some(Cow::Owned(format!(
                "transaction {transaction} touches {address}, whose balance the fork moves"
            )));
            return;
        }
        match self.tracker.apply(changes).and_then(|()| self.tracker.root()) {
            Ok(root) => self.roots.push(root),
            Err(error) => {
                self.failure = Some(Cow::Owned(format!(
                    "state root after transaction {transaction}: {error}"
                )));
            }
        }
    }

    /// The roots in transaction order, or the first thing that went wrong.
    ///
    /// # Errors
    ///
    /// The reason, fit for [`StateRoots::with_after_transactions`](super::StateRoots).
    pub fn finish(self) -> Result<Vec<B256>, Cow<'static, str>> {
        match self.failure {
            Some(reason) => Err(reason),
            None => Ok(self.roots),
        }
    }

    fn move_dao_balances<DB: DatabaseRef<Error: Error>>(&mut self, parent: &DB) {
        let failure = match dao_balance_changes(parent) {
            Ok(changes) => {
                self.moved = DAO_HARDFORK_ACCOUNTS.to_vec();
                self.moved.push(DAO_HARDFORK_BENEFICIARY);
                self.tracker.apply(&changes).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        self.failure = failure.err().map(|cause| Cow::Owned(format!("DAO fork: {cause}")));
    }
}

/// EIP-779's irregular change as if a transaction had made it.
fn dao_balance_changes<DB: DatabaseRef>(parent: &DB) -> Result<EvmState, DB::Error> {
    let load = |address| {
        Ok(match parent.basic_ref(address)? {
            Some(info) => Account::from(info),
            None => Account::new_not_existing(TransactionId::ZERO),
        })
    };
    let mut changes = EvmState::default();
    let mut total = U256::ZERO;
    for address in DAO_HARDFORK_ACCOUNTS {
        let mut account = load(address)?;
        if account.info.balance == U256::ZERO {
            continue;
        }
        total += core::mem::take(&mut account.info.balance);
        account.mark_touch();
        if account.is_empty() {
            // Before EIP-161 an emptied account stays.
            account.mark_created();
        }
        changes.insert(address, account);
    }
    let mut beneficiary = load(DAO_HARDFORK_BENEFICIARY)?;
    beneficiary.info.balance += total;
    beneficiary.mark_touch();
    changes.insert(DAO_HARDFORK_BENEFICIARY, beneficiary);
    Ok(changes)
}

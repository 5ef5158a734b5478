//! State roots after each transaction, which receipts carry before Byzantium.

use alloy_evm::eth::dao_fork::{DAO_HARDFORK_ACCOUNTS, DAO_HARDFORK_BENEFICIARY};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks};
use alloy_primitives::{Address, B256, U256};
use multilane_state::{BlockInput, ChainSpec, StateError, WitnessTrie};
use revm::{
    primitives::KECCAK_EMPTY,
    state::{Account, EvmState},
};
use std::borrow::Cow;

/// Collects the state root after each transaction of a block.
///
/// Its [`observe`](Self::observe) is meant as the observer of
/// [`sequential::execute_block_observed`](crate::sequential::execute_block_observed). A failure
/// does not stop the execution that is observed; it becomes the reason for which there are no roots.
#[derive(Debug)]
pub struct IntermediateRoots {
    trie: WitnessTrie,
    roots: Vec<B256>,
    /// Accounts whose balance was moved before the first transaction.
    moved: Vec<Address>,
    failure: Option<Cow<'static, str>>,
}

impl IntermediateRoots {
    /// Whether the receipts of a block carry state roots (before EIP-658).
    pub fn needed(chain: &ChainSpec, block: &BlockInput) -> bool {
        !chain.is_byzantium_active_at_block(block.header.number)
    }

    /// Starts from the trie of the state before a block.
    ///
    /// At the DAO fork (EIP-779) the chain moves balances before the fork block's transactions,
    /// alloy-evm does so after them. The roots in between show the chain's order.
    pub fn new(chain: &ChainSpec, block: &BlockInput, parent: WitnessTrie) -> Self {
        let mut roots = Self { trie: parent, roots: Vec::new(), moved: Vec::new(), failure: None };
        let dao_fork = chain.ethereum_fork_activation(EthereumHardfork::Dao);
        if dao_fork.transitions_at_block(block.header.number) {
            roots.moved = DAO_HARDFORK_ACCOUNTS.to_vec();
            roots.moved.push(DAO_HARDFORK_BENEFICIARY);
            if let Err(error) = move_dao_balances(&mut roots.trie) {
                roots.failure =
                    Some(Cow::Owned(format!("moving balances at the DAO fork: {error}")));
            }
        }
        roots
    }

    /// Applies the changes of the next transaction and notes the root after it.
    pub fn observe(&mut self, transaction: usize, changes: &EvmState) {
        if self.failure.is_some() {
            return;
        }
        let touched = |address: &&Address| changes.get(*address).is_some_and(Account::is_touched);
        if let Some(address) = self.moved.iter().find(touched) {
            // What it executed on is the balance before the move.
            self.failure = Some(Cow::Owned(format!(
                "transaction {transaction} touches {address}, whose balance the fork moves"
            )));
            return;
        }
        match self.trie.apply_evm_state(changes).and_then(|()| self.trie.root()) {
            Ok(root) => self.roots.push(root),
            Err(error) => {
                self.failure = Some(Cow::Owned(format!(
                    "state root after transaction {transaction}: {error}"
                )));
            }
        }
    }

    /// The roots in transaction order.
    ///
    /// # Errors
    ///
    /// The first thing that went wrong, as a reason for
    /// [`StateRoots::with_after_transactions`](super::StateRoots::with_after_transactions).
    pub fn finish(self) -> Result<Vec<B256>, Cow<'static, str>> {
        match self.failure {
            Some(reason) => Err(reason),
            None => Ok(self.roots),
        }
    }
}

/// EIP-779's irregular change: the DAO's balances go to the refund contract.
fn move_dao_balances(trie: &mut WitnessTrie) -> Result<(), StateError> {
    let mut total = U256::ZERO;
    for address in DAO_HARDFORK_ACCOUNTS {
        if let Some(account) = trie.account(address)? {
            total += account.balance;
            trie.set_account(address, U256::ZERO, account.nonce, account.code_hash)?;
        }
    }
    let (balance, nonce, code_hash) = match trie.account(DAO_HARDFORK_BENEFICIARY)? {
        Some(account) => (account.balance, account.nonce, account.code_hash),
        None => (U256::ZERO, 0, KECCAK_EMPTY),
    };
    trie.set_account(DAO_HARDFORK_BENEFICIARY, balance + total, nonce, code_hash)
}

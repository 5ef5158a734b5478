//! Other EVMs than mainnet's.
//!
//! A worker executes transactions with revm's mainnet EVM unless it is given a backend. A backend
//! builds the EVM inside each worker, over a database that records what is read. It says where its
//! EVM is like mainnet's, so that what is gained from knowing mainnet (payments that commute, fees
//! that are added at the commit frontier, transfers by arithmetic) is gained there alone. *Must not
//! know*: when its transactions run, or how often.

mod database;
mod evm_factory;
mod mainnet;

pub use database::BackendDb;
pub(crate) use database::Recorder;
pub use evm_factory::FactoryBackend;
pub use mainnet::MainnetEvm;

use crate::SourceError;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, U256};
use revm::{
    context::TxEnv,
    context_interface::result::{EVMError, HaltReason, ResultAndState},
};

/// Builds the EVM inside each worker.
///
/// [`ParallelExecutor::with_backend`](crate::ParallelExecutor::with_backend) puts it in the place of
/// revm's mainnet EVM. Any EVM will do that reads from a [`BackendDb`] and gives a revm result: one
/// with other precompiles ([`MainnetEvm`]), another handler, or another interpreter altogether.
/// [`FactoryBackend`] is one for any fitting alloy-evm `EvmFactory`.
///
/// The EVM has to be a function of what it reads: of the database, the environment and the
/// transaction. A precompile that keeps state of its own, beside the journal, is to be named in
/// [`BackendRules::ordered`].
pub trait EvmBackend: Send + Sync {
    /// What its EVM has in common with mainnet's, in a block with this environment.
    ///
    /// Nothing, unless it says otherwise: then every read of an account has to stand in all its
    /// parts, and each transaction is executed by the EVM.
    fn rules(&self, env: &EvmEnv) -> BackendRules {
        let _ = env;
        BackendRules::default()
    }

    /// Builds an EVM, in the thread that will use it, for one block.
    ///
    /// The database is read by transactions alone: what is read here belongs to none.
    fn create_evm<'evm>(
        &'evm self,
        env: &EvmEnv,
        db: BackendDb<'evm>,
    ) -> Box<dyn BackendEvm + 'evm>;
}

/// A worker's EVM.
pub trait BackendEvm {
    /// Executes a transaction as if it were the next one of the block, on what its database shows.
    ///
    /// The result has all accounts and slots that were read or written, as revm's `transact` has
    /// them. Nothing of a transaction may be left in the EVM, whatever became of it.
    ///
    /// # Errors
    ///
    /// What makes the transaction invalid, or the error of the database. Where a read has failed, the
    /// transaction has, whatever is given here.
    fn transact(&mut self, tx: &TxEnv) -> Result<BackendOutcome, EVMError<SourceError>>;
}

/// What a backend's EVM has in common with mainnet's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendRules {
    /// Whether the EVM tells its database of each use of a balance or a nonce, so that payments to
    /// one account commute. See [`BackendDb::watch`].
    ///
    /// It holds only where mainnet's payments commute: from Spurious Dragon up to Osaka.
    pub balances_commute: bool,
    /// Whether a payment from an account without code to another one does what it does on mainnet,
    /// fee included. Such payments are then not executed but worked out, where balances commute.
    pub plain_transfers: bool,
    /// Accounts without code that do something when they are called, beside mainnet's precompiles.
    /// A payment to one of them is no plain transfer.
    pub precompiles: Vec<Address>,
    /// Accounts whose precompiles keep state beside the journal. Transactions that look at one of
    /// them run in the order of the block, each once, when all before it are final.
    pub ordered: Vec<Address>,
}

impl BackendRules {
    /// Those of an EVM that is mainnet's in all but its precompiles.
    pub fn mainnet() -> Self {
        Self { balances_commute: true, plain_transfers: true, ..Self::default() }
    }

    /// The same for a chain whose payments do other things: they are executed.
    #[must_use]
    pub fn without_plain_transfers(mut self) -> Self {
        self.plain_transfers = false;
        self
    }

    /// Adds precompiles.
    #[must_use]
    pub fn with_precompiles(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.precompiles.extend(addresses);
        self
    }

    /// Adds precompiles that keep state beside the journal.
    #[must_use]
    pub fn with_ordered(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.ordered.extend(addresses);
        self
    }
}

/// What a backend's EVM made of a transaction.
#[derive(Debug)]
#[non_exhaustive]
pub struct BackendOutcome {
    /// The result, with the accounts and slots that were read or written.
    pub result: ResultAndState<HaltReason>,
    /// Payments that the rules make at the end of the transaction, and that the result has not.
    ///
    /// Every transaction pays the same few accounts, so each would depend on the one before if the
    /// EVM read their balances to pay them. These are added when the transaction commits; but an
    /// account that the transaction itself has looked at is paid at once.
    pub owed: Vec<Payment>,
    /// The least balance of the sender, before the transaction, with which its execution would have
    /// gone the same way, in wei. `None` if it depends on the very balance. Asked for where
    /// [balances commute](BackendRules::balances_commute).
    pub sender_balance_min: Option<U256>,
}

impl From<ResultAndState<HaltReason>> for BackendOutcome {
    /// A result that is complete, and for which the sender's balance matters.
    fn from(result: ResultAndState<HaltReason>) -> Self {
        Self { result, owed: Vec::new(), sender_balance_min: None }
    }
}

impl BackendOutcome {
    /// Leaves payments for later.
    #[must_use]
    pub fn with_owed(mut self, owed: impl IntoIterator<Item = Payment>) -> Self {
        self.owed.extend(owed);
        self
    }

    /// Says what the sender has to have, in wei.
    #[must_use]
    pub const fn with_sender_balance_min(mut self, balance: U256) -> Self {
        self.sender_balance_min = Some(balance);
        self
    }
}

/// A payment that takes from nobody: what is paid has been taken from the sender already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Who is paid.
    pub to: Address,
    /// How much, in wei. An empty account that is paid nothing is touched all the same (EIP-161).
    pub amount: U256,
}

/// Ethereum mainnet: what a [`ParallelExecutor`](crate::ParallelExecutor) executes unless it is
/// [given a backend](crate::ParallelExecutor::with_backend).
#[derive(Clone, Copy, Debug)]
pub enum Mainnet {}

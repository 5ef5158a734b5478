//! What a backend's EVM reads from.

use crate::error::{SourceError, SourceFailure};
use alloy_evm::eth::EthEvmContext;
use alloy_primitives::{Address, B256, U256};
use core::fmt;
use revm::{
    Database,
    handler::instructions::EthInstructions,
    interpreter::interpreter::EthInterpreter,
    state::{AccountId, AccountInfo, Bytecode},
};
use std::{cell::RefCell, rc::Rc};

/// A database that records what an execution depends on.
pub(crate) trait Recorder: alloy_evm::Database<Error = SourceError> {
    /// Reads an account. What a transaction reads twice is the same.
    fn basic_once(&mut self, address: Address) -> Result<Option<AccountInfo>, SourceError>;

    /// Notes that the execution saw the balance of an account.
    fn balance_was_seen(&mut self, address: Address);

    /// Notes that the execution checked that `balance`, the account's balance at that moment,
    /// covers `needed`.
    fn balance_was_checked(&mut self, address: Address, balance: U256, needed: U256);

    /// Notes that the execution depended on the very nonce of an account.
    fn nonce_was_seen(&mut self, address: Address);

    /// keccak-256 of the key and the number of a mapping.
    fn mapping_hash(&mut self, input: &[u8; 64]) -> B256;
}

/// The database of a backend's EVM: the state that the next transaction finds, as far as that is
/// known. Whatever is read is recorded.
///
/// An EVM whose payments are to [commute](super::BackendRules::balances_commute) also tells what a
/// balance and a nonce were read *for*: [`watch`](Self::watch) does that for revm's instructions.
/// What the rules around a transaction ask of its sender, and the authorities of EIP-7702, are
/// noted without that.
///
/// Clones are handles on the same database.
#[derive(Clone)]
pub struct BackendDb<'evm> {
    recorder: Rc<RefCell<dyn Recorder + 'evm>>,
    /// Learns of reads that fail, in case that the EVM tells nobody.
    failure: SourceFailure,
}

impl<'evm> BackendDb<'evm> {
    pub(crate) const fn new(
        recorder: Rc<RefCell<dyn Recorder + 'evm>>,
        failure: SourceFailure,
    ) -> Self {
        Self { recorder, failure }
    }

    /// Has revm's instructions tell the database what they use balances and nonces for, at the gas
    /// that they cost in the table.
    ///
    /// An instruction of the caller's own that sees or checks a balance has to do so by itself.
    pub fn watch(instructions: &mut EthInstructions<EthInterpreter, EthEvmContext<Self>>) {
        crate::worker::watch_balances(instructions);
    }

    fn note<T>(&self, read: Result<T, SourceError>) -> Result<T, SourceError> {
        read.inspect_err(|error| self.failure.report(error.clone()))
    }

    /// The execution saw the balance of an account that it has read.
    pub fn balance_was_seen(&mut self, address: Address) {
        self.recorder.borrow_mut().balance_was_seen(address);
    }

    /// The execution checked that `balance`, the account's balance at that moment in wei, covers
    /// `needed`.
    pub fn balance_was_checked(&mut self, address: Address, balance: U256, needed: U256) {
        self.recorder.borrow_mut().balance_was_checked(address, balance, needed);
    }

    /// The execution depended on the very nonce of an account that it has read.
    pub fn nonce_was_seen(&mut self, address: Address) {
        self.recorder.borrow_mut().nonce_was_seen(address);
    }
}

impl Database for BackendDb<'_> {
    type Error = SourceError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, SourceError> {
        let read = self.recorder.borrow_mut().basic_once(address);
        self.note(read)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, SourceError> {
        let read = self.recorder.borrow_mut().code_by_hash(code_hash);
        self.note(read)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, SourceError> {
        let read = self.recorder.borrow_mut().storage(address, slot);
        self.note(read)
    }

    fn storage_by_account_id(
        &mut self,
        address: Address,
        account_id: AccountId,
        slot: U256,
    ) -> Result<U256, SourceError> {
        let read = self.recorder.borrow_mut().storage_by_account_id(address, account_id, slot);
        self.note(read)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, SourceError> {
        let read = self.recorder.borrow_mut().block_hash(number);
        self.note(read)
    }
}

impl Recorder for BackendDb<'_> {
    fn basic_once(&mut self, address: Address) -> Result<Option<AccountInfo>, SourceError> {
        self.basic(address)
    }

    fn balance_was_seen(&mut self, address: Address) {
        Self::balance_was_seen(self, address);
    }

    fn balance_was_checked(&mut self, address: Address, balance: U256, needed: U256) {
        Self::balance_was_checked(self, address, balance, needed);
    }

    fn nonce_was_seen(&mut self, address: Address) {
        Self::nonce_was_seen(self, address);
    }

    fn mapping_hash(&mut self, input: &[u8; 64]) -> B256 {
        self.recorder.borrow_mut().mapping_hash(input)
    }
}

impl fmt::Debug for BackendDb<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendDb").finish_non_exhaustive()
    }
}

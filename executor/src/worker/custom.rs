//! A worker's EVM that is not mainnet's.

use super::{Accesses, Deferred, Executed, Reads, TxOutcome, WorkerDb};
use crate::{
    backend::{BackendDb, BackendEvm, BackendOutcome, EvmBackend, Payment, Recorder},
    error::{SourceError, SourceFailure},
};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, map::AddressSet};
use core::fmt;
use multilane_state::TxIndex;
use revm::{
    Database,
    context::TxEnv,
    context_interface::result::{EVMError, ResultAndState},
    precompile::{PrecompileSpecId, Precompiles},
    state::EvmState,
};
use std::{cell::RefCell, error::Error, rc::Rc};

/// A backend's EVM, and the database that it shares with the worker.
pub(super) struct CustomEvm<'evm, 'block, DB> {
    backend: &'evm dyn EvmBackend,
    env: EvmEnv,
    pub(super) db: Rc<RefCell<WorkerDb<'block, DB>>>,
    evm: Box<dyn BackendEvm + 'evm>,
    /// A read of the transaction that has failed.
    failure: SourceFailure,
    /// Accounts that do something when they are called, though they have no code.
    precompiles: AddressSet,
}

impl<'evm, 'block, DB> CustomEvm<'evm, 'block, DB>
where
    'block: 'evm,
    DB: Database<Error: Error + Send + Sync + 'static> + 'evm,
{
    pub(super) fn new(
        backend: &'evm dyn EvmBackend,
        env: &EvmEnv,
        db: WorkerDb<'block, DB>,
    ) -> Self {
        let (db, failure) = (Rc::new(RefCell::new(db)), SourceFailure::default());
        let rules = backend.rules(env);
        let spec = PrecompileSpecId::from_spec_id(env.cfg_env.spec);
        let precompiles = Precompiles::new(spec).addresses().copied();
        Self {
            backend,
            env: env.clone(),
            evm: create_evm(backend, env, &db, &failure),
            db,
            failure,
            precompiles: precompiles.chain(rules.precompiles).chain(rules.ordered).collect(),
        }
    }

    /// Whether an account does something when it is called, though it has no code.
    pub(super) fn has_precompile(&self, address: &Address) -> bool {
        self.precompiles.contains(address)
    }

    /// Runs one incarnation of a transaction.
    pub(super) fn execute(
        &mut self,
        index: TxIndex,
        tx: &TxEnv,
        reads: Reads,
        accesses: Accesses<'block>,
    ) -> TxOutcome<'block> {
        self.db.borrow_mut().begin(index, reads, accesses);
        let result = match (self.evm.transact(tx), self.failure.take()) {
            (_, Some(cause)) => Err(EVMError::Database(cause)),
            (result, None) => result,
        };
        let db = &mut *self.db.borrow_mut();
        let result = result.and_then(|outcome| record(db, tx, outcome));
        TxOutcome { result, accesses: std::mem::take(&mut db.accesses) }
    }

    /// Makes it usable again after a panic inside an execution.
    pub(super) fn recover(&mut self) {
        let _ = self.failure.take();
        self.evm = create_evm(self.backend, &self.env, &self.db, &self.failure);
    }
}

fn create_evm<'evm, 'block: 'evm, DB>(
    backend: &'evm dyn EvmBackend,
    env: &EvmEnv,
    db: &Rc<RefCell<WorkerDb<'block, DB>>>,
    failure: &SourceFailure,
) -> Box<dyn BackendEvm + 'evm>
where
    DB: Database<Error: Error + Send + Sync + 'static> + 'evm,
{
    let recorder: Rc<RefCell<dyn Recorder + 'evm>> = Rc::clone(db) as _;
    backend.create_evm(env, BackendDb::new(recorder, failure.clone()))
}

/// Notes the read set and the write set of an outcome.
fn record<DB>(
    db: &mut WorkerDb<'_, DB>,
    tx: &TxEnv,
    outcome: BackendOutcome,
) -> Result<Executed, EVMError<SourceError>>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    let BackendOutcome { result: ResultAndState { result, mut state }, owed, sender_balance_min } =
        outcome;
    let payments = pay_at_once(owed, &mut state);
    if let Some(address) = changed_unread(db, &state) {
        return Err(EVMError::Custom(format!("the EVM changed {address} without reading it")));
    }
    db.note_sender_and_authorities(tx, sender_balance_min);
    db.write_set(&mut state);
    let state = if db.keeps_changes() { state } else { EvmState::default() };
    let deferred =
        if payments.is_empty() { Deferred::Nothing } else { Deferred::Payments(payments) };
    Ok(Executed { result, state, deferred })
}

/// An account that was changed, but is not in the read set: nobody could tell whether the change
/// stands.
fn changed_unread<DB>(db: &WorkerDb<'_, DB>, state: &EvmState) -> Option<Address> {
    let is_unread = |address: &Address| {
        !db.accesses.account_reads.iter().any(|it| it.entry.address() == *address)
    };
    let touched = state.iter().filter(|(_, account)| account.is_touched());
    touched.map(|(address, _)| *address).filter(is_unread).min()
}

/// Makes payments to accounts that the transaction has looked at. The others are still to be made,
/// one for each account.
fn pay_at_once(owed: Vec<Payment>, state: &mut EvmState) -> Vec<Payment> {
    let mut later: Vec<Payment> = Vec::new();
    for payment in owed {
        if let Some(account) = state.get_mut(&payment.to) {
            account.mark_touch();
            // As the journal does it: a sum that overflows pays nothing.
            let paid = account.info.balance.checked_add(payment.amount);
            account.info.balance = paid.unwrap_or(account.info.balance);
        } else if let Some(other) = later.iter_mut().find(|it| it.to == payment.to) {
            other.amount = other.amount.saturating_add(payment.amount);
        } else {
            later.push(payment);
        }
    }
    later
}

impl<DB> fmt::Debug for CustomEvm<'_, '_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomEvm").finish_non_exhaustive()
    }
}

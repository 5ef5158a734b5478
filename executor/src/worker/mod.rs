//! A worker: one reused revm instance that turns transactions into outcomes.
//!
//! It executes and records. It publishes nothing and decides nothing: what becomes of an outcome is
//! the business of validation and of the commit frontier.

mod balance_watch;
mod beneficiary;
mod database;

use crate::{error::SourceError, pipeline::BlockContext};
use alloy_evm::{EvmEnv, eth::EthEvmContext, precompiles::PrecompilesMap};
use alloy_primitives::U256;
use beneficiary::DeferredFeeHandler;
use core::fmt;
pub(crate) use database::WorkerDb;
use multilane_state::{
    TxIndex,
    multi_version::{
        AccountEntry, AccountRead, AccountValue, AccountWrite, AccountWriteKind, BalanceChange,
        BalanceUse, SlotEntry, SlotRead,
    },
};
use revm::{
    Context, Database, MainBuilder, MainContext,
    context::{ContextSetters, Evm, TxEnv},
    context_interface::{
        LocalContextTr, Transaction,
        result::{EVMError, ExecutionResult, HaltReason},
        transaction::AuthorizationTr,
    },
    handler::{EthFrame, Handler, instructions::EthInstructions},
    inspector::NoOpInspector,
    interpreter::interpreter::EthInterpreter,
    precompile::{PrecompileSpecId, Precompiles},
    state::{Account, EvmState},
};
use std::error::Error;

type WorkerEvm<'block, DB> = Evm<
    EthEvmContext<WorkerDb<'block, DB>>,
    NoOpInspector,
    EthInstructions<EthInterpreter, EthEvmContext<WorkerDb<'block, DB>>>,
    PrecompilesMap,
    EthFrame,
>;

/// One thread's execution engine for one block.
pub(crate) struct Worker<'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    block: &'block BlockContext,
    evm: WorkerEvm<'block, DB>,
}

/// What one incarnation of a transaction read, did and resulted in.
pub(crate) struct TxOutcome<'block> {
    /// The result, or why the transaction cannot be included. An error of a speculative
    /// incarnation means nothing: the transaction is executed again at the frontier.
    pub(crate) result: Result<Executed<'block>, EVMError<SourceError>>,
    /// The read set.
    pub(crate) account_reads: Vec<AccountRead<'block>>,
    /// The read set's slots.
    pub(crate) slot_reads: Vec<SlotRead<'block>>,
}

/// A transaction that ran.
pub(crate) struct Executed<'block> {
    pub(crate) result: ExecutionResult<HaltReason>,
    /// Finalized changes, as the values that were served imply them.
    pub(crate) state: EvmState,
    pub(crate) account_writes: Vec<(&'block AccountEntry, AccountWrite)>,
    pub(crate) slot_writes: Vec<(&'block SlotEntry, U256)>,
    /// What is still owed to the beneficiary, in wei.
    pub(crate) deferred_fee: Option<U256>,
}

impl<'block, DB> Worker<'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    pub(crate) fn new(block: &'block BlockContext, env: EvmEnv, source: DB) -> Self {
        let EvmEnv { cfg_env, block_env, .. } = env;
        let precompiles = PrecompilesMap::from_static(Precompiles::new(
            PrecompileSpecId::from_spec_id(cfg_env.spec),
        ));
        let mut evm = Context::mainnet()
            .with_block(block_env)
            .with_cfg(cfg_env)
            .with_db(WorkerDb::new(block, source))
            .build_mainnet_with_inspector(NoOpInspector)
            .with_precompiles(precompiles);
        if block.rules.balances_commute {
            balance_watch::install(&mut evm.instruction);
        }
        Self { block, evm }
    }

    /// The database behind the EVM.
    pub(crate) fn db(&mut self) -> &mut WorkerDb<'block, DB> {
        &mut self.evm.ctx.journaled_state.database
    }

    /// Runs one incarnation of a transaction.
    ///
    /// `at_frontier` says that every earlier transaction is committed: what is served then is no
    /// guess, and the outcome needs no validation.
    pub(crate) fn execute(
        &mut self,
        index: TxIndex,
        tx: &TxEnv,
        at_frontier: bool,
    ) -> TxOutcome<'block> {
        self.db().begin(index, at_frontier);
        let handler = &mut DeferredFeeHandler::new();
        self.evm.ctx.set_tx(tx.clone());
        let result = handler.run(&mut self.evm);

        let deferred_fee = handler.owed();
        // After an error too: what was loaded must not leak into the next transaction.
        let mut state = self.evm.ctx.journaled_state.inner.finalize();

        let result = result.map(|result| {
            self.note_sender_and_authorities(tx);
            let (account_writes, slot_writes) = self.writes(&mut state);
            Executed { result, state, account_writes, slot_writes, deferred_fee }
        });
        let db = self.db();
        TxOutcome {
            result,
            account_reads: std::mem::take(&mut db.accounts),
            slot_reads: std::mem::take(&mut db.slots),
        }
    }

    /// Makes the worker usable again after a panic inside an execution.
    pub(crate) fn recover(&mut self) {
        self.evm.ctx.local.clear();
        self.evm.frame_stack.clear();
        self.evm.ctx.error = Ok(());
        let _ = self.evm.ctx.journaled_state.inner.finalize();
    }

    /// Notes what the rules around the execution depend on, of which the interpreter knows nothing.
    fn note_sender_and_authorities(&mut self, tx: &TxEnv) {
        if !self.block.rules.balances_commute {
            return;
        }
        let db = self.db();
        let sender = tx.caller();
        db.nonce_was_seen(sender);
        // The balance had to cover the most that the transaction can cost. The transfer of its
        // value, later on, needs no more than that.
        let served = db.accounts.iter_mut().find(|read| read.entry.address() == sender);
        if let Some(read) = served {
            match (read.served, tx.max_balance_spending()) {
                (Some(value), Ok(needed)) => read.balance.require(value.balance, needed),
                _ => read.balance = BalanceUse::Exact,
            }
        }
        // Where somebody holds sums that could overflow another's balance, revm's checks depend on
        // every balance exactly.
        if db.accounts.iter().any(|read| read.served.is_some_and(|value| !value.is_commutative())) {
            for read in &mut db.accounts {
                read.balance = BalanceUse::Exact;
            }
        }
        for authorization in tx.authorization_list() {
            // EIP-7702: an authorization counts only at the authority's very nonce.
            if let Some(authority) = authorization.authority() {
                db.nonce_was_seen(authority);
            }
        }
    }

    /// The write set that the finalized changes amount to.
    #[expect(clippy::type_complexity, reason = "the two halves of a write set, used once")]
    fn writes(
        &mut self,
        state: &mut EvmState,
    ) -> (Vec<(&'block AccountEntry, AccountWrite)>, Vec<(&'block SlotEntry, U256)>) {
        let block = self.block;
        let reads = &self.evm.ctx.journaled_state.database.accounts;
        let mut account_writes = Vec::with_capacity(reads.len());
        let mut slot_writes = Vec::new();
        for read in reads {
            let address = read.entry.address();
            let Some(account) = state.get_mut(&address) else { continue };
            // The id meant something to this worker's database alone.
            account.info.account_id = None;
            if !account.is_touched() {
                continue;
            }
            let write = account_write(account, read.served.as_ref());
            if let Some(hash) = write.code_hash
                && let Some(code) = &account.info.code
                && !code.is_empty()
            {
                block.add_new_code(hash, code);
            }
            if !matches!(write.kind, AccountWriteKind::Remove) {
                for (slot, value) in account.changed_storage_slots() {
                    slot_writes.push((block.state.slot(address, *slot), value.present_value));
                }
            }
            // Removing what does not exist changes nothing, and neither does a mere touch.
            let removes_nothing =
                read.served.is_none() && matches!(write.kind, AccountWriteKind::Remove);
            if !write.is_noop() && !removes_nothing {
                account_writes.push((read.entry, write));
            }
        }
        (account_writes, slot_writes)
    }
}

/// The write that a touched account's finalized changes amount to, in the order of cases in which
/// revm's state applies them.
fn account_write(account: &Account, served: Option<&AccountValue>) -> AccountWrite {
    let before = served.copied().unwrap_or(AccountValue::EMPTY);
    let info = &account.info;
    let kind = if account.is_selfdestructed() {
        AccountWriteKind::Remove
    } else if account.is_created() {
        AccountWriteKind::Create
    } else if account.is_empty() {
        AccountWriteKind::Remove
    } else {
        AccountWriteKind::Update
    };
    AccountWrite {
        kind,
        balance: BalanceChange::between(before.balance, info.balance),
        nonce: (info.nonce != before.nonce).then_some(info.nonce),
        code_hash: (info.code_hash != before.code_hash).then_some(info.code_hash),
    }
}

impl<DB> fmt::Debug for Worker<'_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

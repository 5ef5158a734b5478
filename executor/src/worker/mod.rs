//! A worker: one reused revm instance that turns transactions into outcomes.
//!
//! It executes and records. It publishes nothing and decides nothing: what becomes of an outcome is
//! the business of validation and of the commit frontier.

mod balance_watch;
mod beneficiary;
mod database;
mod keccak;
mod transfer;

use crate::{error::SourceError, pipeline::BlockContext, scheduler::WorkerId};
use alloy_evm::{EvmEnv, eth::EthEvmContext, precompiles::PrecompilesMap};
use alloy_primitives::{Address, U256};
use beneficiary::DeferredFeeHandler;
use core::fmt;
pub(crate) use database::WorkerDb;
use multilane_state::{
    TxIndex,
    multi_version::{
        AccountEntry, AccountRead, AccountValue, AccountWrite, AccountWriteKind, BalanceChange,
        BalanceUse, SlotEntry, SlotRead, SlotWrite,
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
use transfer::TransferRules;

type WorkerEvm<'block, DB> = Evm<
    EthEvmContext<WorkerDb<'block, DB>>,
    NoOpInspector,
    EthInstructions<EthInterpreter, EthEvmContext<WorkerDb<'block, DB>>>,
    PrecompilesMap,
    EthFrame,
>;

/// How many sets of vectors a worker keeps for later executions.
const SPARE_MAX: usize = 64;
/// Largest capacity of an account map that is cleared and used again.
const RECYCLED_CAPACITY_MAX: usize = 128;

/// One thread's execution engine for one block.
pub(crate) struct Worker<'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    id: WorkerId,
    block: &'block BlockContext,
    evm: WorkerEvm<'block, DB>,
    /// Where plain transfers need no EVM, how they are done.
    transfers: Option<TransferRules>,
    /// Vectors of outcomes that have been committed.
    spare: Vec<Accesses<'block>>,
    executions: usize,
}

/// What one incarnation of a transaction read, did and resulted in.
pub(crate) struct TxOutcome<'block> {
    /// The result, or why the transaction cannot be included. An error of a speculative
    /// incarnation means nothing: the transaction is executed again at the frontier.
    pub(crate) result: Result<Executed, EVMError<SourceError>>,
    pub(crate) accesses: Accesses<'block>,
}

/// A transaction that ran.
pub(crate) struct Executed {
    pub(crate) result: ExecutionResult<HaltReason>,
    /// Finalized changes, as the values that were served imply them. Empty where nobody wants them.
    pub(crate) state: EvmState,
    /// What is still owed to the beneficiary, in wei.
    pub(crate) deferred_fee: Option<U256>,
}

/// The read set and the write set of an incarnation.
///
/// The vectors outlive it: whoever commits the outcome gives them to the next execution.
#[derive(Debug, Default)]
pub(crate) struct Accesses<'block> {
    pub(crate) account_reads: Vec<AccountRead<'block>>,
    pub(crate) slot_reads: Vec<SlotRead<'block>>,
    pub(crate) account_writes: Vec<WrittenAccount<'block>>,
    pub(crate) slot_writes: Vec<(&'block SlotEntry, SlotWrite)>,
    /// Where the block's access list is wanted, all slots that were accessed, each with what became
    /// of it. More than were read: what a contract holds that is being created is known.
    pub(crate) touched_slots: Vec<(&'block SlotEntry, SlotWrite)>,
}

/// An account in a write set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenAccount<'block> {
    pub(crate) entry: &'block AccountEntry,
    pub(crate) write: AccountWrite,
    /// How many of the slot writes, after those of the accounts before, are this account's.
    pub(crate) slots: usize,
}

impl Accesses<'_> {
    fn clear(&mut self) {
        self.account_reads.clear();
        self.slot_reads.clear();
        self.account_writes.clear();
        self.slot_writes.clear();
        self.touched_slots.clear();
    }
}

impl<'block, DB> Worker<'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    pub(crate) fn new(id: WorkerId, block: &'block BlockContext, env: &EvmEnv, source: DB) -> Self {
        let EvmEnv { cfg_env, block_env, .. } = env.clone();
        let precompiles = PrecompilesMap::from_static(Precompiles::new(
            PrecompileSpecId::from_spec_id(cfg_env.spec),
        ));
        let mut evm = Context::mainnet()
            .with_block(block_env)
            .with_cfg(cfg_env)
            .with_db(WorkerDb::new(block, source))
            .build_mainnet_with_inspector(NoOpInspector)
            .with_precompiles(precompiles);
        keccak::install(&mut evm.instruction);
        if block.rules.balances_commute {
            balance_watch::install(&mut evm.instruction);
        }
        Self {
            id,
            block,
            evm,
            transfers: TransferRules::of(block, env),
            spare: Vec::new(),
            executions: 0,
        }
    }

    /// Which worker this is.
    pub(crate) const fn id(&self) -> WorkerId {
        self.id
    }

    /// How many incarnations this worker has run.
    pub(crate) const fn executions(&self) -> usize {
        self.executions
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
        self.executions += 1;
        if let Some(outcome) = self.transfer(index, tx, at_frontier) {
            return outcome;
        }
        let accesses = self.spare.pop().unwrap_or_default();
        self.db().begin(index, at_frontier, accesses);
        let handler = &mut DeferredFeeHandler::new();
        self.evm.ctx.set_tx(tx.clone());
        let result = handler.run(&mut self.evm);

        let deferred_fee = handler.owed();
        // After an error too: what was loaded must not leak into the next transaction.
        let mut state = self.evm.ctx.journaled_state.inner.finalize();

        let result = result.map(|result| {
            self.note_sender_and_authorities(tx);
            self.write_set(&mut state);
            Executed { result, state: self.take_or_recycle(index, state), deferred_fee }
        });
        TxOutcome { result, accesses: std::mem::take(&mut self.db().accesses) }
    }

    /// Gives the vectors of an outcome to a later execution.
    pub(crate) fn recycle(&mut self, mut accesses: Accesses<'block>) {
        if self.spare.len() < SPARE_MAX {
            accesses.clear();
            self.spare.push(accesses);
        }
    }

    /// The finalized changes, where somebody wants them. Where not, their map goes back to the
    /// journal, which would otherwise grow a new one.
    fn take_or_recycle(&mut self, index: TxIndex, mut state: EvmState) -> EvmState {
        if self.block.keeps_changes_of(index) {
            return state;
        }
        // Clearing costs time in proportion to the capacity.
        if state.capacity() <= RECYCLED_CAPACITY_MAX {
            state.clear();
            self.evm.ctx.journaled_state.inner.state = state;
        }
        EvmState::default()
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
        let served =
            db.accesses.account_reads.iter_mut().find(|read| read.entry.address() == sender);
        if let Some(read) = served {
            match (read.served, tx.max_balance_spending()) {
                (Some(value), Ok(needed)) => read.balance.require(value.balance, needed),
                _ => read.balance = BalanceUse::Exact,
            }
        }
        // Where somebody holds sums that could overflow another's balance, revm's checks depend on
        // every balance exactly.
        if db
            .accesses
            .account_reads
            .iter()
            .any(|read| read.served.is_some_and(|value| !value.is_commutative()))
        {
            for read in &mut db.accesses.account_reads {
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

    /// Notes the write set that the finalized changes amount to.
    fn write_set(&mut self, state: &mut EvmState) {
        let block = self.block;
        let accesses = &mut self.evm.ctx.journaled_state.database.accesses;
        for read in &accesses.account_reads {
            let address = read.entry.address();
            let Some(account) = state.get_mut(&address) else { continue };
            // The id meant something to this worker's database alone.
            account.info.account_id = None;
            if block.records_accesses {
                accesses.touched_slots.extend(touched_slots(block, address, account));
            }
            if !account.is_touched() {
                continue;
            }
            let (write, slot_writes) = finalized(block, address, account, read.served.as_ref());
            let slots_before = accesses.slot_writes.len();
            accesses.slot_writes.extend(slot_writes);
            let slots = accesses.slot_writes.len() - slots_before;
            // Clearing what does not exist changes nothing, and neither does a mere touch.
            let is_nothing = match write.kind {
                AccountWriteKind::Clear => read.served.is_none(),
                _ => write.is_noop(),
            };
            if slots > 0 || !is_nothing {
                accesses.account_writes.push(WrittenAccount { entry: read.entry, write, slots });
            }
        }
    }
}

/// The writes that a touched account's finalized changes amount to: its own, and those to its slots.
/// Code that it did not have before becomes known to the block.
pub(crate) fn finalized<'block, 'account>(
    block: &'block BlockContext,
    address: Address,
    account: &'account Account,
    before: Option<&AccountValue>,
) -> (AccountWrite, impl Iterator<Item = (&'block SlotEntry, SlotWrite)> + use<'block, 'account>) {
    let write = account_write(account, before);
    if let Some(hash) = write.code_hash
        && let Some(code) = &account.info.code
        && !code.is_empty()
    {
        block.add_new_code(hash, code);
    }
    let kept = if write.removes() { None } else { Some(account) };
    let slots = kept.into_iter().flat_map(Account::changed_storage_slots);
    let slots = slots.map(move |(key, slot)| {
        let write = SlotWrite { original: slot.original_value, present: slot.present_value };
        (block.state.slot(address, *key), write)
    });
    (write, slots)
}

/// All slots of an account that a transaction accessed, each with what became of it.
pub(crate) fn touched_slots<'block>(
    block: &'block BlockContext,
    address: Address,
    account: &Account,
) -> impl Iterator<Item = (&'block SlotEntry, SlotWrite)> {
    let destroyed = account.is_selfdestructed_locally();
    account.storage.iter().map(move |(key, slot)| {
        let present = if destroyed { U256::ZERO } else { slot.present_value };
        (block.state.slot(address, *key), SlotWrite { original: slot.original_value, present })
    })
}

/// The write that a touched account's finalized changes amount to, in the order of cases in which
/// revm's state applies them.
fn account_write(account: &Account, served: Option<&AccountValue>) -> AccountWrite {
    let before = served.copied().unwrap_or(AccountValue::EMPTY);
    let info = &account.info;
    let kind = if account.is_selfdestructed() {
        AccountWriteKind::Destroy
    } else if account.is_created() {
        AccountWriteKind::Create
    } else if account.is_empty() {
        AccountWriteKind::Clear
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

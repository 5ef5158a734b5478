//! A worker: one reused revm instance that turns transactions into outcomes.
//!
//! It executes and records. It publishes nothing and decides nothing: what becomes of an outcome is
//! the business of validation and of the commit frontier.

mod balance_watch;
mod beneficiary;
mod custom;
mod database;
mod keccak;
mod precompiles;
mod transfer;

use crate::{
    backend::{Payment, Recorder},
    error::SourceError,
    pipeline::BlockContext,
    scheduler::WorkerId,
};
use alloy_evm::{EvmEnv, eth::EthEvmContext, precompiles::PrecompilesMap};
use alloy_primitives::{Address, U256};
pub(crate) use balance_watch::install as watch_balances;
pub(crate) use beneficiary::DeferredFeeHandler;
use core::fmt;
use custom::CustomEvm;
pub(crate) use database::WorkerDb;
use multilane_state::{
    TxIndex,
    multi_version::{
        AccountEntry, AccountRead, AccountValue, AccountWrite, AccountWriteKind, BalanceChange,
        BalanceUse, SlotEntry, SlotRead, SlotWrite,
    },
};
pub(crate) use precompiles::PrecompileResults;
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
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use transfer::TransferRules;

/// revm's EVM of mainnet.
pub(crate) type RevmEvm<DB> = Evm<
    EthEvmContext<DB>,
    NoOpInspector,
    EthInstructions<EthInterpreter, EthEvmContext<DB>>,
    PrecompilesMap,
    EthFrame,
>;

/// revm's EVM of mainnet, with a memory for the hashes of mappings.
pub(crate) fn mainnet_evm<DB: Recorder>(env: &EvmEnv, db: DB) -> RevmEvm<DB> {
    let EvmEnv { cfg_env, block_env, .. } = env.clone();
    let precompiles =
        PrecompilesMap::from_static(Precompiles::new(PrecompileSpecId::from_spec_id(cfg_env.spec)));
    let mut evm = Context::mainnet()
        .with_block(block_env)
        .with_cfg(cfg_env)
        .with_db(db)
        .build_mainnet_with_inspector(NoOpInspector)
        .with_precompiles(precompiles);
    keccak::install(&mut evm.instruction);
    evm
}

/// How many sets of vectors a worker keeps for later executions.
const SPARE_MAX: usize = 64;
/// Largest capacity of an account map that is cleared and used again.
const RECYCLED_CAPACITY_MAX: usize = 128;

/// One thread's execution engine for one block.
pub(crate) struct Worker<'evm, 'block, DB>
where
    'block: 'evm,
    DB: Database<Error: Error + Send + Sync + 'static> + 'evm,
{
    id: WorkerId,
    block: &'block BlockContext,
    machine: Machine<'evm, 'block, DB>,
    /// Where plain transfers need no EVM, how they are done.
    transfers: Option<TransferRules>,
    /// Raised when a precompile looks for a result that is kept.
    has_looked_up: Arc<AtomicBool>,
    /// Vectors of outcomes that have been committed.
    spare: Vec<Accesses<'block>>,
    executions: usize,
    put_off: usize,
}

/// What a worker executes transactions with.
#[expect(clippy::large_enum_variant, reason = "there is one for each worker")]
enum Machine<'evm, 'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    Mainnet(RevmEvm<WorkerDb<'block, DB>>),
    Custom(CustomEvm<'evm, 'block, DB>),
}

/// What an incarnation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Every earlier transaction is committed: nothing is a guess, and the outcome needs no
    /// validation.
    Final,
    /// The best guess there is.
    Guess {
        /// Whether the execution may end at a contended slot, to be begun again when it is the
        /// transaction's turn there.
        can_wait: bool,
    },
}

/// What one incarnation of a transaction read, did and resulted in.
pub(crate) struct TxOutcome<'block> {
    /// The result, or why the transaction cannot be included. An error of a speculative
    /// incarnation means nothing: the transaction is executed again at the frontier.
    pub(crate) result: Result<Executed, EVMError<SourceError>>,
    pub(crate) accesses: Accesses<'block>,
}

impl TxOutcome<'_> {
    /// Of a transaction that is not to be executed any more.
    pub(crate) fn stopped() -> Self {
        let result = Err(EVMError::Database(SourceError::stopped()));
        Self { result, accesses: Accesses::default() }
    }
}

/// A transaction that ran.
pub(crate) struct Executed {
    pub(crate) result: ExecutionResult<HaltReason>,
    /// Finalized changes, as the values that were served imply them. Empty where nobody wants them.
    pub(crate) state: EvmState,
    /// What the rules still have to pay.
    pub(crate) deferred: Deferred,
}

/// Payments that are made when a transaction commits.
#[derive(Debug)]
pub(crate) enum Deferred {
    Nothing,
    /// The fee of the beneficiary, in wei.
    Fee(U256),
    /// Of a backend: each to another account.
    Payments(Vec<Payment>),
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
    /// Contended slots that the transaction is in line for, until it is done.
    pub(crate) lines: Vec<&'block SlotEntry>,
    /// Whether the execution ended at the last of them, because it was not its turn.
    pub(crate) waits: bool,
    /// Whether a precompile was asked for something whose result is kept.
    pub(crate) computed: bool,
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
        self.lines.clear();
        self.waits = false;
        self.computed = false;
    }
}

impl<'evm, 'block, DB> Worker<'evm, 'block, DB>
where
    'block: 'evm,
    DB: Database<Error: Error + Send + Sync + 'static> + 'evm,
{
    pub(crate) fn new(id: WorkerId, block: &'block BlockContext, env: &EvmEnv, source: DB) -> Self {
        let db = WorkerDb::new(block, source);
        let mut has_looked_up = Arc::default();
        let machine = match block.backend() {
            Some(backend) => Machine::Custom(CustomEvm::new(backend, env, db)),
            None => {
                let mut evm = mainnet_evm(env, db);
                has_looked_up = block.precompile_results.install(&mut evm.precompiles);
                if block.rules.balances_commute {
                    watch_balances(&mut evm.instruction);
                }
                Machine::Mainnet(evm)
            }
        };
        Self {
            id,
            block,
            machine,
            transfers: TransferRules::of(block, env),
            has_looked_up,
            spare: Vec::new(),
            executions: 0,
            put_off: 0,
        }
    }

    /// Which worker this is.
    pub(crate) const fn id(&self) -> WorkerId {
        self.id
    }

    /// How many incarnations this worker has run to their end.
    pub(crate) const fn executions(&self) -> usize {
        self.executions
    }

    /// How many incarnations of this worker ended where it was not their turn.
    pub(crate) const fn put_off(&self) -> usize {
        self.put_off
    }

    /// Does something with the database behind the EVM.
    pub(crate) fn with_db<R>(&mut self, work: impl FnOnce(&mut WorkerDb<'block, DB>) -> R) -> R {
        match &mut self.machine {
            Machine::Mainnet(evm) => work(&mut evm.ctx.journaled_state.database),
            Machine::Custom(evm) => work(&mut evm.db.borrow_mut()),
        }
    }

    /// Runs one incarnation of a transaction.
    pub(crate) fn execute(
        &mut self,
        index: TxIndex,
        tx: &TxEnv,
        reads: Reads,
    ) -> TxOutcome<'block> {
        if self.block.is_cancelled() {
            return TxOutcome::stopped();
        }
        let outcome = self.run(index, tx, reads);
        if outcome.accesses.waits {
            self.put_off += 1;
        } else {
            self.executions += 1;
        }
        if reads == Reads::Final && self.block.is_list_refuted_by(index, &outcome.accesses) {
            return TxOutcome::stopped();
        }
        outcome
    }

    fn run(&mut self, index: TxIndex, tx: &TxEnv, reads: Reads) -> TxOutcome<'block> {
        if let Some(outcome) = self.transfer(index, tx, reads) {
            return outcome;
        }
        let accesses = self.spare.pop().unwrap_or_default();
        let evm = match &mut self.machine {
            Machine::Mainnet(evm) => evm,
            Machine::Custom(evm) => return evm.execute(index, tx, reads, accesses),
        };
        evm.ctx.journaled_state.database.begin(index, reads, accesses);
        let handler = &mut DeferredFeeHandler::new();
        evm.ctx.set_tx(tx.clone());
        let result = handler.run(evm);

        // After an error too: what was loaded must not leak into the next transaction.
        let mut state = evm.ctx.journaled_state.inner.finalize();

        let result = result.map(|result| {
            let db = &mut evm.ctx.journaled_state.database;
            db.note_sender_and_authorities(tx, tx.max_balance_spending().ok());
            db.write_set(&mut state);
            let state = take_or_recycle(evm, state);
            Executed {
                result,
                state,
                deferred: handler.owed().map_or(Deferred::Nothing, Deferred::Fee),
            }
        });
        let mut accesses = std::mem::take(&mut evm.ctx.journaled_state.database.accesses);
        accesses.computed = self.has_looked_up.swap(false, Ordering::Relaxed);
        TxOutcome { result, accesses }
    }

    /// Gives the vectors of an outcome to a later execution.
    pub(crate) fn recycle(&mut self, mut accesses: Accesses<'block>) {
        if self.spare.len() < SPARE_MAX {
            accesses.clear();
            self.spare.push(accesses);
        }
    }

    /// Makes the worker usable again after a panic inside an execution.
    pub(crate) fn recover(&mut self) {
        let evm = match &mut self.machine {
            Machine::Mainnet(evm) => evm,
            Machine::Custom(evm) => return evm.recover(),
        };
        evm.ctx.local.clear();
        evm.frame_stack.clear();
        evm.ctx.error = Ok(());
        let _ = evm.ctx.journaled_state.inner.finalize();
    }
}

/// The finalized changes, where somebody wants them. Where not, their map goes back to the journal,
/// which would otherwise grow a new one.
fn take_or_recycle<DB>(evm: &mut RevmEvm<WorkerDb<'_, DB>>, mut state: EvmState) -> EvmState
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    if evm.ctx.journaled_state.database.keeps_changes() {
        return state;
    }
    // Clearing costs time in proportion to the capacity.
    if state.capacity() <= RECYCLED_CAPACITY_MAX {
        state.clear();
        evm.ctx.journaled_state.inner.state = state;
    }
    EvmState::default()
}

impl<DB> WorkerDb<'_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    /// Notes what the rules around the execution depend on, of which the interpreter knows nothing.
    /// `balance_min` is what the sender had to have, in wei, if it did not have to be just what it
    /// had.
    fn note_sender_and_authorities(&mut self, tx: &TxEnv, balance_min: Option<U256>) {
        if !self.block.rules.balances_commute {
            return;
        }
        let db = self;
        let sender = tx.caller();
        db.nonce_was_seen(sender);
        // The balance had to cover the most that the transaction can cost. The transfer of its
        // value, later on, needs no more than that.
        let served =
            db.accesses.account_reads.iter_mut().find(|read| read.entry.address() == sender);
        if let Some(read) = served {
            match (read.served, balance_min) {
                (Some(value), Some(needed)) => read.balance.require(value.balance, needed),
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
        let (block, reader) = (self.block, self.reader);
        let accesses = &mut self.accesses;
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
            let (write, slot_writes) =
                finalized(block, Some(reader), address, account, read.served.as_ref());
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
/// Code that it did not have before becomes known to the block; `None` as the writer is what happens
/// before the first transaction.
pub(crate) fn finalized<'block, 'account>(
    block: &'block BlockContext,
    writer: Option<TxIndex>,
    address: Address,
    account: &'account Account,
    before: Option<&AccountValue>,
) -> (AccountWrite, impl Iterator<Item = (&'block SlotEntry, SlotWrite)> + use<'block, 'account>) {
    let write = account_write(account, before);
    if let Some(hash) = write.code_hash
        && let Some(code) = &account.info.code
        && !code.is_empty()
    {
        block.add_new_code(hash, code, writer);
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

impl<DB> fmt::Debug for Worker<'_, '_, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

//! Plain transfers, by arithmetic.
//!
//! A payment from an account without code to an account without code runs no instruction: what it
//! does follows from two balances and a nonce. Setting up an interpreter for it takes several times
//! as long as working that out. The rules are revm's own ([`validation`]); whatever is out of the
//! ordinary, an error above all, is left to revm.

use super::{Deferred, Executed, Machine, Reads, TxOutcome, Worker, WorkerDb, WrittenAccount};
use crate::pipeline::BlockContext;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, Bytes, U256};
use multilane_state::{
    TxIndex,
    multi_version::{AccountValue, AccountWrite, AccountWriteKind, BalanceChange},
};
use revm::{
    Database,
    context::TxEnv,
    context_interface::{
        Cfg, Transaction,
        result::{ExecutionResult, Output, ResultGas, SuccessReason},
        transaction::TransactionType,
    },
    handler::validation,
    primitives::{KECCAK_EMPTY, TxKind, hardfork::SpecId},
    state::EvmState,
};
use std::{error::Error, ops::RangeInclusive};

/// What is the same for all plain transfers of a block.
#[derive(Clone, Debug)]
pub(super) struct TransferRules {
    spec: SpecId,
    /// What a gas limit has to be, in gas.
    gas_limits: RangeInclusive<u64>,
    /// The chain that a transaction may name, where that is checked.
    chain_id: Option<u64>,
    base_fee: u128,
    /// The gas of the result.
    gas: ResultGas,
}

impl TransferRules {
    /// The rules of a block's transfers, or `None` where each has to be executed: where payments do
    /// not commute, where checks are turned off, where somebody wants to see finalized changes, or
    /// where a backend has payments of its own.
    pub(super) fn of(block: &BlockContext, env: &EvmEnv) -> Option<Self> {
        let (cfg, header) = (&env.cfg_env, &env.block_env);
        let checks_everything = !cfg.is_nonce_check_disabled()
            && !cfg.is_eip3607_disabled()
            && !cfg.is_base_fee_check_disabled()
            && !cfg.is_priority_fee_check_disabled()
            && !cfg.is_block_gas_limit_disabled();
        let header_is_complete = (header.prevrandao.is_some()
            || !cfg.spec.is_enabled_in(SpecId::MERGE))
            && (header.blob_excess_gas_and_price.is_some()
                || !cfg.spec.is_enabled_in(SpecId::CANCUN));
        if !block.rules.balances_commute
            || !block.rules.plain_transfers
            || block.keeps_changes
            || !checks_everything
            || !header_is_complete
        {
            return None;
        }
        let transfer = TxEnv { gas_limit: u64::MAX, ..TxEnv::default() };
        let gas = validation::validate_initial_tx_gas_with_gas_params(
            &transfer,
            cfg.spec,
            cfg.gas_params(),
            cfg.is_eip7623_disabled(),
            false,
            u64::MAX,
            None,
        )
        .ok()?;
        let used = gas.initial_total_gas();
        // EIP-7623: the floor of an empty calldata is below what a transfer costs anyway.
        (gas.floor_gas() <= used).then(|| Self {
            spec: cfg.spec,
            gas_limits: used..=header.gas_limit.min(cfg.tx_gas_limit_cap()),
            chain_id: cfg.tx_chain_id_check().then_some(cfg.chain_id),
            base_fee: u128::from(header.basefee),
            gas: ResultGas::default().with_total_gas_spent(used).with_floor_gas(gas.floor_gas()),
        })
    }

    /// Whether a transaction that looks like a plain transfer is valid, as far as can be told
    /// without looking at its accounts.
    fn admit(&self, tx: &TxEnv) -> bool {
        let names_chain = match (self.chain_id, tx.chain_id) {
            (Some(chain), Some(named)) => chain == named,
            // Only a legacy transaction may leave it out (EIP-155).
            (Some(_), None) => tx.tx_type == TransactionType::Legacy as u8,
            (None, _) => true,
        };
        let base_fee = Some(self.base_fee);
        let offers_enough = match TransactionType::from(tx.tx_type) {
            TransactionType::Legacy => {
                validation::validate_legacy_gas_price(tx.gas_price, base_fee).is_ok()
            }
            TransactionType::Eip2930 => {
                self.spec.is_enabled_in(SpecId::BERLIN)
                    && validation::validate_legacy_gas_price(tx.gas_price, base_fee).is_ok()
            }
            TransactionType::Eip1559 => {
                let tip = tx.gas_priority_fee.unwrap_or_default();
                let price = tx.gas_price;
                self.spec.is_enabled_in(SpecId::LONDON)
                    && validation::validate_priority_fee_tx(price, tip, base_fee, false).is_ok()
            }
            _ => false,
        };
        names_chain
            && offers_enough
            && self.gas_limits.contains(&tx.gas_limit)
            && tx.nonce != u64::MAX
    }
}

impl<'evm, 'block, DB> Worker<'evm, 'block, DB>
where
    'block: 'evm,
    DB: Database<Error: Error + Send + Sync + 'static> + 'evm,
{
    /// Executes a transaction that is an ordinary plain transfer. `None` if it is not, which only
    /// its accounts may show; nothing has happened then.
    pub(super) fn transfer(
        &mut self,
        index: TxIndex,
        tx: &TxEnv,
        reads: Reads,
    ) -> Option<TxOutcome<'block>> {
        let rules = self.transfers.as_ref()?;
        let recipient = plain_recipient(tx)?;
        let has_precompile = match &self.machine {
            Machine::Mainnet(evm) => evm.precompiles.get(&recipient).is_some(),
            Machine::Custom(evm) => evm.has_precompile(&recipient),
        };
        if !rules.admit(tx) || has_precompile {
            return None;
        }
        let accesses = self.spare.pop().unwrap_or_default();
        let beneficiary = self.block.beneficiary;
        let work = |db: &mut WorkerDb<'block, DB>| {
            db.begin(index, reads, accesses);
            let executed = pay(db, rules, tx, recipient, beneficiary);
            (executed, std::mem::take(&mut db.accesses))
        };
        let (executed, accesses) = match &mut self.machine {
            Machine::Mainnet(evm) => work(&mut evm.ctx.journaled_state.database),
            Machine::Custom(evm) => work(&mut evm.db.borrow_mut()),
        };
        match executed {
            Some(executed) => Some(TxOutcome { result: Ok(executed), accesses }),
            None => {
                self.recycle(accesses);
                None
            }
        }
    }
}

/// Moves the value and the fee, if the accounts allow it and are without code.
fn pay<DB>(
    db: &mut WorkerDb<'_, DB>,
    rules: &TransferRules,
    tx: &TxEnv,
    recipient: Address,
    beneficiary: Address,
) -> Option<Executed>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    let spending_max = tx.max_balance_spending().ok()?;

    let sender = db.account(tx.caller).ok()?;
    let before = sender.served.filter(is_plain)?;
    if before.nonce != tx.nonce || before.balance < spending_max {
        return None;
    }
    sender.exact_nonce = true;
    sender.balance.require(before.balance, spending_max);
    let sender_entry = sender.entry;

    let price = tx.effective_gas_price(rules.base_fee);
    let gas_used = u128::from(rules.gas.tx_gas_used());
    // EIP-1559: the base fee is burnt.
    let burnt = if rules.spec.is_enabled_in(SpecId::LONDON) { rules.base_fee } else { 0 };
    let fee = U256::from(price.saturating_sub(burnt) * gas_used);
    // Where the beneficiary takes part, it has its fee at once.
    let fee_of = |party| if party == beneficiary { fee } else { U256::ZERO };
    let mut paid = U256::from(price * gas_used) - fee_of(tx.caller);
    if recipient != tx.caller {
        let read = db.account(recipient).ok()?;
        if read.served.is_some_and(|value| !is_plain(&value)) {
            return None;
        }
        let (entry, value) = (read.entry, read.served.unwrap_or(AccountValue::EMPTY));
        let amount = tx.value + fee_of(recipient);
        let credit = AccountWrite::credit(amount);
        let write = if !amount.is_zero() {
            Some(credit)
        } else if value.is_empty() && read.served.is_some() {
            // EIP-161: to be touched while empty removes an account.
            Some(AccountWrite { kind: AccountWriteKind::Clear, ..credit })
        } else {
            None
        };
        let written = write.map(|write| WrittenAccount { entry, write, slots: 0 });
        db.accesses.account_writes.extend(written);
        paid += tx.value;
    }
    let write = AccountWrite {
        kind: AccountWriteKind::Update,
        balance: BalanceChange::Sub(paid),
        nonce: Some(tx.nonce + 1),
        code_hash: None,
    };
    let written = WrittenAccount { entry: sender_entry, write, slots: 0 };
    db.accesses.account_writes.push(written);

    let is_paid = beneficiary == tx.caller || beneficiary == recipient;
    Some(Executed {
        result: ExecutionResult::Success {
            reason: SuccessReason::Stop,
            gas: rules.gas,
            logs: Vec::new(),
            output: Output::Call(Bytes::new()),
        },
        state: EvmState::default(),
        deferred: if is_paid { Deferred::Nothing } else { Deferred::Fee(fee) },
    })
}

/// Whom a transaction pays, if by its looks it does nothing else.
fn plain_recipient(tx: &TxEnv) -> Option<Address> {
    let TxKind::Call(recipient) = tx.kind else { return None };
    let has_ordinary_type = matches!(
        TransactionType::from(tx.tx_type),
        TransactionType::Legacy | TransactionType::Eip2930 | TransactionType::Eip1559
    );
    let carries_nothing = tx.data.is_empty() && tx.access_list.0.is_empty();
    (has_ordinary_type && carries_nothing).then_some(recipient)
}

/// Whether an account has no code, and a balance that adds up with any other.
fn is_plain(value: &AccountValue) -> bool {
    value.code_hash == KECCAK_EMPTY && value.is_commutative()
}

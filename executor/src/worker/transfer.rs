//! Plain transfers, by arithmetic.
//!
//! A payment from an account without code to an account without code runs no instruction: what it
//! does follows from two balances and a nonce. Setting up an interpreter for it takes several times
//! as long as working that out. The rules are revm's own ([`validation`]); whatever is out of the
//! ordinary, an error above all, is left to revm.

use super::{Executed, TxOutcome, Worker, WrittenAccount};
use crate::{error::SourceError, pipeline::BlockContext};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, Bytes, U256};
use multilane_state::{
    TxIndex,
    multi_version::{AccountValue, AccountWrite, AccountWriteKind, BalanceChange},
};
use revm::{
    Database,
    context::{ContextSetters, TxEnv},
    context_interface::{
        Cfg, Transaction,
        result::{EVMError, ExecutionResult, Output, ResultGas, SuccessReason},
        transaction::TransactionType,
    },
    handler::validation,
    primitives::{KECCAK_EMPTY, TxKind, hardfork::SpecId},
    state::EvmState,
};
use std::error::Error;

/// What is the same for all plain transfers of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransferRules {
    /// The least gas limit, in gas.
    gas_limit_min: u64,
    /// The gas of the result.
    gas: ResultGas,
}

impl TransferRules {
    /// The rules of a block's transfers, or `None` where each has to be executed: where payments do
    /// not commute, where checks are turned off, or where somebody wants to see finalized changes.
    pub(super) fn of(block: &BlockContext, env: &EvmEnv) -> Option<Self> {
        let cfg = &env.cfg_env;
        let checks_everything = !cfg.is_nonce_check_disabled() && !cfg.is_eip3607_disabled();
        if !block.rules.balances_commute || block.keeps_changes || !checks_everything {
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
            gas_limit_min: used,
            gas: ResultGas::default().with_total_gas_spent(used).with_floor_gas(gas.floor_gas()),
        })
    }
}

impl<'block, DB> Worker<'block, DB>
where
    DB: Database<Error: Error + Send + Sync + 'static>,
{
    /// Executes a transaction that is an ordinary plain transfer. `None` if it is not, which only
    /// its accounts may show; nothing has happened then.
    pub(super) fn transfer(
        &mut self,
        index: TxIndex,
        tx: &TxEnv,
        at_frontier: bool,
    ) -> Option<TxOutcome<'block>> {
        let rules = self.transfers?;
        let recipient = plain_recipient(tx)?;
        let beneficiary = self.block.beneficiary;
        if tx.gas_limit < rules.gas_limit_min
            || tx.caller == beneficiary
            || recipient == beneficiary
            || self.evm.precompiles.get(&recipient).is_some()
        {
            return None;
        }
        let accesses = self.spare.pop().unwrap_or_default();
        self.db().begin(index, at_frontier, accesses);
        let executed = self.pay(rules, tx, recipient);
        let accesses = std::mem::take(&mut self.db().accesses);
        match executed {
            Some(executed) => Some(TxOutcome { result: Ok(executed), accesses }),
            None => {
                self.recycle(accesses);
                None
            }
        }
    }

    fn pay(&mut self, rules: TransferRules, tx: &TxEnv, recipient: Address) -> Option<Executed> {
        self.evm.ctx.set_tx(tx.clone());
        validation::validate_env::<_, EVMError<SourceError>>(&mut self.evm.ctx).ok()?;
        let spending_max = tx.max_balance_spending().ok()?;

        let sender = self.db().account(tx.caller).ok()?;
        let before = sender.served.filter(is_plain)?;
        if before.nonce != tx.nonce || before.balance < spending_max {
            return None;
        }
        sender.exact_nonce = true;
        sender.balance.require(before.balance, spending_max);
        let sender_entry = sender.entry;

        let base_fee = u128::from(self.evm.ctx.block.basefee);
        let price = tx.effective_gas_price(base_fee);
        let gas_used = u128::from(rules.gas.tx_gas_used());
        let mut paid = U256::from(price * gas_used);
        if recipient != tx.caller {
            let read = self.db().account(recipient).ok()?;
            if read.served.is_some_and(|value| !is_plain(&value)) {
                return None;
            }
            let (entry, value) = (read.entry, read.served.unwrap_or(AccountValue::EMPTY));
            let credit = AccountWrite::credit(tx.value);
            let write = if !tx.value.is_zero() {
                Some(credit)
            } else if value.is_empty() && read.served.is_some() {
                // EIP-161: to be touched while empty removes an account.
                Some(AccountWrite { kind: AccountWriteKind::Clear, ..credit })
            } else {
                None
            };
            let written = write.map(|write| WrittenAccount { entry, write, slots: 0 });
            self.db().accesses.account_writes.extend(written);
            paid += tx.value;
        }
        let write = AccountWrite {
            kind: AccountWriteKind::Update,
            balance: BalanceChange::Sub(paid),
            nonce: Some(tx.nonce + 1),
            code_hash: None,
        };
        let written = WrittenAccount { entry: sender_entry, write, slots: 0 };
        self.db().accesses.account_writes.push(written);

        // EIP-1559: the base fee is burnt.
        let burnt = if self.evm.ctx.cfg.spec.is_enabled_in(SpecId::LONDON) { base_fee } else { 0 };
        Some(Executed {
            result: ExecutionResult::Success {
                reason: SuccessReason::Stop,
                gas: rules.gas,
                logs: Vec::new(),
                output: Output::Call(Bytes::new()),
            },
            state: EvmState::default(),
            deferred_fee: Some(U256::from(price.saturating_sub(burnt) * gas_used)),
        })
    }
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

//! A chain with one more precompile and a fee rule of its own.
//!
//! The precompile gives the square root of a word. As on many a rollup, the sender pays for each
//! byte of calldata, whatever becomes of the transaction, and the base fee is not burnt: a treasury
//! gets it.

use alloy_evm::{
    Database, EvmEnv,
    eth::EthEvmContext,
    precompiles::{DynPrecompile, PrecompileInput, PrecompilesMap},
};
use alloy_primitives::{Address, Bytes, U256};
use multilane::{
    SourceError,
    backend::{BackendDb, BackendEvm, BackendOutcome, BackendRules, EvmBackend, Payment},
};
use revm::{
    Context, MainBuilder, MainContext,
    context::{ContextSetters, ContextTr, Evm, TxEnv},
    context_interface::{
        Block, JournalTr, Transaction,
        journaled_state::account::JournaledAccountTr,
        result::{EVMError, HaltReason, InvalidTransaction, ResultAndState},
    },
    handler::{EthFrame, FrameResult, Handler, instructions::EthInstructions, pre_execution},
    interpreter::{InitialAndFloorGas, interpreter::EthInterpreter},
    precompile::{
        PrecompileHalt, PrecompileId, PrecompileOutput, PrecompileResult, PrecompileSpecId,
        Precompiles,
    },
    state::EvmState,
};
use std::{cell::RefCell, marker::PhantomData};

/// Gives the square root of a word, rounded down.
pub(crate) const SQUARE_ROOT: Address = Address::with_last_byte(0xA0);
/// Has the base fees.
pub(crate) const TREASURY: Address = Address::with_last_byte(0xA1);
/// Has the fees for calldata.
pub(crate) const DATA_VAULT: Address = Address::with_last_byte(0xA2);

const SQUARE_ROOT_GAS: u64 = 200;
/// What a byte of calldata costs, in wei.
const DATA_PRICE: u64 = 5;

/// The chain's EVM, over any database.
pub(crate) type ChainEvm<DB> = Evm<
    EthEvmContext<DB>,
    (),
    EthInstructions<EthInterpreter, EthEvmContext<DB>>,
    PrecompilesMap,
    EthFrame,
>;

/// Builds the chain's EVM.
pub(crate) fn chain_evm<DB: Database>(env: &EvmEnv, db: DB) -> ChainEvm<DB> {
    let EvmEnv { cfg_env, block_env } = env.clone();
    let fork = PrecompileSpecId::from_spec_id(cfg_env.spec);
    let own = DynPrecompile::new(PrecompileId::custom("square root"), square_root);
    let precompiles = PrecompilesMap::from_static(Precompiles::new(fork))
        .with_extended_precompiles([(SQUARE_ROOT, own)]);
    Context::mainnet()
        .with_block(block_env)
        .with_cfg(cfg_env)
        .with_db(db)
        .build_mainnet()
        .with_precompiles(precompiles)
}

fn square_root(input: PrecompileInput<'_>) -> PrecompileResult {
    if input.gas < SQUARE_ROOT_GAS {
        return Ok(PrecompileOutput::halt(PrecompileHalt::OutOfGas, input.reservoir));
    }
    let Some(word) = U256::try_from_be_slice(input.data) else {
        let halt = PrecompileHalt::other_static("the square root is taken of one word");
        return Ok(PrecompileOutput::halt(halt, input.reservoir));
    };
    let root = Bytes::copy_from_slice(&word.root(2).to_be_bytes::<32>());
    Ok(PrecompileOutput::new(SQUARE_ROOT_GAS, root, input.reservoir))
}

/// What a transaction pays for its calldata, in wei.
fn data_fee(tx: &TxEnv) -> U256 {
    U256::from(DATA_PRICE) * U256::from(tx.data.len())
}

/// What a sender has to have, in wei.
fn spending_max(tx: &TxEnv) -> Result<U256, InvalidTransaction> {
    let gas_and_value = tx.max_balance_spending()?;
    gas_and_value.checked_add(data_fee(tx)).ok_or(InvalidTransaction::OverflowPaymentInTransaction)
}

/// Mainnet's rules but for fees.
struct FeeRule<DB> {
    /// Where payments are collected that are to be made later, if they are.
    owed: Option<RefCell<Vec<Payment>>>,
    types: PhantomData<DB>,
}

impl<DB> FeeRule<DB> {
    /// Who gets what of a transaction that has run.
    fn payments(context: &EthEvmContext<DB>, gas_used: u64) -> [Payment; 3]
    where
        DB: Database,
    {
        let base_fee = u128::from(context.block.basefee());
        let tip = context.tx.effective_gas_price(base_fee).saturating_sub(base_fee);
        let of_gas = |price: u128| U256::from(price) * U256::from(gas_used);
        [
            Payment { to: context.block.beneficiary(), amount: of_gas(tip) },
            Payment { to: TREASURY, amount: of_gas(base_fee) },
            Payment { to: DATA_VAULT, amount: data_fee(&context.tx) },
        ]
    }
}

impl<DB: Database> Handler for FeeRule<DB> {
    type Evm = ChainEvm<DB>;
    type Error = EVMError<DB::Error>;
    type HaltReason = HaltReason;

    fn validate_against_state_and_deduct_caller(
        &self,
        evm: &mut Self::Evm,
        _gas: &mut InitialAndFloorGas,
    ) -> Result<(), Self::Error> {
        let (sender, fee) = (evm.ctx.tx.caller, data_fee(&evm.ctx.tx));
        let needed = spending_max(&evm.ctx.tx)?;
        let balance = *evm.ctx.journal_mut().load_account_mut(sender)?.balance();
        if balance < needed {
            let (fee, balance) = (Box::new(needed), Box::new(balance));
            return Err(InvalidTransaction::LackOfFundForMaxFee { fee, balance }.into());
        }
        pre_execution::validate_against_state_and_deduct_caller::<_, Self::Error>(&mut evm.ctx)?;
        evm.ctx.journal_mut().load_account_mut(sender)?.decr_balance(fee);
        Ok(())
    }

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        let payments = Self::payments(&evm.ctx, result.gas().used());
        if let Some(owed) = &self.owed {
            owed.borrow_mut().extend(payments);
            return Ok(());
        }
        for Payment { to, amount } in payments {
            evm.ctx.journal_mut().load_account_mut(to)?.incr_balance(amount);
        }
        Ok(())
    }
}

/// Executes a transaction. With `collect`, what the fee rule pays is left owed.
pub(crate) fn transact<DB: Database>(
    evm: &mut ChainEvm<DB>,
    tx: &TxEnv,
    collect: bool,
) -> Result<BackendOutcome, EVMError<DB::Error>> {
    let mut rule = FeeRule { owed: collect.then(RefCell::default), types: PhantomData };
    evm.ctx.set_tx(tx.clone());
    let result = rule.run(evm);
    // After an error too: nothing may be left for the next transaction.
    let state: EvmState = evm.ctx.journal_mut().finalize();
    let owed = rule.owed.map(RefCell::into_inner).unwrap_or_default();
    let outcome = BackendOutcome::from(ResultAndState { result: result?, state });
    Ok(outcome.with_owed(owed).with_sender_balance_min(spending_max(tx)?))
}

/// The chain, for a parallel executor.
pub(crate) struct Chain;

impl EvmBackend for Chain {
    fn rules(&self, _env: &EvmEnv) -> BackendRules {
        // Balances are those of mainnet, with instructions that are watched. But a payment costs
        // something else here, so each has to be executed.
        BackendRules::mainnet().without_plain_transfers()
    }

    fn create_evm<'evm>(
        &'evm self,
        env: &EvmEnv,
        db: BackendDb<'evm>,
    ) -> Box<dyn BackendEvm + 'evm> {
        let mut evm = chain_evm(env, db);
        BackendDb::watch(&mut evm.instruction);
        Box::new(WorkerEvm(evm))
    }
}

/// The chain's EVM in a worker.
struct WorkerEvm<'evm>(ChainEvm<BackendDb<'evm>>);

impl BackendEvm for WorkerEvm<'_> {
    fn transact(&mut self, tx: &TxEnv) -> Result<BackendOutcome, EVMError<SourceError>> {
        transact(&mut self.0, tx, true)
    }
}

//! A chain with an EVM of its own, executed on all cores: one more precompile, and another fee rule.
//!
//! `chain.rs` has the EVM, once for both: the serial run, which pays fees where revm does, and the
//! workers, which leave them for the executor to pay in block order.

mod chain;

use alloy_evm::EvmEnv;
use alloy_primitives::{Address, TxKind, U256, hex};
use chain::{Chain, DATA_VAULT, SQUARE_ROOT, TREASURY, chain_evm, transact};
use multilane::{ExecutorConfig, ParallelExecutor};
use revm::{
    DatabaseCommit,
    context::TxEnv,
    context_interface::{ContextTr, result::ExecutionResult},
    database::{BundleState, CacheDB, EmptyDB, State, states::bundle_state::BundleRetention},
    state::{AccountInfo, Bytecode},
};

/// Stores the square root of its argument under the caller's address.
const ROOTS: Address = Address::with_last_byte(0xB0);
const USERS: u64 = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (db, env) = (prestate(), environment());
    let block: Vec<_> = (0..USERS).flat_map(|id| [root_of(id), payment(id)]).collect();

    let (expected, expected_bundle) = execute_serially(&db, &env, &block)?;

    let executor = ParallelExecutor::new(ExecutorConfig::new())?.with_backend(Chain);
    let (results, bundle) = executor.execute_block_ref(&db, &env, &block)?;

    assert!(results == expected && bundle == expected_bundle, "not what the serial run gives");
    let balance = |address: Address| bundle.account(&address).and_then(|it| it.info.as_ref());
    let [treasury, vault] =
        [TREASURY, DATA_VAULT].map(|it| balance(it).map_or(U256::ZERO, |info| info.balance));
    eprintln!("{} transactions, with the outcome of a serial run", results.len());
    eprintln!("base fees: {treasury} wei to {TREASURY}; calldata: {vault} wei to {DATA_VAULT}");

    let roots = bundle.account(&ROOTS).ok_or("nothing was stored")?;
    let root = roots.storage_slot(user(200).into_word().into());
    assert_eq!(root, Some(U256::from(200)));
    eprintln!("the square root of {} is 200, says {SQUARE_ROOT}", 200 * 200 + 7);
    Ok(())
}

fn user(id: u64) -> Address {
    Address::left_padding_from(&(10_000 + id).to_be_bytes())
}

/// Users with some money, and a contract that calls the precompile.
fn prestate() -> CacheDB<EmptyDB> {
    let mut db = CacheDB::new(EmptyDB::new());
    for id in 0..USERS {
        db.insert_account_info(user(id), AccountInfo::from_balance(U256::from(100_000_000)));
    }
    // CALLDATACOPY, STATICCALL to 0xA0, and SSTORE of what it returns.
    let code = hex!("6020 6000 6000 37 6020 6000 6020 6000 60a0 5a fa 50 6000 51 33 55 00");
    let code = Bytecode::new_raw(code.into());
    db.insert_account_info(ROOTS, AccountInfo::default().with_nonce(1).with_code(code));
    db
}

fn environment() -> EvmEnv {
    let mut env: EvmEnv = EvmEnv::default();
    env.block_env.beneficiary = Address::with_last_byte(0xBE);
    env.block_env.basefee = 3;
    env
}

fn root_of(id: u64) -> TxEnv {
    let data = U256::from(id * id + 7).to_be_bytes_vec().into();
    let (kind, nonce) = (TxKind::Call(ROOTS), 0);
    TxEnv { caller: user(id), kind, data, nonce, gas_limit: 100_000, ..priced() }
}

fn payment(id: u64) -> TxEnv {
    let (kind, nonce, value) = (TxKind::Call(user((id + 1) % USERS)), 1, U256::from(11));
    TxEnv { caller: user(id), kind, nonce, value, gas_limit: 21_000, ..priced() }
}

fn priced() -> TxEnv {
    TxEnv { gas_price: 5, ..TxEnv::default() }
}

/// One transaction after another, by the same EVM.
fn execute_serially(
    db: &CacheDB<EmptyDB>,
    env: &EvmEnv,
    block: &[TxEnv],
) -> Result<(Vec<ExecutionResult>, BundleState), Box<dyn std::error::Error>> {
    let state = State::builder().with_database_ref(db).with_bundle_update().build();
    let mut evm = chain_evm(env, state);
    let mut results = Vec::new();
    for tx in block {
        let executed = transact(&mut evm, tx, false)?.result;
        evm.ctx.db_mut().commit(executed.state);
        results.push(executed.result);
    }
    let state = evm.ctx.db_mut();
    state.merge_transitions(BundleRetention::Reverts);
    Ok((results, state.take_bundle()))
}

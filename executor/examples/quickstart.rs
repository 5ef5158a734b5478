//! A thousand payments in one block, executed on all cores.

use alloy_evm::EvmEnv;
use alloy_primitives::{Address, TxKind, U256};
use multilane::{ExecutorConfig, ParallelExecutor};
use revm::{
    context::TxEnv,
    database::{CacheDB, EmptyDB},
    state::AccountInfo,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The parent state: a thousand accounts. Any `DatabaseRef` that is `Sync` will do.
    let account = |id: u64| Address::left_padding_from(&id.to_be_bytes());
    let (payers, shop): (Vec<_>, _) = ((10_001..=11_000).map(account).collect(), account(10_000));
    let mut db = CacheDB::new(EmptyDB::new());
    for payer in &payers {
        db.insert_account_info(*payer, AccountInfo::from_balance(U256::from(1_000)));
    }

    // A block: each of them pays 7 wei to the same shop.
    let (kind, value) = (TxKind::Call(shop), U256::from(7));
    let pay = |caller: &Address| TxEnv { caller: *caller, kind, value, ..TxEnv::default() };
    let block: Vec<_> = payers.iter().map(pay).collect();

    // All cores execute it; results and state changes are those of a serial run.
    let executor = ParallelExecutor::new(ExecutorConfig::new())?;
    let (results, bundle) = executor.execute_block_ref(&db, &EvmEnv::default(), &block)?;

    assert!(results.len() == 1_000 && results.iter().all(|result| result.is_success()));
    let income = bundle.account(&shop).and_then(|account| account.info.as_ref());
    assert_eq!(income.map(|info| info.balance), Some(U256::from(7_000)));
    eprintln!("{} payments executed, each of 7 wei to {shop}", results.len());
    Ok(())
}

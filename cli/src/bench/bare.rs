//! The arm `bare`: the strongest simple thing that executes a block.
//!
//! One revm instance, reused; an in-memory database that holds everything the block reads before
//! the clock starts; transactions in revm's own form. No receipts, no state changes with reverts,
//! no system calls, no withdrawals. Everything that it leaves out the other arms do, so that nobody
//! can call it a slow baseline.

use super::{
    case::{Case, State},
    process::{Metered, metered},
};
use alloy_evm::FromRecoveredTx;
use anyhow::Context as _;
use multilane::{ExecutionError, sequential};
use revm::{
    Context, ExecuteCommitEvm, MainBuilder, MainContext, context::TxEnv, database::CacheDB,
};

/// What the arm needs, made before the first clock starts.
#[derive(Debug)]
pub(crate) struct Bare<'a, DB> {
    case: Case<'a, DB>,
    transactions: Vec<TxEnv>,
    /// The prestate, with everything that the block reads in its cache.
    loaded: CacheDB<&'a DB>,
}

impl<'a, DB: State> Bare<'a, DB> {
    /// Loads what the block reads, by executing it once.
    ///
    /// # Errors
    ///
    /// If the block cannot be executed.
    pub(crate) fn new(case: Case<'a, DB>) -> Result<Self, ExecutionError> {
        // The sequential engine keeps its changes to itself: the cache holds what was read.
        let mut loaded = CacheDB::new(case.prestate);
        sequential::execute_block(case.chain, case.block, &mut loaded)?;
        let transactions = case.block.transactions.iter();
        let transactions =
            transactions.map(|tx| TxEnv::from_recovered_tx(tx.inner(), tx.signer())).collect();
        Ok(Self { case, transactions, loaded })
    }

    /// Executes the block on a fresh copy of the database, and gives the gas that it used.
    ///
    /// # Errors
    ///
    /// If a transaction cannot be executed.
    pub(crate) fn run(&self) -> anyhow::Result<Metered<u64>> {
        let (mut db, transactions) = (self.loaded.clone(), self.transactions.clone());
        let env = self.case.chain.evm_env(&self.case.block.header);
        let mut evm = Context::mainnet()
            .with_cfg(env.cfg_env)
            .with_block(env.block_env)
            .with_db(&mut db)
            .build_mainnet();
        metered(|| {
            let mut gas_used = 0;
            for (index, transaction) in transactions.into_iter().enumerate() {
                let result = evm
                    .transact_commit(transaction)
                    .with_context(|| format!("transaction {index} on bare revm"))?;
                gas_used += result.tx_gas_used();
            }
            Ok(gas_used)
        })
        .transpose()
    }
}

//! How much of what transactions write is foreseen, once a profile has seen a block of their kind?

use crate::workloads::generate_with;
use multilane::{
    ExecutorConfig, ParallelExecutor, Shared,
    analyzer::{LearnedAccess, Profile},
    sequential,
    state::StateLocation,
};
use multilane_fixtures::workload::{Workload, WorkloadBlock, WorkloadSettings};
use revm::{context::TxEnv, database::WrapDatabaseRef, state::EvmState};
use std::{collections::HashSet, sync::Arc};

/// Of each block.
const TRANSACTIONS: usize = 1_000;

/// A block, or `None` where the Uniswap packages are missing and may be.
fn block(name: &str, seed: u64) -> Option<WorkloadBlock> {
    let mut settings = WorkloadSettings::default();
    settings.transactions = Some(TRANSACTIONS);
    settings.seed = seed;
    let workload = Workload::by_name(name).expect("the workload exists");
    generate_with(workload, &settings)
}

/// Slots that the transactions of a block write, and those of them that are foreseen, with a profile
/// that has served an executor for one block of the same kind.
#[expect(clippy::iter_over_hash_type, reason = "sums do not depend on the order")]
fn written_and_foreseen(name: &str) -> Option<(usize, usize)> {
    let profile = Arc::new(Profile::new());
    let config = ExecutorConfig::new().with_threads(2).with_allow_sequential(false);
    let executor = ParallelExecutor::new(config).expect("threads can be started");
    let executor = executor.with_profile(Arc::clone(&profile));
    let WorkloadBlock { chain, block: warm_up, prestate, .. } = block(name, 1)?;
    executor.execute_block(&chain, &warm_up, &Shared(&prestate)).expect("the block is valid");

    let WorkloadBlock { chain, block, prestate, .. } = block(name, 2)?;
    let mut changes: Vec<EvmState> = Vec::new();
    let keep = |_, state: &EvmState| changes.push(state.clone());
    sequential::execute_block_observed(&chain, &block, WrapDatabaseRef(&prestate), keep)
        .expect("the block is valid");
    let (env, source) = (chain.evm_env(&block.header), Shared(&prestate));
    let mut predictor = profile.predictor(&env, &source);
    let (mut written, mut foreseen) = (0, 0);
    for (tx, changes) in block.transactions.iter().zip(&changes) {
        let tx: TxEnv = alloy_evm::FromRecoveredTx::from_recovered_tx(tx.inner(), tx.signer());
        let prediction = predictor.predict(&tx);
        let accesses = prediction.iter().flat_map(|prediction| &prediction.accesses);
        let write = |access: &LearnedAccess| match access.location {
            StateLocation::Slot(address, slot) if access.writes() => Some((address, slot)),
            _ => None,
        };
        let predicted: HashSet<_> = accesses.filter_map(write).collect();
        for (address, account) in changes {
            for (slot, _) in account.storage.iter().filter(|(_, slot)| slot.is_changed()) {
                written += 1;
                foreseen += usize::from(predicted.contains(&(*address, *slot)));
            }
        }
    }
    Some((written, foreseen))
}

#[test]
fn what_is_written_is_foreseen_after_one_block() {
    for name in ["uniswap-v3-pools", "uniswap-v2-pools", "erc20-dependent", "defi"] {
        let Some((written, foreseen)) = written_and_foreseen(name) else { continue };
        eprintln!("{name}: {foreseen} of {written} written slots are foreseen");
        assert!(foreseen * 100 >= written * 99, "{name}: {foreseen} of {written}");
    }
}

//! The oracle: plain revm, one transaction after another. It shares no code with the executor.

use alloy_evm::EvmEnv;
use alloy_primitives::{Address, U256};
use multilane::verification::compare_outputs;
use multilane_state::BlockOutput;
use revm::{
    Context, DatabaseRef, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext,
    context::TxEnv,
    context_interface::result::{HaltReason, ResultAndState},
    database::{BundleState, State, states::bundle_state::BundleRetention},
    state::{Account, AccountStatus},
};
use std::{collections::BTreeMap, fmt::Debug};

/// What each transaction gives, and the net changes of all of them.
pub(crate) fn run<DB: DatabaseRef<Error: Debug>>(
    env: &EvmEnv,
    transactions: &[TxEnv],
    db: &DB,
) -> (Vec<ResultAndState<HaltReason>>, BundleState) {
    let mut state = State::builder().with_database_ref(db).with_bundle_update().build();
    let mut evm = Context::mainnet()
        .with_block(env.block_env.clone())
        .with_cfg(env.cfg_env.clone())
        .with_db(&mut state)
        .build_mainnet();
    let results = transactions
        .iter()
        .map(|tx| {
            let result = evm.transact(tx.clone()).expect("the block is valid");
            evm.commit(result.state.clone());
            result
        })
        .collect();
    drop(evm);
    state.merge_transitions(BundleRetention::Reverts);
    (results, state.take_bundle())
}

/// Asserts that two results mean the same: the result itself, and all that a commit looks at.
#[track_caller]
pub(crate) fn assert_same_result(
    serial: &ResultAndState<HaltReason>,
    parallel: &ResultAndState<HaltReason>,
    context: &dyn std::fmt::Display,
) {
    assert_eq!(serial.result, parallel.result, "{context}: result");
    let (serial, parallel) = (touched(serial), touched(parallel));
    assert_eq!(
        serial.keys().collect::<Vec<_>>(),
        parallel.keys().collect::<Vec<_>>(),
        "{context}: touched accounts"
    );
    for (address, account) in serial {
        assert_eq!(account, parallel[&address], "{context}: account {address}");
    }
}

/// Asserts that two bundles are equal, down to the reverts.
#[track_caller]
pub(crate) fn assert_same_bundle(
    serial: BundleState,
    parallel: BundleState,
    context: &dyn std::fmt::Display,
) {
    let output = |bundle| BlockOutput { bundle, ..BlockOutput::default() };
    let differences = compare_outputs(&output(serial), &output(parallel));
    assert!(differences.is_empty(), "{context}: {differences:#?}");
}

/// What a commit looks at in an account.
#[derive(Debug, PartialEq)]
struct Committed<'a> {
    balance: U256,
    nonce: u64,
    code_hash: alloy_primitives::B256,
    original: (U256, u64, alloy_primitives::B256),
    status: AccountStatus,
    /// Original and present value.
    slots: BTreeMap<U256, (U256, U256)>,
    /// Of a created account.
    code: Option<&'a [u8]>,
}

fn touched(result: &ResultAndState<HaltReason>) -> BTreeMap<Address, Committed<'_>> {
    let accounts = result.state.iter().filter(|(_, account)| account.is_touched());
    accounts.map(|(address, account)| (*address, committed(account))).collect()
}

fn committed(account: &Account) -> Committed<'_> {
    let (info, original) = (&account.info, account.original_info());
    let flags = AccountStatus::Created
        | AccountStatus::SelfDestructed
        | AccountStatus::Touched
        | AccountStatus::LoadedAsNotExisting;
    let slots = account.storage.iter();
    Committed {
        balance: info.balance,
        nonce: info.nonce,
        code_hash: info.code_hash,
        original: (original.balance, original.nonce, original.code_hash),
        status: account.status & flags,
        slots: slots
            .map(|(slot, value)| (*slot, (value.original_value, value.present_value)))
            .collect(),
        code: account
            .is_created()
            .then(|| info.code.as_ref().map(|code| code.original_byte_slice()))
            .flatten(),
    }
}

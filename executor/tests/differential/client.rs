//! A client that executes blocks, written against alloy-evm's traits and nothing else.

use alloy_consensus::transaction::Recovered;
use alloy_evm::{
    Database, EvmEnv, EvmFactory, FromRecoveredTx, FromTxWithEncoded,
    block::{BlockExecutionError, BlockExecutionResult, BlockExecutor, BlockExecutorFactory},
};
use alloy_primitives::{Address, B256, U256};
use revm::{
    context::BlockEnv,
    database::{BundleState, State, states::bundle_state::BundleRetention},
    primitives::hardfork::SpecId,
    state::EvmState,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

/// How the client goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// One call for the whole block.
    WholeBlock,
    /// One call for each transaction.
    OneByOne,
    /// Each transaction is executed twice, first without keeping anything of it.
    Hesitating,
}

impl Style {
    pub(crate) const ALL: [Self; 3] = [Self::WholeBlock, Self::OneByOne, Self::Hesitating];
}

/// All that a client can see of a block's execution.
#[derive(Debug)]
pub(crate) struct Imported<R> {
    pub(crate) result: BlockExecutionResult<R>,
    pub(crate) bundle: BundleState,
    /// What the state hook saw, call by call.
    pub(crate) hooked: Vec<Changes>,
    /// What the state has read.
    pub(crate) read: Reads,
}

type Values = (U256, u64, B256);

/// Accounts with balance, nonce, code hash; and slots with the values before and after.
pub(crate) type Changes = BTreeMap<Address, (Values, BTreeMap<U256, (U256, U256)>)>;

/// Accounts with their slots, and codes, that a state holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    accounts: BTreeMap<Address, BTreeSet<U256>>,
    codes: BTreeSet<B256>,
}

/// Executes a block on the state that a database shows.
pub(crate) fn import<'a, F, DB>(
    factory: &'a F,
    env: EvmEnv,
    context: F::ExecutionCtx<'a>,
    transactions: &[Recovered<F::Transaction>],
    db: DB,
    style: Style,
) -> Result<Imported<F::Receipt>, BlockExecutionError>
where
    F: BlockExecutorFactory<
        EvmFactory: EvmFactory<
            Tx: FromRecoveredTx<F::Transaction> + FromTxWithEncoded<F::Transaction>,
            Spec = SpecId,
            BlockEnv = BlockEnv,
        >,
    >,
    DB: Database,
{
    let hooked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&hooked);
    let hook = move |state: EvmState| seen.lock().unwrap().push(changes(&state));
    let mut state = State::builder().with_database(db).with_bundle_update().build();
    state.set_state_hook(Some(Box::new(hook)));

    let evm = factory.evm_factory().create_evm(&mut state, env);
    let mut executor = factory.create_executor(evm, context);
    let result = match style {
        Style::WholeBlock => executor.execute_block(transactions)?,
        Style::OneByOne => {
            executor.apply_pre_execution_changes()?;
            for tx in transactions {
                executor.execute_transaction(tx)?;
            }
            assert_eq!(executor.receipts().len(), transactions.len());
            executor.apply_post_execution_changes()?
        }
        Style::Hesitating => {
            executor.apply_pre_execution_changes()?;
            for tx in transactions {
                let _ = executor.execute_transaction_without_commit(tx)?;
                executor.execute_transaction(tx)?;
            }
            executor.apply_post_execution_changes()?
        }
    };

    state.merge_transitions(BundleRetention::Reverts);
    state.set_state_hook(None);
    let hooked = std::mem::take(&mut *hooked.lock().unwrap());
    Ok(Imported { result, hooked, read: reads(&state), bundle: state.take_bundle() })
}

#[expect(clippy::iter_over_hash_type, reason = "what is made of it is sorted")]
fn changes(state: &EvmState) -> Changes {
    let mut changes = Changes::new();
    for (address, account) in state {
        let info = &account.info;
        let slots = account.storage.iter();
        let slots = slots.map(|(key, slot)| (*key, (slot.original_value, slot.present_value)));
        let values = (info.balance, info.nonce, info.code_hash);
        changes.insert(*address, (values, slots.collect()));
    }
    changes
}

fn reads<DB>(state: &State<DB>) -> Reads {
    let accounts = state.cache.accounts.iter().map(|(address, cached)| {
        let slots = cached.account.iter().flat_map(|account| account.storage.keys());
        (*address, slots.copied().collect())
    });
    Reads { accounts: accounts.collect(), codes: state.cache.contracts.keys().copied().collect() }
}

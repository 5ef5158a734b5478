//! Building a block: the outcome is that of a serial builder.

use crate::generated::{self, Plan};
use alloy_consensus::{SignableTransaction, TxEnvelope, TxLegacy, transaction::Recovered};
use alloy_evm::{
    EvmFactory,
    block::{BlockExecutionError, BlockExecutor, BlockExecutorFactory, BlockValidationError},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutorFactory, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder,
    },
};
use alloy_primitives::{Bytes, Signature, TxKind, U256};
use multilane::{
    ExecutorConfig, ParallelExecutor, Shared, SkipReason, sequential, verification::compare_outputs,
};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use proptest::prelude::*;
use revm::database::{
    CacheDB, EmptyDB, State, WrapDatabaseRef, states::bundle_state::BundleRetention,
};
use std::borrow::Cow;

/// What a builder decided, in words, and what came of it.
struct Decided {
    included: Vec<Recovered<TxEnvelope>>,
    skipped: Vec<(usize, String)>,
    output: BlockOutput,
}

/// The oracle: alloy-evm's executor, which says of each candidate in turn whether it goes in.
fn build_serially(
    chain: &ChainSpec,
    block: &BlockInput,
    candidates: &[Recovered<TxEnvelope>],
    prestate: &CacheDB<EmptyDB>,
) -> Decided {
    let database = WrapDatabaseRef(prestate);
    let mut state = State::builder().with_database(database).with_bundle_update().build();
    let factory = EthBlockExecutorFactory::new(
        AlloyReceiptBuilder::default(),
        chain.clone(),
        EthEvmFactory::default(),
    );
    let context = EthBlockExecutionCtx {
        parent_hash: block.header.parent_hash,
        parent_beacon_block_root: block.header.parent_beacon_block_root,
        ommers: &[],
        withdrawals: block.withdrawals.as_deref().map(Cow::Borrowed),
        extra_data: block.header.extra_data.clone(),
        tx_count_hint: None,
        slot_number: block.header.slot_number,
    };
    let evm = EthEvmFactory::default().create_evm(&mut state, chain.evm_env(&block.header));
    let mut executor = factory.create_executor(evm, context);
    executor.apply_pre_execution_changes().unwrap();
    let (mut included, mut skipped) = (Vec::new(), Vec::new());
    for (index, candidate) in candidates.iter().enumerate() {
        match executor.execute_transaction(candidate) {
            Ok(_) => included.push(candidate.clone()),
            Err(BlockExecutionError::Validation(reason)) => skipped.push((index, words(&reason))),
            Err(error) => panic!("candidate {index}: {error}"),
        }
    }
    let (_, result) = executor.finish().unwrap();
    state.merge_transitions(BundleRetention::Reverts);
    let output = BlockOutput {
        receipts: result.receipts,
        requests: result.requests,
        gas_used: result.gas_used,
        blob_gas_used: result.blob_gas_used,
        bundle: state.take_bundle(),
        access_list: None,
    };
    Decided { included, skipped, output }
}

fn words(reason: &BlockValidationError) -> String {
    match reason {
        BlockValidationError::TransactionGasLimitMoreThanAvailableBlockGas {
            transaction_gas_limit,
            block_available_gas,
        } => format!("{transaction_gas_limit} over {block_available_gas}"),
        other => other.to_string(),
    }
}

fn our_words(reason: &SkipReason) -> String {
    match reason {
        SkipReason::Gas { limit, available } => format!("{limit} over {available}"),
        other => other.to_string(),
    }
}

/// Candidates of a plan: each of its transactions as often as `copies` says, and now and then one
/// that asks for nearly a whole small block.
fn candidates(plan: &Plan, copies: &[usize]) -> Vec<Recovered<TxEnvelope>> {
    let mut candidates = Vec::new();
    for (transaction, copies) in plan.block().transactions.iter().zip(copies) {
        candidates.extend(std::iter::repeat_n(transaction.clone(), *copies));
        if *copies == 2 {
            let greedy = TxLegacy {
                chain_id: None,
                nonce: 1,
                gas_price: 10_000_000_000,
                gas_limit: 1_500_000,
                to: TxKind::Call(transaction.signer()),
                value: U256::ZERO,
                input: Bytes::new(),
            };
            let greedy = greedy.into_signed(Signature::test_signature()).into();
            candidates.push(Recovered::new_unchecked(greedy, transaction.signer()));
        }
    }
    candidates
}

/// Builds at every thread count, and compares.
fn check(plan: &Plan, copies: &[usize]) {
    let (chain, prestate) = (ChainSpec::mainnet(), plan.prestate());
    let candidates = candidates(plan, copies);
    let template = BlockInput { transactions: Vec::new(), ..plan.block() };
    let mut expected = build_serially(&chain, &template, &candidates, &prestate);
    let block = BlockInput { transactions: expected.included.clone(), ..template.clone() };
    let executed =
        sequential::execute_block_with_access_list(&chain, &block, WrapDatabaseRef(&prestate))
            .unwrap();
    expected.output.access_list.clone_from(&executed.access_list);
    assert_eq!(compare_outputs(&executed, &expected.output), [], "the block that was built");
    for threads in [1, 2, 4] {
        for allow_sequential in [true, false] {
            let config = ExecutorConfig::new()
                .with_threads(threads)
                .with_allow_sequential(allow_sequential)
                .with_access_lists(true);
            let executor = ParallelExecutor::new(config).unwrap();
            let (built, stats) = executor
                .build_block(&chain, &template, candidates.clone(), &Shared(&prestate))
                .unwrap();
            let skipped: Vec<_> = built
                .skipped
                .iter()
                .map(|skipped| (skipped.candidate, our_words(&skipped.reason)))
                .collect();
            assert_eq!(skipped, expected.skipped, "at {threads} threads");
            assert_eq!(built.transactions, expected.included, "at {threads} threads");
            assert_eq!(compare_outputs(&expected.output, &built.output), []);
            assert_eq!(stats.transactions, built.transactions.len());
            for skipped in &built.skipped {
                assert_eq!(skipped.transaction, candidates[skipped.candidate]);
            }
        }
    }
}

fn copies() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![12 => Just(1_usize), 1 => Just(0), 1 => Just(2)], 40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn random_candidates(plan in generated::plan(), copies in copies()) {
        check(&plan, &copies);
    }
}

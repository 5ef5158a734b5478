//! `execute_block_with` over an alloy-evm factory with a chain of the caller's own.

use crate::{THREADS, forced, watchdog::Watchdog, workload::Workload};
use alloy_eips::eip4895::Withdrawal;
use alloy_evm::{
    EvmEnv, EvmFactory,
    block::{BlockExecutor, BlockExecutorFactory},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutorFactory, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder, spec::EthExecutorSpec,
    },
};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::{Address, B256, Bytes};
use multilane::{Shared, verification::compare_outputs};
use multilane_state::BlockOutput;
use revm::{
    context::CfgEnv,
    database::{State, states::bundle_state::BundleRetention},
    primitives::hardfork::SpecId,
};
use std::borrow::Cow;

pub(crate) const CHAIN_ID: u64 = 1;

/// A chain on which every fork up to one of them is active from its genesis block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkedAtGenesis {
    pub(crate) newest: EthereumHardfork,
}

impl EthereumHardforks for ForkedAtGenesis {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        match fork {
            EthereumHardfork::Dao => ForkCondition::Never,
            fork if fork > self.newest => ForkCondition::Never,
            fork if fork >= EthereumHardfork::Shanghai => ForkCondition::Timestamp(0),
            EthereumHardfork::Paris => ForkCondition::TTD {
                activation_block_number: 0,
                fork_block: Some(0),
                total_difficulty: Default::default(),
            },
            _ => ForkCondition::Block(0),
        }
    }
}

impl EthExecutorSpec for ForkedAtGenesis {
    fn deposit_contract_address(&self) -> Option<Address> {
        None
    }
}

pub(crate) fn context(withdrawals: &[Withdrawal]) -> EthBlockExecutionCtx<'_> {
    EthBlockExecutionCtx {
        parent_hash: B256::repeat_byte(3),
        parent_beacon_block_root: Some(B256::repeat_byte(4)),
        ommers: &[],
        withdrawals: Some(Cow::Borrowed(withdrawals)),
        extra_data: Bytes::new(),
        tx_count_hint: None,
        slot_number: None,
    }
}

fn check(spec: ForkedAtGenesis, spec_id: SpecId, workload: &Workload) {
    let factory = EthBlockExecutorFactory::new(
        AlloyReceiptBuilder::default(),
        spec,
        EthEvmFactory::default(),
    );
    let mut env: EvmEnv = workload.env();
    env.cfg_env = CfgEnv::new_with_spec(spec_id).with_chain_id(CHAIN_ID);
    let withdrawals =
        [Withdrawal { index: 1, validator_index: 2, address: Address::repeat_byte(8), amount: 5 }];
    let context = context(&withdrawals);

    let mut state =
        State::builder().with_database_ref(&workload.prestate).with_bundle_update().build();
    let evm = factory.evm_factory().create_evm(&mut state, env.clone());
    let executor = factory.create_executor(evm, context.clone());
    let expected = executor.execute_block(&workload.input.transactions).unwrap();
    state.merge_transitions(BundleRetention::Reverts);
    let output = |result: alloy_evm::block::BlockExecutionResult<_>, bundle| BlockOutput {
        receipts: result.receipts,
        requests: result.requests,
        gas_used: result.gas_used,
        blob_gas_used: result.blob_gas_used,
        bundle,
        access_list: None,
    };
    let expected = output(expected, state.take_bundle());

    for threads in THREADS {
        let mut observed = 0;
        let (result, bundle, _) = forced(threads)
            .execute_block_with(
                &factory,
                env.clone(),
                context.clone(),
                &workload.input.transactions,
                &Shared(&workload.prestate),
                |index, _| {
                    assert_eq!(index, observed);
                    observed += 1;
                },
            )
            .unwrap();
        assert_eq!(observed, workload.input.transactions.len());
        let differences = compare_outputs(&expected, &output(result, bundle));
        assert!(differences.is_empty(), "{spec:?} at {threads} threads: {differences:#?}");
    }
}

#[test]
fn the_result_is_that_of_the_factory_s_own_executor() {
    let _watchdog = Watchdog::new("block factory");
    let workload = Workload::mixed(51, 150);
    check(ForkedAtGenesis { newest: EthereumHardfork::Prague }, SpecId::PRAGUE, &workload);
    check(ForkedAtGenesis { newest: EthereumHardfork::Osaka }, SpecId::OSAKA, &workload);
}

#[test]
fn rules_of_the_future_hold_too() {
    let _watchdog = Watchdog::new("block factory, Amsterdam");
    let workload = Workload::mixed(52, 150);
    check(ForkedAtGenesis { newest: EthereumHardfork::Amsterdam }, SpecId::AMSTERDAM, &workload);
}

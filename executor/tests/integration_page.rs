//! The code of `docs/integration.md` compiles, against stand-ins for what is reth's, and the names
//! that it mentions are there.

use alloy_consensus::{TxEnvelope, transaction::Recovered};
use alloy_evm::{
    EvmEnv,
    block::{BlockExecutionResult, BlockExecutorFactory},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutorFactory, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder,
    },
};
use alloy_primitives::B256;
use multilane::{
    AccessHints, Cancellable, CancellationToken, ExecutionError, ExecutionStats, Inspected,
    Lookahead, ParallelBlockExecutorFactory, ParallelExecutor, StateSource,
    backend::{BackendDb, BackendOutcome, BackendRules, EvmBackend, FactoryBackend, MainnetEvm},
    state::{BlockInput, BlockOutput, ChainSpec, access_list::AccessListError},
    verification::verify_block,
};
use revm::{
    database::{BundleState, CacheDB, EmptyDB},
    state::EvmState,
};
use std::{convert::Infallible, sync::Arc};

const PAGE: &str = include_str!("../../docs/integration.md");

/// What reth has, as far as the page's code uses it.
type StateProviderDatabase = CacheDB<EmptyDB>;

fn make_state_provider() -> Result<EmptyDB, Infallible> {
    Ok(EmptyDB::new())
}

struct StateProviderBuilder;

impl StateProviderBuilder {
    fn build(&self) -> Result<EmptyDB, Infallible> {
        make_state_provider()
    }
}

struct Providers;

impl Providers {
    fn state_at(&self, _parent: B256) -> Option<StateProviderBuilder> {
        Some(StateProviderBuilder)
    }
}

struct Payloads(Vec<Recovered<TxEnvelope>>);

impl Payloads {
    fn transactions(&self, _parent: B256) -> &[Recovered<TxEnvelope>] {
        &self.0
    }
}

struct StateRootTask;

impl StateRootTask {
    fn on_transaction(&self, _index: usize, _changes: &EvmState) {}
}

type Factory = EthBlockExecutorFactory<AlloyReceiptBuilder, ChainSpec, EthEvmFactory>;

struct EvmConfig(Factory);

impl EvmConfig {
    const fn block_executor_factory(&self) -> &Factory {
        &self.0
    }
}

struct ExecutionEnv {
    evm_env: EvmEnv,
}

struct BlockExecutionOutput<R> {
    result: BlockExecutionResult<R>,
    state: BundleState,
}

struct Validator {
    evm_config: EvmConfig,
}

fn the_state() -> impl StateSource {
    // [page]
    let source = || make_state_provider().map(StateProviderDatabase::new);
    // [end]
    source
}

fn the_drop_in(
    multilane: Arc<ParallelExecutor>,
    (receipts, chain_spec, evm_factory): (AlloyReceiptBuilder, ChainSpec, EthEvmFactory),
    (providers, payloads): (Providers, Payloads),
) -> impl BlockExecutorFactory {
    // [page]
    let factory = ParallelBlockExecutorFactory::new(
        EthBlockExecutorFactory::new(receipts, chain_spec, evm_factory),
        Arc::clone(&multilane),
        move |_env: &EvmEnv, ctx: &EthBlockExecutionCtx<'_>| {
            // The state that the block begins with, one handle for each worker. `None`: serially.
            let builder = providers.state_at(ctx.parent_hash)?;
            let source = move || builder.build().map(StateProviderDatabase::new);
            Some(Lookahead::new(source).with_transactions(payloads.transactions(ctx.parent_hash)))
        },
    );
    // [end]
    factory
}

impl Validator {
    #[expect(dead_code, reason = "compiling it is the test")]
    fn the_serial_loop(
        &self,
        multilane: &ParallelExecutor,
        env: ExecutionEnv,
        ctx: EthBlockExecutionCtx<'_>,
        transactions: Vec<Recovered<TxEnvelope>>,
        source: impl StateSource,
    ) -> Result<(BundleState, ExecutionStats), ExecutionError> {
        let state_root_task = StateRootTask;
        // [page]
        let (result, bundle, stats) = multilane.execute_block_with(
            self.evm_config.block_executor_factory(),
            env.evm_env,
            ctx,
            &transactions, // &[Recovered<TransactionSigned>]
            &source,
            |index, changes| state_root_task.on_transaction(index, changes),
        )?;
        let output = BlockExecutionOutput { result, state: bundle };
        // [end]
        assert!(output.result.receipts.len() == transactions.len());
        Ok((output.state, stats))
    }
}

fn the_end(provider: CacheDB<EmptyDB>) -> impl StateSource {
    let source = move || Ok::<_, Infallible>(provider.clone());
    // [page]
    let token = CancellationToken::new();
    let source = Cancellable::new(source, token.clone());
    // [end]
    drop(token);
    source
}

/// Names that the page mentions and its code does not use.
#[expect(dead_code, reason = "compiling it is the test")]
fn the_names<B: EvmBackend>(
    executor: &ParallelExecutor<B>,
    mainnet: &ParallelExecutor,
    (hints, rules, outcome): (&AccessHints, &BackendRules, &BackendOutcome),
    (chain, block, output): (&ChainSpec, &BlockInput, &BlockOutput),
    (evm, inspected): (&mut MainnetEvm<'_>, &Inspected<()>),
    error: &ExecutionError,
) {
    let _ = ParallelExecutor::<B>::execute_block_ref::<CacheDB<EmptyDB>>;
    let _ = FactoryBackend::<EthEvmFactory>::new;
    let _ = ParallelExecutor::<B>::with_backend::<FactoryBackend<EthEvmFactory>>;
    let _ = (executor.profile(), mainnet.config(), &rules.ordered, &outcome.owed);
    let _ = (BackendRules::mainnet(), evm.precompiles_mut(), BackendDb::watch);
    let _ = (&output.access_list, &inspected.prestate);
    let _ = |roots| verify_block(chain, block, output, &roots);
    let _: Option<AccessListError> = None;
    match (error, hints) {
        (ExecutionError::InvalidBlock { .. }, AccessHints::Advisory(_)) => {}
        (ExecutionError::State { .. }, AccessHints::Enforced(_)) => {}
        (ExecutionError::Internal { .. } | ExecutionError::Cancelled { .. }, _) => {}
        _ => {}
    }
}

#[test]
fn the_page_shows_the_code_that_is_compiled() {
    let _ = (the_state, the_drop_in, the_end);
    let shown: Vec<_> = PAGE
        .split("```rust,ignore\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect();
    let compiled: Vec<_> = include_str!("integration_page.rs")
        .split("// [page]\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("// [end]"))
        .map(|(code, _)| without_indent(code))
        .filter(|code| !code.contains(".split("))
        .collect();
    assert_eq!(shown, compiled);
}

fn without_indent(code: &str) -> String {
    let lines: Vec<_> = code.lines().filter(|line| !line.trim().is_empty()).collect();
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().map(indent).min().unwrap_or_default();
    lines.iter().map(|line| format!("{}\n", &line[least..])).collect()
}

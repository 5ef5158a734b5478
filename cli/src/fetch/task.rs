//! One block: download, check, execute over the node's state, check again, stage.

use super::{
    archive::{Archive, StagedBlock},
    block,
    chain::Chain,
    error::BlockError,
    node::{Node, NodeError},
    prestate::RecordedPrestate,
    state::ParentState,
    summary::{FetchedBlock, PrestateSource},
    trace::TracedState,
    verify,
};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks};
use multilane::{sequential, state::BlockInput};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{runtime::Handle, task};

/// What all tasks of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) node: Node,
    pub(super) chain: Chain,
    pub(super) archive: Archive,
    /// Set once the node says that it offers no traces.
    pub(super) no_traces: AtomicBool,
}

/// Fetches a block and stages it.
pub(super) async fn fetch_block(
    shared: Arc<Shared>,
    number: u64,
) -> Result<(FetchedBlock, StagedBlock), BlockError> {
    let json = block::download(&shared.node, number).await?;
    let traced = shared.download_trace(number).await?;
    let runtime = Handle::current();
    // Execution and compression are work, and reads of state wait: neither may hold up the async
    // threads.
    task::spawn_blocking(move || shared.execute_and_stage(&runtime, number, &json, traced))
        .await
        .map_err(|panic| BlockError::Internal(panic.to_string()))?
}

impl Shared {
    /// The trace of a block, where the node has one to give.
    async fn download_trace(&self, number: u64) -> Result<Option<TracedState>, NodeError> {
        if self.no_traces.load(Ordering::Relaxed) || !self.can_use_trace(number) {
            return Ok(None);
        }
        match TracedState::download(&self.node, number).await {
            Ok(traced) => Ok(Some(traced)),
            Err(error) if error.is_fatal() => Err(error),
            // A trace is advice: whatever is wrong with it, the state can be asked for.
            Err(error) => {
                if matches!(error, NodeError::MethodMissing { .. }) {
                    self.no_traces.store(true, Ordering::Relaxed);
                }
                tracing::debug!(number, %error, "no trace");
                Ok(None)
            }
        }
    }

    /// The DAO fork moves balances before the first transaction of its block finds them.
    fn can_use_trace(&self, number: u64) -> bool {
        let dao = self.chain.spec.ethereum_fork_activation(EthereumHardfork::Dao);
        !dao.transitions_at_block(number)
    }

    fn execute_and_stage(
        &self,
        runtime: &Handle,
        number: u64,
        json: &Value,
        traced: Option<TracedState>,
    ) -> Result<(FetchedBlock, StagedBlock), BlockError> {
        let block = block::read(json, number, &self.chain.spec)?;
        let (prestate, source) = self.record_prestate(runtime, &block, traced)?;
        let (accounts, slots) = prestate.counts();
        let staged = self.archive.stage(number, json, prestate)?;
        let fetched = FetchedBlock {
            block: number,
            txs: block.transactions.len(),
            gas_used: block.header.gas_used,
            accounts,
            slots,
            prestate: source,
        };
        Ok((fetched, staged))
    }

    /// Records what the block reads. A trace that leads to another result than the header's is
    /// given up for plain requests: only then is the block judged.
    fn record_prestate(
        &self,
        runtime: &Handle,
        block: &BlockInput,
        traced: Option<TracedState>,
    ) -> Result<(RecordedPrestate, PrestateSource), BlockError> {
        if let Some(traced) = traced {
            match self.execute(runtime, block, traced) {
                Ok(record) => return Ok((record, PrestateSource::Trace)),
                Err(error) if error.is_verdict() => {
                    tracing::debug!(number = block.header.number, %error, "the trace misleads");
                }
                Err(error) => return Err(error),
            }
        }
        let record = self.execute(runtime, block, TracedState::default())?;
        Ok((record, PrestateSource::Requests))
    }

    /// Executes a block over the node's state, checks the result against the header, and returns
    /// what was read.
    fn execute(
        &self,
        runtime: &Handle,
        block: &BlockInput,
        traced: TracedState,
    ) -> Result<RecordedPrestate, BlockError> {
        let chain = &self.chain.spec;
        let number = block.header.number;
        let mut state = ParentState::new(
            &self.node,
            runtime.clone(),
            self.archive.codes(),
            number.saturating_sub(1),
            !chain.is_spurious_dragon_active_at_block(number),
            traced,
        );
        let reader = state.reader();
        let output =
            sequential::execute_block_observed(chain, block, &mut state, |transaction, _| {
                reader.set(transaction + 1);
            })
            .map_err(BlockError::from_execution)?;
        verify::check_output(chain, block, &output)?;
        Ok(state.into_record())
    }
}

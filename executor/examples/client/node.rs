//! The node: its blocks over JSON-RPC, with the senders recovered from the signatures.

use alloy::{
    eips::BlockId,
    providers::{Provider, RootProvider},
};
use alloy_consensus::{Header, TxEnvelope, transaction::SignerRecoverable};
use anyhow::{Context, ensure};
use multilane::state::{BlockInput, ChainSpec};

/// A node that serves JSON-RPC over HTTP.
#[derive(Debug)]
pub(crate) struct Node {
    provider: RootProvider,
    chain_id: u64,
}

impl Node {
    /// Nothing is sent yet.
    pub(crate) fn new(url: &str, chain: &ChainSpec) -> anyhow::Result<Self> {
        let url = url.parse().context("--rpc is not a URL")?;
        Ok(Self { provider: RootProvider::new_http(url), chain_id: chain.chain_id() })
    }

    /// Checks that the node is there, and on the chain of the genesis file.
    pub(crate) async fn check_chain(&self) -> anyhow::Result<()> {
        let id = self.provider.get_chain_id().await.context("asking the node for its chain")?;
        ensure!(
            id == self.chain_id,
            "the node is on chain {id}, but --genesis describes chain {}",
            self.chain_id
        );
        Ok(())
    }

    /// The header of a block that the node must have.
    pub(crate) async fn header(&self, number: u64) -> anyhow::Result<Header> {
        let block = self
            .provider
            .get_block(BlockId::number(number))
            .await
            .with_context(|| format!("asking the node for block {number}"))?;
        let block = block
            .with_context(|| format!("the node has no block {number}; is it another chain?"))?;
        Ok(block.header.inner)
    }

    /// A block, or `None` if the node does not have it yet.
    pub(crate) async fn block(&self, number: u64) -> anyhow::Result<Option<BlockInput>> {
        let block = self.provider.get_block(BlockId::number(number)).full().await;
        let Some(block) = block.with_context(|| format!("asking the node for block {number}"))?
        else {
            return Ok(None);
        };
        ensure!(block.uncles.is_empty(), "block {number} has uncles: it is older than the Merge");
        let transactions = block.transactions.into_transactions();
        let recovered = transactions
            .enumerate()
            .map(|(index, transaction)| {
                // Who sent it is nothing to take the node's word for.
                let signed: TxEnvelope = transaction.inner.into_inner();
                signed
                    .try_into_recovered()
                    .with_context(|| format!("signature of transaction {index}"))
            })
            .collect::<anyhow::Result<_>>()
            .with_context(|| format!("block {number}"))?;
        Ok(Some(BlockInput {
            hash: Some(block.header.hash),
            header: block.header.inner,
            transactions: recovered,
            ommers: Vec::new(),
            ommer_count: 0,
            withdrawals: block.withdrawals.map(|list| list.into_inner()),
        }))
    }
}

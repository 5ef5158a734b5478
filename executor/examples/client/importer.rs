//! Importing a block: execute it in parallel, check what comes out, and only then write it.

use crate::{
    check::state_root_of_all,
    genesis::GenesisFile,
    store::{Head, Store},
    trie::{NewNodes, state_root},
};
use alloy_consensus::Header;
use alloy_primitives::B256;
use alloy_trie::EMPTY_ROOT_HASH;
use anyhow::{Context, bail, ensure};
use multilane::{
    ExecutionMode, ExecutionStats, ExecutorConfig, ParallelExecutor,
    block_rules::{check_body, check_header},
    state::{BlockInput, ChainSpec},
    verification::{StateRoots, verify_block},
};
use revm::database::BundleState;
use std::{
    fmt,
    num::NonZero,
    time::{Duration, Instant},
};

/// A chain's rules, its state, and who executes.
#[derive(Debug)]
pub(crate) struct Importer {
    chain: ChainSpec,
    store: Store,
    executor: ParallelExecutor,
    head: Option<Head>,
}

impl Importer {
    pub(crate) fn new(
        chain: ChainSpec,
        store: Store,
        threads: Option<NonZero<usize>>,
    ) -> anyhow::Result<Self> {
        let mut config = ExecutorConfig::new();
        config.threads = threads.unwrap_or(config.threads);
        let executor = ParallelExecutor::new(config)?;
        let head = store.head()?;
        Ok(Self { chain, store, executor, head })
    }

    /// The newest imported block.
    pub(crate) const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Writes the genesis state, and gives its root.
    pub(crate) fn begin(&mut self, genesis: &GenesisFile, header: Header) -> anyhow::Result<B256> {
        let (root, nodes) = state_root(EMPTY_ROOT_HASH, &genesis.state, |_| Ok(None))?;
        // anvil's genesis header names the empty state, whatever was allocated. Block 1 will show.
        ensure!(
            header.state_root == root || header.state_root == EMPTY_ROOT_HASH,
            "the genesis file makes the state {root}, but the node began with {}",
            header.state_root
        );
        self.write(Head::new(header, root), &genesis.state, nodes)?;
        Ok(root)
    }

    /// Whether the node's block at the height of the head is the head.
    pub(crate) fn check_canonical(&self, header: &Header) -> anyhow::Result<()> {
        let Some(head) = &self.head else { return Ok(()) };
        let stated = header.hash_slow();
        ensure!(
            stated == head.hash,
            Reorganisation { number: header.number, stated, head: head.hash }
        );
        Ok(())
    }

    /// Whether the flat state has the root that was computed block by block.
    pub(crate) fn check_state(&self) -> anyhow::Result<()> {
        let Some(head) = &self.head else { return Ok(()) };
        let root = state_root_of_all(&self.store)?;
        ensure!(
            root == head.state_root,
            "the database is damaged: its accounts have the root {root}, not {}",
            head.state_root
        );
        Ok(())
    }

    /// Executes the block after the head, checks it, and writes it. On an error nothing is written.
    pub(crate) fn import(&mut self, block: &BlockInput) -> anyhow::Result<Imported> {
        let head = self.head.as_ref().context("there is no genesis yet")?;
        let (number, parent) = (block.header.number, block.header.parent_hash);
        ensure!(
            parent == head.hash,
            Reorganisation { number: number.saturating_sub(1), stated: parent, head: head.hash }
        );
        check_header(&self.chain, &block.header, &head.header)?;
        check_body(&self.chain, block)?;

        let start = Instant::now();
        let source = || self.store.reader();
        let (output, stats) = self.executor.execute_block(&self.chain, block, &source)?;
        let time = start.elapsed();

        let (root, nodes) = state_root(head.state_root, &output.bundle, self.store.nodes()?)?;
        let roots = StateRoots::unavailable("blocks before Byzantium are not imported")
            .with_after_block(Ok::<_, &str>(root));
        let checks = verify_block(&self.chain, block, &output, &roots);
        let broken: Vec<_> = checks
            .iter()
            .filter(|check| check.outcome.is_mismatch())
            .map(ToString::to_string)
            .collect();
        if !broken.is_empty() {
            bail!("it is not what its header says: {}", broken.join("; "));
        }
        let (transactions, gas) = (block.transactions.len(), output.gas_used);
        self.write(Head::new(block.header.clone(), root), &output.bundle, nodes)?;
        Ok(Imported { number, transactions, gas, time, stats })
    }

    fn write(&mut self, head: Head, changes: &BundleState, nodes: NewNodes) -> anyhow::Result<()> {
        self.store.commit(&head, changes, &nodes)?;
        self.head = Some(head);
        Ok(())
    }
}

/// The node has taken back a block that is in the database.
#[derive(Debug, thiserror::Error)]
#[error(
    "the chain was reorganised: block {number} is now {stated}, but {head} was imported; undoing \
     blocks is not supported, so start again with a new --db"
)]
struct Reorganisation {
    number: u64,
    stated: B256,
    head: B256,
}

/// An imported block, in one line.
#[derive(Debug)]
pub(crate) struct Imported {
    number: u64,
    transactions: usize,
    gas: u64,
    /// Time of the execution alone, as the node would wait for it.
    time: Duration,
    stats: ExecutionStats,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.stats.mode {
            ExecutionMode::Parallel => "parallel",
            _ => "on one thread",
        };
        write!(
            f,
            "block {}: {} txs, {} gas, {:.2} ms, {mode}, receipts root ok, state root ok",
            self.number,
            self.transactions,
            self.gas,
            self.time.as_secs_f64() * 1e3,
        )
    }
}

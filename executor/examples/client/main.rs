//! A small importer: follows a node over JSON-RPC and keeps a state of its own.
//!
//! Each new block is executed on all cores, checked against its header (receipts root, state root
//! and all else that a header commits to), and written to a database together with the state after
//! it, in one transaction: whatever happens to the process, the next run goes on with the block
//! after the last one that was written.
//!
//! ```text
//! anvil --init genesis.json --accounts 0
//! cargo run --release -p multilane --example client -- --genesis genesis.json
//! ```
//!
//! What is left out, and a client would add: a network of its own, the consensus layer, undoing
//! blocks that the node has taken back, and forgetting the trie nodes of old states.

#![expect(clippy::print_stdout, reason = "a line for each block is what this program is for")]

mod check;
mod genesis;
mod importer;
mod node;
mod reader;
mod store;
mod trie;

use anyhow::Context;
use clap::Parser;
use genesis::GenesisFile;
use importer::Importer;
use node::Node;
use std::{future, path::PathBuf, pin::pin, time::Duration};
use store::Store;

/// Follows a node, and executes its blocks in parallel on a state of its own.
#[derive(Debug, Parser)]
#[command(name = "client")]
struct Arguments {
    /// The node's JSON-RPC address.
    #[arg(long, value_name = "URL", default_value = "http://localhost:8545")]
    rpc: String,
    /// The genesis of the chain in geth's form: its rules, and the state before its first block.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The database. It is created where there is none.
    #[arg(long, value_name = "FILE", default_value = "client.redb")]
    db: PathBuf,
    /// Threads that execute; all cores unless given.
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZero<usize>>,
    /// Stops after this block; otherwise the node is followed until Ctrl-C.
    #[arg(long, value_name = "BLOCK")]
    to: Option<u64>,
    /// How often the node is asked for new blocks once there are none, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 250)]
    poll_ms: u64,
    /// Computes the state root from every account and slot in the database before anything else.
    #[arg(long)]
    check: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // The first poll installs the handler; from then on Ctrl-C ends nothing by itself.
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    tokio::select! {
        biased;
        result = &mut interrupt => return result.context("listening for Ctrl-C"),
        () = future::ready(()) => {}
    }

    let genesis = GenesisFile::read(&arguments.genesis)
        .with_context(|| format!("--genesis {}", arguments.genesis.display()))?;
    let node = Node::new(&arguments.rpc, &genesis.chain)?;
    let store =
        Store::open(&arguments.db).with_context(|| format!("--db {}", arguments.db.display()))?;
    let mut importer = Importer::new(genesis.chain.clone(), store, arguments.threads)?;
    let begin = begin(&mut importer, &node, &genesis, arguments.check);
    tokio::select! {
        _ = &mut interrupt => {}
        result = begin => {
            result?;
            tokio::select! {
                _ = &mut interrupt => {}
                result = follow(&mut importer, &node, &arguments) => result?,
            }
        }
    }
    if let Some(head) = importer.head() {
        println!("stopped after block {}, state root {}", head.header.number, head.state_root);
    }
    Ok(())
}

/// Makes sure that the database and the node are about the same chain.
async fn begin(
    importer: &mut Importer,
    node: &Node,
    genesis: &GenesisFile,
    check: bool,
) -> anyhow::Result<()> {
    node.check_chain().await?;
    let Some(head) = importer.head() else {
        let root = importer.begin(genesis, node.header(0).await?)?;
        println!("genesis written: {} accounts, state root {root}", genesis.state.state.len());
        return Ok(());
    };
    let number = head.header.number;
    println!("continuing after block {number}, state root {}", head.state_root);
    if check {
        importer.check_state()?;
        println!("state root ok over every account and slot");
    }
    importer.check_canonical(&node.header(number).await?)
}

/// Imports blocks as the node gets them. Can be dropped at any await: a block is imported between
/// two of them.
async fn follow(importer: &mut Importer, node: &Node, arguments: &Arguments) -> anyhow::Result<()> {
    loop {
        let next = importer.head().map_or(0, |head| head.header.number) + 1;
        if arguments.to.is_some_and(|last| next > last) {
            return Ok(());
        }
        match node.block(next).await? {
            Some(block) => {
                let imported = importer.import(&block).with_context(|| format!("block {next}"))?;
                println!("{imported}");
            }
            None => tokio::time::sleep(Duration::from_millis(arguments.poll_ms)).await,
        }
    }
}

//! The node, and what the test asks of it.

use alloy::{
    eips::Encodable2718,
    providers::{Provider, RootProvider},
    rpc::client::BatchRequest,
};
use alloy_consensus::{TxEnvelope, transaction::Recovered};
use alloy_primitives::{B256, Bytes, U256};
use multilane_fixtures::anvil::{Anvil, AnvilError};
use serde_json::Value;
use std::{env, path::Path};
use tokio::runtime::{Builder, Runtime};

/// An anvil with a genesis of ours.
#[derive(Debug)]
pub(crate) struct Node {
    anvil: Anvil,
    provider: RootProvider,
    runtime: Runtime,
}

impl Node {
    /// `None`, with a message, where anvil is not installed.
    ///
    /// # Panics
    ///
    /// In CI if anvil is not installed; anywhere if it does not run.
    pub(crate) fn start(genesis: &Path) -> Option<Self> {
        let arguments = ["--no-mining", "--order", "fifo", "--hardfork", "osaka"];
        let state = ["--accounts", "0", "--init", genesis.to_str().expect("a path of ASCII")];
        let anvil = match Anvil::start(arguments.into_iter().chain(state)) {
            Err(message @ AnvilError::NotInstalled) => {
                assert!(env::var("CI").as_deref() != Ok("true"), "{message}");
                eprintln!("test left out: {message}");
                return None;
            }
            started => started.expect("anvil runs"),
        };
        let url = format!("http://127.0.0.1:{}", anvil.port());
        let provider = RootProvider::new_http(url.parse().unwrap());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let node = Self { anvil, provider, runtime };
        // By the clock, blocks that are mined fast would have the times of their parents.
        node.ask("anvil_setBlockTimestampInterval", (12,));
        // Block 1 would have the base fee of its parent, which is an empty block.
        node.ask("anvil_setNextBlockBaseFeePerGas", (U256::from(875_000_000),));
        Some(node)
    }

    /// Where it serves JSON-RPC.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.anvil.port())
    }

    /// A block of exactly these transactions, all of which succeed.
    pub(crate) fn mine(&self, transactions: &[Recovered<TxEnvelope>]) {
        self.runtime.block_on(async {
            let mut batch = BatchRequest::new(self.provider.client());
            let answers: Vec<_> = transactions
                .iter()
                .map(|transaction| {
                    let raw = Bytes::from(transaction.encoded_2718());
                    batch.add_call::<_, B256>("eth_sendRawTransaction", &(raw,)).unwrap()
                })
                .collect();
            if !answers.is_empty() {
                batch.send().await.unwrap();
            }
            for answer in answers {
                answer.await.unwrap();
            }
        });
        self.ask("evm_mine", ());
        let receipts = self.ask("eth_getBlockReceipts", ("latest",));
        let receipts = receipts.as_array().unwrap();
        assert_eq!(receipts.len(), transactions.len());
        for receipt in receipts {
            assert_eq!(receipt["status"], "0x1", "{receipt}");
        }
    }

    /// The state root in a block's header.
    pub(crate) fn state_root(&self, number: u64) -> B256 {
        let block = self.ask("eth_getBlockByNumber", (U256::from(number), false));
        block["stateRoot"].as_str().unwrap().parse().unwrap()
    }

    /// Notes the chain as it is.
    pub(crate) fn snapshot(&self) -> Value {
        self.ask("evm_snapshot", ())
    }

    /// Takes back every block since.
    pub(crate) fn revert(&self, snapshot: &Value) {
        assert_eq!(self.ask("evm_revert", (snapshot,)), true);
    }

    fn ask(
        &self,
        method: &'static str,
        parameters: impl serde::Serialize + Clone + std::fmt::Debug + Send + Sync + Unpin,
    ) -> Value {
        let answer = self.provider.client().request(method, parameters);
        self.runtime.block_on(answer).unwrap_or_else(|error| panic!("{method}: {error}"))
    }
}

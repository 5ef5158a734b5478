//! An execution node behind JSON-RPC: requests, retries, and errors that say what to do.
//!
//! Knows nothing of what the answers are for.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U64, U256},
    providers::{Provider, RootProvider},
    rpc::{
        client::RpcClient,
        types::{EIP1186AccountProofResponse, Header},
    },
    transports::{
        HttpError, RpcError, TransportError, TransportErrorKind,
        http::reqwest::{self, Url},
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// Wait before the first repetition; each further one waits twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Longest wait between two attempts, also where the node asks for more.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A node, and how patiently to ask it.
#[derive(Debug)]
pub(super) struct Node {
    provider: RootProvider,
    /// Scheme, host and port. The rest of a URL often is an access key: it is never shown.
    name: String,
    retries: u32,
    stop: watch::Receiver<bool>,
    requests: AtomicU64,
}

impl Node {
    /// Prepares to talk to a node; nothing is sent yet. Requests end with
    /// [`NodeError::Interrupted`] once `stop` says so.
    ///
    /// # Errors
    ///
    /// A URL that is not one, or not of http or https.
    pub(super) fn new(
        url: &str,
        timeout: Duration,
        retries: u32,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let url: Url = url.parse().map_err(|cause| {
            anyhow::anyhow!("--rpc is not a URL ({cause}); expected is e.g. http://localhost:8545")
        })?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "--rpc has the scheme '{}'; only http and https are supported",
            url.scheme()
        );
        let name = url.origin().ascii_serialization();
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .build()?;
        let provider = RootProvider::new(RpcClient::new_http_with_client(http, url));
        Ok(Self { provider, name, retries, stop, requests: AtomicU64::new(0) })
    }

    /// Requests sent so far, repetitions included.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The chain id. The first contact: a node that cannot be reached is reported soon.
    pub(super) async fn chain_id(&self) -> Result<u64, NodeError> {
        let id: U64 = self.ask("eth_chainId", json!([]), self.retries.min(1)).await?;
        Ok(id.to())
    }

    /// The number of the head.
    pub(super) async fn latest(&self) -> Result<u64, NodeError> {
        let number: U64 = self.request("eth_blockNumber", json!([])).await?;
        Ok(number.to())
    }

    /// A block with its transactions in full, or null.
    pub(super) async fn block(&self, number: u64) -> Result<Value, NodeError> {
        self.request("eth_getBlockByNumber", json!([tag(number), true])).await
    }

    /// The header of an uncle, or null.
    pub(super) async fn uncle(&self, number: u64, index: usize) -> Result<Value, NodeError> {
        let params = json!([tag(number), U64::from(index)]);
        self.request("eth_getUncleByBlockNumberAndIndex", params).await
    }

    /// The hash of a block.
    pub(super) async fn block_hash(&self, number: u64) -> Result<B256, NodeError> {
        let header: Option<Header> =
            self.request("eth_getBlockByNumber", json!([tag(number), false])).await?;
        header
            .map(|header| header.hash)
            .ok_or_else(|| self.malformed("eth_getBlockByNumber", "there is no such block"))
    }

    /// What each transaction of a block reads, as geth's `prestateTracer` gives it.
    pub(super) async fn trace<T: DeserializeOwned>(&self, number: u64) -> Result<T, NodeError> {
        let params = json!([tag(number), { "tracer": "prestateTracer" }]);
        self.request("debug_traceBlockByNumber", params).await
    }

    /// An account after a block, with its proof.
    pub(super) async fn proof(
        &self,
        address: Address,
        at: u64,
    ) -> Result<EIP1186AccountProofResponse, NodeError> {
        self.request("eth_getProof", json!([address, [], tag(at)])).await
    }

    /// The balance of an account after a block, in wei.
    pub(super) async fn balance(&self, address: Address, at: u64) -> Result<U256, NodeError> {
        self.request("eth_getBalance", json!([address, tag(at)])).await
    }

    /// The nonce of an account after a block.
    pub(super) async fn nonce(&self, address: Address, at: u64) -> Result<u64, NodeError> {
        let nonce: U64 = self.request("eth_getTransactionCount", json!([address, tag(at)])).await?;
        Ok(nonce.to())
    }

    /// The code of an account after a block.
    pub(super) async fn code(&self, address: Address, at: u64) -> Result<Bytes, NodeError> {
        self.request("eth_getCode", json!([address, tag(at)])).await
    }

    /// A slot of an account after a block.
    pub(super) async fn storage(
        &self,
        address: Address,
        slot: U256,
        at: u64,
    ) -> Result<U256, NodeError> {
        let params = json!([address, B256::from(slot), tag(at)]);
        self.request("eth_getStorageAt", params).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, NodeError> {
        self.ask(method, params, self.retries).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        retries: u32,
    ) -> Result<T, NodeError> {
        let mut stop = self.stop.clone();
        let attempts = self.repeat(method, &params, retries);
        let answer = tokio::select! {
            biased;
            // Where the other end is gone, nobody can ask to stop any more.
            Ok(_) = stop.wait_for(|stop| *stop) => return Err(NodeError::Interrupted),
            answer = attempts => answer?,
        };
        T::deserialize(answer).map_err(|cause| self.malformed(method, cause))
    }

    async fn repeat(
        &self,
        method: &'static str,
        params: &Value,
        retries: u32,
    ) -> Result<Value, NodeError> {
        let mut attempt = 0;
        loop {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let error = match self.provider.client().request(method, params).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let refusal = Refusal::new(error);
            let Some(wait) = refusal.wait(attempt).filter(|_| attempt < retries) else {
                return Err(refusal.into_error(&self.name, method, attempt + 1));
            };
            tracing::debug!(method, ?wait, cause = %refusal.message, "request is repeated");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    pub(super) fn malformed(&self, method: &'static str, cause: impl ToString) -> NodeError {
        NodeError::Malformed { node: self.name.clone(), method, cause: cause.to_string() }
    }
}

/// A block number in the form that JSON-RPC takes.
const fn tag(number: u64) -> BlockNumberOrTag {
    BlockNumberOrTag::Number(number)
}

/// Why the node did not give what was asked of it.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NodeError {
    /// Nothing answers, or not in time, or only with errors of the server.
    #[error(
        "{node} cannot be reached: {cause} (attempts: {attempts}); is the node running, and is \
         --rpc right?"
    )]
    Unreachable {
        /// The node.
        node: String,
        /// The last attempt's failure.
        cause: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// Something answers, but not with JSON-RPC, or not for us.
    #[error(
        "{node} does not serve JSON-RPC here: {cause}; is --rpc complete, access key included?"
    )]
    NotServed {
        /// The node.
        node: String,
        /// What it answers.
        cause: String,
    },
    /// The node's rate limit holds after all repetitions.
    #[error(
        "{node} refuses so many requests: {cause}; lower --concurrency, raise --retries, or run \
         again later: finished blocks are kept"
    )]
    RateLimited {
        /// The node.
        node: String,
        /// The node's own message.
        cause: String,
    },
    /// The node no longer has the state that is asked for.
    #[error(
        "{node} no longer has the state before this block ({method}: {cause}); ask an archive \
         node, or fetch a recent block"
    )]
    StatePruned {
        /// The node.
        node: String,
        /// What was asked.
        method: &'static str,
        /// The node's own message.
        cause: String,
    },
    /// The node does not offer the method.
    #[error("{node} does not offer {method}: {cause}")]
    MethodMissing {
        /// The node.
        node: String,
        /// What was asked.
        method: &'static str,
        /// The node's own message.
        cause: String,
    },
    /// Any other error that the node answers with.
    #[error("{node} refuses {method}: {cause}")]
    Refused {
        /// The node.
        node: String,
        /// What was asked.
        method: &'static str,
        /// The node's own message.
        cause: String,
    },
    /// An answer that has not the form that the method prescribes.
    #[error("{node} answers {method} with something else: {cause}")]
    Malformed {
        /// The node.
        node: String,
        /// What was asked.
        method: &'static str,
        /// What is wrong with the answer.
        cause: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl revm::context::DBErrorMarker for NodeError {}

impl NodeError {
    /// Whether every further request would fail too.
    pub(super) const fn is_fatal(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NotServed { .. }
            | Self::RateLimited { .. }
            | Self::Interrupted => true,
            Self::StatePruned { .. }
            | Self::MethodMissing { .. }
            | Self::Refused { .. }
            | Self::Malformed { .. } => false,
        }
    }
}

/// One failed attempt.
#[derive(Debug)]
struct Refusal {
    kind: RefusalKind,
    message: String,
    /// How long the node asks us to wait.
    retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusalKind {
    Unreachable,
    RateLimited,
    NotServed,
    StatePruned,
    MethodMissing,
    Refused,
}

impl Refusal {
    fn new(error: TransportError) -> Self {
        let of = |kind, message| Self { kind, message, retry_after: None };
        match error {
            RpcError::ErrorResp(payload) => of(
                RefusalKind::of_rpc_error(payload.code, &payload.message),
                payload.message.into(),
            ),
            RpcError::Transport(TransportErrorKind::HttpError(error)) => Self::from_http(&error),
            RpcError::Transport(TransportErrorKind::HttpErrorWithRetryAfter {
                error,
                retry_after,
            }) => Self { retry_after: Some(retry_after), ..Self::from_http(&error) },
            RpcError::Transport(TransportErrorKind::Custom(cause)) => {
                of(RefusalKind::Unreachable, innermost(&*cause))
            }
            RpcError::DeserError { err, .. } => {
                of(RefusalKind::NotServed, format!("the answer is no JSON-RPC ({err})"))
            }
            other => of(RefusalKind::Refused, other.to_string()),
        }
    }

    fn from_http(error: &HttpError) -> Self {
        // Some nodes put the JSON-RPC error into the body of an HTTP error.
        let body: Option<Value> = serde_json::from_str(&error.body).ok();
        let rpc = body.as_ref().and_then(|body| {
            let error = body.get("error")?;
            Some((error.get("code")?.as_i64()?, error.get("message")?.as_str()?))
        });
        let kind = match (error.status, rpc) {
            (429, _) => RefusalKind::RateLimited,
            (_, Some((code, message))) => RefusalKind::of_rpc_error(code, message),
            (408 | 500..=599, None) => RefusalKind::Unreachable,
            _ => RefusalKind::NotServed,
        };
        let message = match rpc {
            Some((_, message)) => message.to_owned(),
            None => format!("HTTP status {}", error.status),
        };
        Self { kind, message, retry_after: None }
    }

    /// How long to wait before the next attempt, where one makes sense.
    fn wait(&self, attempt: u32) -> Option<Duration> {
        matches!(self.kind, RefusalKind::Unreachable | RefusalKind::RateLimited).then(|| {
            let backoff = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(attempt));
            self.retry_after.unwrap_or(backoff).min(BACKOFF_MAX)
        })
    }

    fn into_error(self, node: &str, method: &'static str, attempts: u32) -> NodeError {
        let (node, cause) = (node.to_owned(), self.message);
        match self.kind {
            RefusalKind::Unreachable => NodeError::Unreachable { node, cause, attempts },
            RefusalKind::RateLimited => NodeError::RateLimited { node, cause },
            RefusalKind::NotServed => NodeError::NotServed { node, cause },
            RefusalKind::StatePruned => NodeError::StatePruned { node, method, cause },
            RefusalKind::MethodMissing => NodeError::MethodMissing { node, method, cause },
            RefusalKind::Refused => NodeError::Refused { node, method, cause },
        }
    }
}

impl RefusalKind {
    /// Nodes agree on few error codes, so the messages of geth, reth, Erigon, Nethermind, Besu and
    /// the big providers decide where the code does not.
    fn of_rpc_error(code: i64, message: &str) -> Self {
        const PRUNED: [&str; 7] = [
            "missing trie node",
            "historical state",
            "state not available",
            "state is not available",
            "state at block",
            "world state unavailable",
            "pruned",
        ];
        const MISSING: [&str; 5] = [
            "method not found",
            "does not exist/is not available",
            "unsupported method",
            "method not supported",
            "method is not available",
        ];
        const LIMITED: [&str; 3] = ["rate limit", "too many requests", "capacity exceeded"];
        let message = message.to_ascii_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        if code == 429 || says(&LIMITED) {
            Self::RateLimited
        } else if code == -32601 || says(&MISSING) {
            Self::MethodMissing
        } else if says(&PRUNED) {
            Self::StatePruned
        } else {
            Self::Refused
        }
    }
}

/// The deepest cause: "connection refused" rather than "error sending request for url (...)", which
/// would also show the whole URL.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<reqwest::Error>()
        && error.is_timeout()
    {
        return "no answer in time (see --timeout)".to_owned();
    }
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_real_nodes_are_understood() {
        let kind = RefusalKind::of_rpc_error;
        for message in [
            "missing trie node 5e0e (path )",
            "historical state 0xab is not available",
            "required historical state unavailable (reexec=128)",
            "state at block #1 is pruned",
        ] {
            assert_eq!(kind(-32000, message), RefusalKind::StatePruned, "{message}");
        }
        let geth = "the method debug_traceBlockByNumber does not exist/is not available";
        assert_eq!(kind(-32601, geth), RefusalKind::MethodMissing);
        assert_eq!(kind(-32000, geth), RefusalKind::MethodMissing);
        assert_eq!(kind(-32005, "daily request count exceeded, request rate limited"), {
            RefusalKind::RateLimited
        });
        assert_eq!(kind(-32602, "invalid argument 0"), RefusalKind::Refused);
    }

    #[test]
    fn only_passing_failures_are_repeated_and_ever_more_slowly() {
        let http =
            |status, body: &str| Refusal::from_http(&HttpError { status, body: body.to_owned() });
        assert_eq!(http(429, "").wait(0), Some(FIRST_BACKOFF));
        assert_eq!(http(503, "").wait(2), Some(FIRST_BACKOFF * 4));
        assert_eq!(http(503, "").wait(60), Some(BACKOFF_MAX));
        assert_eq!(http(401, "").wait(0), None);
        let body = r#"{"error": {"code": -32601, "message": "Method not found"}}"#;
        assert_eq!(http(400, body).kind, RefusalKind::MethodMissing);
        assert_eq!(http(400, body).wait(0), None);
    }

    #[test]
    fn an_access_key_is_never_shown() {
        let (_, stop) = watch::channel(false);
        let node =
            Node::new("https://user:word@node.example/v3/SECRET", Duration::from_secs(1), 0, stop)
                .unwrap();
        assert_eq!(node.name, "https://node.example");
    }
}

//! `multilane fetch` against a real node: what it writes replays with the results of the headers,
//! whatever the node can do and whenever the process dies.

mod anvil;
mod rpc;

use alloy::consensus::proofs::calculate_receipt_root;
use anvil::{Anvil, BLOCKS, GENESIS};
use multilane::{
    ExecutorConfig, ParallelExecutor, Shared,
    sequential::execute_block,
    state::{BlockInput, BlockOutput},
};
use multilane_fixtures::archive::BlockArchive;
use revm::database::WrapDatabaseRef;
use rpc::{Reply, proxy};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A place to fetch to, with the genesis of anvil's chain beside it.
struct Workspace(TempDir);

impl Workspace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("anvil.json"), GENESIS).unwrap();
        Self(folder)
    }

    fn archive(&self) -> PathBuf {
        self.0.path().join("archive")
    }

    /// The command, still without `--blocks`.
    fn command(&self, port: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multilane"));
        command
            .args(["fetch", "--format", "json"])
            .args(["--rpc", &format!("http://127.0.0.1:{port}")])
            .arg("--to")
            .arg(self.archive())
            .arg("--genesis")
            .arg(self.0.path().join("anvil.json"));
        command
    }

    /// Fetches all blocks, with further arguments.
    fn fetch(&self, port: u16, more: &[&str]) -> Run {
        self.fetch_blocks("1..latest", port, more)
    }

    fn fetch_blocks(&self, blocks: &str, port: u16, more: &[&str]) -> Run {
        Run::new(self.command(port).args(["--blocks", blocks]).args(more).output().unwrap())
    }

    /// Every file of every block, by block and name.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for folder in list(&self.archive().join("blocks")) {
            for file in list(&folder) {
                let name = file.strip_prefix(self.archive()).unwrap().display().to_string();
                files.push((name, fs::read(file).unwrap()));
            }
        }
        files
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A finished run of the command.
struct Run {
    status: Option<i32>,
    blocks: Vec<Value>,
    summary: Value,
    errors: String,
}

impl Run {
    fn new(output: Output) -> Self {
        let lines: Vec<Value> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let (summaries, blocks): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.get("summary").is_some());
        Self {
            status: output.status.code(),
            blocks,
            summary: summaries.into_iter().next().unwrap_or_default()["summary"].take(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn assert_fetched(&self, fetched: u64, skipped: u64) {
        assert_eq!(self.status, Some(0), "{}", self.errors);
        assert_eq!(self.errors, "");
        assert_eq!(self.blocks.len() as u64, fetched);
        assert_eq!(self.summary["fetched"], fetched);
        assert_eq!(self.summary["skipped"], skipped);
    }

    #[track_caller]
    fn assert_refused(&self, status: i32, phrases: &[&str]) {
        assert_eq!(self.status, Some(status), "{}", self.errors);
        for phrase in phrases {
            assert!(self.errors.contains(phrase), "'{phrase}' is not in: {}", self.errors);
        }
    }
}

/// Executes all blocks of an archive, sequentially and in parallel, and compares with the headers.
fn replay(archive: &Path) -> usize {
    let archive = BlockArchive::open(archive).unwrap();
    for entry in archive.entries() {
        let block = archive.load(entry).unwrap();
        let source = WrapDatabaseRef(&block.prestate);
        let sequential = execute_block(&block.chain, &block.input, source).unwrap();
        assert_header(&block.input, &sequential);
        for threads in [1, 2, 4, 8] {
            let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
            let executor = ParallelExecutor::new(config).unwrap();
            let source = Shared(&block.prestate);
            let (parallel, _) =
                executor.execute_block(&block.chain, &block.input, &source).unwrap();
            assert_eq!(parallel, sequential, "block {}, {threads} threads", entry.number);
        }
    }
    archive.entries().len()
}

fn assert_header(block: &BlockInput, output: &BlockOutput) {
    let header = &block.header;
    assert_eq!(block.hash, Some(header.hash_slow()));
    assert_eq!(header.gas_used, output.gas_used);
    assert_eq!(header.receipts_root, calculate_receipt_root(&output.receipts));
    assert_eq!(header.requests_hash, Some(output.requests.requests_hash()));
}

#[test]
fn fetched_blocks_replay_and_are_fetched_once() {
    let Some(node) = Anvil::start() else { return };
    let workspace = Workspace::new();
    let run = workspace.fetch(node.port, &[]);
    run.assert_fetched(BLOCKS, 0);
    assert!(run.blocks.iter().all(|block| block["prestate"] == "trace"), "{:?}", run.blocks);
    let slots = run.blocks.iter().filter_map(|block| block["slots"].as_u64()).sum::<u64>();
    assert!(slots > BLOCKS + 5, "the traffic uses only {slots} slots");
    assert_eq!(replay(&workspace.archive()) as u64, BLOCKS);

    let files = workspace.files();
    workspace.fetch(node.port, &[]).assert_fetched(0, BLOCKS);
    fs::remove_dir_all(workspace.archive().join("blocks/3")).unwrap();
    workspace.fetch(node.port, &["--concurrency", "1"]).assert_fetched(1, BLOCKS - 1);
    workspace.fetch(node.port, &["--force"]).assert_fetched(BLOCKS, 0);
    assert!(workspace.files() == files, "the same blocks gave other files");
    let left = list(&workspace.archive());
    let names: Vec<_> = left.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(names, [".fetch.lock", "blocks", "codes.json.gz", "genesis.json"]);
}

/// A trace is advice: with it, without it, and with a wrong one, the same prestate is written.
#[test]
fn traces_and_proofs_only_save_requests() {
    let Some(node) = Anvil::start() else { return };
    let traced = Workspace::new();
    traced.fetch(node.port, &[]).assert_fetched(BLOCKS, 0);

    let no_traces = proxy(node.port, |method, _| match method {
        "debug_traceBlockByNumber" => Reply::Error(-32601, "method not found"),
        _ => Reply::Forward,
    });
    let neither = proxy(node.port, |method, _| match method {
        "debug_traceBlockByNumber" | "eth_getProof" => Reply::Error(-32601, "method not found"),
        _ => Reply::Forward,
    });
    let lying = proxy(node.port, |method, _| match method {
        "debug_traceBlockByNumber" => Reply::Change(|traces| {
            for account in traces.as_array_mut().into_iter().flatten() {
                for account in account["result"].as_object_mut().unwrap().values_mut() {
                    account["nonce"] = 1_000.into();
                }
            }
        }),
        _ => Reply::Forward,
    });
    for (what, port) in [("no traces", no_traces), ("neither", neither), ("lying", lying)] {
        let workspace = Workspace::new();
        let run = workspace.fetch(port, &[]);
        run.assert_fetched(BLOCKS, 0);
        let by_requests = run.blocks.iter().filter(|block| block["prestate"] == "requests");
        // The block without transactions has no trace that could lie.
        assert!(by_requests.count() as u64 >= BLOCKS - 1, "{what}: {:?}", run.blocks);
        assert!(workspace.files() == traced.files(), "{what}: other files");
    }
}

#[test]
fn passing_failures_are_repeated() {
    let Some(node) = Anvil::start() else { return };
    let requests = AtomicUsize::new(0);
    let port = proxy(node.port, move |_, _| match requests.fetch_add(1, Ordering::Relaxed) {
        1 => Reply::Status(429),
        3 => Reply::Status(503),
        5 => Reply::Error(-32005, "request rate limited"),
        _ => Reply::Forward,
    });
    Workspace::new().fetch(port, &[]).assert_fetched(BLOCKS, 0);
}

/// Whatever a block states about itself is checked, and the block's number and the check are named.
#[test]
fn a_block_that_contradicts_itself_is_refused() {
    let Some(node) = Anvil::start() else { return };
    type Lie = fn(&mut Value);
    let lies: [(Lie, &str); 4] = [
        (|block| block["gasUsed"] = "0x1".into(), "block hash does not match"),
        (|block| block["transactions"][0]["value"] = "0x7".into(), "hash of transaction 0"),
        (
            |block| block["transactions"][0]["from"] = block["miner"].clone(),
            "sender of transaction 0",
        ),
        (|block| *block = Value::Null, "no such block"),
    ];
    for (lie, check) in lies {
        let port = proxy(node.port, move |method, params| {
            let is_second = method == "eth_getBlockByNumber" && params[0] == "0x2";
            if is_second { Reply::Change(lie) } else { Reply::Forward }
        });
        let workspace = Workspace::new();
        let run = workspace.fetch(port, &[]);
        let status = if check == "no such block" { 2 } else { 1 };
        run.assert_refused(status, &["error: block 2: ", check]);
        assert_eq!(run.summary["failed"], 1);
        assert_eq!(run.summary["fetched"], BLOCKS - 1);
        assert!(!workspace.archive().join("blocks/2").exists());
    }
}

/// A node whose state is not the one that the block was made from.
#[test]
fn a_state_that_does_not_give_the_headers_results_is_refused() {
    let Some(node) = Anvil::start() else { return };
    let port = proxy(node.port, |method, _| match method {
        "debug_traceBlockByNumber" => Reply::Error(-32601, "method not found"),
        "eth_getStorageAt" => Reply::Change(|value| *value = format!("0x{:064x}", 77).into()),
        _ => Reply::Forward,
    });
    let run = Workspace::new().fetch_blocks("3", port, &[]);
    run.assert_refused(1, &["error: block 3: ", "gas used does not match"]);
}

#[test]
fn errors_teach() {
    let Some(node) = Anvil::start() else { return };
    let workspace = Workspace::new();
    let pruned = proxy(node.port, |method, _| match method {
        "eth_chainId" | "eth_blockNumber" | "eth_getBlockByNumber" => Reply::Forward,
        _ => Reply::Error(-32000, "missing trie node 5e0e (path )"),
    });
    workspace
        .fetch_blocks("3", pruned, &[])
        .assert_refused(2, &["error: block 3: ", "missing trie node", "archive node"]);
    let website = proxy(node.port, |_, _| Reply::Status(404));
    workspace
        .fetch(website, &[])
        .assert_refused(2, &["does not serve JSON-RPC", "HTTP status 404"]);
    let limited = proxy(node.port, |_, _| Reply::Status(429));
    workspace.fetch(limited, &[]).assert_refused(2, &["--concurrency"]);
    let silent = proxy(node.port, |_, _| Reply::Hang);
    workspace
        .fetch(silent, &["--timeout", "1", "--retries", "0"])
        .assert_refused(2, &["cannot be reached", "no answer in time"]);
    workspace
        .fetch_blocks("9..latest", node.port, &[])
        .assert_refused(2, &["--blocks: part '9..8': the range ends before it starts"]);
    workspace
        .fetch_blocks("99", node.port, &[])
        .assert_refused(2, &["error: block 99: the node has no such block"]);

    let unknown = Command::new(env!("CARGO_BIN_EXE_multilane"))
        .args(["fetch", "--blocks", "1", "--to"])
        .arg(workspace.archive())
        .args(["--rpc", &format!("http://127.0.0.1:{}", node.port)])
        .output()
        .unwrap();
    Run::new(unknown).assert_refused(2, &["chain 31337", "--genesis"]);
}

#[test]
fn a_node_that_is_not_there_is_named_without_its_access_key() {
    // Bound and dropped, so that nobody listens.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let workspace = Workspace::new();
    let output = Command::new(env!("CARGO_BIN_EXE_multilane"))
        .args(["fetch", "--blocks", "1", "--to"])
        .arg(workspace.archive())
        .args(["--rpc", &format!("http://127.0.0.1:{port}/v3/SECRET")])
        .output()
        .unwrap();
    let run = Run::new(output);
    run.assert_refused(2, &["cannot be reached", "refused", "is the node running"]);
    assert!(!run.errors.contains("SECRET"), "{}", run.errors);
    assert!(!workspace.archive().exists());
}

/// A proxy that never answers for block 6 and what follows.
fn stuck_proxy(node: u16) -> u16 {
    proxy(node, |method, params| {
        let number = params[0].as_str().and_then(|number| number.strip_prefix("0x"));
        let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
        let is_late = number.is_some_and(|number| number >= 6);
        if method.contains("BlockByNumber") && is_late { Reply::Hang } else { Reply::Forward }
    })
}

/// Starts a run that gets stuck after block 5, and waits until that is in the archive.
fn start_stuck(workspace: &Workspace, port: u16) -> std::process::Child {
    let mut command = workspace.command(port);
    let process = command
        .args(["--blocks", "1..latest"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let last = workspace.archive().join("blocks/5");
    let patience = Instant::now() + Duration::from_secs(60);
    while !(1..=5).all(|block| last.with_file_name(block.to_string()).exists()) {
        assert!(Instant::now() < patience, "the first blocks are not fetched");
        thread::sleep(Duration::from_millis(20));
    }
    process
}

/// Killed in the middle of a run, the archive holds whole blocks, and the next run goes on.
#[test]
fn a_killed_run_leaves_whole_blocks_and_is_resumed() {
    let Some(node) = Anvil::start() else { return };
    let workspace = Workspace::new();
    let mut process = start_stuck(&workspace, stuck_proxy(node.port));
    let second = workspace.fetch(node.port, &[]);
    second.assert_refused(2, &["another fetch is writing"]);
    process.kill().unwrap();
    process.wait().unwrap();

    assert_eq!(replay(&workspace.archive()), 5);
    workspace.fetch(node.port, &[]).assert_fetched(BLOCKS - 5, 5);
    assert_eq!(replay(&workspace.archive()) as u64, BLOCKS);
    assert!(!workspace.archive().join(".fetch").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_cleanly() {
    let Some(node) = Anvil::start() else { return };
    let workspace = Workspace::new();
    let process = start_stuck(&workspace, stuck_proxy(node.port));
    let kill = Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let run = Run::new(process.wait_with_output().unwrap());
    assert_eq!(run.status, Some(130), "{}", run.errors);
    assert_eq!(run.errors, "");
    assert_eq!(run.summary["interrupted"], true);
    assert_eq!(run.summary["fetched"], 5);
    assert_eq!(replay(&workspace.archive()), 5);
    assert!(!workspace.archive().join(".fetch").exists());
}

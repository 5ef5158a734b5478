//! A run of the example `client`: what it prints, and its end.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

/// Longest wait for a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running client. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    process: Child,
    lines: Receiver<String>,
}

impl Follower {
    /// Starts a client whose database is in `folder`, with further arguments.
    pub(crate) fn start(genesis: &Path, folder: &Path, url: &str, more: &[&str]) -> Self {
        let program = program();
        let mut process = Command::new(&program)
            .args(["--rpc", url, "--threads", "2", "--poll-ms", "5", "--genesis"])
            .arg(genesis)
            .arg("--db")
            .arg(folder.join("client.redb"))
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; `cargo test` builds it, or `cargo build --examples`",
                    program.display()
                )
            });
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    /// The next line that it prints.
    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}", self.errors()))
    }

    /// The first line from here on that contains this.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, phrase: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(phrase) {
                return line;
            }
        }
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        // SIGKILL on Unix.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// What it has printed and nobody has read, once it has ended.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        self.lines.iter().collect()
    }

    /// Presses Ctrl-C, and gives the last line.
    pub(crate) fn interrupt(mut self) -> String {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.finish(true).pop().expect("it says where it stopped")
    }

    /// Waits for its good end, and gives all that it has printed.
    pub(crate) fn success(mut self) -> Vec<String> {
        self.finish(true)
    }

    /// Waits for its bad end, and gives the error.
    pub(crate) fn failure(mut self) -> String {
        self.finish(false);
        self.errors()
    }

    fn finish(&mut self, succeeds: bool) -> Vec<String> {
        let lines = self.rest();
        let status = self.process.wait().unwrap();
        assert_eq!(status.success(), succeeds, "{lines:?}");
        lines
    }

    fn errors(&mut self) -> String {
        let _ = self.process.kill();
        let mut errors = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        errors
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Nearly always it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The number in a line like `block 12: ...` or `continuing after block 12, ...`.
pub(crate) fn block_number(line: &str) -> u64 {
    let (_, rest) = line.split_once("block ").unwrap_or_else(|| panic!("no block: {line}"));
    rest.split([':', ',']).next().unwrap().parse().unwrap_or_else(|_| panic!("no number: {line}"))
}

/// The example's binary, beside the directory of the test's own.
fn program() -> PathBuf {
    let test = env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).expect("tests are built in `deps`");
    built.join("examples").join(format!("client{}", env::consts::EXE_SUFFIX))
}

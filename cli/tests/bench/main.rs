//! The command `bench` as a user meets it: the binary, its output and its exit status.

mod blocks;
#[cfg(unix)]
mod interruption;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod workloads;

use multilane_fixtures::workload::Workload;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};
use support::{assert_exit, json, stderr, stdout};

fn multilane() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multilane"));
    command.arg("bench");
    command
}

fn run(arguments: &[&str]) -> Output {
    multilane().args(arguments).output().expect("the binary runs")
}

/// The archive of the embedded sample, as files.
fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/data/sample")
}

/// The workloads that need no download.
fn embedded() -> impl Iterator<Item = &'static Workload> {
    Workload::all().iter().filter(|workload| !workload.needs_uniswap())
}

#[test]
fn the_list_names_every_workload_and_how_to_get_it() {
    let output = run(&["--list"]);
    assert_exit(&output, 0);
    for workload in Workload::all() {
        let line = stdout(&output)
            .lines()
            .find(|line| line.split_whitespace().next() == Some(workload.name()))
            .unwrap_or_else(|| panic!("{} is not listed", workload.name()));
        assert!(line.contains(workload.summary()), "{line}");
        assert_eq!(line.contains(" npm "), workload.needs_uniswap(), "{line}");
    }
    assert!(stdout(&output).contains("npm ci --prefix fixtures/uniswap"), "{}", stdout(&output));
}

#[test]
fn bad_usage_is_named() {
    for (arguments, named) in [
        (&["rwa"][..], "raw"),
        (&["unisawp-v3"], "possible values"),
        (&["raw", "--txs", "10", "--gas", "10"], "--gas"),
        (&["raw", "--txs", "0"], "--txs"),
        (&["raw", "--gas", "0"], "--gas"),
        (&["raw", "--threads", "0"], "--threads"),
        (&["raw", "--threads", "1,x"], "x"),
        (&["raw", "--zipf=-1"], "--zipf"),
        (&["raw", "--zipf", "NaN"], "--zipf"),
        (&["raw", "--hot-ratio", "1.5"], "--hot-ratio"),
        (&["raw", "--repeat", "0"], "--repeat"),
        (&["raw", "--quiet", "--verbose"], "--verbose"),
        (&["raw", "--report", "no/such/directory/report.html"], "no/such/directory"),
        (&["raw", "--report", env!("CARGO_MANIFEST_DIR")], "directory"),
        (&["blocks"], "PATH"),
        (&["blocks", "no/such/directory"], "no/such/directory"),
        (&["blocks", "somewhere", "--txs", "5"], "--txs"),
        (&["raw", "blocks", "somewhere"], "blocks"),
        (&["targets", "--archive", "no/such/directory"], "no/such/directory"),
        (&["targets", "--threads", "1,2"], "1,2"),
        (&["targets", "raw"], "raw"),
    ] {
        let output = run(arguments);
        assert_exit(&output, 2);
        assert_eq!(stdout(&output), "", "only data goes to standard output");
        assert!(stderr(&output).contains(named), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn more_threads_than_cores_are_warned_of() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = (cores + 1).to_string();
    let output = run(&["raw", "--txs", "50", "--repeat", "1", "--threads", &count]);
    assert_exit(&output, 0);
    assert!(
        stderr(&output).contains(&format!("warning: {count} threads on")),
        "{}",
        stderr(&output)
    );
}

/// Without its contracts a workload says how to get them, and `all` goes on without it.
#[test]
fn contracts_that_are_not_there_are_named_with_the_command_that_installs_them() {
    let Some(workload) = Workload::all().iter().find(|workload| workload.needs_uniswap()) else {
        return;
    };
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/uniswap/node_modules");
    if packages.is_dir() {
        eprintln!("left out: {} is there", packages.display());
        return;
    }
    let output = run(&[workload.name(), "--txs", "10"]);
    assert_exit(&output, 2);
    assert!(stderr(&output).contains("npm ci --prefix fixtures/uniswap"), "{}", stderr(&output));

    let all = run(&["all", "--txs", "20", "--threads", "2", "--repeat", "1", "--format", "json"]);
    assert_exit(&all, 0);
    assert_eq!(json(&all).1["measured"], embedded().count());
    assert!(stderr(&all).contains(&format!("left out: {}", workload.name())), "{}", stderr(&all));
}

#[test]
fn help_explains_every_flag() {
    for help in [run(&["--help"]), run(&["-h"])] {
        assert_exit(&help, 0);
        for flag in [
            "[WORKLOAD]...",
            "--list",
            "--txs <N>",
            "--gas <G>",
            "--threads <N>",
            "--pools <P>",
            "--traders <T>",
            "--zipf <S>",
            "--hot-ratio <R>",
            "--seed <S>",
            "--repeat <K>",
            "--format <FORMAT>",
            "--report <FILE>",
            "--force-parallel",
            "--quiet",
            "--verbose",
            "blocks",
            "Examples:",
        ] {
            assert!(stdout(&help).contains(flag), "{flag} in {}", stdout(&help));
        }
    }
    assert!(stdout(&run(&["--help"])).contains("130"), "the exit status is documented");
    let blocks = run(&["blocks", "--help"]);
    assert_exit(&blocks, 0);
    for flag in
        ["<PATH>...", "--blocks <LIST>", "--genesis <FILE>", "--threads <N>", "--report <FILE>"]
    {
        assert!(stdout(&blocks).contains(flag), "{flag} in {}", stdout(&blocks));
    }
    let targets = run(&["targets", "--help"]);
    assert_exit(&targets, 0);
    for part in ["--archive <DIR>", "--txs <N>", "--threads <N>", "also where targets are missed"] {
        assert!(stdout(&targets).contains(part), "{part} in {}", stdout(&targets));
    }
}

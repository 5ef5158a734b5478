//! Ctrl-C ends a run with what is done.

use super::{multilane, report::assert_self_contained};
use crate::support::{interrupted, json, stdout};
use std::fs;

#[test]
fn ctrl_c_ends_the_run_with_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let mut command = multilane();
    command
        .args(["raw", "mint", "--txs", "50", "--threads", "2", "--repeat", "1000000000"])
        .args(["--verbose", "--format", "json", "--report"])
        .arg(&path);
    let (output, said) = interrupted(command, "measuring raw");
    assert!(said.contains("interrupted after 1 of 2"), "{said}");

    let (rows, summary) = json(&output);
    assert_eq!(rows.len(), 1, "the workload in progress is told with the rounds it had");
    assert_eq!(rows[0]["workload"], "raw");
    assert_eq!(summary["interrupted"], true);
    let page = fs::read_to_string(&path).unwrap();
    assert_self_contained(&page);
    assert!(page.contains("Interrupted"));
}

#[test]
fn ctrl_c_judges_the_targets_that_are_measured() {
    let mut command = multilane();
    command.args(["targets", "--txs", "50", "--repeat", "1000000000", "--verbose"]);
    let (output, said) = interrupted(command, "measuring raw");
    assert!(said.contains("interrupted after 1 of"), "{said}");
    let text = stdout(&output);
    let row = |what: &str| text.lines().find(|line| line.starts_with(what)).unwrap();
    assert!(!row("raw: speedup  ").contains("left out"), "{text}");
    assert!(row("erc20: speedup  ").ends_with("left out (erc20: interrupted)"), "{text}");
}

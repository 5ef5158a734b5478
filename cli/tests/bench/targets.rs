//! Performance targets and their verdicts.

use super::{embedded, multilane, run, sample};
use crate::support::{assert_exit, stderr, stdout};
use multilane_fixtures::workload::Workload;
use serde_json::Value;
use std::process::Output;

/// The lines of `targets --format json`: blocks, growths, targets and the summary.
fn targets(arguments: &[&str]) -> (Output, Vec<Value>) {
    let mut all = vec!["targets", "--repeat", "1", "--txs", "10", "--format", "json"];
    all.extend(arguments);
    let output = run(&all);
    let lines = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output, lines)
}

/// Verdicts are no failures: blocks of ten transactions miss many a target.
#[test]
fn every_target_has_a_verdict() {
    let (output, lines) = targets(&["--archive", sample().to_str().unwrap()]);
    assert_exit(&output, 0);
    let with = |field: &str| {
        lines.iter().filter(|line| line.get(field).is_some()).cloned().collect::<Vec<_>>()
    };
    let has_uniswap = !stderr(&output).contains("left out: uniswap");
    let workloads = with("workload");
    if has_uniswap {
        assert_eq!(workloads.len(), Workload::all().len());
    } else {
        eprintln!("left out: targets of workloads whose contracts are not installed");
        assert_eq!(workloads.len(), embedded().count());
    }
    assert_eq!(with("block").len(), 12);
    for growth in with("growth") {
        assert_eq!(growth["txs"], serde_json::json!([10, 100, 1_000]), "{growth}");
        assert!(growth["spread"].as_f64().unwrap() >= 1.0, "{growth}");
    }
    assert_eq!(with("growth").len(), 3);

    let targets = with("target");
    assert_eq!(targets.len(), 20);
    for target in &targets {
        match target["verdict"].as_str().unwrap() {
            "left_out" => {
                let reason = target["reason"].as_str().unwrap();
                assert!(reason.contains("npm ci") || !cfg!(target_os = "linux"), "{target}");
                assert!(!has_uniswap || !cfg!(target_os = "linux"), "{target}");
            }
            verdict => {
                let measured = target["measured"].as_f64().unwrap();
                let is_met = target["at_least"].as_f64().is_none_or(|least| measured >= least)
                    && target["at_most"].as_f64().is_none_or(|most| measured <= most);
                assert_eq!(verdict == "met", is_met, "{target}");
                assert!(target["of"].is_string() && target["reason"].is_null(), "{target}");
            }
        }
    }
    // The figures that are judged are those that are told.
    let erc20 = workloads.iter().find(|row| row["workload"] == "erc20").unwrap();
    let judged = targets.iter().find(|target| target["target"] == "erc20: speedup").unwrap();
    assert_eq!(judged["measured"], erc20["speedup"]);
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!((&summary["threads"], &summary["repeat"]), (&serde_json::json!([2]), &1.into()));
    assert_eq!(summary["measured"], workloads.len() + 12 + 3);
}

/// Whoever has no archive is told so, and gets everything else.
#[test]
fn targets_without_an_archive_are_left_out() {
    let elsewhere = tempfile::tempdir().unwrap();
    let output = multilane()
        .args(["targets", "--repeat", "1", "--txs", "2"])
        .current_dir(elsewhere.path())
        .output()
        .expect("the binary runs");
    assert_exit(&output, 0);
    let text = stdout(&output);
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("real blocks")).collect();
    assert_eq!(rows.len(), 4, "{text}");
    for row in rows {
        assert!(row.contains("left out (no archive: name one with --archive DIR)"), "{row}");
    }
    assert!(text.lines().any(|line| line.starts_with("raw: speedup  ")), "{text}");
    assert!(text.contains("raw of 2 / 20 / 200 transactions:"), "{text}");
    assert!(text.lines().last().is_some_and(|line| line.ends_with(" left out")), "{text}");
}

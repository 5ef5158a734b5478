//! The command `predict` as a user meets it.

#[path = "support/mainnet.rs"]
mod mainnet;

use mainnet::mainnet;
use serde_json::Value;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_multilane"))
        .arg("predict")
        .args(arguments)
        .output()
        .expect("the binary runs")
}

#[track_caller]
fn summary(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::str::from_utf8(&output.stdout).expect("output is UTF-8");
    let last = text.lines().last().expect("there is a summary");
    serde_json::from_str::<Value>(last).expect("it is JSON")["summary"].take()
}

#[test]
fn the_sample_is_learned_and_what_was_learned_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile");
    let arguments = ["--format", "json", "--profile", file.to_str().unwrap()];
    let first = summary(&run(&arguments));
    let second = summary(&run(&arguments));
    let number = |summary: &Value, name: &str| {
        summary[name].as_f64().unwrap_or_else(|| panic!("{name}: {summary}"))
    };
    for name in ["slot_precision", "slot_recall", "write_recall", "conflicts_recall"] {
        assert!((0.0..=1.0).contains(&number(&first, name)), "{name}: {first}");
    }
    for name in [
        "txs",
        "ns_per_tx",
        "ns_per_transfer",
        "ns_per_templated",
        "ns_per_call",
        "templates",
        "profile_bytes",
        "conflicts_precision",
        "moves_told",
        "moves_right",
    ] {
        assert!(number(&first, name) > 0.0, "{name}: {first}");
    }
    assert!(number(&second, "covered") > number(&first, "covered"));
    assert!(number(&second, "slot_recall") > number(&first, "slot_recall"));
}

#[test]
fn the_table_has_a_line_for_each_block_and_one_for_all() {
    let output = run(&["--blocks", "1..3"]);
    assert!(output.status.success());
    let text = std::str::from_utf8(&output.stdout).unwrap();
    assert!(text.lines().nth(4).is_some_and(|line| line.trim_start().starts_with("all")), "{text}");
}

/// What has been reached: whoever changes how templates are learned sees at once what it costs.
#[test]
fn of_real_blocks_most_is_foreseen() {
    let Some(mainnet) = mainnet("of_real_blocks_most_is_foreseen") else { return };
    let summary = summary(&run(&[mainnet.to_str().unwrap(), "--format", "json"]));
    let share = |of: &str| summary["seen_twice"][of].as_f64().unwrap();
    let of_all = |name: &str| summary[name].as_f64().unwrap();
    assert!(of_all("moves_told") >= 0.6 && of_all("moves_right") >= 0.99, "{summary}");
    assert!(share("slot_precision") >= 0.97, "{summary}");
    assert!(share("slot_recall") >= 0.92, "{summary}");
    assert!(share("write_recall") >= 0.90, "{summary}");
}

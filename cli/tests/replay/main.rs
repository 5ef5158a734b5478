//! The command `replay` as a user meets it: the binary, its output and its exit status.

mod access_lists;
#[path = "../support/mainnet.rs"]
mod mainnet;
#[path = "../support/mod.rs"]
mod support;

use mainnet::mainnet;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
#[cfg(unix)]
use support::interrupted;
use support::{assert_exit, edit_gzip, json, stderr, stdout};

fn multilane() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multilane"));
    command.arg("replay");
    command
}

fn run(arguments: &[&str]) -> Output {
    multilane().args(arguments).output().expect("the binary runs")
}

fn run_on(path: &Path, arguments: &[&str]) -> Output {
    multilane().arg(path).args(arguments).output().expect("the binary runs")
}

/// An archive with copies of blocks of another, in a directory of its own.
fn copy_blocks(archive: &Path, numbers: &[u64]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    fs::copy(archive.join("codes.json.gz"), copy.path().join("codes.json.gz")).unwrap();
    for number in numbers {
        let (from, to) = (block_dir(archive, *number), block_dir(copy.path(), *number));
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            // Not fs::copy: the originals may be read-only.
            fs::write(to.join(file.file_name()), fs::read(file.path()).unwrap()).unwrap();
        }
    }
    copy
}

fn block_dir(archive: &Path, number: u64) -> PathBuf {
    archive.join("blocks").join(number.to_string())
}

/// Changes the last digit of the value of a `"field":"0x…"`.
fn flip_last_digit(text: &mut String, field: &str) {
    let key = format!("\"{field}\"");
    let after_key = text.find(&key).expect("the field is there") + key.len();
    let open = after_key + text[after_key..].find('"').unwrap();
    let close = open + 1 + text[open + 1..].find('"').unwrap();
    let flipped = if &text[close - 1..close] == "0" { "1" } else { "0" };
    text.replace_range(close - 1..close, flipped);
}

#[test]
fn the_embedded_sample_verifies_with_state_roots() {
    let output = run(&["--format", "json", "--threads", "2"]);
    assert_exit(&output, 0);
    let (blocks, summary) = json(&output);
    assert!(!blocks.is_empty());
    assert_eq!(summary["blocks"], blocks.len());
    assert_eq!(summary["verified"], blocks.len());
    assert_eq!(summary["threads"], 2);
    for block in &blocks {
        assert_eq!(block["verified"], true, "{block}");
        for check in ["gas_used", "receipts_root", "logs_bloom", "state_root", "matches_sequential"]
        {
            assert_eq!(block["checks"][check], "ok", "{check} of {block}");
        }
        for time in ["sequential_ms", "parallel_ms", "speedup"] {
            assert!(block[time].is_number(), "{time} of {block}");
        }
    }
    let sum = |field: &str| blocks.iter().map(|block| block[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(summary["txs"], sum("txs"));
    assert_eq!(summary["gas_used"], sum("gas_used"));
}

#[test]
fn the_table_has_a_row_for_each_block_and_totals() {
    let (blocks, _) = json(&run(&["--format", "json"]));
    let output = run(&[]);
    assert_exit(&output, 0);
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(header.first(), Some(&"block"));
    assert_eq!(header.last(), Some(&"verdict"));
    for (row, block) in lines.zip(&blocks) {
        assert_eq!(row.split_whitespace().next().unwrap(), block["block"].to_string());
        assert!(row.ends_with("ok, state root"), "{row}");
    }
    assert!(text.contains(&format!("{0} of {0} blocks verified", blocks.len())), "{text}");
    assert!(text.contains("Mgas/s"), "{text}");

    let quiet = run(&["--quiet"]);
    assert_exit(&quiet, 0);
    assert!(stdout(&quiet).contains("blocks verified") && !stdout(&quiet).contains("verdict"));

    let verbose = run(&["--verbose"]);
    assert_exit(&verbose, 0);
    assert!(stdout(&verbose).contains("receipts_root"), "{}", stdout(&verbose));
}

#[test]
fn an_engine_alone_is_timed_alone() {
    for (engine, timed, not_timed) in [
        ("sequential", "sequential_ms", "parallel_ms"),
        ("parallel", "parallel_ms", "sequential_ms"),
    ] {
        let output = run(&["--engine", engine, "--format", "json", "--repeat", "3"]);
        assert_exit(&output, 0);
        let (blocks, summary) = json(&output);
        for line in blocks.iter().chain([&summary]) {
            assert!(line[timed].is_number() && line[not_timed].is_null(), "{line}");
        }
        for block in &blocks {
            assert_eq!(block["checks"]["matches_sequential"], "skipped", "{block}");
            assert_eq!(block["checks"]["repetitions"], "ok", "{block}");
        }
        assert_eq!(summary["repeat"], 3);
    }
}

#[test]
fn blocks_are_selected_by_number() {
    let (all, _) = json(&run(&["--format", "json"]));
    let numbers: Vec<_> = all.iter().map(|block| block["block"].as_u64().unwrap()).collect();
    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);

    let select = |list: &str| -> Vec<u64> {
        let output = run(&["--format", "json", "--blocks", list]);
        assert_exit(&output, 0);
        json(&output).0.iter().map(|block| block["block"].as_u64().unwrap()).collect()
    };
    assert_eq!(select(&first.to_string()), [first]);
    assert_eq!(select(&format!("{first}..{last}")), numbers);
    assert_eq!(select(&format!("{last},{first}")), [first, last]);

    let output = run(&["--blocks", &format!("{first},99999999")]);
    assert_exit(&output, 2);
    assert!(stderr(&output).contains("99999999"), "{}", stderr(&output));
}

#[test]
fn bad_usage_is_named() {
    for (arguments, named) in [
        (&["--blocks", "1,5..x"][..], "5..x"),
        (&["--blocks", "9..3"], "9..3"),
        (&["--threads", "0"], "--threads"),
        (&["--repeat", "0"], "--repeat"),
        (&["--engine", "warp"], "warp"),
        (&["--quiet", "--verbose"], "--verbose"),
        (&["no/such/directory"], "no/such/directory"),
        (&["--genesis", "no-such-genesis.json"], "no-such-genesis.json"),
        (&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")], "Cargo.toml"),
        (&[concat!(env!("CARGO_MANIFEST_DIR"), "/src")], "src"),
    ] {
        let output = run(arguments);
        assert_exit(&output, 2);
        assert_eq!(stdout(&output), "", "only data goes to standard output");
        assert!(stderr(&output).contains(named), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn help_explains_every_flag() {
    let none = Command::new(env!("CARGO_BIN_EXE_multilane")).output().unwrap();
    assert_exit(&none, 0);
    assert!(stdout(&none).contains("replay"), "{}", stdout(&none));

    let version = Command::new(env!("CARGO_BIN_EXE_multilane")).arg("--version").output().unwrap();
    assert_exit(&version, 0);
    assert!(stdout(&version).contains("mimalloc"), "{}", stdout(&version));

    for help in [run(&["--help"]), run(&["-h"])] {
        assert_exit(&help, 0);
        for flag in [
            "[PATH]...",
            "--threads <N>",
            "--engine <ENGINE>",
            "--repeat <K>",
            "--blocks <LIST>",
            "--format <FORMAT>",
            "--genesis <FILE>",
            "--force-parallel",
            "--fail-fast",
            "--quiet",
            "--verbose",
            "Examples:",
        ] {
            assert!(stdout(&help).contains(flag), "{flag} in {}", stdout(&help));
        }
    }
    assert!(stdout(&run(&["--help"])).contains("130"), "the exit status is documented");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_run_with_what_is_done() {
    for format in ["table", "json"] {
        let mut command = multilane();
        command.args(["--repeat", "1000000000", "--verbose", "--format", format]);
        let (output, said) = interrupted(command, "replaying block");
        assert!(said.starts_with("replaying block"), "{said}");
        assert!(said.contains("interrupted after 1 of"), "{said}");
        if format == "json" {
            let (blocks, summary) = json(&output);
            assert_eq!(blocks.len(), 1, "the block in progress is finished");
            assert_eq!(blocks[0]["verified"], true);
            assert_eq!(summary["interrupted"], true);
            assert_eq!(summary["blocks"], 1);
        } else {
            assert!(stdout(&output).contains("1 of 1 blocks verified"), "{}", stdout(&output));
        }
    }
}

#[test]
fn every_mainnet_block_verifies() {
    let Some(archive) = mainnet("every_mainnet_block_verifies") else { return };
    let output = run_on(&archive, &["--threads", "2", "--format", "json"]);
    assert_exit(&output, 0);
    let (blocks, summary) = json(&output);
    assert_eq!(summary["verified"], blocks.len());
    assert!(blocks.len() >= 82, "{summary}");
    for block in &blocks {
        for check in ["expected", "matches_sequential"] {
            assert_eq!(block["checks"][check], "ok", "{check} of block {}", block["block"]);
        }
    }
    let with_state_root = blocks.iter().filter(|block| block["checks"]["state_root"] == "ok");
    assert!(with_state_root.count() >= 29, "complete witnesses give the header's state root");
}

#[test]
fn the_forms_of_paths_give_the_same_blocks() {
    let Some(archive) = mainnet("the_forms_of_paths_give_the_same_blocks") else { return };
    let number = 19_426_586;
    let selection = number.to_string();
    for (path, selection) in [
        (archive.clone(), Some(&selection)),
        (archive.join("blocks"), Some(&selection)),
        (block_dir(&archive, number), None),
    ] {
        let mut arguments = vec!["--format", "json"];
        if let Some(selection) = selection {
            arguments.extend(["--blocks", selection]);
        }
        let output = run_on(&path, &arguments);
        assert_exit(&output, 0);
        let (blocks, _) = json(&output);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0]["block"], number);
        assert_eq!(blocks[0]["fork"], "Shanghai");
        assert_eq!(blocks[0]["txs"], 127);
    }
}

/// A flipped digit of the header is a mismatch of that block alone; the others still verify.
#[test]
fn a_corrupted_header_is_a_mismatch_that_names_the_check() {
    let Some(archive) = mainnet("a_corrupted_header_is_a_mismatch_that_names_the_check") else {
        return;
    };
    let copy = copy_blocks(&archive, &[19_426_586, 19_426_587]);
    let file = block_dir(copy.path(), 19_426_586).join("block.json.gz");
    edit_gzip(&file, |text| flip_last_digit(text, "receiptsRoot"));

    let output = run_on(copy.path(), &["--format", "json"]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("receipts_root"), "{}", stderr(&output));
    let (blocks, summary) = json(&output);
    assert_eq!(blocks[0]["verified"], false);
    assert_eq!(blocks[0]["checks"]["receipts_root"], "mismatch");
    assert_eq!(blocks[0]["checks"]["gas_used"], "ok");
    let difference = &blocks[0]["differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|difference| difference["check"] == "receipts_root")
        .expect("the mismatch is shown");
    assert_ne!(difference["expected"], difference["got"]);
    assert_eq!(blocks[1]["verified"], true);
    assert_eq!(summary["mismatched"], 1);

    let table = run_on(copy.path(), &["--quiet"]);
    assert_exit(&table, 1);
    assert!(stdout(&table).contains("receipts_root: expected 0x"), "{}", stdout(&table));

    let stopped = run_on(copy.path(), &["--fail-fast", "--format", "json"]);
    assert_exit(&stopped, 1);
    assert_eq!(json(&stopped).0.len(), 1);
}

/// What cannot be read is told with its file, and the rest of the run goes on.
#[test]
fn unreadable_input_is_named_and_the_run_goes_on() {
    let Some(archive) = mainnet("unreadable_input_is_named_and_the_run_goes_on") else { return };
    let copy = copy_blocks(&archive, &[1_149_999, 19_426_586, 19_426_587]);
    edit_gzip(&block_dir(copy.path(), 1_149_999).join("prestate.json.gz"), |text| {
        text.truncate(text.len() / 2);
    });
    let broken = block_dir(copy.path(), 19_426_586).join("block.json.gz");
    let bytes = fs::read(&broken).unwrap();
    fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();

    let output = run_on(copy.path(), &["--format", "json"]);
    assert_exit(&output, 2);
    let (blocks, summary) = json(&output);
    for (block, number, file) in
        [(&blocks[0], "1149999", "prestate.json.gz"), (&blocks[1], "19426586", "block.json.gz")]
    {
        assert_eq!(block["failure"], "unreadable");
        assert_eq!(block["verified"], false);
        let error = block["error"].as_str().unwrap();
        assert!(error.contains(file) && error.contains(number), "{error}");
        assert!(stderr(&output).contains(error), "{}", stderr(&output));
    }
    assert_eq!(blocks[2]["verified"], true);
    assert_eq!(summary["unreadable"], 2);
    assert_eq!(summary["verified"], 1);
}

/// A block whose prestate lacks an account cannot be executed, by either engine, for one reason.
#[test]
fn a_missing_account_fails_the_block() {
    let Some(archive) = mainnet("a_missing_account_fails_the_block") else { return };
    let number = 19_426_586;
    let copy = copy_blocks(&archive, &[number]);
    let sender = {
        let mut sender = None;
        edit_gzip(&block_dir(copy.path(), number).join("block.json.gz"), |text| {
            let block: Value = serde_json::from_str(text).unwrap();
            sender = block["transactions"][3]["from"].as_str().map(str::to_owned);
        });
        sender.unwrap()
    };
    edit_gzip(&block_dir(copy.path(), number).join("prestate.json.gz"), |text| {
        let mut prestate: Value = serde_json::from_str(text).unwrap();
        prestate["accounts"].as_object_mut().unwrap().remove(&sender).unwrap();
        *text = prestate.to_string();
    });

    let output = run_on(copy.path(), &["--format", "json"]);
    assert_exit(&output, 1);
    let (blocks, summary) = json(&output);
    assert_eq!(blocks[0]["failure"], "not_executed");
    let error = blocks[0]["error"].as_str().unwrap();
    assert!(error.to_lowercase().contains(&sender) && error.contains("transaction"), "{error}");
    assert!(!error.contains("engines"), "both engines fail alike: {error}");
    assert_eq!(summary["not_executed"], 1);
}

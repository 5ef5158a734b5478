//! Real blocks.

use super::{run, sample};
use crate::support::{assert_exit, edit_gzip, json, stderr, stdout};
use std::{fs, path::Path};

#[test]
fn real_blocks_are_measured_with_totals() {
    let sample = sample();
    let output = run(&[
        "blocks",
        sample.to_str().unwrap(),
        "--threads",
        "1,2",
        "--repeat",
        "1",
        "--format",
        "json",
    ]);
    assert_exit(&output, 0);
    let (rows, summary) = json(&output);
    assert_eq!(rows.len(), 24);
    for row in &rows {
        for field in ["block", "txs", "gas", "bare_ms", "sequential_ms", "parallel_ms", "speedup"] {
            assert!(row[field].is_number(), "{field} of {row}");
        }
        assert!(row["fork"].is_string() && row["limit_ms"].is_null(), "{row}");
        assert!(row.get("workload").is_none() && row.get("seed").is_none(), "{row}");
    }
    let totals = summary["totals"].as_array().unwrap();
    assert_eq!(totals.len(), 2);
    for totals in totals {
        assert_eq!(totals["blocks"], 12);
        for field in ["speedup_total", "speedup_mean", "speedup_min", "speedup_max"] {
            assert!(
                totals[field].is_number() && totals["over_bare"][field].is_number(),
                "{totals}"
            );
            assert!(totals["large_blocks"][field].is_number(), "{totals}");
        }
    }

    let first = rows[0]["block"].to_string();
    let table = run(&["blocks", sample.to_str().unwrap(), "--blocks", &first, "--repeat", "1"]);
    assert_exit(&table, 0);
    assert!(stdout(&table).contains("speedup, all blocks"), "{}", stdout(&table));
}

#[test]
fn blocks_can_be_measured_as_one() {
    let sample = sample();
    let arguments = ["blocks", sample.to_str().unwrap(), "--merged", "--threads", "2"];
    let output = run(&[&arguments[..], &["--repeat", "1", "--format", "json"]].concat());
    assert_exit(&output, 0);
    let (rows, summary) = json(&output);
    let [row] = &rows[..] else { panic!("one row: {rows:?}") };
    assert_eq!(row["merged_blocks"], 12, "{row}");
    assert!(row["fork"].is_string() && row.get("block").is_none(), "{row}");
    // The sample is one chain, so that what one block leaves is what the next one finds.
    let said = stderr(&output);
    let valid = format!("{} of ", row["txs"]);
    assert!(said.contains(&valid) && said.contains("transactions are valid"), "{said}");
    assert!(row["txs"].as_u64().unwrap() > 100, "{row}");
    assert_eq!((&summary["measured"], &summary["wrong"]), (&1.into(), &0.into()));

    let table = run(&[&arguments[..], &["--repeat", "1"]].concat());
    assert!(stdout(&table).contains("12 as one"), "{}", stdout(&table));
}

/// A block that does not verify is not measured, and the others are.
#[test]
fn a_block_that_does_not_verify_is_reported_and_not_measured() {
    let copy = tempfile::tempdir().unwrap();
    copy_directory(&sample(), copy.path());
    let mut folders: Vec<_> = fs::read_dir(copy.path().join("blocks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let file = folders[0].join("block.json.gz");
    edit_gzip(&file, |text| {
        let field = text.find("\"receiptsRoot\"").expect("the field is there");
        let digit = field + text[field..].find("0x").unwrap() + 5;
        let flipped = if &text[digit..=digit] == "0" { "1" } else { "0" };
        text.replace_range(digit..=digit, flipped);
    });
    let output = run(&[
        "blocks",
        copy.path().to_str().unwrap(),
        "--threads",
        "2",
        "--repeat",
        "1",
        "--format",
        "json",
    ]);
    assert_exit(&output, 1);
    let (rows, summary) = json(&output);
    assert_eq!((rows.len(), &summary["measured"], &summary["wrong"]), (11, &11.into(), &1.into()));
    assert!(stderr(&output).contains("receipts_root: expected 0x"), "{}", stderr(&output));

    fs::write(&file, b"not a block").unwrap();
    let output = run(&["blocks", copy.path().to_str().unwrap(), "--threads", "2", "--repeat", "1"]);
    assert_exit(&output, 2);
    assert!(stderr(&output).contains("block.json.gz"), "{}", stderr(&output));
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

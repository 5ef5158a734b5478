//! Block access lists from one replay to the next.

use crate::{
    run,
    support::{assert_exit, json, stderr, stdout},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

/// The sample's lists, saved in a directory of their own.
fn saved() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = replay(directory.path(), &["--save-access-lists"]);
    assert_exit(&output, 0);
    let (blocks, summary) = json(&output);
    assert_eq!(summary["access_lists"], "saved");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), blocks.len());
    for block in blocks {
        assert_eq!(block["checks"]["matches_sequential"], "ok", "{block}");
        assert!(file_of(directory.path(), block["block"].as_u64().unwrap()).is_file());
    }
    directory
}

/// Replays the sample on two threads, which may not give up on it, with lists in a directory.
fn replay(directory: &Path, flags: &[&str]) -> Output {
    let mut arguments = vec!["--threads", "2", "--force-parallel", "--format", "json"];
    arguments.extend(flags);
    arguments.push(directory.to_str().expect("the directory has a plain name"));
    run(&arguments)
}

fn file_of(directory: &Path, block: u64) -> PathBuf {
    directory.join(format!("{block}.json"))
}

fn edit(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut content = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut content);
    fs::write(path, content.to_string()).unwrap();
}

#[test]
fn a_replay_with_saved_lists_has_no_conflicts() {
    let lists = saved();
    for (flags, name) in [
        (&["--access-lists"][..], "advisory"),
        (&["--enforce-access-lists", "--access-lists"][..], "enforced"),
    ] {
        let output = replay(lists.path(), flags);
        assert_exit(&output, 0);
        let (blocks, summary) = json(&output);
        assert_eq!(summary["access_lists"], name);
        assert_eq!(summary["conflicts"], 0);
        for block in blocks {
            assert_eq!((&block["conflicts"], &block["verified"]), (&0.into(), &true.into()));
            assert_eq!(block["executions"], block["txs"]);
        }
    }
    let table = run(&["--threads", "2", "--access-lists", lists.path().to_str().unwrap()]);
    assert_exit(&table, 0);
    assert!(stdout(&table).contains("access lists advisory: 0 conflicts"), "{}", stdout(&table));
}

#[test]
fn a_list_alone_says_what_a_replay_without_it_says() {
    let lists = saved();
    for engine in ["sequential", "parallel"] {
        let again = tempfile::tempdir().unwrap();
        let output = replay(again.path(), &["--engine", engine, "--save-access-lists"]);
        assert_exit(&output, 0);
        for file in fs::read_dir(lists.path()).unwrap() {
            let file = file.unwrap();
            let copy = fs::read(again.path().join(file.file_name())).unwrap();
            assert!(fs::read(file.path()).unwrap() == copy, "{engine}: {:?}", file.file_name());
        }
    }
}

/// A list that cannot be the block's is told with its file, and the rest of the run goes on.
#[test]
fn missing_damaged_and_foreign_lists_are_named() {
    let lists = saved();
    let file = |block| file_of(lists.path(), block);
    fs::remove_file(file(1)).unwrap();
    fs::write(file(2), "[").unwrap();
    edit(&file(3), |content| {
        content["accessList"].as_array_mut().unwrap().pop();
    });
    fs::copy(file(5), file(4)).unwrap();

    let output = replay(lists.path(), &["--access-lists"]);
    assert_exit(&output, 2);
    let (blocks, summary) = json(&output);
    for (block, cause) in [
        (1_u64, "No such file"),
        (2, "not an access list"),
        (3, "damaged"),
        (4, "it is that of block 5 0x"),
    ] {
        let row = blocks.iter().find(|row| row["block"] == block).unwrap();
        assert_eq!(row["failure"], "unreadable", "{row}");
        let error = row["error"].as_str().unwrap();
        assert!(error.contains(&format!("{block}.json")) && error.contains(cause), "{error}");
        assert!(stderr(&output).contains(&format!("block {block}: {error}")), "{error}");
    }
    assert_eq!(summary["unreadable"], 4);
    assert_eq!(summary["verified"], blocks.len() - 4);
}

/// A list that looks right and is not changes nothing as advice; enforced, it makes the block
/// invalid.
#[test]
fn a_wrong_list_is_refused_only_where_it_is_enforced() {
    let lists = saved();
    let other: Value =
        serde_json::from_slice(&fs::read(file_of(lists.path(), 4)).unwrap()).unwrap();
    edit(&file_of(lists.path(), 3), |content| {
        for field in ["accessList", "accessListHash"] {
            content[field] = other[field].clone();
        }
    });

    assert_exit(&replay(lists.path(), &["--access-lists"]), 0);

    let output = replay(lists.path(), &["--enforce-access-lists", "--access-lists"]);
    assert_exit(&output, 1);
    let (blocks, summary) = json(&output);
    let refused: Vec<_> = blocks.iter().filter(|block| block["verified"] == false).collect();
    assert_eq!((refused.len(), &refused[0]["block"]), (1, &3.into()));
    assert_eq!(refused[0]["failure"], "not_executed");
    let error = refused[0]["error"].as_str().unwrap();
    assert!(error.starts_with("invalid block") && error.contains("block access list"), "{error}");
    assert_eq!(summary["not_executed"], 1);
}

#[test]
fn flags_that_do_not_go_together_are_bad_usage() {
    assert_exit(&run(&["--enforce-access-lists"]), 2);
    assert_exit(&run(&["--save-access-lists", "a", "--access-lists", "b"]), 2);
}

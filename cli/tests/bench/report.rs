//! The HTML report.

use super::{run, sample};
use crate::support::assert_exit;
use std::fs;

#[test]
fn the_report_is_one_well_formed_file_that_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let report = path.to_str().unwrap();
    let workloads = run(&[
        "raw",
        "mint",
        "--txs",
        "100",
        "--threads",
        "1,2",
        "--repeat",
        "1",
        "--report",
        report,
    ]);
    assert_exit(&workloads, 0);
    let page = fs::read_to_string(&path).unwrap();
    assert_self_contained(&page);
    for part in ["Speedup", "Throughput", "Scaling", "Figures", "seed", "raw", "mint"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("--report"), "the command is in it");

    let sample = sample();
    let blocks = run(&[
        "blocks",
        sample.to_str().unwrap(),
        "--threads",
        "2",
        "--repeat",
        "1",
        "--report",
        report,
    ]);
    assert_exit(&blocks, 0);
    let page = fs::read_to_string(&path).unwrap();
    assert_self_contained(&page);
    assert!(page.contains("Speedups of 12 blocks") && page.contains("Totals"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
}

/// Every element is closed in order, and nothing is fetched or run.
#[track_caller]
pub(super) fn assert_self_contained(page: &str) {
    for reference in
        ["http://", "https://", "<script", "<link", " src=", "url(", "@import", "onload"]
    {
        assert!(!page.contains(reference), "{reference} in the page");
    }
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("it is HTML");
    let mut open: Vec<&str> = Vec::new();
    for part in body.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("every tag ends");
        let name = tag.split_whitespace().next().expect("every tag has a name");
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes another element");
        } else if name != "meta" && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0], "elements are left open");
}

//! Generated blocks: what is measured, checked and printed.

use super::{embedded, run};
use crate::support::{assert_exit, json, stdout};
use multilane_fixtures::workload::Workload;
use serde_json::Value;

#[test]
fn every_workload_and_thread_count_has_a_line_with_every_field() {
    let output = run(&[
        "raw",
        "erc20-chained",
        "mint",
        "--txs",
        "300",
        "--threads",
        "1,2",
        "--repeat",
        "3",
        "--seed",
        "7",
        "--format",
        "json",
    ]);
    assert_exit(&output, 0);
    let (rows, summary) = json(&output);
    let told = |row: &Value| {
        (row["workload"].as_str().unwrap().to_owned(), row["threads"].as_u64().unwrap())
    };
    let expected = ["raw", "erc20-chained", "mint"]
        .into_iter()
        .flat_map(|name| [1, 2].map(|threads| (name.to_owned(), threads)));
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected.collect::<Vec<_>>());

    for row in &rows {
        let workload = Workload::by_name(row["workload"].as_str().unwrap()).unwrap();
        assert_eq!((&row["txs"], &row["seed"]), (&300.into(), &7.into()), "{row}");
        let number = |field: &str| {
            row[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {row}"))
        };
        for field in ["gas", "executions", "tps", "mgas_per_s"] {
            assert!(number(field) > 0.0, "{field} of {row}");
        }
        assert!(number("conflicts") <= number("executions"), "{row}");
        for (field, dividend) in [("speedup", "sequential_ms"), ("speedup_bare", "bare_ms")] {
            let ratio = number(dividend) / number("parallel_ms");
            assert!((number(field) - ratio).abs() < 0.02 * ratio + 0.002, "{field} of {row}");
        }
        for field in ["limit_ms", "of_limit"] {
            assert_eq!(row[field].is_number(), workload.is_independent(), "{field} of {row}");
        }
        if cfg!(target_os = "linux") {
            for field in ["cpu_s", "sequential_cpu_s", "peak_rss_mib", "sequential_peak_rss_mib"] {
                assert!(number(field) > 0.0, "{field} of {row}");
            }
        }
        let is_parallel = row["mode"] == "parallel";
        assert_eq!(row["mode_reason"].is_null(), is_parallel, "{row}");
    }
    assert_eq!(summary["measured"], 3);
    assert_eq!((&summary["wrong"], &summary["unusable"]), (&0.into(), &0.into()));
    assert_eq!(summary["interrupted"], false);
    assert_eq!(summary["repeat"], 3);
    assert_eq!(summary["threads"], serde_json::json!([1, 2]));
    assert!(summary["command"].as_str().unwrap().starts_with("multilane bench raw"), "{summary}");
    assert_eq!(summary["versions"]["multilane"], env!("CARGO_PKG_VERSION"));
    assert!(summary["machine"]["cores"].is_number(), "{summary}");
}

/// Whatever a workload's default size, it can be made small, and is right at every thread count.
#[test]
fn every_embedded_workload_is_checked_and_measured() {
    let names: Vec<_> = embedded().map(Workload::name).collect();
    let mut arguments = names.clone();
    arguments.extend([
        "--txs",
        "120",
        "--threads",
        "2,3",
        "--repeat",
        "1",
        "--force-parallel",
        "--format",
        "json",
    ]);
    let output = run(&arguments);
    assert_exit(&output, 0);
    let (rows, summary) = json(&output);
    assert_eq!(summary["measured"], names.len());
    for row in &rows {
        assert_eq!(row["mode"], "parallel", "{row}");
    }
}

#[test]
fn a_seed_gives_the_same_block_and_gas_decides_its_size() {
    let gas = |arguments: &[&str]| {
        let mut all =
            vec!["erc20-dependent", "--repeat", "1", "--threads", "2", "--format", "json"];
        all.extend(arguments);
        let output = run(&all);
        assert_exit(&output, 0);
        let (rows, _) = json(&output);
        (rows[0]["gas"].as_u64().unwrap(), rows[0]["txs"].as_u64().unwrap())
    };
    let seven = ["--txs", "200", "--seed", "7", "--hot-ratio", "0.5"];
    assert_eq!(gas(&seven), gas(&seven));
    assert_eq!(gas(&seven).1, 200);
    let (used, _) = gas(&["--gas", "5000000"]);
    assert!((3_000_000..7_000_000).contains(&used), "{used}");
}

#[test]
fn the_table_says_what_was_measured_where_and_how() {
    let output = run(&["raw", "mint", "--txs", "100", "--threads", "2", "--repeat", "1"]);
    assert_exit(&output, 0);
    let text = stdout(&output);
    for part in ["multilane bench raw mint", "core", "revm 43", "seed 0", "medians of 1"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let mut lines = text.lines().skip_while(|line| !line.starts_with("workload"));
    let header: Vec<_> = lines.next().expect("there is a table").split("  ").collect();
    for column in ["txs", "bare ms", "seq ms", "par ms", "limit ms", "speedup", "Mgas/s"] {
        assert!(header.iter().any(|title| title.trim() == column), "{column} in {header:?}");
    }
    for name in ["raw", "mint"] {
        assert!(lines.next().is_some_and(|row| row.starts_with(name)), "{text}");
    }
}

#[test]
fn executors_that_learn_have_rows_of_their_own() {
    let arguments = ["amm", "--txs", "60", "--threads", "1,2", "--repeat", "1", "--learn"];
    let output = run(&[&arguments[..], &["--format", "json"]].concat());
    assert_exit(&output, 0);
    let (rows, _) = json(&output);
    let told = |row: &Value| (row["threads"].as_u64(), row["learns"].as_bool());
    let expected =
        [(1, false), (2, false), (1, true), (2, true)].map(|(n, learns)| (Some(n), Some(learns)));
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected);
    assert!(stdout(&run(&arguments)).contains(", learning"));
}

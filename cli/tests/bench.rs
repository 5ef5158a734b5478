//! The command `bench` as a user meets it: the binary, its output and its exit status.

use multilane_fixtures::workload::Workload;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn multilane() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multilane"));
    command.arg("bench");
    command
}

fn run(arguments: &[&str]) -> Output {
    multilane().args(arguments).output().expect("the binary runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("output is UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("messages are UTF-8")
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}\n{}", stdout(output), stderr(output));
}

/// The lines of a JSON report: the rows, and the summary.
#[track_caller]
fn json(output: &Output) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = stdout(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let summary = lines.pop().expect("there is a summary")["summary"].take();
    assert!(summary.is_object(), "the last line is the summary");
    (lines, summary)
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
fn assert_self_contained(page: &str) {
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

/// Rewrites the text of a gzip file.
fn edit_gzip(path: &Path, edit: impl FnOnce(&mut String)) {
    let mut text = String::new();
    let file = fs::File::open(path).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    edit(&mut text);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    fs::write(path, gzip.finish().unwrap()).unwrap();
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

#[cfg(unix)]
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

#[cfg(unix)]
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

/// Runs a command up to the moment when it says `moment`, sends it Ctrl-C, and gives its output with
/// everything that it said.
#[cfg(unix)]
fn interrupted(mut command: Command, moment: &str) -> (Output, String) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut messages = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(moment) {
        assert_ne!(messages.read_line(&mut said).unwrap(), 0, "{said}");
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_exit(&output, 130);
    messages.read_to_string(&mut said).unwrap();
    (output, said)
}

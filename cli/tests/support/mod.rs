//! What the tests of several commands need: their output, their files, and Ctrl-C.

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("output is UTF-8")
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("messages are UTF-8")
}

#[track_caller]
pub(crate) fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}\n{}", stdout(output), stderr(output));
}

/// The lines of a JSON report: the rows, and the summary.
#[track_caller]
pub(crate) fn json(output: &Output) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = stdout(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let summary = lines.pop().expect("there is a summary")["summary"].take();
    assert!(summary.is_object(), "the last line is the summary");
    (lines, summary)
}

/// Rewrites the text of a gzip file.
pub(crate) fn edit_gzip(path: &Path, edit: impl FnOnce(&mut String)) {
    let mut text = String::new();
    let file = fs::File::open(path).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    edit(&mut text);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    fs::write(path, gzip.finish().unwrap()).unwrap();
}

/// Runs a command up to the moment when it says `moment`, sends it Ctrl-C, and gives its output with
/// everything that it said.
#[cfg(unix)]
pub(crate) fn interrupted(mut command: Command, moment: &str) -> (Output, String) {
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

//! The report with charts: one HTML file that needs nothing else, no network and no script.
//!
//! [`page`] puts it together from tables and from the charts, which are SVG made here ([`bars`],
//! [`lines`], [`histogram`]). Its colours follow the reader's light or dark scheme.

mod bars;
mod escape;
mod histogram;
mod lines;
mod page;
mod scale;
mod svg;

use super::{
    environment::Environment,
    figures::{BlockTotals, Row},
    settings::Settings,
};
use anyhow::Context;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

/// Writes the report. Whoever reads the file meanwhile sees the old one or the new one.
///
/// # Errors
///
/// If the file cannot be written.
pub(crate) fn write(
    path: &Path,
    settings: &Settings,
    environment: &Environment,
    rows: &[Row],
    totals: &[BlockTotals],
    is_interrupted: bool,
) -> anyhow::Result<()> {
    let page = page::page(settings, environment, rows, totals, is_interrupted);
    replace(path, page.as_bytes()).with_context(|| format!("--report {}", path.display()))
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let staged = staged(path);
    let done = fs::write(&staged, content).and_then(|()| fs::rename(&staged, path));
    if done.is_err() {
        // The first error says more than one about cleaning up.
        let _ = fs::remove_file(&staged);
    }
    done
}

/// Beside the file, because a rename does not reach other file systems.
fn staged(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_replaces_the_old_one_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        for content in ["old", "new"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        assert!(replace(&folder.path().join("no/such/report.html"), b"").is_err());
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(replace(&folder.path().join("taken"), b"").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

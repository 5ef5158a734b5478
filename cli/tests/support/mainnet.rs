//! Real blocks, where they are.

use std::path::{Path, PathBuf};

/// The archive of mainnet blocks, or `None` with a note where this machine does not have it.
pub(crate) fn mainnet(test: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/mainnet");
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI needs shared/data/mainnet");
    eprintln!("{test}: left out, shared/data/mainnet is not there");
    None
}

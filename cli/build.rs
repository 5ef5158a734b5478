//! Tells the binary which compiler and which libraries it is made of: benchmark reports name them.
//!
//! What cannot be found out is left empty, and never ends a build.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").and_then(|rustc| {
        let output = Command::new(rustc).arg("--version").output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        // "rustc 1.95.0 (0123456789 2026-01-01)"
        version.split_whitespace().nth(1).map(str::to_owned)
    });
    set("RUSTC_VERSION", rustc);

    let lock = lock_file();
    if let Some(lock) = &lock {
        println!("cargo::rerun-if-changed={}", lock.display());
    }
    let lock = lock.and_then(|lock| fs::read_to_string(lock).ok()).unwrap_or_default();
    set("REVM_VERSION", locked_version(&lock, "revm"));
    set("ALLOY_EVM_VERSION", locked_version(&lock, "alloy-evm"));
}

fn set(name: &str, value: Option<String>) {
    println!("cargo::rustc-env=MULTILANE_{name}={}", value.unwrap_or_default());
}

/// The lock file of the workspace, or of the package where it was published alone.
fn lock_file() -> Option<PathBuf> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    [package.parent(), Some(package.as_path())]
        .into_iter()
        .flatten()
        .map(|folder: &Path| folder.join("Cargo.lock"))
        .find(|lock| lock.is_file())
}

fn locked_version(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')?;
    Some(version.to_owned())
}

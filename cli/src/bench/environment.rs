//! Where and how a benchmark ran: without it a figure means nothing.

use super::date::utc_now;
use serde::Serialize;
use std::{env, fs, path::Path, thread};

/// Machine, versions, command and date of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Environment {
    /// When the run started, such as "2026-11-22 18:30 UTC".
    pub(crate) date: String,
    /// What was typed.
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) versions: Versions,
}

/// The machine, as far as its system tells.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: Option<String>,
    /// Cores that this process may use.
    pub(crate) cores: Option<usize>,
    pub(crate) memory_gib: Option<f64>,
    pub(crate) os: String,
    pub(crate) kernel: Option<String>,
}

/// What the binary is made of.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Versions {
    pub(crate) multilane: &'static str,
    /// Whether the compiler optimised, and left the checks of a debug build out.
    pub(crate) is_optimised: bool,
    pub(crate) revm: &'static str,
    pub(crate) alloy_evm: &'static str,
    pub(crate) rustc: &'static str,
    pub(crate) allocator: &'static str,
}

impl Environment {
    pub(crate) fn new() -> Self {
        Self {
            date: utc_now(),
            command: command(env::args()),
            machine: Machine::this(),
            versions: VERSIONS,
        }
    }
}

const VERSIONS: Versions = Versions {
    multilane: env!("CARGO_PKG_VERSION"),
    is_optimised: !cfg!(debug_assertions),
    revm: env!("MULTILANE_REVM_VERSION"),
    alloy_evm: env!("MULTILANE_ALLOY_EVM_VERSION"),
    rustc: env!("MULTILANE_RUSTC_VERSION"),
    allocator: "mimalloc",
};

impl Machine {
    fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        Self {
            cpu: read("/proc/cpuinfo").and_then(|text| value(&text, "model name", ':')),
            cores: thread::available_parallelism().ok().map(Into::into),
            memory_gib: read("/proc/meminfo").and_then(|text| memory_gib(&text)),
            os: read("/etc/os-release")
                .and_then(|text| value(&text, "PRETTY_NAME", '='))
                .unwrap_or_else(|| env::consts::OS.to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        }
    }

    /// One line.
    pub(crate) fn describe(&self) -> String {
        let cores = self.cores.map(|cores| match cores {
            1 => "1 core".to_owned(),
            _ => format!("{cores} cores"),
        });
        let memory = self.memory_gib.map(|memory| format!("{memory} GiB"));
        let kernel = self.kernel.as_ref().map(|kernel| format!("kernel {kernel}"));
        let cpu = self.cpu.clone().unwrap_or_else(|| env::consts::ARCH.to_owned());
        let parts = [Some(cpu), cores, memory, Some(self.os.clone()), kernel];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Versions {
    /// One line. Versions that the build could not find out are left out.
    pub(crate) fn describe(&self) -> String {
        let build = if self.is_optimised { "" } else { " (debug build: its figures mean nothing)" };
        let mut text = format!("multilane {}{build}", self.multilane);
        let parts = [("revm", self.revm), ("alloy-evm", self.alloy_evm), ("rustc", self.rustc)];
        for (name, version) in parts.into_iter().filter(|(_, version)| !version.is_empty()) {
            text.push_str(&format!(", {name} {version}"));
        }
        format!("{text}, {}", self.allocator)
    }
}

/// The command as one could type it again: the program's path is nobody's business.
fn command(mut arguments: impl Iterator<Item = String>) -> String {
    let program = arguments.next().unwrap_or_default();
    let program = Path::new(&program).file_stem().and_then(|name| name.to_str());
    let mut command = program.unwrap_or("multilane").to_owned();
    for argument in arguments {
        let is_plain = |letter: char| letter.is_alphanumeric() || "-_./,=:+@%".contains(letter);
        command.push(' ');
        if !argument.is_empty() && argument.chars().all(is_plain) {
            command.push_str(&argument);
        } else {
            command.push_str(&format!("'{}'", argument.replace('\'', r"'\''")));
        }
    }
    command
}

/// The value of a key in a listing of `key SEPARATOR value` lines.
fn value(text: &str, key: &str, separator: char) -> Option<String> {
    let line = text.lines().find_map(|line| {
        let (found, value) = line.split_once(separator)?;
        (found.trim() == key).then_some(value)
    })?;
    Some(line.trim().trim_matches('"').to_owned())
}

/// `MemTotal` in GiB, to one decimal.
fn memory_gib(meminfo: &str) -> Option<f64> {
    let total = value(meminfo, "MemTotal", ':')?;
    let kibibytes: f64 = total.strip_suffix("kB")?.trim().parse().ok()?;
    Some((kibibytes / f64::from(1 << 20) * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_typed_again() {
        let typed = ["/opt/my tools/multilane", "bench", "--threads", "1,2", "a b", "it's", ""];
        assert_eq!(
            command(typed.into_iter().map(str::to_owned)),
            r"multilane bench --threads 1,2 'a b' 'it'\''s' ''"
        );
    }

    #[test]
    fn the_system_s_listings_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\n\nprocessor\t: 1\n";
        assert_eq!(value(cpuinfo, "model name", ':').as_deref(), Some("Some CPU @ 2.00GHz"));
        let release = "NAME=\"Some\"\nPRETTY_NAME=\"Some GNU/Linux 12\"\n";
        assert_eq!(value(release, "PRETTY_NAME", '=').as_deref(), Some("Some GNU/Linux 12"));
        assert_eq!(memory_gib("MemTotal:       16777216 kB\nMemFree: 1 kB\n"), Some(16.0));
        assert_eq!(memory_gib("MemTotal: much\n"), None);
    }

    #[test]
    fn descriptions_leave_out_what_is_unknown() {
        let machine = Machine {
            cpu: Some("Some CPU".into()),
            cores: Some(1),
            memory_gib: None,
            os: "Some OS".into(),
            kernel: None,
        };
        assert_eq!(machine.describe(), "Some CPU, 1 core, Some OS");
        let versions = Versions { revm: "", rustc: "1.95.0", ..VERSIONS };
        let text = versions.describe();
        assert!(text.contains("rustc 1.95.0") && !text.contains(", revm"), "{text}");
    }
}

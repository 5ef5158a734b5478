//! Generated blocks: which, and through the arms.

use super::{
    args::{ALL, BenchArgs},
    arms::Arms,
    case::Case,
    check::{Differences, check, check_intention},
    figures::{Figures, Subject},
    measurement::measure,
    session::Session,
    settings::Settings,
};
use crate::text::aligned;
use multilane_fixtures::workload::{Workload, WorkloadBlock, WorkloadError, WorkloadSettings};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// What runs if nothing is named: the embedded default, and the two that every project publishes.
const DEFAULT: [&str; 3] = ["amm", "raw", "erc20"];

/// Prints the workloads.
pub(crate) fn list() -> io::Result<()> {
    let mut rows = vec![["name", "", "what it is"].map(str::to_owned).to_vec()];
    for workload in Workload::all() {
        let needs = if workload.needs_uniswap() { "npm" } else { "" };
        let row = [workload.name(), needs, workload.summary()];
        rows.push(row.map(str::to_owned).to_vec());
    }
    let mut out = io::stdout().lock();
    for line in aligned(&rows, &["name", "", "what it is"]) {
        writeln!(out, "{line}")?;
    }
    writeln!(
        out,
        "\nnpm: needs `npm ci --prefix fixtures/uniswap`. Without a name: {}.",
        DEFAULT.join(", ")
    )
}

/// Measures the workloads that were named.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let workloads = select(&args.workloads);
    let mut settings = WorkloadSettings::default();
    settings.transactions = args.txs.map(Into::into);
    settings.gas = args.gas;
    settings.pools = args.pools.map(Into::into);
    settings.traders = args.traders.map(Into::into);
    settings.zipf = args.zipf;
    settings.hot_ratio = args.hot_ratio;
    settings.seed = args.seed;

    let mut session = Session::new(Settings::new(&args.run)?, workloads.len(), "workloads")?;
    for Selected { workload, is_named } in workloads {
        if session.interrupt.requested() {
            break;
        }
        session.step(&format!("generating {}", workload.name()));
        match workload.generate(&settings) {
            Ok(block) => measure_workload(&mut session, workload, args.seed, &block)?,
            // Whoever wants everything wants everything that is there.
            Err(error @ WorkloadError::MissingPackages { .. }) if !is_named => {
                session.left_out(&format!("{}: {error}", workload.name()));
            }
            Err(error) => session.unusable(&format!("{}: {error}", workload.name())),
        }
    }
    session.finish()
}

/// A workload to measure.
#[derive(Debug)]
struct Selected {
    workload: &'static Workload,
    /// Whether it was asked for by its own name.
    is_named: bool,
}

/// The workloads of these names in the order in which they were typed, none twice.
fn select(names: &[String]) -> Vec<Selected> {
    let names: Vec<&str> = match names {
        [] => DEFAULT.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    let mut selected: Vec<Selected> = Vec::new();
    for name in names {
        let meant = |workload: &&Workload| name == ALL || workload.name() == name;
        for workload in Workload::all().iter().filter(meant) {
            let is_named = name == workload.name();
            let before = selected.iter_mut().find(|other| other.workload.name() == workload.name());
            match before {
                Some(before) => before.is_named |= is_named,
                None => selected.push(Selected { workload, is_named }),
            }
        }
    }
    selected
}

/// Checks a generated block and measures it, or tells why not.
pub(super) fn measure_workload(
    session: &mut Session,
    workload: &Workload,
    seed: u64,
    generated: &WorkloadBlock,
) -> io::Result<()> {
    let name = workload.name();
    match execute(session, workload, generated) {
        Ok(Ok(figures)) => session.measured(Subject::Workload { name, seed }, figures),
        Ok(Err(differences)) => {
            session.wrong(&format!(
                "{name}: the output is wrong, so it is not measured\n{differences}"
            ));
            Ok(())
        }
        Err(error) => {
            session.wrong(&format!("{name}: {error:#}"));
            Ok(())
        }
    }
}

fn execute(
    session: &Session,
    workload: &Workload,
    generated: &WorkloadBlock,
) -> anyhow::Result<Result<Vec<Figures>, Differences>> {
    let WorkloadBlock { chain, block, prestate, succeeds, .. } = generated;
    let is_independent = workload.is_independent();
    session.step(&format!("checking {}", workload.name()));
    let arms = Arms::new(Case { chain, block, prestate, is_independent }, &session.executors)?;
    let (output, differences) = check(&arms)?;
    let unintended = check_intention(&arms, &output, succeeds)?;
    for differences in [differences, unintended] {
        if !differences.is_empty() {
            return Ok(Err(differences));
        }
    }
    session.step(&format!("measuring {}", workload.name()));
    measure(&arms, output.gas_used, session.settings.repeat, &session.interrupt).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(typed: &[&str]) -> Vec<&'static str> {
        let typed: Vec<_> = typed.iter().map(|name| (*name).to_owned()).collect();
        select(&typed).iter().map(|selected| selected.workload.name()).collect()
    }

    #[test]
    fn names_are_kept_in_order_and_none_is_measured_twice() {
        assert_eq!(names(&[]), DEFAULT);
        assert_eq!(names(&["raw", "amm", "raw"]), ["raw", "amm"]);
        assert_eq!(names(&["erc20", ALL])[0], "erc20");
        assert_eq!(names(&["erc20", ALL]).len(), Workload::all().len());
        let all = select(&[ALL.to_owned(), "raw".to_owned()]);
        let named = all.iter().filter(|selected| selected.is_named);
        assert_eq!(named.map(|selected| selected.workload.name()).collect::<Vec<_>>(), ["raw"]);
    }
}

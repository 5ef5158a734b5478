//! Whether what came out of a block is right: every check by name, and every difference found.
//!
//! The checks themselves are the libraries'; here they are gathered into one list for reports.

use super::{execution::Execution, roots::state_roots};
use crate::args::Engine;
use multilane::verification::{CheckKind, CheckOutcome, Difference, DifferencePlace, verify_block};
use multilane_fixtures::{archive::ArchivedBlock, expected};
use std::{borrow::Cow, fmt};

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Name in snake case, as in the JSON report.
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Made, and passed.
    Ok,
    /// Made, and failed.
    Mismatch,
    /// Not made, with the reason.
    Skipped(Cow<'static, str>),
}

/// Two values that should be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The check that found it.
    pub(crate) check: &'static str,
    /// Index of the transaction that it belongs to.
    pub(crate) transaction: Option<usize>,
    /// What differs.
    pub(crate) field: String,
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, transaction, field, expected, got } = self;
        write!(f, "{check}: ")?;
        if let Some(index) = transaction {
            write!(f, "transaction {index}: ")?;
        }
        if field != check {
            write!(f, "{field}: ")?;
        }
        write!(f, "expected {expected}, got {got}")
    }
}

/// Everything that was checked of one block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) checks: Vec<Check>,
    pub(crate) findings: Vec<Finding>,
}

impl Verdict {
    /// Judges an execution.
    pub(crate) fn of(block: &ArchivedBlock, execution: &Execution, engine: Engine) -> Self {
        let mut verdict = Self::default();
        verdict.header_checks(block, execution);
        verdict.prestate(block);
        verdict.expected(block, execution);
        verdict.engines(execution, engine);
        verdict
    }

    /// Whether something could be checked, and nothing is wrong.
    pub(crate) fn is_verified(&self) -> bool {
        self.mismatches().next().is_none()
            && self.checks.iter().any(|check| check.outcome == Outcome::Ok)
    }

    /// Names of the failed checks.
    pub(crate) fn mismatches(&self) -> impl Iterator<Item = &'static str> + '_ {
        let failed = self.checks.iter().filter(|check| check.outcome == Outcome::Mismatch);
        failed.map(|check| check.name)
    }

    /// The outcome of a check by its name.
    pub(crate) fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.checks.iter().find(|check| check.name == name).map(|check| &check.outcome)
    }

    fn header_checks(&mut self, block: &ArchivedBlock, execution: &Execution) {
        let roots = state_roots(block, &execution.output, execution.intermediate_roots.clone());
        let is_complete = block.witness.as_ref().is_some_and(|witness| witness.complete);
        let checks = verify_block(&block.chain, &block.input, &execution.output, &roots);
        for check in checks {
            let name = check_name(check.kind);
            match (check.outcome, &roots.after_block) {
                (CheckOutcome::Ok, _) => self.push(name, Outcome::Ok),
                (CheckOutcome::Mismatch { expected, actual }, _) => {
                    self.mismatch(name, None, name.into(), expected, actual);
                }
                // A witness that claims to be complete, and is not, is no excuse.
                (CheckOutcome::Unavailable(_), Err(cause))
                    if check.kind == CheckKind::StateRoot && is_complete =>
                {
                    let root = block.input.header.state_root.to_string();
                    self.mismatch(name, None, name.into(), root, format!("no root: {cause}"));
                }
                (CheckOutcome::Unavailable(reason), _) => self.skip(name, reason),
            }
        }
    }

    /// The prestate against the trie nodes that should prove it.
    fn prestate(&mut self, block: &ArchivedBlock) {
        const NAME: &str = "prestate";
        match (&block.witness, block.prestate.listed()) {
            (Some(witness), Some(prestate)) => match witness.verify(prestate) {
                Ok(()) => self.push(NAME, Outcome::Ok),
                Err(error) => self.mismatch(
                    NAME,
                    None,
                    "proof".into(),
                    format!("state under root {}", witness.state_root),
                    error.to_string(),
                ),
            },
            // Each read was proven when it was made.
            (Some(_), None) => self.push(NAME, Outcome::Ok),
            (None, _) => self.skip(NAME, "no witness"),
        }
    }

    fn expected(&mut self, block: &ArchivedBlock, execution: &Execution) {
        const NAME: &str = "expected";
        let Some(expected) = &block.expected else {
            return self.skip(NAME, "no expected.json");
        };
        let differences = expected.differences(&execution.output);
        self.push_all(
            NAME,
            differences.into_iter().map(|difference| {
                let expected::Difference { subject, transaction, expected, actual } = difference;
                (transaction, subject.to_string(), expected, actual)
            }),
        );
    }

    /// The engines against each other, and each repetition against the first.
    fn engines(&mut self, execution: &Execution, engine: Engine) {
        let (name, alone) = match engine {
            Engine::Both => ("matches_sequential", false),
            Engine::Parallel | Engine::Sequential => ("repetitions", true),
        };
        if alone {
            self.skip("matches_sequential", "only one engine runs");
        }
        self.push_all(
            name,
            execution.differences.iter().map(|difference| {
                let Difference { place, sequential, parallel, .. } = difference;
                let transaction = match place {
                    DifferencePlace::Receipt { transaction, .. } => Some(*transaction),
                    _ => None,
                };
                (transaction, place.to_string(), sequential.clone(), parallel.clone())
            }),
        );
    }

    fn push(&mut self, name: &'static str, outcome: Outcome) {
        self.checks.push(Check { name, outcome });
    }

    fn skip(&mut self, name: &'static str, reason: impl Into<Cow<'static, str>>) {
        self.push(name, Outcome::Skipped(reason.into()));
    }

    fn mismatch(
        &mut self,
        check: &'static str,
        transaction: Option<usize>,
        field: String,
        expected: String,
        got: String,
    ) {
        self.push_all(check, [(transaction, field, expected, got)]);
    }

    /// A check with everything it found; ok if that is nothing.
    fn push_all(
        &mut self,
        check: &'static str,
        found: impl IntoIterator<Item = (Option<usize>, String, String, String)>,
    ) {
        let before = self.findings.len();
        self.findings.extend(found.into_iter().map(|(transaction, field, expected, got)| {
            Finding { check, transaction, field, expected, got }
        }));
        let outcome = if self.findings.len() == before { Outcome::Ok } else { Outcome::Mismatch };
        self.push(check, outcome);
    }
}

/// Reports call the blob gas check `blob_gas`.
fn check_name(kind: CheckKind) -> &'static str {
    match kind {
        CheckKind::BlobGasUsed => "blob_gas",
        kind => kind.name(),
    }
}

//! One test from genesis to its last block, and the tally of many.

use crate::{
    drafts,
    expectation::is_expected,
    fixture::{Account, SpecTest},
    import::{Engines, Head, ImportError, import},
    limitations::limitation_of,
    network,
    state::CompleteState,
};
use alloy_consensus::{Block, TxEnvelope};
use alloy_primitives::Address;
use std::collections::BTreeMap;

/// How many tests passed, and what went wrong in the others.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    limited: BTreeMap<&'static str, Vec<String>>,
    failures: Vec<String>,
}

/// How many tests of an archive pass, and how many do not, by cause.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) passed: usize,
    pub(crate) limited: &'static [(&'static str, usize)],
}

/// The verdict on one test.
#[derive(Debug)]
pub(crate) enum Verdict {
    Passed,
    /// It fails for a known cause, with the oracle as well.
    Limited {
        cause: &'static str,
        failure: String,
    },
    Failed(String),
}

impl Tally {
    pub(crate) fn merge(mut self, mut other: Self) -> Self {
        self.passed += other.passed;
        for (cause, mut failures) in other.limited {
            self.limited.entry(cause).or_default().append(&mut failures);
        }
        self.failures.append(&mut other.failures);
        self
    }

    pub(crate) fn with(mut self, verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Limited { cause, failure } => {
                self.limited.entry(cause).or_default().push(failure);
            }
            Verdict::Failed(failure) => self.failures.push(failure),
        }
        self
    }

    /// Fails where so many tests have not passed, or others than so many failed of each cause: fewer
    /// is a regression, and more has to be noted.
    pub(crate) fn assert_counts(&self, file: &str, expected: &Expected) {
        let limited = self.limited.iter().map(|(cause, failures)| (*cause, failures.len()));
        let expected_limited = expected.limited.iter().copied();
        assert_eq!(
            (self.passed, limited.collect::<BTreeMap<_, _>>()),
            (expected.passed, expected_limited.collect()),
            "tests of {file} that pass, and that are limited by each cause"
        );
    }

    /// Fails with the failures, in an order that does not depend on threads.
    pub(crate) fn assert_passed(&mut self, file: &str) {
        self.failures.sort_unstable();
        let limited: usize = self.limited.values().map(Vec::len).sum();
        eprintln!(
            "{file}: {} passed, {limited} limited by revm or alloy-evm, {} failed",
            self.passed,
            self.failures.len()
        );
        for (cause, failures) in &mut self.limited {
            failures.sort_unstable();
            eprintln!("  limited, {} tests: {cause}\n{}", failures.len(), by_test(failures));
        }
        assert!(
            self.failures.is_empty(),
            "{} tests of {file} fail:\n{}",
            self.failures.len(),
            by_test(&self.failures)
        );
    }
}

/// One cause breaks many parameters of a test alike: the first of each test says it.
fn by_test(failures: &[String]) -> String {
    let mut by_test = BTreeMap::<&str, (usize, &str)>::new();
    for failure in failures {
        let test = failure.split_once('[').map_or(failure.as_str(), |(test, _)| test);
        by_test.entry(test).or_insert((0, failure)).0 += 1;
    }
    let report: Vec<_> =
        by_test.values().map(|(count, first)| format!("{count} like {first}")).collect();
    report.join("\n")
}

/// Runs a test and weighs its outcome against the known limitations.
pub(crate) fn judge(name: &str, test: &SpecTest, engines: &Engines) -> Verdict {
    let outcome = run(test, engines);
    match (outcome, limitation_of(name)) {
        (Ok(()), None) => Verdict::Passed,
        (Err(failure), None) if test.config.network == "Amsterdam" => {
            known_failure(name, test, failure, drafts::cause_of(test))
        }
        (Err(failure), None) => Verdict::Failed(format!("{name}: {failure}")),
        (Ok(()), Some(limitation)) if test.config.network != "Amsterdam" => Verdict::Failed(
            format!("{name} passes: it is no longer limited by \"{}\"", limitation.cause),
        ),
        (Ok(()), Some(_)) => Verdict::Passed,
        (Err(failure), Some(limitation)) => known_failure(name, test, failure, limitation.cause),
    }
}

/// A failure whose cause is known has to be that of the oracle alone.
fn known_failure(name: &str, test: &SpecTest, failure: String, cause: &'static str) -> Verdict {
    match run(test, &Engines::sequential()) {
        Err(alone) if alone == failure => {
            Verdict::Limited { cause, failure: format!("{name}: {failure}") }
        }
        Err(alone) => Verdict::Failed(format!("{name}: {failure}; sequential alone: {alone}")),
        Ok(()) => Verdict::Failed(format!("{name}: {failure}; sequential alone passes")),
    }
}

fn run(test: &SpecTest, engines: &Engines) -> Result<(), String> {
    let chain = network::chain_spec(&test.config)?;
    let mut head = genesis(test)?;
    for (index, block) in test.blocks.iter().enumerate() {
        let imported = import(&chain, &head, &block.rlp, engines);
        match (imported, &block.expect_exception) {
            (Ok(next), None) => head = next,
            (Ok(_), Some(exception)) => {
                return Err(format!("block {index} is accepted, expected {exception}"));
            }
            (Err(ImportError::Refused(refusal)), Some(exception))
                if is_expected(exception, &refusal) => {}
            (Err(ImportError::Refused(refusal)), Some(exception)) => {
                return Err(format!("block {index} is refused: {refusal}; expected {exception}"));
            }
            (Err(ImportError::Refused(refusal)), None) => {
                return Err(format!("block {index} is refused: {refusal}"));
            }
            (Err(ImportError::Broken(cause)), _) => return Err(format!("block {index}: {cause}")),
        }
    }
    check_end(test, &head)
}

fn genesis(test: &SpecTest) -> Result<Head, String> {
    let block: Block<TxEnvelope> = alloy_rlp::decode_exact(&test.genesis_rlp)
        .map_err(|error| format!("genesis cannot be decoded: {error}"))?;
    let mut state = CompleteState::new(&test.pre).map_err(|error| format!("genesis: {error}"))?;
    let root = state.root().map_err(|error| format!("genesis: {error}"))?;
    if root != block.header.state_root {
        return Err(format!("genesis has state root {root}, not {}", block.header.state_root));
    }
    let hash = block.header.hash_slow();
    state.insert_block_hash(block.header.number, hash);
    Ok(Head { header: block.header, hash, state })
}

fn check_end(test: &SpecTest, head: &Head) -> Result<(), String> {
    if head.hash != test.last_block_hash {
        return Err(format!("the last block is {}, expected {}", head.hash, test.last_block_hash));
    }
    if let Some(expected) = test.post_state_hash.filter(|hash| *hash != head.header.state_root) {
        return Err(format!("state root {}, expected {expected}", head.header.state_root));
    }
    match &test.post_state {
        Some(expected) => check_post_state(expected, &head.state.accounts()),
        None => Ok(()),
    }
}

fn check_post_state(
    expected: &BTreeMap<Address, Account>,
    actual: &BTreeMap<Address, Account>,
) -> Result<(), String> {
    for address in expected.keys().chain(actual.keys()) {
        let (expected, actual) = (expected.get(address), actual.get(address));
        if expected != actual {
            return Err(format!("post state of {address}: {actual:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

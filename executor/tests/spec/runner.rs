//! One test from genesis to its last block, and the tally of many.

use crate::{
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
    limited: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

/// The verdict on one test.
#[derive(Debug)]
pub(crate) enum Verdict {
    Passed,
    /// It fails as it is known to, with the oracle as well.
    Limited(&'static str),
    Failed(String),
}

impl Tally {
    pub(crate) fn merge(mut self, mut other: Self) -> Self {
        self.passed += other.passed;
        for (cause, count) in other.limited {
            *self.limited.entry(cause).or_default() += count;
        }
        self.failures.append(&mut other.failures);
        self
    }

    pub(crate) fn with(mut self, verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Limited(cause) => *self.limited.entry(cause).or_default() += 1,
            Verdict::Failed(failure) => self.failures.push(failure),
        }
        self
    }

    /// Fails with the failures, in an order that does not depend on threads.
    pub(crate) fn assert_passed(mut self, file: &str) {
        self.failures.sort_unstable();
        let limited: usize = self.limited.values().sum();
        eprintln!(
            "{file}: {} passed, {limited} limited by revm or alloy-evm, {} failed",
            self.passed,
            self.failures.len()
        );
        for (cause, count) in &self.limited {
            eprintln!("  limited, {count} tests: {cause}");
        }
        // One cause breaks many parameters of a test alike: the first of each test says it.
        let mut by_test = BTreeMap::<&str, (usize, &str)>::new();
        for failure in &self.failures {
            let test = failure.split_once('[').map_or(failure.as_str(), |(test, _)| test);
            by_test.entry(test).or_insert((0, failure)).0 += 1;
        }
        let report: Vec<_> =
            by_test.values().map(|(count, first)| format!("{count} like {first}")).collect();
        assert!(
            self.failures.is_empty(),
            "{} tests of {file} fail:\n{}",
            self.failures.len(),
            report.join("\n")
        );
    }
}

/// Runs a test and weighs its outcome against the known limitations.
pub(crate) fn judge(name: &str, test: &SpecTest, engines: &Engines) -> Verdict {
    let outcome = run(test, engines);
    match (outcome, limitation_of(name)) {
        (Ok(()), None) => Verdict::Passed,
        (Err(failure), None) => Verdict::Failed(format!("{name}: {failure}")),
        (Ok(()), Some(limitation)) => Verdict::Failed(format!(
            "{name} passes: it is no longer limited by \"{}\"",
            limitation.cause
        )),
        (Err(failure), Some(limitation)) => match run(test, &Engines::sequential()) {
            Err(alone) if alone == failure => Verdict::Limited(limitation.cause),
            Err(alone) => Verdict::Failed(format!("{name}: {failure}; sequential alone: {alone}")),
            Ok(()) => Verdict::Failed(format!("{name}: {failure}; sequential alone passes")),
        },
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

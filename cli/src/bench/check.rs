//! Before any clock starts: is what the arms make right?
//!
//! A fast wrong answer is worth nothing, so a block that fails here is not measured.

use super::{
    arms::{Arm, Arms},
    case::State,
};
use anyhow::Context;
use multilane::{state::BlockOutput, verification::compare_outputs};
use std::fmt;

/// Of the differences of one block, this many are shown.
const DIFFERENCES_SHOWN: usize = 20;

/// What the outputs of a block differ in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences(Vec<String>);

impl Differences {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().take(DIFFERENCES_SHOWN);
        shown.enumerate().try_for_each(|(index, line)| {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}    {line}")
        })?;
        match self.0.len().checked_sub(DIFFERENCES_SHOWN) {
            Some(more @ 1..) => write!(f, "\n    and {more} more differences"),
            _ => Ok(()),
        }
    }
}

/// Executes a block on every engine, at every number of threads, and gives the sequential output
/// with everything in which another one differs. This is also the untimed execution that warms the
/// caches.
///
/// # Errors
///
/// If an engine cannot execute the block.
pub(crate) fn check<DB: State>(arms: &Arms<'_, DB>) -> anyhow::Result<(BlockOutput, Differences)> {
    let expected = arms.sequential()?.value;
    let mut differences = Differences::default();
    for arm in arms.list() {
        match arm {
            Arm::Parallel(index) => {
                let threads = arms.threads(index);
                let (output, _) =
                    arms.parallel(index).with_context(|| format!("{threads} threads"))?.value;
                let found = compare_outputs(&expected, &output);
                let lines =
                    found.iter().map(|difference| format!("{threads} threads: {difference}"));
                differences.0.extend(lines);
            }
            Arm::Sequential => {}
            other => drop(arms.run(other)?),
        }
    }
    Ok((expected, differences))
}

/// What a generated block has to give: each transaction succeeds or fails as intended, and revm
/// alone uses the same gas.
///
/// # Errors
///
/// If the arm `bare` cannot execute the block.
pub(crate) fn check_intention<DB: State>(
    arms: &Arms<'_, DB>,
    output: &BlockOutput,
    succeeds: &[bool],
) -> anyhow::Result<Differences> {
    let mut lines = Vec::new();
    if output.receipts.len() != succeeds.len() {
        let (receipts, intended) = (output.receipts.len(), succeeds.len());
        lines.push(format!("{intended} transactions were intended, {receipts} have receipts"));
    }
    for (index, (receipt, intended)) in output.receipts.iter().zip(succeeds).enumerate() {
        if receipt.status() != *intended {
            let (intended, actual) =
                if *intended { ("succeed", "fails") } else { ("fail", "succeeds") };
            lines.push(format!("transaction {index} should {intended}, and {actual}"));
        }
    }
    let (bare, gas) = (arms.bare_gas()?, output.gas_used);
    if bare != gas {
        lines.push(format!("gas used: {gas} by the sequential engine, {bare} by bare revm"));
    }
    Ok(Differences(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_differences_are_cut_short() {
        let many = Differences((0..25).map(|index| format!("line {index}")).collect());
        let text = many.to_string();
        assert_eq!(text.lines().count(), DIFFERENCES_SHOWN + 1);
        assert!(text.ends_with("and 5 more differences"), "{text}");
        assert!(Differences::default().is_empty());
        assert_eq!(Differences(vec!["a".into(), "b".into()]).to_string(), "    a\n    b");
    }
}

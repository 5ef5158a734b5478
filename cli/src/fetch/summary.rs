//! What a run did, for people and for programs.

use super::error::BlockError;
use serde::Serialize;
use std::time::Duration;

/// Where the prestate of a block comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PrestateSource {
    /// From the node's trace, completed by requests.
    Trace,
    /// By requests alone.
    Requests,
}

/// A block that is in the archive now.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FetchedBlock {
    pub(super) block: u64,
    pub(super) txs: usize,
    pub(super) gas_used: u64,
    pub(super) accounts: usize,
    pub(super) slots: usize,
    pub(super) prestate: PrestateSource,
}

/// The run as a whole.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Blocks that were asked for.
    pub(super) blocks: usize,
    pub(super) fetched: usize,
    /// In the archive before.
    pub(super) skipped: usize,
    pub(super) failed: usize,
    pub(super) txs: usize,
    pub(super) gas_used: u64,
    /// Requests sent to the node.
    pub(super) requests: u64,
    pub(super) seconds: f64,
    pub(super) interrupted: bool,
    /// Whether a block contradicts its own header.
    #[serde(skip)]
    pub(super) verdict: bool,
}

impl Summary {
    pub(super) fn count(&mut self, block: &FetchedBlock) {
        self.fetched += 1;
        self.txs += block.txs;
        self.gas_used += block.gas_used;
    }

    pub(super) const fn count_failure(&mut self, error: &BlockError) {
        self.failed += 1;
        self.verdict |= error.is_verdict();
    }

    pub(super) fn finish(&mut self, requests: u64, time: Duration) {
        self.requests = requests;
        // Milliseconds are all that anyone reads.
        self.seconds = (time.as_secs_f64() * 1e3).round() / 1e3;
    }

    /// The line for people.
    pub(super) fn line(&self) -> String {
        let Self { fetched, skipped, failed, txs, requests, seconds, .. } = self;
        let mut line = format!("fetched {fetched} blocks with {txs} transactions");
        for (count, what) in [(skipped, "were there already"), (failed, "failed")] {
            if *count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        line.push_str(&format!(" ({requests} requests, {seconds:.1} s)"));
        if self.interrupted {
            line.push_str("; interrupted: run again to go on");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_leaves_out_what_did_not_happen() {
        let mut summary = Summary { blocks: 3, ..Summary::default() };
        summary.count(&FetchedBlock {
            block: 1,
            txs: 5,
            gas_used: 21_000,
            accounts: 2,
            slots: 0,
            prestate: PrestateSource::Trace,
        });
        summary.finish(7, Duration::from_millis(1234));
        assert_eq!(summary.line(), "fetched 1 blocks with 5 transactions (7 requests, 1.2 s)");
        summary.skipped = 2;
        summary.count_failure(&BlockError::NotThere);
        assert_eq!(
            summary.line(),
            "fetched 1 blocks with 5 transactions, 2 were there already, 1 failed \
             (7 requests, 1.2 s)"
        );
        assert!(!summary.verdict);
    }
}

//! How far to run ahead: the lesson of what came of it so far.
//!
//! Running ahead of the commit frontier pays as long as most outcomes stand: a worker that waits
//! instead has nothing else to do. Where hardly any stands, the block is a chain that nobody
//! foresaw, and every speculative execution is work in vain. *Must not know*: what is executed.

/// How far speculation may run ahead at most, in transactions.
const DEPTH_MAX: usize = 4096;
/// How far it runs ahead before the first commit.
const DEPTH_START: usize = 256;
/// Share of failures, in 1/65536, above which it stops.
const FAILURES_MAX: u64 = 36_000;
/// What is taken as the share when it is tried again: few failures are enough to stop once more.
const FAILURES_AT_RETRY: u64 = 30_000;
/// The share is a mean over about so much gas, so that what took long counts more.
const MEAN_GAS: u64 = 2_000_000;
/// Gas that goes by before it is tried again, at first and at most. It doubles.
const PAUSE_MIN: u64 = 8_000_000;
const PAUSE_MAX: u64 = 512_000_000;
const ONE: u64 = 1 << 16;

/// The depth of speculation, adapted by whoever holds the frontier.
///
/// ```text
///            too many failures
///   running ───────────────────▶ paused: one worker goes on alone, at the frontier
///      ▲                            │
///      └────────────────────────────┘ after a pause, twice as long as the last one
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Speculation {
    depth: usize,
    /// Share of recent speculative outcomes that did not stand, in 1/65536.
    failures: u64,
    /// Gas until the pause ends.
    remaining: u64,
    pause: u64,
}

impl Speculation {
    pub(crate) const fn new() -> Self {
        Self { depth: DEPTH_START, failures: 0, remaining: 0, pause: PAUSE_MIN }
    }

    /// How far ahead transactions may be started. At zero the holder of the frontier executes alone.
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    /// Learns that a transaction was committed, how much gas it used, and whether its speculative
    /// outcome stood, if there was one. Gives the depth from here on.
    pub(crate) fn learn(&mut self, gas: u64, stood: Option<bool>) -> usize {
        if self.depth == 0 {
            self.remaining = self.remaining.saturating_sub(gas);
            if self.remaining == 0 {
                self.depth = DEPTH_START;
                self.failures = FAILURES_AT_RETRY;
            }
            return self.depth;
        }
        let weight = |share: u64| share * gas.min(MEAN_GAS) / MEAN_GAS;
        match stood {
            Some(true) => {
                self.failures -= weight(self.failures);
                self.depth = (self.depth + 1).min(DEPTH_MAX);
            }
            Some(false) => {
                self.failures += weight(ONE - self.failures);
                if self.failures > FAILURES_MAX {
                    self.depth = 0;
                    self.remaining = self.pause;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
            }
            None => {}
        }
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAS: u64 = 100_000;

    #[test]
    fn a_chain_is_left_alone() {
        let mut speculation = Speculation::new();
        let mut in_vain = 0;
        for _ in 0..10_000 {
            let speculative = speculation.depth > 0;
            in_vain += usize::from(speculative);
            speculation.learn(GAS, speculative.then_some(false));
        }
        assert!(in_vain < 100, "{in_vain}");
    }

    #[test]
    fn a_failure_now_and_then_is_worth_it() {
        let mut speculation = Speculation::new();
        for position in 0..10_000 {
            assert!(speculation.learn(GAS, Some(position % 4 != 0)) > 0);
        }
        assert_eq!(speculation.depth, DEPTH_MAX);
    }

    #[test]
    fn what_takes_long_counts_more() {
        let mut speculation = Speculation::new();
        for _ in 0..3 {
            speculation.learn(GAS, Some(true));
            speculation.learn(20 * GAS, Some(false));
        }
        assert_eq!(speculation.depth, 0);
    }

    #[test]
    fn a_block_that_stops_being_a_chain_is_noticed() {
        let mut speculation = Speculation::new();
        for position in 0..1_000 {
            let speculative = speculation.depth > 0;
            speculation.learn(GAS, speculative.then_some(position >= 100));
        }
        assert!(speculation.depth > DEPTH_START);
    }
}

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
const FAILURES_MAX: u32 = 36_000;
/// What is taken as the share when it is tried again: few failures are enough to stop once more.
const FAILURES_AT_RETRY: u32 = 30_000;
/// The share is a mean over about 2^4 outcomes.
const MEAN_SHIFT: u32 = 4;
/// Transactions that go by before it is tried again, at first and at most. It doubles.
const PAUSE_MIN: usize = 64;
const PAUSE_MAX: usize = 4096;

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
    failures: u32,
    /// Where a pause ends.
    resumes_at: usize,
    pause: usize,
}

impl Speculation {
    pub(crate) const fn new() -> Self {
        Self { depth: DEPTH_START, failures: 0, resumes_at: 0, pause: PAUSE_MIN }
    }

    /// How far ahead transactions may be started. At zero the holder of the frontier executes alone.
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    /// Learns that the transaction at a position was committed, and whether its speculative outcome
    /// stood, if there was one. Gives the depth from here on.
    pub(crate) fn learn(&mut self, position: usize, stood: Option<bool>) -> usize {
        let paused = self.depth == 0;
        match stood {
            _ if paused => {
                if position >= self.resumes_at {
                    self.depth = DEPTH_START;
                    self.failures = FAILURES_AT_RETRY;
                }
            }
            Some(true) => {
                self.failures -= self.failures >> MEAN_SHIFT;
                self.depth = (self.depth + 1).min(DEPTH_MAX);
            }
            Some(false) => {
                self.failures += ((1 << 16) - self.failures) >> MEAN_SHIFT;
                if self.failures > FAILURES_MAX {
                    self.depth = 0;
                    self.resumes_at = position + self.pause;
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

    #[test]
    fn a_chain_is_left_alone() {
        let mut speculation = Speculation::new();
        let mut in_vain = 0;
        for position in 0..10_000 {
            let speculative = speculation.depth > 0;
            in_vain += usize::from(speculative);
            speculation.learn(position, speculative.then_some(false));
        }
        assert!(in_vain < 100, "{in_vain}");
    }

    #[test]
    fn a_failure_now_and_then_is_worth_it() {
        let mut speculation = Speculation::new();
        for position in 0..10_000 {
            assert!(speculation.learn(position, Some(position % 4 != 0)) > 0);
        }
        assert_eq!(speculation.depth, DEPTH_MAX);
    }

    #[test]
    fn a_block_that_stops_being_a_chain_is_noticed() {
        let mut speculation = Speculation::new();
        for position in 0..1_000 {
            let speculative = speculation.depth > 0;
            speculation.learn(position, speculative.then_some(position >= 100));
        }
        assert!(speculation.depth > DEPTH_START);
    }
}

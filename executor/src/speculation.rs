//! How far to run ahead: the lesson of what came of it so far.
//!
//! Running ahead of the commit frontier pays as long as most outcomes stand: a worker that waits
//! instead has nothing else to do. Each outcome that does not stand takes those along that have read
//! what it wrote, and the more of them the further others have run ahead; so a failure shortens the
//! depth. Where hardly any stands, the block is a chain that nobody foresaw, and every speculative
//! execution is work in vain. *Must not know*: what is executed.

/// How far speculation may run ahead at most, in transactions.
const DEPTH_MAX: usize = 4096;
/// How far it runs ahead before the first commit.
const DEPTH_START: usize = 256;
/// How far each thread may run ahead at least, beside two turns.
const DEPTH_MIN: usize = 8;
/// The part of the depth that a failure takes away: one in so many.
const DEPTH_LOSS: usize = 8;
/// The part of the depth that is added when an outcome stands: one in so many.
const DEPTH_GAIN: usize = 64;
/// Share of executions in vain, in 1/65536, above which it stops however many threads there are.
const FAILURES_MAX: u64 = 49_000;
/// How far below its limit the share is taken to be when it is tried again: few failures are enough
/// to stop once more.
const FAILURES_AT_RETRY: u64 = 6_000;
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
    /// Share of recent speculative executions that were in vain, in 1/65536.
    failures: u64,
    /// With less ahead of the frontier workers would run out of work.
    depth_min: usize,
    /// The share above which it stops.
    failures_max: u64,
    /// Gas until the pause ends.
    remaining: u64,
    pause: u64,
}

/// The speculative executions of one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Incarnations {
    /// How many were given up.
    pub(crate) in_vain: usize,
    /// Whether the last one stood.
    pub(crate) stood: bool,
}

impl Speculation {
    /// On so many threads, each of which takes so many transactions in a `turn`. The more threads
    /// there are, the more may be in vain and the rest still be worth it.
    pub(crate) fn new(threads: usize, turn: usize) -> Self {
        // Of all that is executed, one thread's worth has to be of use and a quarter more, or else
        // one thread alone would be as fast.
        let of_use = ONE * 5 / 4 / threads.max(2) as u64;
        Self {
            depth: DEPTH_START,
            failures: 0,
            depth_min: threads * (DEPTH_MIN + 2 * turn),
            failures_max: (ONE - of_use).min(FAILURES_MAX),
            remaining: 0,
            pause: PAUSE_MIN,
        }
    }

    /// How far ahead transactions may be started. At zero the holder of the frontier executes alone.
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    /// Learns that a transaction was committed, how much gas it used, and what came of its
    /// speculative executions. Gives the depth from here on.
    pub(crate) fn learn(&mut self, gas: u64, speculative: Incarnations) -> usize {
        if self.depth == 0 {
            self.remaining = self.remaining.saturating_sub(gas);
            if self.remaining == 0 {
                self.depth = DEPTH_START;
                self.failures = self.failures_max.saturating_sub(FAILURES_AT_RETRY);
            }
            return self.depth;
        }
        let weight = |share: u64| share * gas.min(MEAN_GAS) / MEAN_GAS;
        for _ in 0..speculative.in_vain {
            self.failures += weight(ONE - self.failures);
            self.depth = (self.depth - self.depth / DEPTH_LOSS).max(self.depth_min);
        }
        if speculative.stood {
            self.failures -= weight(self.failures);
        }
        if speculative.in_vain == 0 {
            self.depth = (self.depth + (self.depth / DEPTH_GAIN).max(1)).min(DEPTH_MAX);
        }
        if speculative.in_vain > 0 && self.failures > self.failures_max {
            self.depth = 0;
            self.remaining = self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAS: u64 = 100_000;
    const NONE: Incarnations = Incarnations { in_vain: 0, stood: false };

    fn incarnations(stood: bool) -> Incarnations {
        Incarnations { in_vain: usize::from(!stood), stood }
    }

    #[test]
    fn a_chain_is_left_alone() {
        let mut speculation = Speculation::new(2, 3);
        let mut in_vain = 0;
        for _ in 0..10_000 {
            let speculative = speculation.depth > 0;
            in_vain += usize::from(speculative);
            speculation.learn(GAS, if speculative { incarnations(false) } else { NONE });
        }
        assert!(in_vain < 100, "{in_vain}");
    }

    #[test]
    fn a_failure_now_and_then_is_worth_it() {
        let mut speculation = Speculation::new(2, 3);
        for position in 0..10_000 {
            assert!(speculation.learn(GAS, incarnations(position % 4 != 0)) > 0);
        }
        assert!(speculation.depth >= speculation.depth_min);
        for _ in 0..DEPTH_MAX {
            speculation.learn(GAS, incarnations(true));
        }
        assert_eq!(speculation.depth, DEPTH_MAX);
    }

    #[test]
    fn what_takes_long_counts_more() {
        let mut speculation = Speculation::new(2, 3);
        for _ in 0..3 {
            speculation.learn(GAS, incarnations(true));
            speculation.learn(20 * GAS, incarnations(false));
        }
        assert_eq!(speculation.depth, 0);
    }

    #[test]
    fn a_block_that_stops_being_a_chain_is_noticed() {
        let mut speculation = Speculation::new(2, 3);
        for position in 0..1_000 {
            let speculative = speculation.depth > 0;
            let stands = incarnations(position >= 100);
            speculation.learn(GAS, if speculative { stands } else { NONE });
        }
        assert!(speculation.depth > DEPTH_START);
    }

    #[test]
    fn many_threads_bear_with_more_failures() {
        let twice_each = Incarnations { in_vain: 2, stood: true };
        let stops = |threads| {
            let mut speculation = Speculation::new(threads, 3);
            (0..1_000).any(|_| speculation.learn(GAS, twice_each) == 0)
        };
        assert!(stops(2));
        assert!(!stops(8));
    }
}

//! How long predictions take, by what there is to predict.

use multilane::analyzer::LearnedPrediction;
use revm::context::TxEnv;
use std::time::Duration;

/// What it takes to predict a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Without calldata there is nothing to look up.
    Transfer,
    /// It calls nothing that has been learned.
    Unknown,
    /// Templates say everything.
    Templated,
    /// No template knows a way that it goes, so that code was walked through.
    Walked,
}

impl Effort {
    fn of(tx: &TxEnv, learned: Option<&LearnedPrediction>) -> Self {
        match learned {
            Some(learned) if learned.is_walked() => Self::Walked,
            Some(_) => Self::Templated,
            None if tx.data.is_empty() => Self::Transfer,
            None => Self::Unknown,
        }
    }
}

/// Some predictions, and the time that they took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    pub(super) txs: usize,
    /// Calls that templates speak of, inner ones included.
    calls: usize,
    pub(super) time: Duration,
}

impl Pace {
    /// Nanoseconds for one transaction.
    pub(super) fn ns_per_tx(self) -> u64 {
        self.ns_per(self.txs)
    }

    /// Nanoseconds for one call that templates speak of, be it the transaction's or an inner one.
    pub(super) fn ns_per_call(self) -> u64 {
        self.ns_per(self.calls)
    }

    fn ns_per(self, count: usize) -> u64 {
        let nanoseconds = self.time.as_nanos() / count.max(1) as u128;
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }

    fn add(&mut self, other: Self) {
        self.txs += other.txs;
        self.calls += other.calls;
        self.time += other.time;
    }
}

/// The pace of predictions of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paces {
    paces: [Pace; 4],
    /// What it took before the first transaction of a block.
    setup: Duration,
}

impl Paces {
    /// Those of a block that it took so long to get ready for.
    pub(super) fn after(setup: Duration) -> Self {
        Self { setup, ..Self::default() }
    }

    /// Notes what it took to predict a transaction.
    pub(super) fn note(&mut self, tx: &TxEnv, learned: Option<&LearnedPrediction>, time: Duration) {
        let calls = learned.map_or(0, |learned| learned.known_calls);
        let effort = Effort::of(tx, learned);
        self.paces[effort as usize].add(Pace { txs: 1, calls, time });
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (pace, other) in self.paces.iter_mut().zip(other.paces) {
            pace.add(other);
        }
        self.setup += other.setup;
    }

    pub(super) fn of(&self, effort: Effort) -> Pace {
        self.paces[effort as usize]
    }

    /// All predictions, and what it took to get ready for them.
    pub(super) fn all(&self) -> Pace {
        let setup = Pace { time: self.setup, ..Pace::default() };
        self.paces.iter().fold(setup, |mut all, pace| {
            all.add(*pace);
            all
        })
    }
}

//! Predictions, from the executor's own to hostile ones.

use alloy_primitives::Address;
use multilane::{
    ExecutorConfig, ParallelExecutor,
    analyzer::{AccessPrediction, PredictedAccess, PredictedLocation, analyze},
};
use multilane_state::StateLocation;
use revm::context::TxEnv;

/// How a test predicts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prediction {
    /// As the executor does by itself.
    Own,
    /// Nothing conflicts with anything.
    Empty,
    /// Everything conflicts with everything: one chain.
    Chain,
    /// Pseudo-random conflicts that have nothing to do with the transactions.
    Random(u64),
    /// Every other transaction gets the prediction of its neighbour, and costs are inverted.
    Swapped,
}

impl Prediction {
    pub(crate) const ALL: [Self; 5] =
        [Self::Own, Self::Empty, Self::Chain, Self::Random(7), Self::Swapped];

    fn predict(self, transactions: &[TxEnv], balances_commute: bool) -> Vec<AccessPrediction> {
        let access = |id: u64| PredictedAccess {
            location: PredictedLocation::State(StateLocation::Account(Address::left_padding_from(
                &id.to_be_bytes(),
            ))),
            reads: true,
            writes: true,
        };
        match self {
            Self::Own => analyze(transactions, balances_commute),
            Self::Empty => vec![AccessPrediction::default(); transactions.len()],
            Self::Chain => {
                let one = AccessPrediction { accesses: vec![access(0)], gas: 1 };
                vec![one; transactions.len()]
            }
            Self::Random(seed) => {
                let mut random = seed | 1;
                let mut next = || {
                    // xorshift64: any sequence will do, as long as it is the same in every run.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random
                };
                transactions
                    .iter()
                    .map(|_| AccessPrediction {
                        accesses: (0..next() % 4).map(|_| access(next() % 10)).collect(),
                        gas: next(),
                    })
                    .map(|prediction| AccessPrediction { gas: prediction.gas >> 32, ..prediction })
                    .collect()
            }
            Self::Swapped => {
                let mut predictions = analyze(transactions, balances_commute);
                for pair in predictions.chunks_exact_mut(2) {
                    pair.reverse();
                }
                for prediction in &mut predictions {
                    prediction.gas = 1_000_000_u64.saturating_sub(prediction.gas);
                }
                predictions
            }
        }
    }

    /// An executor that predicts like this and never falls back to sequential execution.
    pub(crate) fn executor(self, threads: usize) -> ParallelExecutor {
        let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
        ParallelExecutor::new(config)
            .expect("threads can be started")
            .with_predictor(move |transactions, commute| self.predict(transactions, commute))
    }
}

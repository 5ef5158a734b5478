//! Predictors that misbehave: what they say costs time and changes nothing.

use crate::{forced, ordered::assert_serial, watchdog::Watchdog, workload::Workload};
use alloy_primitives::{Address, U256};
use multilane::analyzer::{AccessPrediction, PredictedAccess, PredictedLocation, analyze};
use multilane_state::StateLocation;
use revm::context::TxEnv;

/// Predicts that nothing touches anything.
pub(crate) fn blind(transactions: &[TxEnv], _: bool) -> Vec<AccessPrediction> {
    vec![AccessPrediction { accesses: Vec::new(), gas: 300_000 }; transactions.len()]
}

fn slot(id: usize) -> PredictedAccess {
    PredictedAccess {
        location: PredictedLocation::State(StateLocation::Slot(Address::ZERO, U256::from(id))),
        reads: true,
        writes: true,
    }
}

type Predict = fn(&[TxEnv], bool) -> Vec<AccessPrediction>;

fn check(predict: Predict) {
    let _watchdog = Watchdog::new("predictions");
    let workload = Workload::contended(31, 150);
    for threads in [1, 2, 4] {
        assert_serial(&forced(threads).with_predictor(predict), &workload);
    }
    assert_serial(&forced(4).with_predictor(predict), &Workload::empty());
    // With the executor's own judgement, which rests on the prediction's gas.
    let config = multilane::ExecutorConfig::new().with_threads(4);
    let executor = multilane::ParallelExecutor::new(config).unwrap().with_predictor(predict);
    assert_serial(&executor, &workload);
}

#[test]
fn none() {
    check(|_, _| Vec::new());
}

#[test]
fn too_few() {
    check(|transactions, commute| analyze(&transactions[..transactions.len() / 2], commute));
}

#[test]
fn too_many() {
    check(|transactions, commute| {
        let mut predictions = analyze(transactions, commute);
        predictions.extend_from_within(..);
        predictions.extend(analyze(transactions, commute));
        predictions
    });
}

#[test]
fn all_the_gas_there_is() {
    check(|transactions, commute| {
        let mut predictions = analyze(transactions, commute);
        for prediction in &mut predictions {
            prediction.gas = u64::MAX;
        }
        predictions
    });
}

#[test]
fn half_of_all_the_gas_there_is_in_one_chain() {
    check(|transactions, _| {
        vec![
            AccessPrediction { accesses: vec![slot(0)], gas: u64::MAX / 2 + 1 };
            transactions.len()
        ]
    });
}

#[test]
fn the_same_access_over_and_over() {
    check(|transactions, _| {
        vec![AccessPrediction { accesses: vec![slot(1); 2_000], gas: 0 }; transactions.len()]
    });
}

#[test]
fn thousands_of_accesses() {
    check(|transactions, _| {
        let accesses = |index| (0..3_000).map(|id| slot(id * (index % 3 + 1))).collect();
        let predict = |index| AccessPrediction { accesses: accesses(index), gas: 1 };
        (0..transactions.len()).map(predict).collect()
    });
}

#[test]
fn each_transaction_waits_for_all_before_it() {
    check(|transactions, _| {
        // Slot i is written by transaction i and read by all after it.
        let write = |id| PredictedAccess { reads: false, ..slot(id) };
        let read = |id| PredictedAccess { writes: false, ..slot(id) };
        let accesses = |index| (0..index).map(read).chain([write(index)]).collect();
        let predict = |index| AccessPrediction { accesses: accesses(index), gas: 50_000 };
        (0..transactions.len()).map(predict).collect()
    });
}

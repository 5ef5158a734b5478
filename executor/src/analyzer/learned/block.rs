//! The predictions of a block for its execution: where its transactions are expected to be in each
//! other's way.
//!
//! Each is made on the state before the block, so all of them can be made at the same time. Where the
//! way to a contended slot depends on what an earlier transaction of the block has changed, that is
//! contended itself.
//!
//! *Must not know*: what predictions are for.

use super::{
    evaluate::Extent,
    forecaster::{Forecaster, LearnedPrediction},
    memo::Memo,
    profile::Profile,
    selection::Selected,
    view::SourceView,
};
use crate::{parallel_map::parallel_map_with, source::StateSource, workers::Workers};
use alloy_evm::EvmEnv;
use revm::context::TxEnv;
use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

/// Transactions from which on threads share the work.
const PARALLEL_FROM: usize = 512;

impl Profile {
    /// Predicts at which contended slots a block's transactions meet, of those that call a function
    /// that is worth foreseeing. `make` makes of each prediction what is wanted, given the
    /// transaction's position. What comes out is in block order.
    pub(crate) fn predict_block<S: StateSource, P: Default + Send>(
        &self,
        (env, source): (&EvmEnv, &S),
        transactions: &[TxEnv],
        workers: Workers<'_>,
        make: impl Fn(usize, &TxEnv, Option<&LearnedPrediction>) -> P + Sync,
    ) -> (Vec<P>, Vec<Option<Arc<LearnedPrediction>>>) {
        let selected = self.templates.selected();
        let oracle = || Oracle {
            selected: &selected,
            forecaster: Forecaster::new(self, env, SourceView::new(source, &self.pools.slots)),
            memo: Memo::default(),
        };
        let predict = |oracle: &mut Oracle<'_, S>, at: usize, tx: &TxEnv| {
            // The caller's source is asked for values here, and it may panic. Unwind safety: an
            // oracle that was interrupted knows less, which does no harm.
            panic::catch_unwind(AssertUnwindSafe(|| {
                let prediction = oracle.predict(tx);
                (make(at, tx, prediction.as_deref()), prediction)
            }))
            .unwrap_or_default()
        };
        parallel_map_with(workers, PARALLEL_FROM, transactions, oracle, predict).into_iter().unzip()
    }
}

/// Predicts one transaction of a block after the other.
struct Oracle<'a, S: StateSource> {
    selected: &'a Selected,
    forecaster: Forecaster<'a, SourceView<'a, S>>,
    memo: Memo<Option<Arc<LearnedPrediction>>>,
}

impl<S: StateSource> Oracle<'_, S> {
    fn predict(&mut self, tx: &TxEnv) -> Option<Arc<LearnedPrediction>> {
        // Whoever only pays calls nothing that has been learned.
        if tx.data.is_empty() || !self.selected.contains(tx.data.first_chunk().copied()) {
            return None;
        }
        if let Some(known) = self.memo.recall(tx) {
            return known.clone();
        }
        let forecast = self.forecaster.forecast(tx, Extent::Contended, false, &[]);
        let prediction = forecast.map(|forecast| Arc::new(forecast.prediction));
        let asked = if prediction.is_some() { self.forecaster.asked() } else { &[] };
        self.memo.remember(tx, asked, prediction.clone());
        prediction
    }
}

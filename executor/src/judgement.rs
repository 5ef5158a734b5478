//! The judgement: are threads worth it for this block?
//!
//! It goes by gas, in three steps, each with more to go by than the one before: what header and gas
//! limits tell at a glance, what the predictions add up to, and how the plan chains them. It may be
//! wrong, which costs time only; so what a header claims is good enough.
//!
//! *Must not know*: state, what is executed.

use crate::{
    analyzer::{AccessPrediction, TRANSFER_GAS},
    partitioner::ExecutionPlan,
    stats::SequentialReason,
};
use revm::primitives::hardfork::SpecId;

/// A block with less gas than this is over before a second worker has started.
const PARALLEL_GAS_MIN: u64 = 1_500_000;
/// The same before Byzantium. Blocks of those days take less time for their gas: this much is half a
/// millisecond at most.
const EARLY_PARALLEL_GAS_MIN: u64 = 3_500_000;
/// Gas beyond that of plain transfers below which the same holds. A transfer takes less time than
/// handing it from one thread to another.
const EXECUTION_GAS_MIN: u64 = 600_000;
/// The same before Byzantium.
const EARLY_EXECUTION_GAS_MIN: u64 = 1_500_000;
/// Share of the gas, in percent, that must go beyond that of plain transfers.
const EXECUTION_GAS_MIN_PERCENT: u64 = 12;
/// Share of the predicted gas, in percent, above which a critical path leaves nothing to gain.
const CRITICAL_PATH_MAX_PERCENT: u64 = 80;

/// The gas that a block uses according to its header, if that can be true.
pub(crate) fn claimed_gas(header_gas_used: u64, transactions: usize) -> Option<u64> {
    // G_transaction of the yellow paper: no transaction takes less. Headers made up for a purpose
    // often have zero.
    Some(header_gas_used).filter(|gas| *gas >= TRANSFER_GAS * transactions as u64)
}

/// Why a block is to run sequentially, as far as that shows before its transactions are looked at.
///
/// It goes by the gas limits where nobody claims what the block uses. `spec` is asked only if the
/// fork matters: to find it out takes a twentieth of the time of an empty block.
pub(crate) fn at_a_glance(
    gas_limits: impl ExactSizeIterator<Item = u64>,
    claimed_gas: Option<u64>,
    spec: impl FnOnce() -> SpecId,
    threads: usize,
) -> Option<SequentialReason> {
    let transactions = gas_limits.len();
    let gas = claimed_gas.unwrap_or_else(|| gas_limits.fold(0, u64::saturating_add));
    let is_over_at_once =
        || gas < PARALLEL_GAS_MIN || gas < EARLY_PARALLEL_GAS_MIN && is_early(spec());
    if transactions < 2 || is_over_at_once() {
        Some(SequentialReason::SmallBlock)
    } else if threads == 1 {
        Some(SequentialReason::OneThread)
    } else {
        None
    }
}

/// Why a planned block is to run sequentially, if it is.
pub(crate) fn of_plan(
    plan: &ExecutionPlan,
    predictions: &[AccessPrediction],
    claimed_gas: Option<u64>,
    spec: SpecId,
) -> Option<SequentialReason> {
    let (gas, execution_gas) = match claimed_gas {
        Some(gas) => (gas, gas.saturating_sub(TRANSFER_GAS * plan.transactions() as u64)),
        None => {
            let execution_gas = predictions
                .iter()
                .map(|prediction| prediction.gas.saturating_sub(TRANSFER_GAS))
                .fold(0, u64::saturating_add);
            (plan.gas(), execution_gas)
        }
    };
    let execution_gas_min =
        if is_early(spec) { EARLY_EXECUTION_GAS_MIN } else { EXECUTION_GAS_MIN };
    if plan.gas() < PARALLEL_GAS_MIN && plan.gas() < gas {
        // Few transactions with much gas each: not a block to split.
        Some(SequentialReason::SmallBlock)
    } else if plan.critical_path_gas() / CRITICAL_PATH_MAX_PERCENT > plan.gas() / 100 {
        Some(SequentialReason::OneChain)
    } else if execution_gas < execution_gas_min
        || execution_gas / EXECUTION_GAS_MIN_PERCENT < gas / 100
    {
        Some(SequentialReason::MostlyTransfers)
    } else {
        None
    }
}

/// Whether a block is from the time before Byzantium.
const fn is_early(spec: SpecId) -> bool {
    !spec.is_enabled_in(SpecId::BYZANTIUM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_at_once_shows_at_a_glance() {
        let glance = |gas: u64, transactions: usize, spec| {
            at_a_glance(std::iter::repeat_n(gas, transactions), Some(gas), || spec, 2)
        };
        let small = Some(SequentialReason::SmallBlock);
        let forks = [
            (SpecId::SPURIOUS_DRAGON, EARLY_PARALLEL_GAS_MIN),
            (SpecId::BYZANTIUM, PARALLEL_GAS_MIN),
            (SpecId::OSAKA, PARALLEL_GAS_MIN),
        ];
        for (spec, gas_min) in forks {
            assert_eq!(glance(gas_min, 1, spec), small);
            assert_eq!(glance(gas_min - 1, 2, spec), small);
            assert_eq!(glance(gas_min, 2, spec), None);
        }
    }
}

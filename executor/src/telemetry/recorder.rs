//! A block's figures for the `metrics` facade.

use super::mode_name;
use crate::stats::ExecutionStats;
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

const BLOCKS: &str = "multilane_blocks_total";
const TRANSACTIONS: &str = "multilane_transactions_total";
const EXECUTIONS: &str = "multilane_executions_total";
const PUT_OFF: &str = "multilane_put_off_total";
const CONFLICTS: &str = "multilane_conflicts_total";
const LANES: &str = "multilane_lanes";
const CRITICAL_PATH: &str = "multilane_critical_path_gas";
const STAGE_SECONDS: &str = "multilane_stage_seconds";

/// Tells the installed recorder what the metrics mean and in which units they are. Optional, once,
/// after the recorder has been installed.
///
/// | metric | kind | labels | what |
/// |---|---|---|---|
/// | `multilane_blocks_total` | counter | `mode`: `parallel`, or why not: `one_thread`, `small_block`, `one_chain`, `mostly_transfers` | blocks executed to their end |
/// | `multilane_transactions_total` | counter | | transactions in them |
/// | `multilane_executions_total` | counter | | incarnations executed to their end, repetitions included |
/// | `multilane_put_off_total` | counter | | incarnations that ended early, to let an earlier transaction go first |
/// | `multilane_conflicts_total` | counter | `kind`: `account`, `slot`, `error` | first results that did not survive validation, by what did not stand |
/// | `multilane_lanes` | histogram | | lanes of the plan; nothing where a block was not planned |
/// | `multilane_critical_path_gas` | histogram | | predicted gas on the heaviest chain; likewise |
/// | `multilane_stage_seconds` | histogram | `stage`: `plan`, `execute`, `finish`, and with a profile `learn`, which is a part of `finish` where there is one | time of each stage of a block, in seconds |
pub fn describe_metrics() {
    describe_counter!(BLOCKS, Unit::Count, "Blocks executed, by mode");
    describe_counter!(TRANSACTIONS, Unit::Count, "Transactions in executed blocks");
    describe_counter!(EXECUTIONS, Unit::Count, "Incarnations executed");
    describe_counter!(
        PUT_OFF,
        Unit::Count,
        "Incarnations that let an earlier transaction go first"
    );
    describe_counter!(CONFLICTS, Unit::Count, "Results that did not survive validation, by kind");
    describe_histogram!(LANES, Unit::Count, "Lanes of the plan of a block");
    describe_histogram!(CRITICAL_PATH, "Predicted gas on the heaviest chain of a block");
    describe_histogram!(STAGE_SECONDS, Unit::Seconds, "Time of a stage of a block");
}

/// Records a block.
pub(super) fn record(stats: &ExecutionStats) {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    counter!(BLOCKS, "mode" => mode_name(stats.mode)).increment(1);
    counter!(TRANSACTIONS).increment(count(stats.transactions));
    counter!(EXECUTIONS).increment(count(stats.executions));
    counter!(PUT_OFF).increment(count(stats.put_off));
    let kinds = stats.conflict_kinds;
    for (kind, number) in
        [("account", kinds.accounts), ("slot", kinds.slots), ("error", kinds.errors)]
    {
        counter!(CONFLICTS, "kind" => kind).increment(count(number));
    }
    if stats.predicted_gas > 0 {
        histogram!(LANES).record(stats.lanes as f64);
        histogram!(CRITICAL_PATH).record(stats.critical_path_gas as f64);
    }
    for (stage, time) in [
        ("plan", stats.plan_time),
        ("execute", stats.execution_time),
        ("finish", stats.finish_time),
    ] {
        histogram!(STAGE_SECONDS, "stage" => stage).record(time);
    }
    if !stats.learn_time.is_zero() {
        histogram!(STAGE_SECONDS, "stage" => "learn").record(stats.learn_time);
    }
}

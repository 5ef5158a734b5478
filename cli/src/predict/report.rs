//! Printing the evidence: a table for people, JSON lines for scripts.

use super::{
    misses::Misses,
    pace::{Effort, Paces},
    tally::{Conflicts, Tally},
};
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    time::Duration,
};

/// How many of the worst functions are shown.
const MISSES_SHOWN: usize = 20;

/// What one block showed.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockEvidence {
    pub(super) number: u64,
    pub(super) all: Tally,
    /// Transactions whose function had been called twice or more before.
    pub(super) seen: Tally,
    pub(super) conflicts: Conflicts,
    pub(super) paces: Paces,
    pub(super) learn_time: Duration,
    pub(super) sequential_time: Duration,
}

/// What all blocks showed.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) blocks: Vec<BlockEvidence>,
    pub(super) total: BlockEvidence,
    pub(super) misses: Misses,
    pub(super) templates: usize,
    pub(super) profile_bytes: usize,
}

impl Evidence {
    pub(super) fn add(&mut self, block: BlockEvidence) {
        self.total.all.add(&block.all);
        self.total.seen.add(&block.seen);
        self.total.conflicts.add(&block.conflicts);
        self.total.paces.add(&block.paces);
        self.total.learn_time += block.learn_time;
        self.total.sequential_time += block.sequential_time;
        self.blocks.push(block);
    }
}

pub(super) fn print_block_json(out: &mut impl Write, block: &BlockEvidence) -> io::Result<()> {
    let mut line = figures(block);
    line["block"] = json!(block.number);
    writeln!(out, "{line}")
}

pub(super) fn print_summary_json(out: &mut impl Write, evidence: &Evidence) -> io::Result<()> {
    let mut line = figures(&evidence.total);
    line["blocks"] = json!(evidence.blocks.len());
    line["templates"] = json!(evidence.templates);
    line["profile_bytes"] = json!(evidence.profile_bytes);
    line["misses"] = evidence
        .misses
        .worst(MISSES_SHOWN)
        .into_iter()
        .map(|miss| {
            json!({
                "contract": miss.contract,
                "selector": miss.selector,
                "txs": miss.txs,
                "slots": miss.slots,
                "missed": miss.missed,
                "false": miss.false_positives,
                "slot": miss.example.map(|(address, slot)| format!("{address}:{slot:#x}")),
            })
        })
        .collect();
    writeln!(out, "{}", json!({ "summary": line }))
}

fn figures(block: &BlockEvidence) -> Value {
    let BlockEvidence { all, seen, conflicts, paces, .. } = block;
    let walked = paces.of(Effort::Walked);
    json!({
        "txs": all.txs,
        "calls": all.calls,
        "covered": all.covered,
        "slot_precision": all.slots.precision(),
        "slot_recall": all.slots.recall(),
        "write_precision": all.slot_writes.precision(),
        "write_recall": all.slot_writes.recall(),
        "moves_told": all.moves.told(),
        "moves_right": all.moves.right(),
        "account_precision": all.accounts.precision(),
        "account_recall": all.accounts.recall(),
        "account_write_precision": all.account_writes.precision(),
        "account_write_recall": all.account_writes.recall(),
        "conflicts_precision": conflicts.0.precision(),
        "conflicts_recall": conflicts.0.recall(),
        "ns_per_tx": paces.all().ns_per_tx(),
        "ns_per_transfer": paces.of(Effort::Transfer).ns_per_tx(),
        "ns_per_templated": paces.of(Effort::Templated).ns_per_tx(),
        "ns_per_call": paces.of(Effort::Templated).ns_per_call(),
        "ns_per_walked": walked.ns_per_tx(),
        "walked": walked.txs,
        "predict_ms": millis(paces.all().time),
        "walk_ms": millis(walked.time),
        "learn_ms": millis(block.learn_time),
        "sequential_ms": millis(block.sequential_time),
        "seen_twice": {
            "txs": seen.txs,
            "covered": seen.covered,
            "slot_precision": seen.slots.precision(),
            "slot_recall": seen.slots.recall(),
            "write_precision": seen.slot_writes.precision(),
            "write_recall": seen.slot_writes.recall(),
        },
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A time as a share of the time that sequential execution takes.
fn of_sequential(time: Duration, block: &BlockEvidence) -> String {
    let sequential = block.sequential_time.as_secs_f64();
    if sequential > 0.0 { percent(time.as_secs_f64() / sequential) } else { "-".to_owned() }
}

pub(super) fn print_table(out: &mut impl Write, evidence: &Evidence) -> io::Result<()> {
    writeln!(
        out,
        "{:>9} {:>5} {:>5} {:>7} | {:>9} {:>7} {:>7} | {:>5} {:>9} {:>7} {:>7} | {:>9} {:>7} | {:>7}",
        "block",
        "txs",
        "calls",
        "covered",
        "precision",
        "recall",
        "writes",
        "seen",
        "precision",
        "recall",
        "writes",
        "conflicts",
        "recall",
        "ns/tx"
    )?;
    for block in &evidence.blocks {
        print_row(out, &block.number.to_string(), block)?;
    }
    print_row(out, "all", &evidence.total)?;
    let all = &evidence.total.all;
    writeln!(
        out,
        "accounts: precision {}, recall {}; writes: precision {}, recall {}",
        percent(all.accounts.precision()),
        percent(all.accounts.recall()),
        percent(all.account_writes.precision()),
        percent(all.account_writes.recall()),
    )?;
    writeln!(
        out,
        "of the writes that were foreseen, {} were said to be credits or debits, and {} of these were",
        percent(all.moves.told()),
        percent(all.moves.right()),
    )?;
    writeln!(out, "{} templates, {} bytes", evidence.templates, evidence.profile_bytes)?;
    let total = &evidence.total;
    let [transfer, templated, walked] =
        [Effort::Transfer, Effort::Templated, Effort::Walked].map(|effort| total.paces.of(effort));
    writeln!(
        out,
        "of the time of sequential execution: predicting {} (a transfer {} ns, a call with \
         templates {} ns, {} for each call within), of which walking {} ({} transactions, {} ns each); learning {}",
        of_sequential(total.paces.all().time, total),
        transfer.ns_per_tx(),
        templated.ns_per_tx(),
        templated.ns_per_call(),
        of_sequential(walked.time, total),
        walked.txs,
        walked.ns_per_tx(),
        of_sequential(total.learn_time, total),
    )?;
    writeln!(out, "most misses among functions seen twice or more:")?;
    for miss in evidence.misses.worst(MISSES_SHOWN) {
        writeln!(
            out,
            "  {} {}: {} of {} slots missed, {} in vain, {} transactions{}",
            miss.contract,
            miss.selector,
            miss.missed,
            miss.slots,
            miss.false_positives,
            miss.txs,
            miss.example.map_or_else(String::new, |(address, slot)| format!(
                "; such as {slot:#x} of {address}"
            )),
        )?;
    }
    Ok(())
}

fn print_row(out: &mut impl Write, name: &str, block: &BlockEvidence) -> io::Result<()> {
    let BlockEvidence { all, seen, conflicts, paces, .. } = block;
    writeln!(
        out,
        "{name:>9} {:>5} {:>5} {:>7} | {:>9} {:>7} {:>7} | {:>5} {:>9} {:>7} {:>7} | {:>9} {:>7} | {:>7}",
        all.txs,
        all.calls,
        all.covered,
        percent(all.slots.precision()),
        percent(all.slots.recall()),
        percent(all.slot_writes.recall()),
        seen.txs,
        percent(seen.slots.precision()),
        percent(seen.slots.recall()),
        percent(seen.slot_writes.recall()),
        percent(conflicts.0.precision()),
        percent(conflicts.0.recall()),
        paces.all().ns_per_tx(),
    )
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

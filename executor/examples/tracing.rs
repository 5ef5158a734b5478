//! Call traces of a block, made on all cores: what `debug_traceBlockByNumber` answers.

use alloy_rpc_types_trace::geth::{CallConfig, CallFrame};
use multilane::{ExecutorConfig, ParallelExecutor, Shared};
use multilane_fixtures::{
    archive::{ArchivedBlock, BlockArchive},
    sample::sample_files,
};
use revm_inspectors::tracing::{TracingInspector, TracingInspectorConfig};
use std::convert::Infallible;

/// The first so many transactions are printed; all are traced.
const SHOWN: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A block of the embedded sample chain, and the state before it.
    let archive = BlockArchive::from_files("sample", sample_files())?;
    let entry = archive.entries().last().ok_or("the sample has no blocks")?;
    let ArchivedBlock { chain, input, prestate, .. } = archive.load(entry)?;

    // Any revm `Inspector`. The closure makes one for each transaction, on the thread that needs it.
    let call_config = CallConfig::default();
    let config = TracingInspectorConfig::from_geth_call_config(&call_config);
    let tracer = |_index| TracingInspector::new(config);

    // Each transaction runs on the state that it found in the block. The second closure gets them
    // in block order while later ones are still traced, so they need not all fit into memory.
    let mut calls = 0;
    let sink = |index, traced: multilane::Inspected<TracingInspector>| {
        let gas_used = traced.result.result.tx_gas_used();
        let trace = traced.inspector.geth_builder().geth_call_traces(call_config, gas_used);
        calls += count(&trace);
        if index < SHOWN {
            eprintln!("transaction {index}: {} gas", trace.gas_used);
            show(&trace, 1);
        }
        Ok::<_, Infallible>(())
    };
    let executor = ParallelExecutor::new(ExecutorConfig::new())?;
    let (output, _) = executor.inspect_block(&chain, &input, &Shared(&prestate), tracer, sink)?;

    assert_eq!(output.receipts.len(), input.transactions.len());
    eprintln!("block {}: {calls} calls, {} gas", input.header.number, output.gas_used);
    Ok(())
}

/// How many calls a call is, with all that it leads to.
fn count(call: &CallFrame) -> usize {
    1 + call.calls.iter().map(count).sum::<usize>()
}

/// Prints a call, and below it what it called.
fn show(call: &CallFrame, depth: usize) {
    let to = call.to.map(|to| to.to_string()).unwrap_or_default();
    let failure = call.error.as_deref().unwrap_or_default();
    eprintln!("{:indent$}{} {to} {failure}", "", call.typ, indent = 2 * depth);
    call.calls.iter().for_each(|inner| show(inner, depth + 1));
}

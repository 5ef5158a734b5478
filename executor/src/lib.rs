//! Multilane: a parallel EVM block executor, built on revm and alloy-evm.
//!
//! It executes the transactions of a block on several threads and gives, byte for byte, what one
//! thread would have given: the same results, receipts, gas, requests, and state changes with their
//! reverts; or the same error. Thread count, schedule and predictions have no part in the output.
//!
#![doc = "```"]
#![doc = include_str!("../examples/quickstart.rs")]
#![doc = "```"]
//!
//! # Doors
//!
//! | for whom | method of [`ParallelExecutor`] | gives |
//! |---|---|---|
//! | anyone with a `DatabaseRef` | [`execute_block_ref`](ParallelExecutor::execute_block_ref) | results and bundle |
//! | who commits by themselves | [`execute_ordered`](ParallelExecutor::execute_ordered) | results one by one, in block order, while later ones still run |
//! | whole blocks, with all that the protocol does around the transactions | [`execute_block`](ParallelExecutor::execute_block), or [`execute_block_with`](ParallelExecutor::execute_block_with) through any fitting alloy-evm `BlockExecutorFactory` | receipts, requests, gas and bundle |
//! | who traces | [`inspect_block`](ParallelExecutor::inspect_block) | each transaction's inspector, result and the state it found, in block order |
//! | who packs a block | [`build_block`](ParallelExecutor::build_block) | the transactions that fit and are valid, the others with reasons, and what executing the block produces |
//!
//! A client that is written against alloy-evm's traits takes a [`ParallelBlockExecutorFactory`] in
//! place of its own factory. Other EVMs than mainnet's are [`backend`]s.
//!
//! State comes from a [`StateSource`], which opens one read handle for each worker: a closure that
//! opens a database, or [`Shared`] for a database that all threads may read. Around one of them,
//! [`Cancellable`] lets any thread end the execution. [`sequential`] is the
//! same on one thread, by alloy-evm alone: the oracle that tests compare with. [`verification`]
//! compares an output with the block's header, and two outputs with each other.
//!
//! # How it works
//!
//! ```text
//!   transactions, environment                            parent state
//!            │                                                │
//!            ▼                                                │ one read handle a worker
//!   analyzer       what will each transaction touch?          │
//!            ▼                                                │
//!   conflict graph who is expected to read what who writes?   │
//!            ▼                                                │
//!   partitioner    what waits for what; how long at best? ──▶ sequential, if threads are no gain
//!            ▼                                                │
//!   scheduler ───▶ workers: execute ahead, record reads ◀─────┤
//!       ▲              │ outcome, writes published as guesses │
//!       │              ▼                                      │
//!       │    ┌─ commit frontier, one worker at a time ──────┐ │
//!       └────┤  validation  are the reads what a serial     │ │
//!    depth   │     │        run would have read?            │ │
//!            │     ├─ no ─▶ execute again, right here ◀─────┼─┘
//!            │     ▼ yes            ▼                       │
//!            │  merger      balances, fee, committed values │
//!            └─────┼────────────────────────────────────────┘
//!                  ▼
//!            calling thread: final results, in block order
//! ```
//!
//! **Planning.** The [`analyzer`] looks at the transactions alone and predicts accesses: declared
//! slots, ERC-20 balances named by the calldata, codes that the block deploys; with a
//! [`Profile`](analyzer::Profile), whatever earlier calls of the same code show. The [`conflict_graph`]
//! has an edge from the last writer of a location to each later reader; the [`partitioner`] counts
//! lanes and finds the heaviest chain. All of that is *advice*: it decides when a transaction runs,
//! and whether a block runs in parallel at all ([`ExecutionMode`] says so), never what comes out.
//!
//! **Speculation.** Workers execute transactions ahead of the *commit frontier*, the first
//! transaction that is not final. A read gets the committed value with the pending writes of earlier
//! transactions applied: the best guess there is. Each read is recorded with the value that was
//! served, and the writes are published for later readers. A writer of a slot that another one, before
//! it in the block, turns out to have written differently is executed again before its turn. Where
//! most of that turns out to be in vain, one worker goes on alone at the frontier, and it is tried
//! again later.
//!
//! **Validation** is the only authority. At the frontier every earlier transaction is final, so the
//! recorded values can be compared with those of a serial run. An execution is a function of the
//! values that it was served: where all of them stand, it is the execution of the serial run,
//! whoever wrote the values and whenever. Where one does not, the transaction is executed again on
//! the spot, where nothing is a guess, and nothing else is thrown away.
//!
//! **Balances commute** from Spurious Dragon up to Osaka. Seven instructions and the rules around a
//! transaction see or check a balance; all else adds to it or takes from it blindly. So a read of an
//! account notes how much the balance may fall short of the served one before the execution would
//! have gone another way, and a write of a balance is an amount. Any number of payments to one
//! account, and any row of payments from one, run side by side. The fee of the beneficiary is kept
//! back and added at the frontier.
//!
//! **Merging** moves the committed values on, and notes what the writes to each location amount to.
//! At the end receipts and the bundle are made from that on all threads. Where results are wanted
//! one by one, the calling thread, a worker like the others, hands them over in order.
//!
//! # Errors and panics
//!
//! [`ExecutionError`] tells an invalid block, a failing state source and a broken invariant apart,
//! and names the transaction; that the caller has cancelled the execution is none of them. A worker
//! that panics becomes [`ExecutionError::Internal`], and the executor stays usable; a panic in the
//! caller's own sink or observer goes on to the caller.
//!
//! # Observability
//!
//! Each call returns [`ExecutionStats`], or hands them to whoever listens:
//!
//! - [`tracing`](https://docs.rs/tracing) spans on the calling thread, at level `DEBUG`: `block`
//!   (target `multilane::block`; fields `door`, the method, `number`, `transactions`) and in it
//!   `plan`, `execute`, `finish`, `learn` and `inspect` (target `multilane::stage`); at a block's end
//!   an event `executed` (target `multilane::block`) with mode, executions, conflicts, lanes and times.
//! - With the feature `metrics`, counters and histograms of the
//!   [`metrics`](https://docs.rs/metrics) facade; `describe_metrics` lists them.
//!
//! Both are per block and per stage and never per transaction. A block that ends in an error has its
//! spans, and neither event nor figures.
//!
//! # Features and stability
//!
//! One cargo feature, off by default: `metrics`, as above. The API speaks the types of revm 43 and alloy-evm 0.39, so a new
//! major version of either is one of this crate as well. Before 1.0 a minor version may change the
//! API; structs and enums that are to grow are `#[non_exhaustive]`. [`ExecutionStats`] is for people
//! and benches: its numbers may differ from run to run, and what they count may change.

mod access_list;
mod admission;
pub mod analyzer;
pub mod backend;
mod block_db;
mod block_executor;
pub mod block_rules;
mod call_habits;
mod cancellation;
mod config;
pub mod conflict_graph;
mod engine;
mod error;
mod ethereum_factory;
mod executor;
mod frontier;
mod head_start;
mod inspection;
mod judgement;
mod keccak_cache;
mod merger;
mod ordered_map;
mod parallel_map;
pub mod partitioner;
mod pipeline;
mod prefetch;
mod receipts;
mod scheduler;
pub mod sequential;
mod serial;
mod source;
mod source_cache;
mod speculation;
mod state_history;
mod stats;
mod telemetry;
mod tx_envs;
mod validation;
pub mod verification;
mod worker;
mod workers;

pub use access_list::AccessHints;
pub use block_executor::{Lookahead, ParallelBlockExecutor, ParallelBlockExecutorFactory, Served};
pub use cancellation::{Cancellable, CancellationToken};
pub use config::ExecutorConfig;
pub use error::{ExecutionError, SourceError};
pub use ethereum_factory::EthereumFactory;
pub use executor::{BuiltBlock, OrderedError, ParallelExecutor, SkipReason, Skipped};
pub use inspection::{Inspected, InspectionDb, TransactionPrestate};
pub use multilane_state as state;
pub use source::{Shared, StateSource};
pub use stats::{ConflictKinds, ExecutionMode, ExecutionStats, SequentialReason};
#[cfg(feature = "metrics")]
pub use telemetry::describe_metrics;

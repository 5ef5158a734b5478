//! The parallel executor against the oracle: same outputs, same errors, at every thread count and
//! under every prediction.

mod contracts;
mod generated;
mod learned;
mod mainnet;
mod predictors;
mod workloads;

//! The parallel executor against the oracle: same outputs, same errors, at every thread count and
//! under every prediction.

mod access_lists;
mod building;
mod client;
mod contracts;
mod custom_evm;
mod drop_in;
mod foresight;
mod generated;
mod inspection;
mod learned;
mod mainnet;
mod predictors;
mod repetitions;
mod workloads;

//! What does planning cost? Each stage before execution, over generated blocks of growing size.
//!
//! Planning is on the way to the first transaction, on the calling thread: what it takes must stay
//! small beside execution, a few hundred nanoseconds to many microseconds a transaction.
//!
//! Run with `cargo bench -p multilane-benches --bench stages`, or a part of it by name:
//! `-- 'analyzer/.*/10000'`.

use alloy_primitives::{Address, Bytes, TxKind, U256, hex};
use criterion::{BenchmarkId, Criterion, Throughput};
use multilane::{analyzer::analyze, conflict_graph::ConflictGraph, partitioner::ExecutionPlan};
use revm::context::TxEnv;
use std::hint::black_box;

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// A generated block, by how much its transactions have in common.
#[derive(Clone, Copy, Debug)]
enum Workload {
    /// Payments between accounts of their own. From Spurious Dragon on nothing is predicted of them.
    Payments,
    /// Transfers of one ERC-20 token between holders drawn from as many accounts as transactions.
    TokenTransfers,
    /// Transfers of one ERC-20 token where each holder pays the next: one chain.
    TokenChain,
    /// Calls of ten contracts with calldata that tells nothing, from a hundred callers.
    Calls,
}

impl Workload {
    const ALL: [Self; 4] = [Self::Payments, Self::TokenTransfers, Self::TokenChain, Self::Calls];

    const fn name(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::TokenTransfers => "token_transfers",
            Self::TokenChain => "token_chain",
            Self::Calls => "calls",
        }
    }

    fn block(self, transactions: usize) -> Vec<TxEnv> {
        let count = transactions as u64;
        let token = account(0);
        (0..count)
            .map(|position| match self {
                Self::Payments => {
                    let to = account(count + position);
                    call(account(position), to, Bytes::new(), U256::ONE)
                }
                Self::TokenTransfers => {
                    let [from, to] = [2 * position, 2 * position + 1].map(|draw| mix(draw) % count);
                    call(account(1 + from), token, transfer(account(1 + to)), U256::ZERO)
                }
                Self::TokenChain => {
                    let to = account(position + 2);
                    call(account(position + 1), token, transfer(to), U256::ZERO)
                }
                Self::Calls => {
                    let caller = account(100 + mix(position) % 100);
                    call(caller, account(position % 10), UNKNOWN_CALL.into(), U256::ZERO)
                }
            })
            .collect()
    }
}

/// Uniswap V2's `swapExactTokensForTokens`, of which the analyzer knows nothing.
const UNKNOWN_CALL: [u8; 4] = hex!("38ed1739");

fn account(id: u64) -> Address {
    Address::left_padding_from(&(0x1_0000 + id).to_be_bytes())
}

fn call(caller: Address, to: Address, data: Bytes, value: U256) -> TxEnv {
    TxEnv { caller, kind: TxKind::Call(to), data, value, gas_limit: 200_000, ..TxEnv::default() }
}

/// ERC-20 `transfer(to, 5)`.
fn transfer(to: Address) -> Bytes {
    let mut data = hex!("a9059cbb").to_vec();
    data.extend(to.into_word());
    data.extend(U256::from(5).to_be_bytes::<32>());
    data.into()
}

/// splitmix64: draws that are the same in every run.
const fn mix(position: u64) -> u64 {
    let mut word = position.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn bench_stages(criterion: &mut Criterion) {
    for workload in Workload::ALL {
        for size in SIZES {
            let block = workload.block(size);
            let predictions = analyze(&block, true);
            let graph = ConflictGraph::new(&predictions);
            let id = || BenchmarkId::new(workload.name(), size);

            let mut group = criterion.benchmark_group("analyzer");
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(id(), |b| b.iter(|| analyze(black_box(&block), true)));
            group.finish();

            let mut group = criterion.benchmark_group("conflict_graph");
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(id(), |b| b.iter(|| ConflictGraph::new(black_box(&predictions))));
            group.finish();

            let mut group = criterion.benchmark_group("partitioner");
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(id(), |b| {
                b.iter(|| ExecutionPlan::new(black_box(&predictions), black_box(&graph)));
            });
            group.finish();
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench_stages(&mut criterion);
    criterion.final_summary();
}

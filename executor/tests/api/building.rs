//! `build_block`: what fits, what does not and why, and candidates that come late.

use crate::{
    THREADS, forced,
    hooked::{Hooked, Refused},
    state_source::failing_reads,
    watchdog::Watchdog,
    workload::{ETHER, Workload, person},
};
use alloy_consensus::{
    SignableTransaction, TxEip4844, TxEnvelope, TxLegacy, transaction::Recovered,
};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use multilane::{BuiltBlock, ExecutionError, Shared, SkipReason, sequential};
use multilane_state::BlockInput;
use revm::database::WrapDatabaseRef;

const GAS_PRICE: u128 = 10_000_000_000;

fn signed<T: SignableTransaction<Signature>>(from: Address, unsigned: T) -> Recovered<TxEnvelope>
where
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let signed = unsigned.into_signed(Signature::test_signature());
    Recovered::new_unchecked(signed.into(), from)
}

pub(crate) fn payment(
    from: Address,
    nonce: u64,
    gas_limit: u64,
    value: u128,
) -> Recovered<TxEnvelope> {
    let to = TxKind::Call(person(9, 9));
    let (gas_price, value, input) = (GAS_PRICE, U256::from(value), Bytes::new());
    signed(from, TxLegacy { chain_id: None, nonce, gas_price, gas_limit, to, value, input })
}

fn blobs(from: Address, nonce: u64, blobs: usize) -> Recovered<TxEnvelope> {
    let mut versioned_hash = B256::ZERO;
    versioned_hash[0] = 1;
    let blobs = TxEip4844 {
        chain_id: 1,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: GAS_PRICE,
        max_fee_per_blob_gas: 1_000_000,
        blob_versioned_hashes: vec![versioned_hash; blobs],
        ..TxEip4844::default()
    };
    signed(from, blobs)
}

fn build(
    workload: &Workload,
    threads: usize,
    candidates: impl IntoIterator<Item = Recovered<TxEnvelope>>,
) -> BuiltBlock {
    let Workload { chain, input, prestate, .. } = workload;
    let executor = forced(threads);
    let (built, _) = executor.build_block(chain, input, candidates, &Shared(prestate)).unwrap();
    let block = BlockInput { transactions: built.transactions.clone(), ..input.clone() };
    let executed = sequential::execute_block(chain, &block, WrapDatabaseRef(prestate)).unwrap();
    assert!(executed == built.output, "the output is that of the block that was built");
    built
}

fn skipped(built: &BuiltBlock) -> Vec<(usize, &SkipReason)> {
    built.skipped.iter().map(|skipped| (skipped.candidate, &skipped.reason)).collect()
}

#[test]
fn each_candidate_is_judged_on_what_those_before_it_left() {
    let _watchdog = Watchdog::new("building");
    let mut workload = Workload::empty();
    workload.input.header.gas_limit = 100_000;
    let [rich, poor] = [person(1, 0), person(1, 1)];
    workload.fund(rich, ETHER);
    workload.fund(poor, 21_000 * GAS_PRICE);
    let candidates = vec![
        payment(rich, 0, 60_000, 1),
        payment(poor, 0, 21_000, 1), // cannot afford the value beside the gas
        payment(rich, 2, 21_000, 1), // leaves out nonce 1
        payment(rich, 1, 79_001, 1), // 79,000 gas are left, as the first one used 21,000
        payment(rich, 1, 79_000, ETHER), // fits, and cannot be afforded
        payment(rich, 1, 79_000, 1),
        payment(poor, 0, 21_000, 0),
        payment(rich, 2, 21_000, 1),
        payment(rich, 3, 21_000, 1), // 16,000 gas are left
    ];
    for threads in THREADS {
        let built = build(&workload, threads, candidates.clone());
        match skipped(&built).as_slice() {
            [
                (1, SkipReason::Invalid(funds)),
                (2, SkipReason::Invalid(nonce)),
                (3, SkipReason::Gas { limit: 79_001, available: 79_000 }),
                (4, SkipReason::Invalid(_)),
                (8, SkipReason::Gas { limit: 21_000, available: 16_000 }),
            ] => {
                assert!(funds.to_string().contains("lack of funds"), "{funds}");
                assert!(nonce.to_string().contains("nonce 2 too high"), "{nonce}");
            }
            other => panic!("{other:?}"),
        }
        let included = [0, 5, 6, 7].map(|index: usize| candidates[index].clone());
        assert_eq!(built.transactions, included);
        assert_eq!(built.output.gas_used, 84_000);
    }
}

#[test]
fn a_block_takes_no_more_blobs_than_it_may_have() {
    let _watchdog = Watchdog::new("blobs");
    let mut workload = Workload::empty();
    let sender = person(1, 0);
    workload.fund(sender, ETHER);
    // Prague: nine.
    let candidates =
        [(0, 6), (1, 4), (1, 2), (2, 0), (2, 1), (3, 1)].map(|(nonce, n)| blobs(sender, nonce, n));
    for threads in THREADS {
        let built = build(&workload, threads, candidates.clone());
        let gas = |blobs: u64| blobs * 131_072;
        match skipped(&built).as_slice() {
            [
                (1, SkipReason::BlobGas { used: four, available: three }),
                (3, SkipReason::Invalid(empty)),
                (5, SkipReason::BlobGas { used: one, available: 0 }),
            ] => {
                assert_eq!((*four, *three, *one), (gas(4), gas(3), gas(1)));
                assert!(empty.to_string().contains("blob"), "{empty}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(built.output.blob_gas_used, gas(9));
    }
}

#[test]
fn many_candidates_of_which_many_are_bad() {
    let _watchdog = Watchdog::new("many candidates");
    let workload = Workload::mixed(41, 600);
    let mut candidates = workload.input.transactions.clone();
    for at in (0..600).rev().step_by(23) {
        candidates.insert(at, candidates[at / 2].clone());
    }
    let expected = build(&workload, 1, candidates.clone());
    assert_eq!(expected.transactions, workload.input.transactions);
    assert!(expected.skipped.len() > 20);
    for threads in [2, 4] {
        let built = build(&workload, threads, candidates.clone());
        assert_eq!(built.transactions, expected.transactions);
        assert!(built.output == expected.output);
    }
}

#[test]
fn candidates_may_be_chosen_late_and_there_may_be_none() {
    let _watchdog = Watchdog::new("late candidates");
    let mut workload = Workload::empty();
    assert!(build(&workload, 2, []).transactions.is_empty());
    let sender = person(1, 0);
    workload.fund(sender, ETHER);
    workload.input.header.gas_limit = 21_000 * 50;
    // Nothing fits any more after the fiftieth; whoever supplies candidates may go on or not.
    let mut supplied = 0;
    let candidates = (0..).map_while(|nonce| {
        supplied += 1;
        (nonce < 1_000).then(|| payment(sender, nonce, 21_000, 1))
    });
    let built = build(&workload, 4, candidates);
    assert_eq!((built.transactions.len(), built.skipped.len(), supplied), (50, 950, 1_001));
}

#[test]
fn a_source_that_fails_is_an_error_of_the_candidate() {
    let _watchdog = Watchdog::new("building on failing sources");
    let workload = Workload::mixed(42, 40);
    let Workload { chain, input, prestate, .. } = &workload;
    for (read, candidate) in failing_reads(&workload).into_iter().step_by(5) {
        let hook = |asked| if asked == read { Err(Refused(read)) } else { Ok(()) };
        let db = Hooked { db: prestate, hook };
        let candidates = input.transactions.clone();
        match forced(2).build_block(chain, input, candidates, &Shared(&db)) {
            Err(ExecutionError::State { transaction, cause }) => {
                assert_eq!((transaction, cause.location()), (candidate, read.location()));
            }
            other => panic!("{read:?}: {:?}", other.map(|(built, _)| built.skipped)),
        }
    }
}

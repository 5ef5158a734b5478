//! Every commitment and every part of an output, falsified alone.

use super::{CheckKind, CheckOutcome, DifferencePlace, StateRoots, compare_outputs, verify_block};
use alloy_consensus::{Eip658Value, Header, Receipt, ReceiptEnvelope, proofs};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, U256};
use multilane_state::{BlockInput, BlockOutput, ChainSpec};
use revm::{
    database::{
        AccountRevert, AccountStatus, BundleAccount, BundleState, RevertToSlot,
        states::{
            StorageSlot,
            reverts::{AccountInfoRevert, Reverts},
        },
    },
    state::{AccountInfo, Bytecode},
};

/// A time within Prague on mainnet, in seconds.
const PRAGUE: u64 = 1_750_000_000;
/// What must be found, and the change that it must be found in.
type Change<Kind, T> = (Kind, fn(&mut T));

const ADDRESS: Address = Address::with_last_byte(7);
const SLOT: U256 = U256::ONE;

fn receipt(success: bool, cumulative_gas_used: u64) -> ReceiptEnvelope {
    let logs = vec![Log::new_unchecked(ADDRESS, Vec::new(), Bytes::new())];
    let receipt = Receipt { status: Eip658Value::Eip658(success), cumulative_gas_used, logs };
    ReceiptEnvelope::Eip1559(receipt.with_bloom())
}

fn output() -> BlockOutput {
    let storage = [(SLOT, StorageSlot::new_changed(U256::from(2), U256::from(3)))];
    let account = BundleAccount {
        info: Some(AccountInfo { nonce: 2, ..AccountInfo::default() }),
        original_info: Some(AccountInfo { nonce: 1, ..AccountInfo::default() }),
        storage: storage.into_iter().collect(),
        status: AccountStatus::Changed,
    };
    let revert = AccountRevert {
        account: AccountInfoRevert::RevertTo(AccountInfo { nonce: 1, ..AccountInfo::default() }),
        storage: [(SLOT, RevertToSlot::Some(U256::from(2)))].into_iter().collect(),
        previous_status: AccountStatus::Loaded,
        wipe_storage: false,
    };
    let other = (Address::ZERO, AccountRevert::default());
    BlockOutput {
        receipts: vec![receipt(true, 21_000), receipt(false, 42_000)],
        gas_used: 42_000,
        bundle: BundleState {
            state: [(ADDRESS, account)].into_iter().collect(),
            contracts: [(B256::ZERO, Bytecode::new_raw(Bytes::from_static(&[0])))]
                .into_iter()
                .collect(),
            reverts: Reverts::new(vec![vec![(ADDRESS, revert), other]]),
            state_size: 2,
            reverts_size: 3,
        },
        ..BlockOutput::default()
    }
}

fn sealed(mut header: Header, output: &BlockOutput, withdrawals: bool) -> BlockInput {
    header.gas_used = output.gas_used;
    for receipt in &output.receipts {
        header.logs_bloom |= *receipt.logs_bloom();
    }
    BlockInput {
        hash: Some(header.hash_slow()),
        header,
        transactions: Vec::new(),
        ommers: Vec::new(),
        ommer_count: 0,
        withdrawals: withdrawals.then(Vec::new),
    }
}

fn prague_block(output: &BlockOutput) -> BlockInput {
    let header = Header {
        number: 22_500_000,
        timestamp: PRAGUE,
        receipts_root: proofs::calculate_receipt_root(&output.receipts),
        withdrawals_root: Some(alloy_consensus::constants::EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    };
    sealed(header, output, true)
}

fn roots_of(block: &BlockInput) -> StateRoots {
    StateRoots::unavailable("not needed").with_after_block(Ok::<_, String>(block.header.state_root))
}

#[test]
fn the_list_has_what_exists_at_the_fork() {
    let output = output();
    let block = prague_block(&output);
    let checks = verify_block(&ChainSpec::mainnet(), &block, &output, &roots_of(&block));
    let kinds: Vec<_> = checks.iter().map(|check| check.kind).collect();
    let is_of_amsterdam =
        |kind| matches!(kind, CheckKind::BlockAccessListHash | CheckKind::BlockAccessListItems);
    let expected: Vec<_> =
        CheckKind::ALL.into_iter().filter(|kind| !is_of_amsterdam(*kind)).collect();
    assert_eq!(kinds, expected);
    assert!(checks.iter().all(|check| check.outcome.is_ok()), "{checks:#?}");
}

#[test]
fn each_false_commitment_is_named() {
    let output = output();
    let cases: [Change<CheckKind, BlockInput>; 10] = [
        (CheckKind::HeaderHash, |b| b.hash = Some(B256::ZERO)),
        (CheckKind::TransactionsRoot, |b| b.header.transactions_root = B256::ZERO),
        (CheckKind::OmmersHash, |b| b.header.ommers_hash = B256::ZERO),
        (CheckKind::GasUsed, |b| b.header.gas_used += 1),
        (CheckKind::ReceiptsRoot, |b| b.header.receipts_root = B256::ZERO),
        (CheckKind::LogsBloom, |b| b.header.logs_bloom = Bloom::ZERO),
        (CheckKind::WithdrawalsRoot, |b| b.header.withdrawals_root = None),
        (CheckKind::BlobGasUsed, |b| b.header.blob_gas_used = Some(131_072)),
        (CheckKind::RequestsHash, |b| b.header.requests_hash = Some(B256::ZERO)),
        (CheckKind::StateRoot, |b| b.header.state_root = B256::ZERO),
    ];
    for (kind, falsify) in cases {
        let mut block = prague_block(&output);
        let roots = roots_of(&block);
        falsify(&mut block);
        if kind != CheckKind::HeaderHash {
            block.hash = Some(block.header.hash_slow());
        }
        let checks = verify_block(&ChainSpec::mainnet(), &block, &output, &roots);
        let mismatches: Vec<_> = checks
            .iter()
            .filter(|check| check.outcome.is_mismatch())
            .map(|check| check.kind)
            .collect();
        assert_eq!(mismatches, [kind]);
    }
}

#[test]
fn without_a_sealed_header_nothing_is_checked() {
    let output = output();
    let block = BlockInput { hash: None, ..prague_block(&output) };
    let checks = verify_block(&ChainSpec::mainnet(), &block, &output, &roots_of(&block));
    assert_eq!(checks.len(), 10);
    assert!(checks.iter().all(|c| matches!(c.outcome, CheckOutcome::Unavailable(_))));
}

#[test]
fn early_receipts_need_the_state_root_after_each_transaction() {
    let mut output = output();
    output.receipts = output
        .receipts
        .into_iter()
        .map(|r| ReceiptEnvelope::Legacy(r.into_receipt().with_bloom()))
        .collect();
    let post_states = vec![B256::with_last_byte(1), B256::with_last_byte(2)];
    let receipts: Vec<_> = output
        .receipts
        .iter()
        .zip(&post_states)
        .map(|(receipt, root)| {
            let mut receipt = receipt.clone().into_receipt();
            receipt.status = Eip658Value::PostState(*root);
            ReceiptEnvelope::Legacy(receipt.with_bloom())
        })
        .collect();
    let header = Header {
        number: 1_000_000,
        receipts_root: proofs::calculate_receipt_root(&receipts),
        ..Header::default()
    };
    let block = sealed(header, &output, false);
    let check_with = |roots: Result<Vec<B256>, &'static str>| {
        let roots = roots_of(&block).with_after_transactions(roots);
        verify_block(&ChainSpec::mainnet(), &block, &output, &roots)
            .into_iter()
            .find(|check| check.kind == CheckKind::ReceiptsRoot)
            .map(|check| check.outcome)
    };
    assert_eq!(check_with(Ok(post_states.clone())), Some(CheckOutcome::Ok));
    assert_eq!(check_with(Err("incomplete")), Some(CheckOutcome::Unavailable("incomplete".into())));
    assert!(matches!(check_with(Ok(Vec::new())), Some(CheckOutcome::Unavailable(_))));
    let swapped = post_states.into_iter().rev().collect();
    assert!(check_with(Ok(swapped)).is_some_and(|outcome| outcome.is_mismatch()));
}

#[test]
fn equal_outputs_do_not_differ_whatever_the_order_of_reverts() {
    let (left, mut right) = (output(), output());
    right.bundle.reverts[0].reverse();
    assert_eq!(compare_outputs(&left, &right), []);
}

#[test]
fn each_difference_is_found_and_placed() {
    fn account(output: &mut BlockOutput) -> &mut BundleAccount {
        output.bundle.state.get_mut(&ADDRESS).unwrap()
    }
    use DifferencePlace as Place;
    let receipt_field = |field| Place::Receipt { transaction: 1, field };
    let account_field = |field| Place::Account { address: ADDRESS, field };
    let revert_field = |field| Place::Revert { transition: 0, address: ADDRESS, field };
    let cases: Vec<Change<Place, BlockOutput>> = vec![
        (Place::ReceiptCount, |o| drop(o.receipts.pop())),
        (receipt_field("status"), |o| o.receipts[1] = receipt(true, 42_000)),
        (receipt_field("cumulative gas used"), |o| o.receipts[1] = receipt(false, 42_001)),
        (receipt_field("type"), |o| {
            o.receipts[1] =
                ReceiptEnvelope::Eip2930(receipt(false, 42_000).into_receipt().with_bloom());
        }),
        (Place::GasUsed, |o| o.gas_used += 1),
        (Place::BlobGasUsed, |o| o.blob_gas_used += 1),
        (Place::Request(0), |o| o.requests.push_request_with_type(0, [1])),
        (account_field("presence"), |o| o.bundle.state.clear()),
        (account_field("info"), |o| account(o).info = None),
        (account_field("original info"), |o| account(o).original_info = None),
        (account_field("status"), |o| account(o).status = AccountStatus::InMemoryChange),
        (Place::Slot { address: ADDRESS, slot: SLOT }, |o| {
            // The same present value, another original one.
            let slot = StorageSlot::new_changed(U256::from(9), U256::from(3));
            account(o).storage.insert(SLOT, slot);
        }),
        (Place::Code(B256::ZERO), |o| o.bundle.contracts.clear()),
        (Place::RevertCount, |o| o.bundle.reverts.push(Vec::new())),
        (revert_field("number of entries"), |o| drop(o.bundle.reverts[0].remove(0))),
        (revert_field("info"), |o| {
            o.bundle.reverts[0][0].1.account = AccountInfoRevert::DoNothing;
        }),
        (revert_field("previous status"), |o| {
            o.bundle.reverts[0][0].1.previous_status = AccountStatus::Changed;
        }),
        (revert_field("storage wipe"), |o| o.bundle.reverts[0][0].1.wipe_storage = true),
        (Place::SlotRevert { transition: 0, address: ADDRESS, slot: SLOT }, |o| {
            o.bundle.reverts[0][0].1.storage.insert(SLOT, RevertToSlot::Destroyed);
        }),
        (Place::StateSize, |o| o.bundle.state_size += 1),
        (Place::RevertsSize, |o| o.bundle.reverts_size += 1),
    ];
    for (place, change) in cases {
        let (left, mut right) = (output(), output());
        change(&mut right);
        let places: Vec<_> =
            compare_outputs(&left, &right).into_iter().map(|found| found.place).collect();
        assert_eq!(places, [place]);
    }
}

use super::*;
use crate::{
    StateLocation,
    multi_version::{AccountValue, MultiVersionState, SlotWrite},
};
use alloy_eips::eip7928::BlockAccessList;
use alloy_primitives::{Address, B256, Bytes, U256};
use revm::state::Bytecode;
use std::sync::Arc;

const ALICE: Address = Address::with_last_byte(1);
const POOL: Address = Address::with_last_byte(2);
const TRANSACTIONS: usize = 3;

fn slot_write(original: u64, present: u64) -> SlotWrite {
    SlotWrite { original: U256::from(original), present: U256::from(present) }
}

fn with_balance(balance: u64) -> Option<AccountValue> {
    Some(AccountValue { balance: U256::from(balance), nonce: 1, ..AccountValue::EMPTY })
}

fn tx(index: usize) -> Option<TxIndex> {
    Some(TxIndex::new(index))
}

/// The journal of a block in which Alice pays twice and a pool's slot 7 changes, 8 is only read.
fn recorded<R>(look: impl FnOnce(&AccessJournal<'_>, BlockAccessList) -> R) -> R {
    let state = MultiVersionState::with_capacity(4, 4);
    let mut journal = AccessJournal::default();
    journal.account(None, POOL);
    journal.slot(None, state.slot(POOL, U256::from(7)), slot_write(0, 5));
    for (writer, before, after) in [(0, 90, 80), (2, 80, 70)] {
        journal.account(tx(writer), ALICE);
        journal.account_change(tx(writer), ALICE, with_balance(before), with_balance(after));
    }
    journal.slot(tx(1), state.slot(POOL, U256::from(8)), slot_write(3, 3));
    journal.slot(tx(1), state.slot(POOL, U256::from(7)), slot_write(5, 6));
    let list = journal.list(|_| None);
    look(&journal, list)
}

fn deviation(change: impl FnOnce(&mut BlockAccessList)) -> Result<(), AccessListError> {
    recorded(|journal, list| {
        let mut listed = list.clone();
        change(&mut listed);
        let recorded = Recorded { list: &list, transactions: TRANSACTIONS, end: None };
        first_deviation(&listed, recorded, |location| journal.first_access(location))
    })
}

#[test]
fn a_list_has_reads_changes_and_their_indices() {
    recorded(|_, list| {
        assert_eq!(list.iter().map(|it| it.address).collect::<Vec<_>>(), [ALICE, POOL]);
        let balances = list[0].balance_changes.iter();
        let balances: Vec<_> =
            balances.map(|it| (it.block_access_index.get(), it.post_balance.to::<u64>())).collect();
        assert_eq!(balances, [(1, 80), (3, 70)]);
        assert!(list[0].nonce_changes.is_empty());
        assert_eq!(list[1].storage_reads, [U256::from(8)]);
        let changes = list[1].storage_changes[0].changes.iter();
        let changes: Vec<_> =
            changes.map(|it| (it.block_access_index.get(), it.new_value.to::<u64>())).collect();
        assert_eq!(changes, [(0, 5), (2, 6)]);
    });
}

#[test]
fn what_is_undone_at_one_index_is_a_read() {
    let state = MultiVersionState::with_capacity(4, 4);
    let slot = state.slot(POOL, U256::ONE);
    let mut journal = AccessJournal::default();
    journal.slot(tx(0), slot, slot_write(0, 4));
    journal.slot(tx(1), slot, slot_write(4, 5));
    journal.slot(tx(1), slot, slot_write(5, 4));
    let list = journal.list(|_| None);
    assert_eq!(list[0].storage_changes[0].changes.len(), 1);
}

#[test]
fn a_reader_finds_what_comes_before_it() {
    recorded(|_, list| {
        let values = PostValues::new(Arc::new(list));
        let slot = |reader| {
            values.slot(POOL, U256::from(7), TxIndex::new(reader)).map(|it| it.to::<u64>())
        };
        assert_eq!([slot(0), slot(1), slot(2)], [Some(5), Some(5), Some(6)]);
        assert_eq!(values.slot(POOL, U256::from(8), TxIndex::new(2)), None);
        let balance = |reader| {
            let value = values.account(ALICE, TxIndex::new(reader), with_balance(90));
            value.map(|it| it.balance.to::<u64>())
        };
        assert_eq!(
            [balance(0), balance(1), balance(2), balance(3)].map(Option::unwrap),
            [90, 80, 80, 70]
        );
    });
}

#[test]
fn an_account_comes_and_goes_with_its_code() {
    let code = Bytes::from_static(&[0x60, 0x00]);
    let bytecode = Bytecode::new_raw(code);
    let deployed =
        AccountValue { nonce: 1, code_hash: bytecode.hash_slow(), ..AccountValue::EMPTY };
    let mut journal = AccessJournal::default();
    journal.account_change(tx(0), POOL, None, Some(deployed));
    journal.account_change(tx(1), POOL, Some(deployed), None);
    let list = journal.list(|hash: &B256| (*hash == deployed.code_hash).then(|| bytecode.clone()));
    let values = PostValues::new(Arc::new(list));
    let found = |reader| values.account(POOL, TxIndex::new(reader), None);
    assert_eq!([found(0), found(1), found(2)], [None, Some(deployed), None]);
    assert!(values.code(&deployed.code_hash).is_some());
}

#[test]
fn an_exact_list_does_not_deviate() {
    assert_eq!(deviation(|_| {}), Ok(()));
}

#[test]
fn the_first_difference_is_named() {
    let words = |change: fn(&mut BlockAccessList)| {
        let error = deviation(change).unwrap_err();
        (error.transaction(TRANSACTIONS), error.to_string())
    };
    let slot = |key: u64| StateLocation::Slot(POOL, U256::from(key));
    let account = StateLocation::Account(ALICE);
    let wrong = "wrong block access list:";

    let value = words(|list| {
        list[0].balance_changes[1].post_balance = U256::ZERO;
        list[1].storage_changes[0].changes[1].new_value = U256::from(9);
    });
    let place = slot(7);
    assert_eq!(value, (Some(1), format!("{wrong} {place} at index 2: value: listed 9, got 6")));

    let missing = words(|list| list[0].balance_changes.truncate(1));
    let expected = format!("{wrong} {account} at index 3: balance: listed no change, got 70");
    assert_eq!(missing, (Some(2), expected));

    let unlisted = words(|list| list[1].storage_reads.clear());
    let place = slot(8);
    let expected = format!("{wrong} {place} at index 2: accessed, but not listed");
    assert_eq!(unlisted, (Some(1), expected));

    let idle = words(|list| list[1].storage_reads.push(U256::from(9)));
    let place = slot(9);
    assert_eq!(idle, (None, format!("{wrong} {place}: listed, but not accessed")));

    let early = words(|list| list[1].storage_changes[0].changes.remove(0).new_value = U256::ZERO);
    assert_eq!(early.0, None);
    assert!(early.1.contains("at index 0: value: listed no change, got 5"), "{}", early.1);

    let (transaction, malformed) = words(|list| list.reverse());
    assert_eq!(transaction, None);
    assert!(malformed.starts_with("malformed block access list: "), "{malformed}");
}

#[test]
fn what_the_block_did_not_get_to_does_not_count() {
    let ended = |end| {
        recorded(|journal, list| {
            let mut listed = list.clone();
            listed[0].balance_changes[1].post_balance = U256::ZERO;
            listed[1].storage_reads.push(U256::from(9));
            let end = Some(BlockAccessIndex::new(end));
            let recorded = Recorded { list: &list, transactions: TRANSACTIONS, end };
            first_deviation(&listed, recorded, |location| journal.first_access(location))
        })
    };
    assert_eq!(ended(3), Ok(()));
    assert_eq!(ended(4).unwrap_err().transaction(TRANSACTIONS), Some(2));
}

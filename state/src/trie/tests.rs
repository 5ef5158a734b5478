use super::{
    reference::{self, ReferenceAccount, ReferenceState},
    *,
};
use alloy_primitives::map::B256Map;
use proptest::{prelude::*, test_runner::RngSeed};
use revm::{
    database::{AccountStatus as BundleStatus, BundleAccount, BundleState, states::StorageSlot},
    primitives::{KECCAK_EMPTY, StorageKeyMap},
    state::{
        Account, AccountInfo, AccountStatus, Bytecode, EvmState, EvmStorageSlot, TransactionId,
    },
};

fn address(last: u8) -> Address {
    Address::with_last_byte(last)
}

fn slot(value: u64) -> U256 {
    U256::from(value)
}

/// Ten accounts, each with one slot more than the one before it.
fn sample() -> ReferenceState {
    (0..10)
        .map(|index| {
            let account = ReferenceAccount {
                balance: U256::from(1000) << (8 * index),
                nonce: u64::from(index),
                code_hash: KECCAK_EMPTY,
                storage: (0..u64::from(index)).map(|at| (slot(at), slot(at + 1))).collect(),
            };
            (address(index), account)
        })
        .collect()
}

fn trie_of(state: &ReferenceState) -> WitnessTrie {
    let (root, nodes) = reference::state(state);
    WitnessTrie::new(root, nodes).unwrap()
}

#[track_caller]
fn assert_root(trie: &mut WitnessTrie, state: &ReferenceState) {
    assert_eq!(trie.root().unwrap(), reference::state(state).0);
}

/// A client keeps the nodes in a database and the trie only while a block is written: it adds the
/// nodes that are missed, and stores those that came into being.
#[test]
fn nodes_can_be_kept_elsewhere() {
    let mut state = sample();
    let (mut root, nodes) = reference::state(&state);
    let mut kept: B256Map<Bytes> = nodes.into_iter().map(|node| (keccak256(&node), node)).collect();
    for round in 0..8_u8 {
        let mut trie = WitnessTrie::new(root, kept.get(&root).cloned()).unwrap();
        let mut change = |operation: &dyn Fn(&mut WitnessTrie) -> Result<(), StateError>| {
            while let Err(error) = operation(&mut trie) {
                let StateError::MissingNode { node, .. } = error else { panic!("{error}") };
                trie.insert_nodes([kept[&node].clone()]);
            }
        };
        // An account goes, which moves the node beside it; another gets and loses slots.
        change(&|trie| trie.delete_account(address(round)));
        change(&|trie| trie.set_storage(address(9), slot(0), U256::ZERO));
        change(&|trie| trie.set_storage(address(9), slot(50 + u64::from(round)), slot(1)));
        state.remove(&address(round));
        let storage = &mut state.get_mut(&address(9)).unwrap().storage;
        storage.remove(&slot(0));
        storage.insert(slot(50 + u64::from(round)), slot(1));

        let mut made = Vec::new();
        root = trie.root_with_nodes(&mut |hash, rlp| made.push((hash, rlp.to_vec()))).unwrap();
        assert_eq!(root, reference::state(&state).0, "round {round}");
        assert_eq!(made.last().unwrap().0, root, "children come before parents");
        for (hash, rlp) in made {
            assert_eq!(keccak256(&rlp), hash);
            kept.insert(hash, rlp.into());
        }
    }
}

#[test]
fn reads_are_proven() {
    let state = sample();
    let trie = trie_of(&state);
    for (address, expected) in &state {
        let account = trie.account(*address).unwrap().unwrap();
        assert_eq!(account.balance, expected.balance);
        assert_eq!(account.nonce, expected.nonce);
        for (slot, value) in &expected.storage {
            assert_eq!(trie.storage(*address, *slot).unwrap(), *value);
        }
        assert_eq!(trie.storage(*address, slot(99)).unwrap(), U256::ZERO);
    }
    assert_eq!(trie.account(address(99)).unwrap(), None);
    assert_eq!(trie.storage(address(99), slot(0)).unwrap(), U256::ZERO);
}

#[test]
fn an_empty_state_can_grow() {
    for nodes in [vec![], vec![Bytes::from_static(&[0x80])]] {
        let mut trie = WitnessTrie::new(EMPTY_ROOT_HASH, nodes).unwrap();
        assert_eq!(trie.root().unwrap(), EMPTY_ROOT_HASH);
        assert_eq!(trie.account(address(1)).unwrap(), None);
        for (address, account) in sample() {
            let ReferenceAccount { balance, nonce, code_hash, storage } = account;
            trie.set_account(address, balance, nonce, code_hash).unwrap();
            for (slot, value) in storage {
                trie.set_storage(address, slot, value).unwrap();
                assert_eq!(trie.storage(address, slot).unwrap(), value);
            }
        }
        assert_root(&mut trie, &sample());
        assert_eq!(trie.root().unwrap(), reference::state(&sample()).0);
    }
}

#[test]
fn the_root_node_must_be_there() {
    let (root, nodes) = reference::state(&sample());
    let others = nodes.into_iter().filter(|node| keccak256(node) != root);
    let error = WitnessTrie::new(root, others).unwrap_err();
    assert!(matches!(error, StateError::MissingNode { node, .. } if node == root));
}

#[test]
fn a_value_needs_an_account() {
    let mut trie = trie_of(&sample());
    trie.set_storage(address(99), slot(1), U256::ZERO).unwrap();
    trie.wipe_storage(address(99)).unwrap();
    trie.delete_account(address(99)).unwrap();
    let error = trie.set_storage(address(99), slot(1), slot(1)).unwrap_err();
    assert_eq!(error, StateError::NoAccount(StateLocation::Slot(address(99), slot(1))));
    assert_root(&mut trie, &sample());
}

#[test]
fn a_recreated_account_has_no_old_storage() {
    let mut state = sample();
    let mut trie = trie_of(&state);
    trie.set_storage(address(9), slot(50), slot(1)).unwrap();
    trie.delete_account(address(9)).unwrap();
    assert_eq!(trie.storage(address(9), slot(1)).unwrap(), U256::ZERO);
    trie.set_account(address(9), slot(5), 1, KECCAK_EMPTY).unwrap();
    trie.set_storage(address(9), slot(3), slot(33)).unwrap();
    let account = ReferenceAccount {
        balance: slot(5),
        nonce: 1,
        code_hash: KECCAK_EMPTY,
        storage: [(slot(3), slot(33))].into(),
    };
    state.insert(address(9), account);
    assert_root(&mut trie, &state);
}

#[test]
fn a_leaf_that_holds_no_account_is_malformed() {
    let entries = [(keccak256(address(1)), vec![0xff; 40])].into();
    let (root, nodes) = reference::trie(&entries);
    let trie = WitnessTrie::new(root, nodes).unwrap();
    let malformed = |error| matches!(error, StateError::MalformedNode { node, .. } if node == root);
    assert!(malformed(trie.account(address(1)).unwrap_err()));
}

#[test]
fn only_what_the_root_leads_to_matters() {
    let (root, mut nodes) = reference::state(&sample());
    nodes.extend(reference::trie(&[(B256::ZERO, vec![1; 40])].into()).1);
    let no_node = Bytes::from_static(&[0xa0; 33]);
    nodes.extend([no_node.clone(), Bytes::new()]);
    let mut trie = WitnessTrie::new(root, nodes).unwrap();
    assert_root(&mut trie, &sample());

    let error = WitnessTrie::new(keccak256(&no_node), [no_node]).unwrap_err();
    assert!(matches!(error, StateError::MalformedNode { .. }), "{error}");
}

#[test]
fn every_flipped_byte_is_an_error_and_never_a_panic() {
    let state = sample();
    let (root, nodes) = reference::state(&state);
    for index in 0..nodes.len() {
        for at in 0..nodes[index].len() {
            for mask in [0x01, 0x80] {
                let mut flipped = nodes.clone();
                let mut node = flipped[index].to_vec();
                node[at] ^= mask;
                flipped[index] = node.into();
                let found = WitnessTrie::new(root, flipped).and_then(|trie| {
                    for (address, account) in &state {
                        trie.account(*address)?;
                        for slot in account.storage.keys() {
                            trie.storage(*address, *slot)?;
                        }
                    }
                    Ok(())
                });
                assert!(found.is_err(), "node {index}, byte {at}, mask {mask:#x}");
            }
        }
    }
}

fn info(balance: u64, nonce: u64) -> AccountInfo {
    AccountInfo { balance: U256::from(balance), nonce, ..AccountInfo::default() }
}

fn bundle_slots(slots: &[(u64, u64, u64)]) -> StorageKeyMap<StorageSlot> {
    let slots = slots.iter().map(|(at, original, present)| {
        (slot(*at), StorageSlot::new_changed(slot(*original), slot(*present)))
    });
    slots.collect()
}

#[test]
fn a_bundle_becomes_the_post_state() {
    let mut state = sample();
    let mut trie = trie_of(&state);
    let mut bundle = BundleState::default();
    let code = Bytecode::new_legacy(vec![0x00].into());
    let created = AccountInfo { code_hash: code.hash_slow(), ..info(0, 1) };
    let mut change = |at: u8, present, storage, status| {
        let original = (at < 50).then(|| info(1, 0));
        let account = BundleAccount::new(original, present, bundle_slots(storage), status);
        bundle.state.insert(address(at), account);
    };
    // Deleted; never existed; changed; destroyed and made again; new and empty (before EIP-161);
    // created over old storage.
    change(1, None, &[], BundleStatus::Destroyed);
    change(50, None, &[], BundleStatus::LoadedNotExisting);
    change(5, Some(info(7, 8)), &[(0, 1, 0), (1, 2, 99), (2, 5, 5)], BundleStatus::Changed);
    change(6, Some(info(3, 0)), &[(0, 0, 4), (1, 2, 0)], BundleStatus::DestroyedChanged);
    change(51, Some(info(0, 0)), &[], BundleStatus::InMemoryChange);
    change(7, Some(created.clone()), &[(1, 0, 6)], BundleStatus::InMemoryChange);
    // Funds sent to an account without code and nonce keep its storage.
    change(8, Some(info(9, 0)), &[], BundleStatus::InMemoryChange);
    trie.apply_bundle(&bundle).unwrap();

    state.remove(&address(1));
    let five = state.get_mut(&address(5)).unwrap();
    (five.balance, five.nonce) = (slot(7), 8);
    five.storage.remove(&slot(0));
    five.storage.insert(slot(1), slot(99));
    let account = |info: AccountInfo, storage: &[(u64, u64)]| ReferenceAccount {
        balance: info.balance,
        nonce: info.nonce,
        code_hash: info.code_hash,
        storage: storage.iter().map(|(at, value)| (slot(*at), slot(*value))).collect(),
    };
    state.insert(address(6), account(info(3, 0), &[(0, 4)]));
    state.insert(address(51), account(info(0, 0), &[]));
    state.insert(address(7), account(created, &[(1, 6)]));
    let eight = state.get_mut(&address(8)).unwrap();
    (eight.balance, eight.nonce) = (slot(9), 0);
    assert_root(&mut trie, &state);
}

#[test]
fn the_changes_of_one_transaction_follow_their_flags() {
    let mut state = sample();
    let mut trie = trie_of(&state);
    let mut changes = EvmState::default();
    let mut change = |at: u8, info: AccountInfo, slots: &[(u64, u64, u64)], status| {
        let storage = slots.iter().map(|(at, original, present)| {
            let slot_change =
                EvmStorageSlot::new_changed(slot(*original), slot(*present), TransactionId::ZERO);
            (slot(*at), slot_change)
        });
        let mut account = Account::default().with_info(info);
        (account.storage, account.status) = (storage.collect(), status);
        changes.insert(address(at), account);
    };
    let touched = AccountStatus::Touched;
    change(1, info(77, 77), &[], AccountStatus::empty());
    change(2, info(2, 2), &[], touched | AccountStatus::SelfDestructed);
    change(3, info(0, 0), &[], touched);
    change(6, info(3, 1), &[(0, 0, 4), (1, 0, 0)], touched | AccountStatus::Created);
    change(5, info(7, 8), &[(0, 1, 0), (1, 2, 99), (2, 5, 5)], touched);
    change(60, info(0, 0), &[], touched | AccountStatus::Created);
    change(61, info(0, 0), &[], touched);
    trie.apply_evm_state(&changes).unwrap();

    state.remove(&address(2));
    state.remove(&address(3));
    let five = state.get_mut(&address(5)).unwrap();
    (five.balance, five.nonce) = (slot(7), 8);
    five.storage.remove(&slot(0));
    five.storage.insert(slot(1), slot(99));
    let six = state.get_mut(&address(6)).unwrap();
    (six.balance, six.nonce) = (slot(3), 1);
    six.storage = [(slot(0), slot(4))].into();
    let empty = ReferenceAccount { code_hash: KECCAK_EMPTY, ..ReferenceAccount::default() };
    state.insert(address(60), empty);
    assert_root(&mut trie, &state);
}

/// One change of a random sequence.
#[derive(Clone, Debug)]
enum Change {
    Set(u8, u64),
    Delete(u8),
    Slot(u8, u64, u64),
    Wipe(u8),
    Root,
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => (0u8..12, any::<u64>()).prop_map(|(at, balance)| Change::Set(at, balance)),
        1 => (0u8..12).prop_map(Change::Delete),
        6 => (0u8..12, 0u64..12, 0u64..4).prop_map(|(at, slot, value)| Change::Slot(at, slot, value)),
        1 => (0u8..12).prop_map(Change::Wipe),
        2 => Just(Change::Root),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(2),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_of_changes_gives_the_reference_root(
        changes in prop::collection::vec(any_change(), 0..60),
    ) {
        let mut state = sample();
        let mut trie = trie_of(&state);
        for change in changes {
            match change {
                Change::Set(at, balance) => {
                    trie.set_account(address(at), slot(balance), 3, KECCAK_EMPTY).unwrap();
                    let account = state.entry(address(at)).or_default();
                    (account.balance, account.nonce) = (slot(balance), 3);
                    account.code_hash = KECCAK_EMPTY;
                }
                Change::Delete(at) => {
                    trie.delete_account(address(at)).unwrap();
                    state.remove(&address(at));
                }
                Change::Slot(at, key, value) => {
                    let written = trie.set_storage(address(at), slot(key), slot(value));
                    match state.get_mut(&address(at)) {
                        Some(account) if value == 0 => { account.storage.remove(&slot(key)); }
                        Some(account) => { account.storage.insert(slot(key), slot(value)); }
                        None => {
                            prop_assert_eq!(written.is_err(), value != 0);
                            continue;
                        }
                    }
                    written.unwrap();
                }
                Change::Wipe(at) => {
                    trie.wipe_storage(address(at)).unwrap();
                    if let Some(account) = state.get_mut(&address(at)) {
                        account.storage.clear();
                    }
                }
                Change::Root => prop_assert_eq!(trie.root().unwrap(), reference::state(&state).0),
            }
        }
        for (address, account) in &state {
            for (slot, value) in &account.storage {
                prop_assert_eq!(trie.storage(*address, *slot).unwrap(), *value);
            }
        }
        prop_assert_eq!(trie.root().unwrap(), reference::state(&state).0);
    }
}

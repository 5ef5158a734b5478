use super::*;
use crate::trie::reference::{self, ReferenceAccount, ReferenceState};

fn sample() -> (Witness, Prestate) {
    let code_hash = keccak256([0x00]);
    let state: ReferenceState = (1..20)
        .map(|index| {
            let account = ReferenceAccount {
                balance: U256::from(index),
                nonce: 1,
                code_hash: if index % 2 == 0 { KECCAK_EMPTY } else { code_hash },
                storage: [(U256::ZERO, U256::from(index)), (U256::ONE, U256::from(7))].into(),
            };
            (Address::with_last_byte(index), account)
        })
        .collect();
    let (state_root, nodes) = reference::state(&state);
    let mut prestate = Prestate::new();
    for (address, account) in state {
        let ReferenceAccount { balance, nonce, code_hash, storage } = account;
        let storage = storage.into_iter().collect();
        prestate.insert_account(address, PrestateAccount { balance, nonce, code_hash, storage });
    }
    prestate.insert_absent(Address::with_last_byte(99));
    (Witness { state_root, nodes, complete: true }, prestate)
}

#[test]
fn a_true_prestate_is_proven_and_any_other_is_not() {
    let (witness, prestate) = sample();
    witness.verify(&prestate).unwrap();

    let address = Address::with_last_byte(5);
    let with = |change: &dyn Fn(&mut PrestateAccount)| {
        let mut changed = prestate.clone();
        let mut account = prestate.account(&address).unwrap().clone();
        change(&mut account);
        changed.insert_account(address, account);
        witness.verify(&changed).unwrap_err()
    };
    let at_account = StateLocation::Account(address);
    let location = |error| match error {
        StateError::NotProven { location, .. } => location,
        other => panic!("{other}"),
    };
    assert_eq!(location(with(&|account| account.balance += U256::ONE)), at_account);
    assert_eq!(location(with(&|account| account.nonce = 0)), at_account);
    assert_eq!(location(with(&|account| account.code_hash = KECCAK_EMPTY)), at_account);
    for (slot, value) in [(U256::ZERO, U256::ZERO), (U256::from(50), U256::ONE)] {
        let error = with(&|account| account.storage.extend([(slot, value)]));
        assert_eq!(location(error), StateLocation::Slot(address, slot));
    }

    let missing = Address::with_last_byte(98);
    let mut changed = prestate.clone();
    changed.insert_account(missing, PrestateAccount::default());
    let error = witness.verify(&changed).unwrap_err();
    assert_eq!(location(error), StateLocation::Account(missing));

    let mut changed = Prestate::new();
    changed.insert_absent(address);
    assert_eq!(location(witness.verify(&changed).unwrap_err()), at_account);
}

#[test]
fn a_damaged_witness_is_reported() {
    let (witness, prestate) = sample();
    for left_out in 0..witness.nodes.len() {
        let mut partial = witness.clone();
        partial.nodes.remove(left_out);
        let error = partial.verify(&prestate).unwrap_err();
        assert!(matches!(error, StateError::MissingNode { .. }), "{error}");
    }
}

#[test]
fn a_witness_serves_as_state() {
    fn assert_sync(_: &impl Sync) {}

    let (witness, prestate) = sample();
    let mut state = WitnessState::new(witness.trie().unwrap());
    assert_sync(&state);
    for (address, expected) in prestate.accounts() {
        assert_eq!(state.basic_ref(*address).unwrap(), prestate.basic_ref(*address).unwrap());
        expected.storage.iter().for_each(|(slot, value)| {
            assert_eq!(state.storage_ref(*address, *slot).unwrap(), *value);
        });
    }
    assert_eq!(state.basic_ref(Address::with_last_byte(99)).unwrap(), None);
    assert_eq!(state.storage_ref(Address::with_last_byte(99), U256::ONE).unwrap(), U256::ZERO);

    let (code, hash) = (Bytes::from_static(&[0x00]), keccak256([0x00]));
    assert_eq!(state.code_by_hash_ref(hash).unwrap_err(), StateError::MissingCode(hash));
    let wrong = B256::with_last_byte(1);
    assert_eq!(
        state.insert_code(wrong, code.clone()).unwrap_err(),
        StateError::CodeHash { stated: wrong, actual: hash }
    );
    state.insert_code(hash, code.clone()).unwrap();
    assert_eq!(state.code_by_hash_ref(hash).unwrap().original_bytes(), code);
    assert!(state.code_by_hash_ref(KECCAK_EMPTY).unwrap().is_empty());

    assert_eq!(state.block_hash_ref(5).unwrap_err(), StateError::MissingBlockHash(5));
    state.insert_block_hash(5, wrong);
    assert_eq!(state.block_hash_ref(5).unwrap(), wrong);
}

#[test]
fn code_that_only_looks_like_a_delegation_is_code() {
    let code = Bytes::from_static(&[0xef, 0x01, 0x02]);
    assert!(!analyse_code(code.clone()).is_eip7702());
    assert_eq!(analyse_code(code.clone()).original_bytes(), code);
    let delegation = [&[0xef, 0x01, 0x00][..], &[7; 20]].concat();
    assert!(analyse_code(delegation.into()).is_eip7702());
}

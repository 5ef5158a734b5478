use super::*;
use crate::trie::reference;
use alloy_primitives::Address;
use proptest::{prelude::*, test_runner::RngSeed};
use std::collections::BTreeMap;

const WHAT: StateLocation = StateLocation::Account(Address::ZERO);

type Entries = BTreeMap<B256, Vec<u8>>;

/// A key that starts and ends with the given nibbles, zeros between.
fn key(start: &[u8], end: &[u8]) -> B256 {
    let mut nibbles = vec![0; KEY_NIBBLES];
    nibbles[..start.len()].copy_from_slice(start);
    nibbles[KEY_NIBBLES - end.len()..].copy_from_slice(end);
    B256::from_slice(&Nibbles::from_nibbles(nibbles).pack())
}

fn store_of(nodes: impl IntoIterator<Item = Bytes>) -> NodeStore {
    let mut store = NodeStore::default();
    store.insert(nodes);
    store
}

fn root_of(store: &mut NodeStore, link: &mut Link) -> B256 {
    store.commit(link, &mut |_, _| {})
}

/// Removes `removed` from a trie that holds the same value under all `keys`, and compares the root
/// with the reference.
fn remove_one(keys: &[B256], removed: B256, value: &[u8]) {
    let mut entries: Entries = keys.iter().map(|key| (*key, value.to_vec())).collect();
    let (root, nodes) = reference::trie(&entries);
    let mut store = store_of(nodes);
    let mut link = root_link(root);
    store.set(&mut link, removed, None, &WHAT).unwrap();
    entries.remove(&removed);
    assert_eq!(root_of(&mut store, &mut link), reference::trie(&entries).0);
    assert!(store.get(&link, removed, &WHAT).unwrap().is_none());
    for key in entries.keys() {
        assert_eq!(store.get(&link, *key, &WHAT).unwrap().unwrap().value.as_ref(), value);
    }
}

/// Values that make nodes short enough to be embedded, and ones that do not.
const VALUES: [&[u8]; 2] = [&[7], &[0x55; 40]];

#[test]
fn the_last_key_leaves_the_empty_trie() {
    VALUES.iter().for_each(|value| remove_one(&[key(&[1], &[2])], key(&[1], &[2]), value));
}

#[test]
fn a_branch_collapses_into_a_leaf() {
    for value in VALUES {
        let keys = [key(&[1], &[]), key(&[2], &[])];
        remove_one(&keys, keys[0], value);
        let deep = [key(&[], &[1]), key(&[], &[2])];
        remove_one(&deep, deep[1], value);
    }
}

#[test]
fn a_branch_collapses_into_an_extension() {
    for value in VALUES {
        // The branch at the root goes, its other child is an extension that gets longer.
        let keys = [key(&[1], &[]), key(&[2], &[1]), key(&[2], &[2])];
        remove_one(&keys, keys[0], value);
        // The other child is a branch, which gets an extension above it.
        let keys = [key(&[1], &[]), key(&[2, 1], &[]), key(&[2, 2], &[])];
        remove_one(&keys, keys[0], value);
    }
}

#[test]
fn extensions_above_and_below_a_collapsed_branch_become_one() {
    for value in VALUES {
        let keys = [
            key(&[0, 0, 1], &[]),
            key(&[0, 0, 2], &[0, 1]),
            key(&[0, 0, 2], &[0, 2]),
            key(&[], &[]),
        ];
        remove_one(&keys[..3], keys[0], value);
        // An extension that loses its branch becomes part of the leaf.
        remove_one(&keys[1..3], keys[1], value);
        // A branch that keeps two children stays.
        remove_one(&keys, keys[0], value);
    }
}

#[test]
fn a_missing_sibling_is_named_and_changes_nothing() {
    let keys = [key(&[1], &[1]), key(&[2], &[1])];
    // Unlike values, since equal leaves would be one node.
    let entries: Entries = [(keys[0], vec![7; 40]), (keys[1], vec![6; 40])].into();
    let (root, nodes) = reference::trie(&entries);
    let full = store_of(nodes.clone());
    let sibling = full.get(&root_link(root), keys[1], &WHAT).unwrap().unwrap().node;
    let mut partial = store_of(nodes.into_iter().filter(|node| keccak256(node) != sibling));

    let mut link = root_link(root);
    let error = partial.set(&mut link, keys[0], None, &WHAT).unwrap_err();
    assert_eq!(
        error,
        StateError::MissingNode { node: sibling, what: format!("the removal of {WHAT} beside it") }
    );
    assert_eq!(partial.get(&link, keys[0], &WHAT).unwrap().unwrap().value.as_ref(), [7; 40]);
    assert_eq!(root_of(&mut partial, &mut link), root);

    // A change or an addition beside it does not need it.
    partial.set(&mut link, keys[0], Some(vec![8; 40].into()), &WHAT).unwrap();
    partial.set(&mut link, key(&[3], &[]), Some(vec![9].into()), &WHAT).unwrap();
    let changed: Entries =
        [(keys[0], vec![8; 40]), (keys[1], vec![6; 40]), (key(&[3], &[]), vec![9])].into();
    assert_eq!(root_of(&mut partial, &mut link), reference::trie(&changed).0);
    // With a third child the branch stays, and so the removal succeeds now.
    partial.set(&mut link, keys[0], None, &WHAT).unwrap();
}

#[test]
fn a_node_where_it_does_not_belong_is_refused() {
    // Children two levels down whose leaves are as long as those of the level above.
    let leaf = Node::Leaf { path: Nibbles::unpack([0; 32]).slice(1..), value: vec![5; 40].into() };
    let leaf_hash = keccak256(leaf.to_rlp());
    let branch = |child: B256| {
        let mut children = Box::<[Link; 16]>::default();
        children[0] = Link::Hash(child);
        children[1] = Link::Hash(child);
        Node::Branch { children }
    };
    let below = branch(leaf_hash);
    let root = branch(keccak256(below.to_rlp()));
    let extension =
        Node::Extension { path: Nibbles::from_nibbles([0]), child: Link::Hash(leaf_hash) };
    for root in [root, extension] {
        let root_hash = keccak256(root.to_rlp());
        let store = store_of([&leaf, &below, &root].map(|node| node.to_rlp().into()));
        let error = store.get(&root_link(root_hash), B256::ZERO, &WHAT).unwrap_err();
        let refused =
            matches!(&error, StateError::MalformedNode { node, .. } if *node == leaf_hash);
        // Below the extension the leaf has the right length and the wrong kind.
        assert!(refused, "{error}");
    }
}

/// Few distinct keys that share prefixes of every length.
fn any_key() -> impl Strategy<Value = B256> {
    let nibble = || prop::sample::select(vec![0u8, 1, 15]);
    (nibble(), nibble(), nibble(), nibble()).prop_map(|(a, b, c, d)| key(&[a, b], &[c, d]))
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![(1u8..).prop_map(|byte| vec![byte]), (1u8..).prop_map(|byte| vec![byte; 40])]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_of_changes_gives_the_reference_root(
        initial in prop::collection::btree_map(any_key(), any_value(), 0..40),
        changes in prop::collection::vec(
            (any_key(), prop::option::weighted(0.4, any_value()), prop::bool::ANY), 0..60),
    ) {
        let (root, nodes) = reference::trie(&initial);
        let mut store = store_of(nodes);
        let mut link = root_link(root);
        let mut entries: Entries = initial;
        for (key, value, is_committed) in changes {
            store.set(&mut link, key, value.clone().map(Into::into), &WHAT).unwrap();
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
            if is_committed {
                prop_assert_eq!(root_of(&mut store, &mut link), reference::trie(&entries).0);
            }
        }
        prop_assert_eq!(root_of(&mut store, &mut link), reference::trie(&entries).0);
        for (key, value) in &entries {
            let found = store.get(&link, *key, &WHAT).unwrap().unwrap();
            prop_assert_eq!(found.value.as_ref(), &value[..]);
        }
    }
}

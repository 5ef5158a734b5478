//! Real mainnet witnesses: each proves its block's prestate, and each complete one gives the
//! header's state root for the post-state that the execution specs computed.
//!
//! The blocks lie outside of the repository. Without them the tests say so and pass, but in CI
//! their absence is a failure.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256, map::AddressMap};
use flate2::read::GzDecoder;
use multilane_state::{Prestate, PrestateAccount, StateError, Witness, WitnessTrie};
use revm::{DatabaseRef, primitives::KECCAK_EMPTY};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WitnessFile {
    pre_state_root: B256,
    complete: bool,
    state: Vec<Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrestateFile {
    accounts: AddressMap<AccountFile>,
    absent: Vec<Address>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountFile {
    balance: U256,
    nonce: U256,
    code_hash: Option<B256>,
    storage: BTreeMap<U256, U256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpectedFile {
    post_state: BTreeMap<Address, Option<ChangeFile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeFile {
    balance: Option<U256>,
    nonce: Option<U256>,
    code_hash: Option<B256>,
    #[serde(default)]
    storage: BTreeMap<U256, U256>,
    #[serde(default)]
    storage_cleared: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeaderFile {
    state_root: B256,
}

/// The directories of all blocks, or `None` where the data is not there.
fn block_directories() -> Option<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/mainnet/blocks");
    let Ok(entries) = root.read_dir() else {
        let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!in_ci, "{} is absent", root.display());
        eprintln!("left out: {} is absent, no mainnet witness was checked", root.display());
        return None;
    };
    let mut directories: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    Some(directories)
}

/// The blocks that have a witness.
fn witnessed_blocks() -> Option<Vec<PathBuf>> {
    let mut directories = block_directories()?;
    directories.retain(|directory| directory.join("witness.json.gz").exists());
    Some(directories)
}

fn read_bytes(path: &Path) -> Vec<u8> {
    let file = BufReader::new(File::open(path).unwrap());
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> T {
    serde_json::from_slice(&read_bytes(&directory.join(name))).unwrap()
}

fn read_witness(directory: &Path) -> Witness {
    let WitnessFile { pre_state_root, complete, state } = read(directory, "witness.json.gz");
    Witness { state_root: pre_state_root, nodes: state, complete }
}

fn read_prestate(directory: &Path) -> Prestate {
    let file: PrestateFile = read(directory, "prestate.json.gz");
    let mut prestate = Prestate::new();
    for (address, AccountFile { balance, nonce, code_hash, storage }) in file.accounts {
        let account = PrestateAccount {
            balance,
            nonce: nonce.to(),
            code_hash: code_hash.unwrap_or(KECCAK_EMPTY),
            storage: storage.into_iter().collect(),
        };
        prestate.insert_account(address, account);
    }
    file.absent.into_iter().for_each(|address| prestate.insert_absent(address));
    prestate
}

fn apply(
    trie: &mut WitnessTrie,
    changes: BTreeMap<Address, Option<ChangeFile>>,
) -> Result<(), StateError> {
    for (address, change) in changes {
        let Some(change) = change else {
            trie.delete_account(address)?;
            continue;
        };
        if change.storage_cleared {
            trie.wipe_storage(address)?;
        }
        if let (Some(balance), Some(nonce)) = (change.balance, change.nonce) {
            let code_hash = change.code_hash.unwrap_or(KECCAK_EMPTY);
            trie.set_account(address, balance, nonce.to(), code_hash)?;
        }
        for (slot, value) in change.storage {
            trie.set_storage(address, slot, value)?;
        }
    }
    Ok(())
}

#[test]
fn every_witness_proves_its_prestate_and_every_complete_one_the_post_state_root() {
    let Some(directories) = witnessed_blocks() else { return };
    let mut complete = 0;
    for directory in &directories {
        let block = directory.display();
        let witness = read_witness(directory);
        witness
            .verify(&read_prestate(directory))
            .unwrap_or_else(|error| panic!("{block}: {error}"));
        if !witness.complete {
            continue;
        }
        complete += 1;
        let mut trie = witness.trie().unwrap();
        assert_eq!(trie.root().unwrap(), witness.state_root, "{block}");
        let expected: ExpectedFile = read(directory, "expected.json.gz");
        apply(&mut trie, expected.post_state).unwrap_or_else(|error| panic!("{block}: {error}"));
        let header: HeaderFile = read(directory, "block.json.gz");
        assert_eq!(trie.root().unwrap(), header.state_root, "{block}");
    }
    assert_eq!((directories.len(), complete), (35, 29));
}

#[test]
fn a_flipped_byte_in_a_needed_node_is_an_error_and_in_any_node_no_panic() {
    let Some(directories) = witnessed_blocks() else { return };
    // Small and large, before and after state clearing, deletions and wipes among them.
    for number in ["1", "1150000", "2675000", "21429992"] {
        let directory = directories.iter().find(|directory| directory.ends_with(number)).unwrap();
        let (witness, prestate) = (read_witness(directory), read_prestate(directory));
        let mut needed = 0;
        for index in 0..witness.nodes.len() {
            // Some sources list nodes of the post-state as well, which no read comes by.
            let mut partial = witness.clone();
            partial.nodes.remove(index);
            let is_needed = partial.verify(&prestate).is_err();
            needed += usize::from(is_needed);
            // A place in the node that moves on with the node's number covers headers, paths,
            // hashes and values alike.
            let at = (index * 7) % witness.nodes[index].len();
            for mask in [0x01, 0x80] {
                let mut flipped = witness.clone();
                let mut node = flipped.nodes[index].to_vec();
                node[at] ^= mask;
                flipped.nodes[index] = node.into();
                let verified = flipped.verify(&prestate);
                assert!(
                    !is_needed || verified.is_err(),
                    "block {number}, node {index}, byte {at}, {mask:#x}"
                );
            }
        }
        assert!(needed > 0, "block {number}");
    }
}

#[test]
fn a_geth_trace_gives_the_prestate_of_the_block() {
    let Some(directories) = block_directories() else { return };
    // The source of this block has geth's trace in diff mode. Its `pre` halves are what the plain
    // mode lists of the accounts that change.
    let directory = directories.iter().find(|directory| directory.ends_with("22244135")).unwrap();
    let diff = read_bytes(&directory.join("geth_difftrace.json.gz"));
    let items: Vec<serde_json::Value> = serde_json::from_slice(&diff).unwrap();
    let plain: Vec<_> = items.iter().map(|item| item["result"]["pre"].clone()).collect();
    let plain = serde_json::to_vec(&plain).unwrap();

    let prestate = read_prestate(directory);
    let traced = Prestate::from_prestate_and_diff_trace(&plain, &diff).unwrap();
    for (address, account) in traced.accounts() {
        let expected = prestate.account(address).unwrap();
        assert_eq!(account.balance, expected.balance, "{address}");
        assert_eq!(account.nonce, expected.nonce, "{address}");
        assert_eq!(account.code_hash, expected.code_hash, "{address}");
        for (slot, value) in &account.storage {
            assert_eq!(prestate.storage_ref(*address, *slot).unwrap(), *value, "{address} {slot}");
        }
        if account.code_hash != KECCAK_EMPTY {
            let code = traced.code_by_hash_ref(account.code_hash).unwrap();
            assert_eq!(keccak256(code.original_byte_slice()), account.code_hash);
        }
    }
    for address in traced.absent() {
        assert!(prestate.account(address).is_none(), "{address}");
    }
    assert!(traced.accounts().count() > 100);
}

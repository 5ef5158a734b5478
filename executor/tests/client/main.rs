//! The example `client` against a real node with real traffic: every root is the node's, whenever
//! the client is killed, and blocks that the node takes back are noticed.
//!
//! `cargo test` builds the example beside the tests; a run of this test alone (`--test client`)
//! takes the one that was built last.

mod follower;
mod node;
mod traffic;

use follower::Follower;
use node::Node;
use std::{collections::BTreeSet, fs};
use traffic::Traffic;

/// Blocks of the chain.
const BLOCKS: u64 = 200;
/// Heights of the node at which the client is killed, busy or not.
const KILLS: [u64; 3] = [60, 61, 140];

#[test]
fn a_killed_client_goes_on_where_it_was_and_all_roots_are_the_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let genesis = folder.path().join("genesis.json");
    fs::write(&genesis, serde_json::to_vec(&Traffic::genesis()).unwrap()).unwrap();
    let Some(node) = Node::start(&genesis) else { return };
    let start = |more: &[&str]| Follower::start(&genesis, folder.path(), &node.url(), more);

    // The client follows while the node gets its blocks, and is killed three times meanwhile.
    let mut traffic = Traffic::new();
    let mut imported = BTreeSet::new();
    let mut parallel = 0;
    let mut last = 0;
    let mut note = |line: &str, last: &mut u64| {
        let number = follower::block_number(line);
        assert!(line.ends_with("receipts root ok, state root ok"), "{line}");
        assert!(imported.insert(number), "imported twice: {line}");
        parallel += usize::from(line.contains("parallel"));
        *last = number;
    };
    let mut client = start(&[]);
    client.wait_for("genesis written");
    for number in 1..=BLOCKS {
        node.mine(&traffic.block(number));
        if KILLS.contains(&number) {
            client.kill();
            client.rest().iter().for_each(|line| note(line, &mut last));
            client = start(&["--check"]);
            // A block may have been written and not yet told.
            let resumed = follower::block_number(&client.wait_for("continuing after"));
            assert!(resumed == last || resumed == last + 1, "{resumed} after {last}");
            client.wait_for("state root ok over every account and slot");
            last = resumed;
        }
    }
    while last < BLOCKS {
        note(&client.next(), &mut last);
    }
    let untold = (1..=BLOCKS).filter(|number| !imported.contains(number)).count();
    assert!(untold <= KILLS.len(), "{untold} blocks were never imported");
    assert!(parallel > 50, "{parallel} blocks in parallel");

    // Ctrl-C ends it between two blocks; what it has is what the node has.
    let farewell = client.interrupt();
    let root = node.state_root(BLOCKS);
    assert_eq!(farewell, format!("stopped after block {BLOCKS}, state root {root}"));
    let said = start(&["--check", "--to", "200"]).success();
    assert!(said.contains(&"state root ok over every account and slot".to_owned()), "{said:?}");
    assert_eq!(said.last(), Some(&farewell));

    // The node takes a block back that the client has. A running client and a new one see it.
    let snapshot = node.snapshot();
    node.mine(&traffic.block(BLOCKS + 1));
    let mut client = start(&[]);
    client.wait_for("block 201:");
    node.revert(&snapshot);
    node.mine(&[]);
    node.mine(&[]);
    for error in [client.failure(), start(&[]).failure()] {
        assert!(error.contains("the chain was reorganised: block 201 is now"), "{error}");
    }
}

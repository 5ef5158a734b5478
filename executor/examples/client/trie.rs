//! The state root after a block, from the trie nodes in the database.
//!
//! A trie lives for one block: it begins with the root's node, takes from the database what it
//! misses on the way to what the block changed, and gives out the nodes that came into being. A
//! client that imports mainnet would keep the upper nodes in memory.

use alloy_primitives::{B256, Bytes};
use alloy_trie::EMPTY_ROOT_HASH;
use anyhow::Context;
use multilane::state::{StateError, WitnessTrie};
use revm::database::BundleState;

/// Trie nodes by their hash.
pub(crate) type NewNodes = Vec<(B256, Vec<u8>)>;

/// The root after a block's changes, and the nodes that the state before may not have.
pub(crate) fn state_root(
    parent: B256,
    changes: &BundleState,
    node: impl Fn(B256) -> anyhow::Result<Option<Bytes>>,
) -> anyhow::Result<(B256, NewNodes)> {
    let root_node = if parent == EMPTY_ROOT_HASH { None } else { node(parent)? };
    let mut trie = StoredTrie { trie: WitnessTrie::new(parent, root_node)?, node };
    // First the way to each change alone, so that what is missed costs one look-up again, and not
    // all changes. After that only a deletion can miss a node: the one beside it.
    changes.state.iter().try_for_each(|(address, account)| {
        trie.with(|trie| trie.account(*address).map(drop))?;
        let mut slots = account.storage.keys();
        slots.try_for_each(|slot| trie.with(|trie| trie.storage(*address, *slot).map(drop)))
    })?;
    trie.with(|trie| trie.apply_bundle(changes))?;

    let mut nodes = NewNodes::new();
    let root = trie.trie.root_with_nodes(&mut |hash, rlp| nodes.push((hash, rlp.to_vec())))?;
    Ok((root, nodes))
}

/// A trie with the place where its other nodes are.
struct StoredTrie<N> {
    trie: WitnessTrie,
    node: N,
}

impl<N: Fn(B256) -> anyhow::Result<Option<Bytes>>> StoredTrie<N> {
    /// Does something with the trie, again with each node that is missed.
    fn with(
        &mut self,
        mut act: impl FnMut(&mut WitnessTrie) -> Result<(), StateError>,
    ) -> anyhow::Result<()> {
        loop {
            match act(&mut self.trie) {
                Err(StateError::MissingNode { node, what }) => {
                    let found = (self.node)(node)?;
                    let found = found
                        .with_context(|| format!("there is no trie node {node} for {what}"))?;
                    self.trie.insert_nodes([found]);
                }
                result => return Ok(result?),
            }
        }
    }
}

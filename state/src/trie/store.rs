//! Nodes by hash, and reading and changing a trie made of them.
//!
//! A trie is a [`Link`] to its root. Reading follows hashes through the store. Changing loads
//! copies of the nodes on the changed path into the link itself; [`NodeStore::commit`] hashes them
//! from the bottom up and puts them back into the store, so that the next change again touches
//! nothing but its own path. All tries of a state share one store: equal subtries have equal
//! hashes.
//!
//! This module does not know accounts: a value is bytes, and a [`StateLocation`] serves error
//! messages only.

use super::node::{KEY_NIBBLES, Link, Node};
use crate::{StateError, StateLocation};
use alloy_primitives::{B256, Bytes, keccak256, map::B256Map};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};

/// Nodes by their keccak-256 hash.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeStore {
    nodes: B256Map<Node>,
    /// Why what has this hash is not a node. An error only if a trie leads to it: witnesses of some
    /// sources list leaf values among the nodes.
    malformed: B256Map<alloy_rlp::Error>,
}

/// Takes the hash and the RLP of a node.
pub(super) type Made<'a> = &'a mut dyn FnMut(B256, &[u8]);

/// Where in a trie a hash was met, which limits what its node may be.
#[derive(Clone, Copy)]
struct Place {
    /// Nibbles that keys through this place have left.
    remaining: usize,
    /// Whether the parent is an extension, so that only a branch may follow.
    below_extension: bool,
}

impl Place {
    const ROOT: Self = Self { remaining: KEY_NIBBLES, below_extension: false };

    const fn below_branch(rest: &Nibbles) -> Self {
        Self { remaining: rest.len(), below_extension: false }
    }

    const fn below_extension(rest: &Nibbles) -> Self {
        Self { remaining: rest.len(), below_extension: true }
    }
}

/// The link to a trie with this root hash.
pub(super) fn root_link(root: B256) -> Link {
    if root == EMPTY_ROOT_HASH { Link::Empty } else { Link::Hash(root) }
}

/// A leaf's value and the hash of the node that holds it, for error messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) value: &'a Bytes,
    pub(super) node: B256,
}

impl NodeStore {
    /// Decodes and indexes nodes, beside those that are there.
    pub(super) fn insert(&mut self, nodes: impl IntoIterator<Item = Bytes>) {
        for raw in nodes {
            let hash = keccak256(&raw);
            match Node::decode(&raw) {
                Ok(Some(node)) => {
                    self.nodes.insert(hash, node);
                }
                Ok(None) => {}
                Err(cause) => {
                    self.malformed.insert(hash, cause);
                }
            }
        }
    }

    /// Checks that a trie with this root hash can be entered.
    pub(super) fn check_root(&self, root: B256) -> Result<(), StateError> {
        let node = self.find(root, || "the state root".into())?;
        check_place(root, node, Place::ROOT)
    }

    fn find(&self, hash: B256, what: impl FnOnce() -> String) -> Result<&Node, StateError> {
        self.nodes.get(&hash).ok_or_else(|| match self.malformed.get(&hash) {
            Some(cause) => malformed(hash, cause),
            None => StateError::MissingNode { node: hash, what: what() },
        })
    }

    fn load(&self, hash: B256, place: Place, what: &StateLocation) -> Result<&Node, StateError> {
        let node = self.find(hash, || what.to_string())?;
        check_place(hash, node, place)?;
        Ok(node)
    }

    /// The value under `key`.
    pub(super) fn get<'a>(
        &'a self,
        root: &'a Link,
        key: B256,
        what: &StateLocation,
    ) -> Result<Option<Found<'a>>, StateError> {
        let mut link = root;
        let mut place = Place::ROOT;
        let mut rest = Nibbles::unpack(key);
        let mut last_hash = B256::ZERO;
        loop {
            let node = match link {
                Link::Empty => return Ok(None),
                Link::Hash(hash) => {
                    last_hash = *hash;
                    self.load(*hash, place, what)?
                }
                Link::Node(node) => node,
            };
            match node {
                Node::Leaf { path, value } => {
                    return Ok((*path == rest).then_some(Found { value, node: last_hash }));
                }
                Node::Extension { path, child } => {
                    if !rest.starts_with(path) {
                        return Ok(None);
                    }
                    rest = rest.slice(path.len()..);
                    place = Place::below_extension(&rest);
                    link = child;
                }
                Node::Branch { children } => {
                    let (nibble, below) = split_first(&rest);
                    rest = below;
                    place = Place::below_branch(&rest);
                    link = &children[nibble];
                }
            }
        }
    }

    /// Sets the value under `key`, or removes it. On an error the trie is as it was.
    pub(super) fn set(
        &self,
        root: &mut Link,
        key: B256,
        value: Option<Bytes>,
        what: &StateLocation,
    ) -> Result<(), StateError> {
        // Reading first keeps unchanged paths clean, and it leaves one way to fail once nodes
        // move: a removal's sibling, which `remove` looks at before it changes anything.
        let current = self.get(root, key, what)?.map(|found| found.value);
        if current == value.as_ref() {
            return Ok(());
        }
        let path = Nibbles::unpack(key);
        match value {
            Some(value) => self.set_below(root, Place::ROOT, path, value, what),
            None => self.remove(root, Place::ROOT, path, what),
        }
    }

    /// Replaces a hash by a copy of its node, which may then be changed.
    fn resolve<'a>(
        &self,
        link: &'a mut Link,
        place: Place,
        what: &StateLocation,
    ) -> Result<Option<&'a mut Node>, StateError> {
        if let Link::Hash(hash) = link {
            *link = self.load(*hash, place, what)?.clone().into();
        }
        Ok(match link {
            Link::Node(node) => Some(node),
            Link::Empty | Link::Hash(_) => None,
        })
    }

    fn set_below(
        &self,
        link: &mut Link,
        place: Place,
        rest: Nibbles,
        value: Bytes,
        what: &StateLocation,
    ) -> Result<(), StateError> {
        match self.resolve(link, place, what)? {
            None => {
                *link = Node::Leaf { path: rest, value }.into();
                Ok(())
            }
            Some(Node::Leaf { path, value: old }) if *path == rest => {
                *old = value;
                Ok(())
            }
            Some(Node::Extension { path, child }) if rest.starts_with(path) => {
                let rest = rest.slice(path.len()..);
                self.set_below(child, Place::below_extension(&rest), rest, value, what)
            }
            Some(Node::Branch { children }) => {
                let (nibble, rest) = split_first(&rest);
                self.set_below(&mut children[nibble], Place::below_branch(&rest), rest, value, what)
            }
            Some(Node::Leaf { .. } | Node::Extension { .. }) => {
                if let Link::Node(node) = core::mem::take(link) {
                    *link = split(*node, &rest, value);
                }
                Ok(())
            }
        }
    }

    /// Removes a key that is known to be present.
    fn remove(
        &self,
        link: &mut Link,
        place: Place,
        rest: Nibbles,
        what: &StateLocation,
    ) -> Result<(), StateError> {
        match self.resolve(link, place, what)? {
            None => {}
            Some(Node::Leaf { .. }) => *link = Link::Empty,
            Some(Node::Extension { path, child }) => {
                let rest = rest.slice(path.len()..);
                self.remove(child, Place::below_extension(&rest), rest, what)?;
                // The branch below may have collapsed.
                if let Link::Node(below) = core::mem::take(child) {
                    *link = prepend(path, *below).into();
                }
            }
            Some(Node::Branch { children }) => {
                let (nibble, rest) = split_first(&rest);
                let place = Place::below_branch(&rest);
                let Some(sibling) = only_other_child(children, nibble) else {
                    return self.remove(&mut children[nibble], place, rest, what);
                };
                // With one child left the branch goes, if the removed child is a leaf and not a
                // subtrie that only gets smaller.
                let child = self.resolve(&mut children[nibble], place, what)?;
                if !matches!(child, Some(Node::Leaf { .. })) {
                    return self.remove(&mut children[nibble], place, rest, what);
                }
                let mut prefix = Nibbles::new();
                prefix.push_unchecked(sibling as u8);
                if let Link::Hash(hash) = &children[sibling] {
                    let node = self.load(*hash, place, what).map_err(sibling_needed)?;
                    // A branch keeps its hash: only the path above it gets longer.
                    if !matches!(node, Node::Branch { .. }) {
                        children[sibling] = node.clone().into();
                    }
                }
                *link = match core::mem::take(&mut children[sibling]) {
                    Link::Node(node) => prepend(&prefix, *node).into(),
                    branch => Node::Extension { path: prefix, child: branch }.into(),
                };
            }
        }
        Ok(())
    }

    /// Hashes what was changed, from the bottom up, and returns the root hash. `made` sees each node
    /// that was hashed: its hash, and its RLP.
    pub(super) fn commit(&mut self, root: &mut Link, made: Made<'_>) -> B256 {
        self.commit_below(root, made);
        match root {
            Link::Empty => EMPTY_ROOT_HASH,
            Link::Hash(hash) => *hash,
            // A root is hashed however short it is.
            Link::Node(node) => {
                let rlp = node.to_rlp();
                let hash = keccak256(&rlp);
                made(hash, &rlp);
                self.keep(root, hash);
                hash
            }
        }
    }

    fn commit_below(&mut self, link: &mut Link, made: Made<'_>) {
        let Link::Node(node) = link else { return };
        match &mut **node {
            Node::Leaf { .. } => {}
            Node::Extension { child, .. } => self.commit_below(child, made),
            Node::Branch { children } => {
                children.iter_mut().for_each(|child| self.commit_below(child, made));
            }
        }
        let rlp = node.to_rlp();
        if Node::is_hashed(&rlp) {
            let hash = keccak256(&rlp);
            made(hash, &rlp);
            self.keep(link, hash);
        }
    }

    fn keep(&mut self, link: &mut Link, hash: B256) {
        if let Link::Node(node) = core::mem::replace(link, Link::Hash(hash)) {
            self.nodes.insert(hash, *node);
        }
    }
}

/// A [`StateError::MalformedNode`].
pub(super) fn malformed(node: B256, cause: &alloy_rlp::Error) -> StateError {
    StateError::MalformedNode { node, cause: cause.to_string() }
}

fn check_place(hash: B256, node: &Node, place: Place) -> Result<(), StateError> {
    if place.below_extension && !matches!(node, Node::Branch { .. }) {
        let cause = alloy_rlp::Error::Custom("not a branch, but below an extension");
        return Err(malformed(hash, &cause));
    }
    node.check_depth(place.remaining).map_err(|cause| malformed(hash, &cause))
}

fn sibling_needed(error: StateError) -> StateError {
    match error {
        StateError::MissingNode { node, what } => {
            StateError::MissingNode { node, what: format!("the removal of {what} beside it") }
        }
        other => other,
    }
}

/// The first nibble, and what follows it. At a branch there always is one: nodes are checked
/// against the length of keys when they are loaded.
fn split_first(path: &Nibbles) -> (usize, Nibbles) {
    (usize::from(path.get_unchecked(0)), path.slice(1..))
}

/// The index of the only child beside `nibble`.
fn only_other_child(children: &[Link; 16], nibble: usize) -> Option<usize> {
    let mut others = (0..16).filter(|index| *index != nibble && !children[*index].is_empty());
    let first = others.next();
    if others.next().is_none() { first } else { None }
}

/// Puts `prefix` in front of a node's path.
fn prepend(prefix: &Nibbles, node: Node) -> Node {
    match node {
        Node::Leaf { path, value } => Node::Leaf { path: prefix.join(&path), value },
        Node::Extension { path, child } => Node::Extension { path: prefix.join(&path), child },
        branch @ Node::Branch { .. } => Node::Extension { path: *prefix, child: branch.into() },
    }
}

/// Parts a leaf or extension where `rest` leaves its path, and adds a leaf for `rest`.
fn split(node: Node, rest: &Nibbles, value: Bytes) -> Link {
    let (Node::Leaf { path, .. } | Node::Extension { path, .. }) = &node else {
        return node.into();
    };
    let path = *path;
    let common = path.common_prefix_length(rest);
    let (old_nibble, old_path) = split_first(&path.slice(common..));
    let (new_nibble, new_path) = split_first(&rest.slice(common..));
    let mut children = Box::<[Link; 16]>::default();
    children[old_nibble] = match node {
        Node::Leaf { value, .. } => Node::Leaf { path: old_path, value }.into(),
        Node::Extension { child, .. } if old_path.is_empty() => child,
        Node::Extension { child, .. } => Node::Extension { path: old_path, child }.into(),
        branch @ Node::Branch { .. } => branch.into(),
    };
    children[new_nibble] = Node::Leaf { path: new_path, value }.into();
    let branch = Node::Branch { children };
    if common == 0 { branch.into() } else { prepend(&path.slice(..common), branch).into() }
}

#[cfg(test)]
mod tests;

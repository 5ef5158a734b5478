//! One node of a Merkle Patricia trie: its shape, and its RLP form in both directions.
//!
//! This module knows the Yellow Paper's appendix D and nothing about where nodes are kept or what
//! their values mean. Keys are always 64 nibbles (keccak-256), hence a branch never holds a value.

use alloy_primitives::{B256, Bytes};
use alloy_rlp::{EMPTY_STRING_CODE, Encodable, Error, Header};
use alloy_trie::{Nibbles, nodes::encode_path_leaf};

/// Nibbles of a key.
pub(super) const KEY_NIBBLES: usize = 64;

/// RLP shorter than this stands in its parent itself, any other node by its hash.
const HASH_BYTES: usize = 32;

/// How a parent, or the holder of a trie's root, refers to a node.
#[derive(Clone, Debug, Default)]
pub(super) enum Link {
    /// No node.
    #[default]
    Empty,
    /// An unchanged node by its hash, kept in the store or not known at all.
    Hash(B256),
    /// A node that is embedded in its parent, or that was changed and has no hash yet.
    Node(Box<Node>),
}

/// A node. Well-formed by construction: an extension has a path and leads to a branch, a branch
/// has at least two children, a leaf has a value.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// The end of a key and its value.
    Leaf { path: Nibbles, value: Bytes },
    /// Nibbles that all keys below share.
    Extension { path: Nibbles, child: Link },
    /// One child for each next nibble.
    Branch { children: Box<[Link; 16]> },
}

impl From<Node> for Link {
    fn from(node: Node) -> Self {
        Self::Node(Box::new(node))
    }
}

impl Link {
    /// Whether there is no node.
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => out.push(EMPTY_STRING_CODE),
            Self::Hash(hash) => hash.encode(out),
            Self::Node(node) => node.encode(out),
        }
    }

    /// `item` is one whole RLP item of the node `whole`.
    fn decode(whole: &Bytes, item: &[u8]) -> Result<Self, Error> {
        let mut rest = item;
        if is_list(item) {
            // Besides being the rule this bounds the recursion: every level takes bytes of its own.
            if item.len() >= HASH_BYTES {
                return Err(Error::Custom("an embedded node of 32 bytes or more"));
            }
            return Node::decode_list(whole, &mut rest).map(Into::into);
        }
        let reference = Header::decode_bytes(&mut rest, false)?;
        match reference.len() {
            0 => Ok(Self::Empty),
            HASH_BYTES => Ok(Self::Hash(B256::from_slice(reference))),
            _ => Err(Error::Custom("a child that is neither a hash nor a node")),
        }
    }
}

impl Node {
    /// Decodes a node in its own right. `None` is the empty trie's node.
    ///
    /// Every shape that no trie of 64-nibble keys has is refused, except what only the node's place
    /// in the trie can tell, see [`Node::check_depth`].
    pub(super) fn decode(raw: &Bytes) -> Result<Option<Self>, Error> {
        if raw.as_ref() == [EMPTY_STRING_CODE] {
            return Ok(None);
        }
        let mut rest = raw.as_ref();
        let node = Self::decode_list(raw, &mut rest)?;
        if !rest.is_empty() {
            return Err(Error::Custom("bytes after the node"));
        }
        Ok(Some(node))
    }

    fn decode_list(whole: &Bytes, rest: &mut &[u8]) -> Result<Self, Error> {
        let mut payload = Header::decode_bytes(rest, true)?;
        let mut items = [&[][..]; 17];
        let mut count = 0;
        while !payload.is_empty() {
            let start = payload;
            let header = Header::decode(&mut payload)?;
            payload = &payload[header.payload_length..];
            *items.get_mut(count).ok_or(Error::Custom("more than 17 items"))? =
                &start[..start.len() - payload.len()];
            count += 1;
        }
        match count {
            2 => Self::decode_short(whole, items[0], items[1]),
            17 => Self::decode_branch(whole, &items),
            _ => Err(Error::Custom("neither 2 nor 17 items")),
        }
    }

    fn decode_short(whole: &Bytes, mut path: &[u8], mut second: &[u8]) -> Result<Self, Error> {
        let (is_leaf, path) = decode_path(Header::decode_bytes(&mut path, false)?)?;
        if is_leaf {
            let value = Header::decode_bytes(&mut second, false)?;
            if value.is_empty() {
                return Err(Error::Custom("a leaf without a value"));
            }
            return Ok(Self::Leaf { path, value: whole.slice_ref(value) });
        }
        if path.is_empty() {
            return Err(Error::Custom("an extension without a path"));
        }
        let child = Link::decode(whole, second)?;
        match &child {
            Link::Hash(_) => {}
            Link::Node(node) if matches!(**node, Self::Branch { .. }) => {}
            _ => return Err(Error::Custom("an extension that leads to no branch")),
        }
        Ok(Self::Extension { path, child })
    }

    fn decode_branch(whole: &Bytes, items: &[&[u8]; 17]) -> Result<Self, Error> {
        let mut children = Box::<[Link; 16]>::default();
        for (child, item) in children.iter_mut().zip(items) {
            *child = Link::decode(whole, item)?;
        }
        if items[16] != [EMPTY_STRING_CODE] {
            return Err(Error::Custom("a branch with a value"));
        }
        if children.iter().filter(|child| !child.is_empty()).count() < 2 {
            return Err(Error::Custom("a branch with fewer than two children"));
        }
        Ok(Self::Branch { children })
    }

    /// Checks that keys with `remaining` nibbles left end in leaves, in this node and in the nodes
    /// embedded in it. Nodes behind a hash are checked when they are reached.
    pub(super) fn check_depth(&self, remaining: usize) -> Result<(), Error> {
        let check_embedded = |link: &Link, remaining| match link {
            Link::Node(node) => node.check_depth(remaining),
            Link::Empty | Link::Hash(_) => Ok(()),
        };
        match self {
            Self::Leaf { path, .. } if path.len() == remaining => Ok(()),
            Self::Leaf { .. } => Err(Error::Custom("a leaf whose key is not 64 nibbles long")),
            Self::Extension { path, child } if path.len() < remaining => {
                check_embedded(child, remaining - path.len())
            }
            Self::Branch { children } if remaining > 0 => {
                children.iter().try_for_each(|child| check_embedded(child, remaining - 1))
            }
            Self::Extension { .. } | Self::Branch { .. } => {
                Err(Error::Custom("a path of more than 64 nibbles"))
            }
        }
    }

    /// The RLP form. Children that are not embedded must be hashes already.
    pub(super) fn to_rlp(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Whether a node with this RLP stands in its parent by hash.
    pub(super) const fn is_hashed(rlp: &[u8]) -> bool {
        rlp.len() >= HASH_BYTES
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(16 * (HASH_BYTES + 1) + 1);
        match self {
            Self::Leaf { path, value } => {
                encode_path_leaf(path, true).as_slice().encode(&mut payload);
                value.as_ref().encode(&mut payload);
            }
            Self::Extension { path, child } => {
                encode_path_leaf(path, false).as_slice().encode(&mut payload);
                child.encode(&mut payload);
            }
            Self::Branch { children } => {
                children.iter().for_each(|child| child.encode(&mut payload));
                payload.push(EMPTY_STRING_CODE);
            }
        }
        Header { list: true, payload_length: payload.len() }.encode(out);
        out.extend_from_slice(&payload);
    }
}

fn is_list(item: &[u8]) -> bool {
    item.first().is_some_and(|first| *first >= alloy_rlp::EMPTY_LIST_CODE)
}

/// Reads a hex-prefix path: whether it belongs to a leaf, and its nibbles.
fn decode_path(encoded: &[u8]) -> Result<(bool, Nibbles), Error> {
    let (&first, packed) = encoded.split_first().ok_or(Error::Custom("a path without a prefix"))?;
    let (flags, odd_nibble) = (first >> 4, first & 0x0f);
    let is_odd = flags & 1 == 1;
    if flags > 3 || (!is_odd && odd_nibble != 0) {
        return Err(Error::Custom("a path with an unknown prefix"));
    }
    if packed.len() * 2 + usize::from(is_odd) > KEY_NIBBLES {
        return Err(Error::Custom("a path of more than 64 nibbles"));
    }
    let mut path = Nibbles::new();
    if is_odd {
        path.push(odd_nibble);
    }
    path.extend(&Nibbles::unpack(packed));
    Ok((flags & 2 == 2, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(raw: &[u8]) -> Result<Option<Node>, Error> {
        Node::decode(&Bytes::copy_from_slice(raw))
    }

    fn list(items: &[&[u8]]) -> Vec<u8> {
        let payload = items.concat();
        let mut out = Vec::new();
        Header { list: true, payload_length: payload.len() }.encode(&mut out);
        out.extend(payload);
        out
    }

    #[test]
    fn paths_follow_the_hex_prefix_rules() {
        for nibbles in [&[][..], &[1], &[1, 2], &[0xf, 0, 3], &[7; 63], &[9; 64]] {
            let path = Nibbles::from_nibbles(nibbles);
            for is_leaf in [false, true] {
                let encoded = encode_path_leaf(&path, is_leaf);
                assert_eq!(decode_path(&encoded).unwrap(), (is_leaf, path));
            }
        }
        assert!(decode_path(&[]).is_err());
        assert!(decode_path(&[0x40]).is_err());
        assert!(decode_path(&[0x01]).is_err());
        assert!(decode_path(&[0x3f; 33]).is_err());
        assert!(decode_path(&[0x20; 34]).is_err());
    }

    #[test]
    fn nodes_keep_their_encoding() {
        let leaf = list(&[&[0x31], &[0x05]]);
        let mut children = vec![&[0x80][..]; 17];
        children[3] = &leaf;
        children[9] = &leaf;
        let branch = list(&children);
        assert_eq!(branch.len(), 22);
        let extension = list(&[&[0x16], &branch]);
        for raw in [&leaf, &branch, &extension] {
            assert_eq!(&decode(raw).unwrap().unwrap().to_rlp(), raw);
        }
        assert!(decode(&[0x80]).unwrap().is_none());
    }

    #[test]
    fn shapes_that_no_trie_has_are_refused() {
        let hash = [&[0xa0][..], &[7; 32]].concat();
        let leaf = list(&[&[0x31], &[0x05]]);
        let one_child = [&[&leaf[..]][..], &[&[0x80][..]; 16]].concat();
        let with_value = [&[&hash[..]; 2][..], &[&[0x80][..]; 14], &[&[0x05]]].concat();
        let big_embedded = list(&[&[0x31], &hash]);
        let embeds_too_much = [&[&big_embedded[..]; 2][..], &[&[0x80][..]; 15]].concat();
        let cases: [(&str, Vec<u8>); 13] = [
            ("nothing", vec![]),
            ("a string", hash.clone()),
            ("no items", list(&[])),
            ("three items", list(&[&[0x31], &[0x05], &[0x05]])),
            ("eighteen items", list(&[&[0x80][..]; 18])),
            ("trailing bytes", [&leaf[..], &[0]].concat()),
            ("a length beyond the end", vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("an empty value", list(&[&[0x31], &[0x80]])),
            ("an extension to a leaf", list(&[&[0x16], &leaf])),
            ("an extension to nothing", list(&[&[0x16], &[0x80]])),
            ("an only child", list(&one_child)),
            ("a branch value", list(&with_value)),
            ("a big embedded node", list(&embeds_too_much)),
        ];
        for (what, raw) in cases {
            assert!(decode(&raw).is_err(), "{what}");
        }
    }

    #[test]
    fn deep_nesting_ends_in_an_error() {
        let mut raw = list(&[&[0x31], &[0x05]]);
        for _ in 0..100_000 {
            raw = list(&[&[0x16], &raw]);
            if raw.len() > 4096 {
                break;
            }
        }
        assert!(decode(&raw).is_err());
        assert!(decode(&[0xc1; 10_000]).is_err());
    }

    #[test]
    fn a_key_ends_where_it_must() {
        let leaf = Node::Leaf { path: Nibbles::from_nibbles([1, 2]), value: vec![5].into() };
        assert!(leaf.check_depth(2).is_ok());
        assert!(leaf.check_depth(3).is_err());
        let mut children = Box::<[Link; 16]>::default();
        children[0] = leaf.clone().into();
        children[1] = leaf.into();
        let branch = Node::Branch { children };
        assert!(branch.check_depth(3).is_ok());
        assert!(branch.check_depth(0).is_err());
        let extension = Node::Extension { path: Nibbles::from_nibbles([1]), child: branch.into() };
        assert!(extension.check_depth(4).is_ok());
        assert!(extension.check_depth(3).is_err());
        assert!(extension.check_depth(1).is_err());
    }
}

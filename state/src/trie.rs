//! The Merkle Patricia trie over a witness.

//! Parent state proven by trie nodes.

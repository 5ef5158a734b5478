//! What an [evaluation](super::evaluate) works on: the values that it has computed, the accesses that
//! it has found, and a memory of what was hashed. Used again from transaction to transaction.
//!
//! *Must not know*: what a value means.

use super::{
    bits::Bits,
    byte_arena::{ByteArena, ByteRun},
    memo::Question,
};
use crate::keccak_cache::KeccakCache;
use alloy_primitives::{Address, B256, U256, keccak256};
use multilane_state::StateLocation;

/// Hashes that are remembered, of one word and of two, and of what CREATE2 derives an address from.
const WORD_HASHES: usize = 1 << 10;
const PAIR_HASHES: usize = 1 << 13;
const CREATED_HASHES: usize = 1 << 10;
/// The bytes that CREATE2 hashes: 0xff, an address, a salt, and the hash of a code (EIP-1014).
const CREATED_BYTES: usize = 85;

/// An access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) location: StateLocation,
    pub(super) writes: bool,
    /// The value that is stored, as far as it is known, if it is of interest.
    pub(super) stored: Option<Bits>,
    /// The call that it belongs to, if that was made.
    pub(super) call: CallId,
    /// The site of that call's template.
    pub(super) site: Option<u8>,
}

/// A call of the transaction, by its place among those that are followed, counted from one. Zero is
/// the transaction's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId(pub(super) u32);

/// What is known of a register's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Unasked,
    Known,
    /// Some bits are known.
    Partly,
    Unknown,
}

/// What has become of one of a program's calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FollowedCall {
    pub(super) is_followed: bool,
    pub(super) is_made: bool,
    /// The call that makes it.
    pub(super) parent: CallId,
    pub(super) output: Option<ByteRun>,
}

/// Memory for evaluations, used again and again, and a memory of what was hashed.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) bytes: ByteArena,
    /// Of all calls, one behind the other. Values count where the register is known.
    pub(super) registers: Vec<Register>,
    pub(super) values: Vec<U256>,
    /// Of registers that are known in part. Few are.
    pub(super) parts: Vec<(usize, Bits)>,
    /// Positions of accesses, for writes of the same slots.
    pub(super) notes: Vec<Option<usize>>,
    pub(super) calls: Vec<FollowedCall>,
    /// What the transaction is expected to access; with repetitions.
    pub(super) accesses: Vec<Access>,
    /// What was asked about the transaction, in order, and the answers.
    pub(super) asked: Vec<(Question, U256)>,
    pub(super) word_hashes: KeccakCache<32>,
    pub(super) pair_hashes: KeccakCache<64>,
    pub(super) created_hashes: KeccakCache<CREATED_BYTES>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            bytes: ByteArena::default(),
            registers: Vec::new(),
            values: Vec::new(),
            parts: Vec::new(),
            notes: Vec::new(),
            calls: Vec::new(),
            accesses: Vec::new(),
            asked: Vec::new(),
            word_hashes: KeccakCache::new(WORD_HASHES),
            pair_hashes: KeccakCache::new(PAIR_HASHES),
            created_hashes: KeccakCache::new(CREATED_HASHES),
        }
    }
}

impl Desk {
    /// Makes ready for the next transaction.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.registers.clear();
        self.parts.clear();
        self.notes.clear();
        self.calls.clear();
        self.accesses.clear();
        self.asked.clear();
    }

    /// What the transaction is expected to access, without what belongs to calls that are not made;
    /// with repetitions.
    pub(super) fn accesses(&self) -> impl Iterator<Item = &Access> {
        self.accesses.iter().filter(|access| self.is_made(access.call))
    }

    /// Whether a call is made, and those that lead to it.
    fn is_made(&self, mut call: CallId) -> bool {
        while let Some(at) = (call.0 as usize).checked_sub(1) {
            let followed = self.calls[at];
            if !followed.is_made {
                return false;
            }
            // The one that makes a call is always an earlier one.
            call = followed.parent;
        }
        true
    }

    /// Notes that the transaction accesses an account, whatever its calls do.
    pub(super) fn account(&mut self, address: Address, writes: bool) {
        self.access(CallId::default(), StateLocation::Account(address), writes);
    }

    pub(super) fn access(&mut self, call: CallId, location: StateLocation, writes: bool) -> usize {
        self.accesses.push(Access { location, writes, stored: None, call, site: None });
        self.accesses.len() - 1
    }

    pub(super) fn hash(&mut self, run: ByteRun) -> Option<B256> {
        let bytes = self.bytes.known(run)?;
        if let Ok(pair) = bytes.try_into() {
            return Some(self.pair_hashes.hash(pair));
        }
        if let Ok(created) = bytes.try_into() {
            return Some(self.created_hashes.hash(created));
        }
        Some(keccak256(bytes))
    }
}

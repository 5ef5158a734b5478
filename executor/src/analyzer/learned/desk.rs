//! What an [evaluation](super::evaluate) works on: the values that it has computed, the accesses that
//! it has found, and a memory of what was hashed. Used again from transaction to transaction.
//!
//! *Must not know*: what a value means.

use super::{
    access::{AccessKind, LearnedAccess},
    bits::Bits,
    byte_arena::{ByteArena, ByteRun},
    evaluate::Frame,
    memo::Question,
    pool::Reusable,
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
    pub(super) kind: AccessKind,
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
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) bytes: ByteArena,
    /// All calls for which there is a template, those that have ended included.
    pub(super) frames: Vec<Frame>,
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
    /// Accesses that write slots: a part of the slot, to find it by, and the position.
    written: Vec<(u64, usize)>,
    /// Positions of accesses that store something of interest, and what, as far as it is known. Of
    /// several values of one the last one stays.
    stored: Vec<(usize, Bits)>,
    /// What was asked about the transaction, in order, and the answers.
    pub(super) asked: Vec<(Question, U256)>,
    pub(super) hashes: Hashes,
    /// Positions of accesses, in the order in which they are gathered.
    order: Vec<(u64, usize)>,
}

impl Reusable for Desk {
    fn reset(&mut self) {
        self.clear();
    }
}

impl Desk {
    /// Makes ready for the next transaction.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.registers.clear();
        self.parts.clear();
        self.notes.clear();
        self.calls.clear();
        self.accesses.clear();
        self.written.clear();
        self.stored.clear();
        self.asked.clear();
    }

    /// What the transaction is expected to access, without what belongs to calls that are not made;
    /// with repetitions.
    pub(super) fn accesses(&self) -> impl Iterator<Item = &Access> {
        self.accesses.iter().filter(|access| self.is_made(access.call))
    }

    /// What the transaction is expected to access, each location once.
    pub(super) fn gather(&mut self) -> Vec<LearnedAccess> {
        // Sorted, because most transactions access too little for hashing to be worth it.
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        let made = self.accesses.iter().enumerate().filter(|(_, access)| self.is_made(access.call));
        order.extend(made.map(|(at, access)| (sort_key(&access.location), at)));
        let location = |at: usize| self.accesses[at].location;
        order.sort_unstable_by(|(one, at), (other, other_at)| {
            one.cmp(other).then_with(|| location(*at).cmp(&location(*other_at)))
        });
        let mut gathered: Vec<LearnedAccess> = Vec::with_capacity(order.len());
        for (_, at) in &order {
            let Access { location, kind, .. } = self.accesses[*at];
            match gathered.last_mut() {
                Some(last) if last.location == location => last.kind = last.kind.and(kind),
                _ => gathered.push(LearnedAccess { location, kind }),
            }
        }
        self.order = order;
        gathered
    }

    /// What is expected to be stored where that is of interest, as far as it is known. Of several
    /// values for one location the last one stays.
    pub(super) fn stored(&self) -> impl Iterator<Item = (StateLocation, Bits)> + '_ {
        let stored = self.stored.iter().map(|(at, value)| (&self.accesses[*at], *value));
        let made = stored.filter(|(access, _)| self.is_made(access.call));
        made.map(|(access, value)| (access.location, value))
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
    pub(super) fn account(&mut self, address: Address, kind: AccessKind) {
        self.access(CallId::default(), StateLocation::Account(address), kind);
    }

    pub(super) fn access(
        &mut self,
        call: CallId,
        location: StateLocation,
        kind: AccessKind,
    ) -> usize {
        let at = self.accesses.len();
        let access = Access { location, kind: AccessKind::Read, call, site: None };
        self.accesses.push(access);
        if kind.writes() {
            self.write(at, kind, None);
        }
        at
    }

    /// Makes an access one that writes, and what, if that is of interest.
    pub(super) fn write(&mut self, at: usize, kind: AccessKind, stored: Option<Bits>) {
        self.stored.extend(stored.map(|value| (at, value)));
        let access = &mut self.accesses[at];
        let is_new = !access.kind.writes();
        access.kind = access.kind.and(kind);
        if is_new && let StateLocation::Slot(_, slot) = access.location {
            self.written.push((part_of(slot), at));
        }
    }

    /// Whether another call than this one writes a slot.
    pub(super) fn is_written_by_other(&self, call: CallId, address: Address, slot: U256) -> bool {
        let part = part_of(slot);
        let mut alike = self.written.iter().filter(|(known, _)| *known == part);
        alike.any(|(_, at)| {
            let access = &self.accesses[*at];
            let location = StateLocation::Slot(address, slot);
            access.kind.writes() && access.call != call && access.location == location
        })
    }

    pub(super) fn hash(&mut self, run: ByteRun) -> Option<B256> {
        let Self { bytes, hashes, .. } = self;
        Some(hashes.hash(bytes.known(run)?))
    }

    /// Begins a call that no program makes, by the call around it.
    pub(super) fn add_call(&mut self, parent: CallId) -> CallId {
        let call = FollowedCall { is_followed: true, is_made: true, parent, output: None };
        self.calls.push(call);
        CallId(self.calls.len() as u32)
    }

    /// Takes a call back: it is not made, and neither is what it leads to.
    pub(super) fn drop_call(&mut self, id: CallId) {
        if let Some(at) = (id.0 as usize).checked_sub(1) {
            self.calls[at].is_made = false;
        }
    }
}

const fn part_of(slot: U256) -> u64 {
    slot.as_limbs()[0]
}

/// What tells most locations apart.
fn sort_key(location: &StateLocation) -> u64 {
    let bytes = location.address();
    let account = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    match location {
        StateLocation::Slot(_, slot) => account ^ part_of(*slot),
        _ => account,
    }
}

/// A memory of what was hashed.
#[derive(Debug)]
pub(super) struct Hashes {
    words: KeccakCache<32>,
    pairs: KeccakCache<64>,
    created: KeccakCache<CREATED_BYTES>,
}

impl Default for Hashes {
    fn default() -> Self {
        Self {
            words: KeccakCache::new(WORD_HASHES),
            pairs: KeccakCache::new(PAIR_HASHES),
            created: KeccakCache::new(CREATED_HASHES),
        }
    }
}

impl Hashes {
    pub(super) fn word(&mut self, word: &[u8; 32]) -> B256 {
        self.words.hash(word)
    }

    pub(super) fn pair(&mut self, pair: &[u8; 64]) -> B256 {
        self.pairs.hash(pair)
    }

    pub(super) fn hash(&mut self, bytes: &[u8]) -> B256 {
        if let Ok(pair) = bytes.try_into() {
            return self.pairs.hash(pair);
        }
        if let Ok(created) = bytes.try_into() {
            return self.created.hash(created);
        }
        keccak256(bytes)
    }
}

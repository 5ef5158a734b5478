//! Hashes of inputs that come again and again.
//!
//! Contracts hash the same keys in transaction after transaction: balances and allowances of the
//! same holders, the pair of the same tokens, addresses and topics of the same logs. Comparing an
//! input with one seen before takes a tenth of the time of hashing it.

use alloy_primitives::{B256, keccak256};

/// keccak-256 of inputs of one length, the last result of each place kept.
///
/// An input has one place. Others may share it, which costs a hash more and nothing else, however
/// they were chosen.
#[derive(Debug)]
pub(crate) struct KeccakCache<const LENGTH: usize> {
    /// Empty until the first input.
    places: Vec<Option<([u8; LENGTH], B256)>>,
    /// How many there will be: a power of two.
    size: usize,
}

impl<const LENGTH: usize> KeccakCache<LENGTH> {
    /// A cache of this many places, a power of two.
    pub(crate) const fn new(size: usize) -> Self {
        assert!(size.is_power_of_two());
        Self { places: Vec::new(), size }
    }

    /// keccak-256 of an input.
    pub(crate) fn hash(&mut self, input: &[u8; LENGTH]) -> B256 {
        if self.places.is_empty() {
            self.places.resize(self.size, None);
        }
        let place = &mut self.places[place(input) & (self.size - 1)];
        match place {
            Some((known, hash)) if known == input => *hash,
            _ => {
                let hash = keccak256(input);
                *place = Some((*input, hash));
                hash
            }
        }
    }
}

/// Mixes the words of an input, by multiplication as in FNV.
fn place(input: &[u8]) -> usize {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |mixed: u64, word: &[u8]| {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        (mixed ^ u64::from_le_bytes(bytes)).wrapping_mul(PRIME).rotate_left(23)
    };
    (input.chunks(8).fold(0, mix) >> 7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_keccak_even_where_inputs_share_a_place() {
        let mut cache = KeccakCache::<20>::new(4);
        for _ in 0..3 {
            for byte in 0..50 {
                assert_eq!(cache.hash(&[byte; 20]), keccak256([byte; 20]));
                assert_eq!(cache.hash(&[byte; 20]), keccak256([byte; 20]));
            }
        }
    }
}

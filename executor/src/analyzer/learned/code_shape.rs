//! The shape of a code: the code without the constants that its constructor put in.
//!
//! Pools, tokens and clones are deployed in thousands from one source, and differ in a few
//! immutable values only: operands of PUSH32, or of PUSH20 in a minimal proxy (EIP-1167). What is
//! learned from one of them holds for all, if such an operand is an expression of its own. So
//! templates go by the hash of the code with these operands blanked out. Two codes of one shape
//! have the same instructions at the same places; nothing else is taken for granted of them.

use super::template::TemplateKey;
use alloy_primitives::{B256, U256, map::FbBuildHasher};
use dashmap::DashMap;
use revm::{
    bytecode::opcode::{PUSH1, PUSH20, PUSH32},
    primitives::KECCAK_EMPTY,
    state::Bytecode,
};
use sha2::{Digest, Sha256};

/// Codes whose shapes are remembered.
const REMEMBERED_MAX: usize = 1 << 16;
/// The size of an address.
const ADDRESS_BYTES: u8 = 20;
/// The size of each instruction's operand, in bytes.
const OPERAND_SIZES: [u8; 256] = {
    let mut sizes = [0; 256];
    let mut size = 1;
    while size <= 32 {
        sizes[(PUSH1 - 1 + size) as usize] = size;
        size += 1;
    }
    sizes
};
/// From so many bits on, ones in a row are a mask and zeros in a row an alignment.
const PATTERN_BITS: usize = 64;

/// Remembered shapes by code hash.
#[derive(Debug, Default)]
pub(super) struct CodeShapes(DashMap<B256, B256, FbBuildHasher<32>>);

impl CodeShapes {
    /// The key of a function of a code with this hash.
    pub(super) fn key(
        &self,
        hash: B256,
        code: &Bytecode,
        selector: Option<[u8; 4]>,
    ) -> TemplateKey {
        TemplateKey { size: size_of_code(code), shape: self.of(hash, code), selector }
    }

    /// The shape of a code with this hash.
    fn of(&self, hash: B256, code: &Bytecode) -> B256 {
        if hash == KECCAK_EMPTY {
            return hash;
        }
        if let Some(shape) = self.0.get(&hash) {
            return *shape;
        }
        let shape = shape(code.original_byte_slice());
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(hash, shape);
        shape
    }
}

/// The size of a code, in bytes, as keys have it.
pub(super) fn size_of_code(code: &Bytecode) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

/// The operand of a PUSH20 or PUSH32 at a position, if it may be an immutable value.
pub(super) fn immutable_at(code: &[u8], position: usize) -> Option<U256> {
    let size = match code.get(position)? {
        instruction @ (&PUSH20 | &PUSH32) => usize::from(*instruction - PUSH1) + 1,
        _ => return None,
    };
    let operand = U256::from_be_slice(code.get(position + 1..position + 1 + size)?);
    (!is_pattern(operand)).then_some(operand)
}

/// Whether a constant is a mask, or something aligned to the left: a selector, a text.
fn is_pattern(value: U256) -> bool {
    if value.is_zero() {
        return false;
    }
    let is_ones = |value: U256| (value & value.wrapping_add(U256::ONE)).is_zero();
    let is_mask = value.bit_len() >= PATTERN_BITS && is_ones(value);
    let is_aligned = value.trailing_zeros() >= PATTERN_BITS;
    // All ones above some bit: the mask that rounds to words, and what is added to count down by one.
    is_mask || is_ones(!value) || is_aligned
}

fn shape(code: &[u8]) -> B256 {
    let mut shape = code.to_vec();
    let mut position = 0;
    while let Some(instruction) = code.get(position) {
        let size = OPERAND_SIZES[usize::from(*instruction)];
        // No shorter operand may be one.
        if size >= ADDRESS_BYTES && immutable_at(code, position).is_some() {
            shape[position + 1..position + 1 + usize::from(size)].fill(0);
        }
        position += 1 + usize::from(size);
    }
    // SHA-256, because processors have instructions for it: new codes are hashed while somebody waits.
    B256::new(Sha256::digest(shape).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn clones_share_a_shape_and_other_codes_do_not() {
        let clone = |target: u8| {
            let mut code = hex!("363d3d373d3d3d363d73").to_vec();
            code.extend([target; 20]);
            code.extend(hex!("5af43d82803e903d91602b57fd5bf3"));
            code
        };
        assert_eq!(shape(&clone(1)), shape(&clone(2)));
        assert_eq!(immutable_at(&clone(1), 9), Some(U256::from_be_slice(&[1; 20])));
        let mut other = clone(1);
        other[0] = 0x37;
        assert_ne!(shape(&clone(1)), shape(&other));
    }

    #[test]
    fn masks_and_selectors_belong_to_the_shape() {
        let push32 = |word: U256| [&[PUSH32], &word.to_be_bytes::<32>()[..]].concat();
        let address_mask: U256 = (U256::ONE << 160) - U256::ONE;
        let selector: U256 = U256::from(0xa9059cbb_u32) << 224;
        let whole_words = !U256::from(31);
        for pattern in [address_mask, !address_mask, whole_words, selector] {
            assert_eq!(immutable_at(&push32(pattern), 0), None);
        }
        for immutable in [0_u64, 1, 60, 3000] {
            assert_eq!(
                immutable_at(&push32(U256::from(immutable)), 0),
                Some(U256::from(immutable))
            );
        }
        // Cut off by the end of the code.
        assert_eq!(immutable_at(&[PUSH32, 1, 2], 0), None);
    }
}

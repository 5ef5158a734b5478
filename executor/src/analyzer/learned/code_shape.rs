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
use memchr::memchr2_iter;
use revm::{
    bytecode::{
        JumpTable,
        opcode::{PUSH1, PUSH20, PUSH32},
    },
    primitives::KECCAK_EMPTY,
    state::Bytecode,
};
use sha2::{Digest, Sha256};

/// Codes whose shapes are remembered.
const REMEMBERED_MAX: usize = 1 << 16;
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
    pub(super) fn of(&self, hash: B256, code: &Bytecode) -> B256 {
        if hash == KECCAK_EMPTY {
            return hash;
        }
        if let Some(shape) = self.0.get(&hash) {
            return *shape;
        }
        let shape = shape(code);
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

fn shape(code: &Bytecode) -> B256 {
    let bytes = code.original_byte_slice();
    let jump_destinations = code.legacy_jump_table().map(JumpTable::as_slice).unwrap_or_default();
    // SHA-256, because processors have instructions for it: new codes are hashed while somebody waits.
    let mut shape = Sha256::new();
    // Up to where the code is hashed, and where an instruction is known to begin.
    let (mut hashed, mut instruction) = (0, 0);
    // No shorter operand may be one. Most of these bytes are instructions; whether one is is found out
    // from the closest place to which the code jumps.
    for position in memchr2_iter(PUSH20, PUSH32, bytes) {
        instruction = instruction.max(last_before(jump_destinations, position));
        while instruction < position {
            instruction += 1 + usize::from(OPERAND_SIZES[usize::from(bytes[instruction])]);
        }
        if instruction == position && immutable_at(bytes, position).is_some() {
            let size = OPERAND_SIZES[usize::from(bytes[position])].into();
            shape.update(&bytes[hashed..=position]);
            shape.update(&[0; 32][..size]);
            hashed = position + 1 + size;
        }
    }
    shape.update(&bytes[hashed..]);
    B256::new(shape.finalize().into())
}

/// The last bit that is set up to a position; the first bit if there is none.
fn last_before(bits: &[u8], position: usize) -> usize {
    let (byte, bit) = (position / 8, position % 8);
    let Some(here) = bits.get(byte) else { return 0 };
    let mut set = here & (u8::MAX >> (7 - bit));
    let mut at = byte;
    while set == 0 && at > 0 {
        at -= 1;
        set = bits[at];
    }
    at * 8 + set.checked_ilog2().unwrap_or_default() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;
    use revm::bytecode::opcode::JUMPDEST;

    #[test]
    fn clones_share_a_shape_and_other_codes_do_not() {
        let shape = |code: &[u8]| shape(&Bytecode::new_legacy(code.to_vec().into()));
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
    fn whatever_the_bytes_are_only_operands_are_blanked_out() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for size in 0..600 {
            // Few kinds of bytes, so that there is much of what matters.
            let byte = |_| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                [PUSH20, PUSH32, JUMPDEST, PUSH1, PUSH1 + 9, 1, 0][(random >> 33) as usize % 7]
            };
            let code: Vec<u8> = (0..size).map(byte).collect();
            let mut blanked = code.clone();
            let mut position = 0;
            while position < code.len() {
                let end = position + 1 + usize::from(OPERAND_SIZES[usize::from(code[position])]);
                if immutable_at(&code, position).is_some() {
                    blanked[position + 1..end].fill(0);
                }
                position = end;
            }
            let shape = shape(&Bytecode::new_legacy(code.into()));
            assert_eq!(shape.0, <[u8; 32]>::from(Sha256::digest(blanked)), "{size}");
        }
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

//! Words of which some bits are known.
//!
//! Contracts pack several values into a slot. Where one of them cannot be foreseen, the others still
//! can, if the instructions that take a word apart are followed bit by bit.

use alloy_primitives::U256;
use revm::bytecode::opcode::{AND, DIV, EQ, ISZERO, MUL, NOT, OR, SHL, SHR, XOR};

/// A word, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    /// The word; zeros where it is not known.
    value: U256,
    /// Ones where it is known.
    known: U256,
}

impl Bits {
    /// Nothing is known.
    pub(super) const UNKNOWN: Self = Self { value: U256::ZERO, known: U256::ZERO };

    /// All of a word is known.
    pub(super) const fn of(value: U256) -> Self {
        Self { value, known: U256::MAX }
    }

    /// The bytes of a word, and ones where they are known.
    pub(super) fn of_bytes(value: [u8; 32], known: [u8; 32]) -> Self {
        let known = U256::from_be_bytes(known);
        Self { value: U256::from_be_bytes(value) & known, known }
    }

    /// The bytes of the word, and ones where they are known.
    pub(super) fn to_bytes(self) -> [[u8; 32]; 2] {
        [self.value.to_be_bytes(), self.known.to_be_bytes()]
    }

    /// The word, if all of it is known.
    pub(super) fn whole(self) -> Option<U256> {
        (self.known == U256::MAX).then_some(self.value)
    }

    /// Whether anything is known.
    pub(super) fn is_known_at_all(self) -> bool {
        !self.known.is_zero()
    }

    /// Whether enough is known to tell that the word is not zero.
    pub(super) fn is_nonzero(self) -> bool {
        !self.value.is_zero()
    }

    fn shifted_left(self, by: usize) -> Self {
        let zeros = U256::MAX.checked_shr(256_usize.saturating_sub(by)).unwrap_or_default();
        Self { value: self.value << by, known: self.known << by | zeros }
    }

    fn shifted_right(self, by: usize) -> Self {
        Self { value: self.value >> by, known: self.known >> by | !(U256::MAX >> by) }
    }

    /// What an instruction makes of its operands, the topmost first, where it works bit by bit.
    pub(super) fn apply(instruction: u8, a: Self, b: Self) -> Self {
        let exponent = |bits: Self| {
            let power = bits.whole()?;
            (power.count_ones() == 1).then(|| power.trailing_zeros())
        };
        let distance = || a.whole().map(|by| usize::try_from(by).unwrap_or(256).min(256));
        match instruction {
            AND => {
                let zeros = (a.known & !a.value) | (b.known & !b.value);
                Self { value: a.value & b.value, known: (a.known & b.known) | zeros }
            }
            OR => {
                let value = a.value | b.value;
                Self { value, known: (a.known & b.known) | value }
            }
            XOR => {
                let known = a.known & b.known;
                Self { value: (a.value ^ b.value) & known, known }
            }
            NOT => Self { value: !a.value & a.known, known: a.known },
            SHL => distance().map_or(Self::UNKNOWN, |by| b.shifted_left(by)),
            SHR => distance().map_or(Self::UNKNOWN, |by| b.shifted_right(by)),
            // How shifts were written before there were any.
            MUL => match (exponent(a), exponent(b)) {
                (Some(by), _) => b.shifted_left(by),
                (_, Some(by)) => a.shifted_left(by),
                _ => Self::UNKNOWN,
            },
            ISZERO if a.is_nonzero() => Self::of(U256::ZERO),
            EQ if !((a.value ^ b.value) & a.known & b.known).is_zero() => Self::of(U256::ZERO),
            DIV => exponent(b).map_or(Self::UNKNOWN, |by| a.shifted_right(by)),
            _ => Self::UNKNOWN,
        }
    }
}

/// The positions of the ones among some bits.
pub(super) fn ones(mut bits: u128) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let at = (bits != 0).then(|| bits.trailing_zeros() as u8)?;
        bits &= bits - 1;
        Some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(value: u64) -> Bits {
        Bits::of(U256::from(value))
    }

    #[test]
    fn what_is_packed_beside_something_unknown_can_be_unpacked() {
        let mask = word(0xffff);
        // Nobody knows the lower sixteen bits.
        let unknown = Bits::apply(AND, Bits::UNKNOWN, mask);
        assert_eq!(unknown.whole(), None);
        for (shift, by) in [(SHL, 16), (MUL, 1 << 16)] {
            let operands = if shift == SHL { [word(by), word(7)] } else { [word(7), word(by)] };
            let [first, second] = operands;
            let packed = Bits::apply(OR, Bits::apply(shift, first, second), unknown);
            assert_eq!(packed.whole(), None);
            assert_eq!(Bits::apply(SHR, word(16), packed), word(7));
            assert_eq!(Bits::apply(DIV, packed, word(1 << 16)), word(7));
            assert_eq!(Bits::apply(AND, Bits::apply(NOT, packed, packed), mask).whole(), None);
        }
    }

    #[test]
    fn whole_words_stay_whole() {
        let wide = word(300);
        assert_eq!(Bits::apply(SHL, wide, Bits::UNKNOWN), word(0));
        assert_eq!(Bits::apply(SHR, wide, Bits::UNKNOWN), word(0));
        assert_eq!(Bits::apply(SHL, word(0), word(5)), word(5));
        assert_eq!(Bits::apply(SHR, word(0), word(5)), word(5));
        assert_eq!(Bits::apply(XOR, word(6), word(5)), word(3));
        assert_eq!(Bits::apply(DIV, word(6), word(5)), Bits::UNKNOWN);
    }
}

//! What the EVM's arithmetic instructions compute.

use alloy_primitives::{I256, U256};
use revm::bytecode::opcode::{
    ADD, ADDMOD, AND, BYTE, DIV, EQ, EXP, GT, ISZERO, LT, MOD, MUL, MULMOD, NOT, OR, SAR, SDIV,
    SGT, SHL, SHR, SIGNEXTEND, SLT, SMOD, SUB, XOR,
};

/// Whether the instruction computes a value from its operands alone.
pub(super) const fn is_arithmetic(instruction: u8) -> bool {
    matches!(instruction, ADD..=SIGNEXTEND | LT..=SAR)
}

/// The result, with the operands in the order of the stack, the topmost first. `None` for an
/// instruction that is not [arithmetic](is_arithmetic).
pub(super) fn compute(instruction: u8, [a, b, c]: [U256; 3]) -> Option<U256> {
    let truth = |condition: bool| U256::from(condition);
    let signed = I256::from_raw;
    Some(match instruction {
        ADD => a.wrapping_add(b),
        MUL => a.wrapping_mul(b),
        SUB => a.wrapping_sub(b),
        DIV => a.checked_div(b).unwrap_or_default(),
        SDIV if b.is_zero() => U256::ZERO,
        SDIV => signed(a).wrapping_div(signed(b)).into_raw(),
        MOD => a.checked_rem(b).unwrap_or_default(),
        SMOD if b.is_zero() => U256::ZERO,
        SMOD => signed(a).wrapping_rem(signed(b)).into_raw(),
        ADDMOD => a.add_mod(b, c),
        MULMOD => a.mul_mod(b, c),
        EXP => a.wrapping_pow(b),
        SIGNEXTEND => sign_extend(a, b),
        LT => truth(a < b),
        GT => truth(a > b),
        SLT => truth(signed(a) < signed(b)),
        SGT => truth(signed(a) > signed(b)),
        EQ => truth(a == b),
        ISZERO => truth(a.is_zero()),
        AND => a & b,
        OR => a | b,
        XOR => a ^ b,
        NOT => !a,
        BYTE => match usize::try_from(a) {
            Ok(position @ 0..32) => U256::from(b.byte(31 - position)),
            _ => U256::ZERO,
        },
        SHL => usize::try_from(a).map_or(U256::ZERO, |bits| b << bits),
        SHR => usize::try_from(a).map_or(U256::ZERO, |bits| b >> bits),
        SAR => b.arithmetic_shr(usize::try_from(a).unwrap_or(256).min(256)),
        _ => return None,
    })
}

/// Extends the sign of a number of `size + 1` bytes.
fn sign_extend(size: U256, value: U256) -> U256 {
    let Ok(size @ 0..31) = usize::try_from(size) else { return value };
    let sign = 8 * size + 7;
    let below = (U256::ONE << (sign + 1)) - U256::ONE;
    if value.bit(sign) { value | !below } else { value & below }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: i64) -> U256 {
        I256::try_from(value).unwrap().into_raw()
    }

    #[test]
    fn signs_zeros_and_wide_shifts() {
        let cases = [
            (SDIV, [-7, 2, 0], -3),
            (SDIV, [-7, 0, 0], 0),
            (SMOD, [-7, 2, 0], -1),
            (DIV, [7, 0, 0], 0),
            (MOD, [7, 0, 0], 0),
            (SLT, [-1, 0, 0], 1),
            (LT, [-1, 0, 0], 0),
            (SAR, [1, -5, 0], -3),
            (SAR, [300, -5, 0], -1),
            (SHL, [300, 1, 0], 0),
            (SHR, [1, 5, 0], 2),
            (SIGNEXTEND, [0, 0xff, 0], -1),
            (SIGNEXTEND, [0, 0x17f, 0], 0x7f),
            (SIGNEXTEND, [31, -9, 0], -9),
            (BYTE, [31, 0x1234, 0], 0x34),
            (BYTE, [32, 0x1234, 0], 0),
            (ADDMOD, [5, 6, 7], 4),
            (MULMOD, [5, 6, 0], 0),
            (EXP, [2, 10, 0], 1024),
            (ISZERO, [0, 0, 0], 1),
        ];
        for (instruction, operands, expected) in cases {
            let result = compute(instruction, operands.map(number));
            assert_eq!(result, Some(number(expected)), "{instruction:#x} {operands:?}");
        }
        assert_eq!(compute(0x20, [U256::ZERO; 3]), None);
    }

    #[test]
    fn what_is_arithmetic_can_be_computed() {
        for instruction in 0..=u8::MAX {
            let computed = compute(instruction, [U256::ONE; 3]).is_some();
            assert_eq!(computed, is_arithmetic(instruction), "{instruction:#x}");
        }
    }
}

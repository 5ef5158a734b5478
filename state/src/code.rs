//! Code, prepared for execution.

use alloy_primitives::Bytes;
use revm::state::Bytecode;

/// Analyses code once, for all later executions.
///
/// What starts like a delegation (EIP-7702) and is none is ordinary code, which halts at its first
/// byte; London (EIP-3541) found such contracts already deployed.
pub fn analyse_code(code: Bytes) -> Bytecode {
    Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code))
}

/// A copy with a reference count of its own.
///
/// The interpreter clones the code at every call. Threads that share the count of a hot contract
/// take its cache line away from each other each time; what is copied here is the count and the
/// jump table, not the code.
pub fn unshared_code(code: &Bytecode) -> Bytecode {
    match (code.eip7702_address(), code.legacy_jump_table()) {
        (Some(delegate), _) => Bytecode::new_eip7702(delegate),
        (None, Some(jump_table)) => {
            #[expect(unsafe_code, reason = "the safe constructors analyse the code again")]
            // SAFETY: the parts are those of one analysed code, padding included.
            unsafe {
                Bytecode::new_analyzed(code.bytes(), code.len(), jump_table.clone())
            }
        }
        (None, None) => code.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unshared_copy_is_the_same_code() {
        let delegation = [&[0xef, 0x01, 0x00][..], &[7; 20]].concat();
        for raw in [vec![], vec![0x60, 0x01, 0x5b, 0x00], vec![0x7f], delegation] {
            let code = analyse_code(raw.into());
            let copy = unshared_code(&code);
            assert_eq!(copy, code);
            assert_eq!(copy.bytes(), code.bytes());
            assert_eq!((copy.kind(), copy.hash_slow()), (code.kind(), code.hash_slow()));
            assert_eq!(copy.legacy_jump_table(), code.legacy_jump_table());
        }
    }
}

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

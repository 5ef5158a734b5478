//! Branches whose condition is not known: which way will it go?

use alloy_primitives::{U256, map::HashMap};
use revm::{
    bytecode::opcode::{
        INVALID, JUMP, JUMPI, OpCode, PUSH0, PUSH32, RETURN, REVERT, SELFDESTRUCT, STOP,
    },
    state::Bytecode,
};

/// How often the same branch is guessed to go on, before it is guessed to jump.
const STAYS_MAX: u8 = 4;
/// Instructions in which a failure shows.
const LOOKED_AT_MAX: usize = 64;

/// The branches of a call that were guessed.
#[derive(Debug, Default)]
pub(super) struct Branches {
    /// How often, by position in the code.
    guessed: HashMap<usize, u8>,
}

impl Branches {
    /// Whether a conditional jump is taken, at a position of the code.
    ///
    /// What transactions do succeeds, mostly: of two sides the one is gone that does not end in a
    /// failure. Else it is what comes next in the code, as a condition is there for something to be
    /// done; but not for ever, as it may be that of a loop.
    pub(super) fn guess(&mut self, code: &Bytecode, position: usize, target: Option<U256>) -> bool {
        let fails = |position| leads_to_failure(code.bytes_slice(), position);
        if fails(position + 1) {
            return true;
        }
        if target.and_then(|target| usize::try_from(target).ok()).is_some_and(fails) {
            return false;
        }
        let guessed = self.guessed.entry(position).or_default();
        *guessed = guessed.saturating_add(1);
        *guessed > STAYS_MAX
    }
}

/// Whether code fails, whatever is known at a position.
pub(super) fn leads_to_failure(code: &[u8], mut position: usize) -> bool {
    let mut pushed = None;
    for _ in 0..LOOKED_AT_MAX {
        let Some(instruction) = code.get(position).copied() else { return false };
        position += 1;
        match instruction {
            REVERT | INVALID => return true,
            JUMP => match pushed.take().and_then(|target| usize::try_from(target).ok()) {
                Some(target) => position = target,
                None => return false,
            },
            JUMPI | STOP | RETURN | SELFDESTRUCT => return false,
            PUSH0..=PUSH32 => {
                let size = usize::from(instruction - PUSH0);
                pushed = code.get(position..position + size).map(U256::from_be_slice);
                position += size;
            }
            // There is no such instruction.
            _ if OpCode::new(instruction).is_none() => return true,
            _ => pushed = None,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::bytecode::opcode::{ADD, JUMPDEST, PUSH1, SSTORE};

    #[test]
    fn a_side_that_fails_is_not_gone() {
        // At 0 a branch to 6, whose other side fails; at 6 one whose target fails.
        let code = [
            JUMPI, PUSH1, 4, JUMP, JUMPDEST, REVERT, // 0
            JUMPDEST, JUMPI, ADD, SSTORE, JUMPDEST, STOP, // 6
        ];
        assert!(leads_to_failure(&code, 1));
        assert!(!leads_to_failure(&code, 8));
        let code = Bytecode::new_legacy(code.to_vec().into());
        let mut branches = Branches::default();
        let target = |at: u64| Some(U256::from(at));
        assert!(branches.guess(&code, 0, target(6)));
        assert!(branches.guess(&code, 0, None));
        assert!(!branches.guess(&code, 7, target(4)));
    }

    #[test]
    fn no_loop_is_guessed_to_go_on_for_ever() {
        let code = Bytecode::new_legacy(vec![JUMPI, STOP, JUMPDEST, STOP].into());
        let mut branches = Branches::default();
        let guesses = [(); 6].map(|()| branches.guess(&code, 0, Some(U256::from(2))));
        assert_eq!(guesses, [false, false, false, false, true, true]);
    }
}

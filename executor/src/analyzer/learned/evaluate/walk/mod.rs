//! Walking: a call's code, instruction by instruction, over words that are known or not.
//!
//! Where a call goes a way that no sample has gone, templates have nothing to say, but the code has:
//! it is followed without being executed. Loads are asked of the view, inner calls are evaluated by
//! their own templates, and what cannot be known makes unknown what depends on it (abstract
//! interpretation: Cousot and Cousot, POPL 1977). Where a branch depends on it, one side is
//! [guessed](branches), and if that comes to a failure, the other one is gone.
//!
//! A walk costs about as much as an execution of the same code. It is done once for a way: what the
//! transaction then does is learned.
//!
//! *Must not know*: how templates are evaluated.

mod branches;
mod calls;
mod instructions;
mod memory;

use super::{CallInputs, Evaluator, StateView};
use crate::analyzer::learned::{access::AccessKind, bits::Bits, byte_arena::ByteRun, desk::CallId};
use alloy_primitives::{U256, map::HashMap};
use branches::{Branches, leads_to_failure};
use memory::Memory;
use revm::{
    bytecode::opcode::{INVALID, RETURN, REVERT, SELFDESTRUCT, STOP},
    state::Bytecode,
};

/// Instructions that are walked through for one transaction.
const WALKED_MAX: usize = 1 << 14;
/// Bytes that count as an instruction, where they are copied or hashed.
const BYTES_PER_INSTRUCTION: usize = 64;
/// Accesses that walks of one transaction may come to.
const ACCESSES_MAX: usize = 1 << 12;
/// How often one walk turns back.
const TURNS_MAX: usize = 8;
/// Guesses of one walk that can be taken back.
const GUESSES_MAX: usize = 8;

/// Words that most calls have on the stack at most.
const USUAL_DEPTH: usize = 64;

/// One call that is walked through.
struct Walk<'w, 'a, V> {
    evaluator: &'w mut Evaluator<'a, V>,
    inputs: CallInputs,
    depth: usize,
    code: Bytecode,
    place: Place,
    branches: Branches,
    /// The latest guesses.
    guesses: Vec<Guess>,
    turns: usize,
}

/// How far a walk has come, and what is known there.
#[derive(Clone)]
struct Place {
    /// The call that accesses are noted for.
    id: CallId,
    /// The next instruction.
    position: usize,
    stack: Vec<Bits>,
    memory: Memory,
    stored: HashMap<U256, Stored>,
    transient: HashMap<U256, Bits>,
    /// What the last call returned.
    returned: Option<ByteRun>,
}

/// A slot that was stored to.
#[derive(Clone, Copy)]
struct Stored {
    before: Bits,
    now: Bits,
    /// The position of the access.
    access: usize,
}

/// A branch whose condition is not known.
struct Guess {
    /// Where the side begins that was not gone.
    other: Place,
    /// The call that everything is noted for behind the guess.
    behind: CallId,
}

/// An instruction that ends a call.
enum End {
    Success(Option<ByteRun>),
    Failure,
}

impl<V: StateView> Evaluator<'_, V> {
    /// Collects what a call accesses by walking through its code. Gives what it returns. `None` if the
    /// walk leads nowhere: nobody can tell how the code goes on, or it seems to fail, which is more
    /// often due to a value that was wrong.
    pub(super) fn walk(&mut self, inputs: CallInputs, id: CallId, depth: usize) -> Option<ByteRun> {
        let code = self.resolver.bytecode(inputs.code).clone();
        let place = Place {
            id,
            position: 0,
            stack: Vec::with_capacity(USUAL_DEPTH),
            memory: Memory::default(),
            stored: HashMap::default(),
            transient: HashMap::default(),
            returned: None,
        };
        let mut walk = Walk {
            evaluator: self,
            inputs,
            depth,
            code,
            place,
            branches: Branches::default(),
            guesses: Vec::new(),
            turns: 0,
        };
        let output = walk.run();
        walk.settle_writes();
        output
    }

    /// Whether enough has been walked.
    const fn is_tired(&self) -> bool {
        self.walked >= WALKED_MAX || self.desk.accesses.len() >= ACCESSES_MAX
    }
}

impl<V: StateView> Walk<'_, '_, V> {
    /// Goes on until the call ends.
    fn run(&mut self) -> Option<ByteRun> {
        let code = self.code.clone();
        let code = code.bytes_slice();
        while !self.evaluator.is_tired() {
            let instruction = code.get(self.place.position).copied().unwrap_or(STOP);
            match self.end(instruction) {
                None => self.step(instruction, code)?,
                Some(End::Success(output)) => return output,
                Some(End::Failure) => self.turn_back()?,
            }
            self.evaluator.walked += 1;
        }
        None
    }

    /// Notes that bytes are copied or hashed.
    const fn handle(&mut self, bytes: usize) {
        self.evaluator.walked += bytes / BYTES_PER_INSTRUCTION;
    }

    fn end(&mut self, instruction: u8) -> Option<End> {
        Some(match instruction {
            STOP | SELFDESTRUCT => End::Success(self.bytes(0, 0)),
            RETURN => End::Success(self.take_bytes()),
            REVERT | INVALID => End::Failure,
            _ => return None,
        })
    }

    /// Guesses whether a conditional jump is taken, and remembers the other side.
    fn guess(&mut self, position: usize, target: Bits) -> bool {
        let is_taken = self.branches.guess(&self.code, position, target.whole());
        let other = if is_taken { Some(position + 1) } else { instructions::offset(target) };
        let fails = |other: &usize| leads_to_failure(self.code.bytes_slice(), *other);
        if let Some(position) = other.filter(|other| !fails(other)) {
            if self.guesses.len() == GUESSES_MAX {
                self.guesses.remove(0);
            }
            self.handle(self.place.memory.len());
            let other = Place { position, ..self.place.clone() };
            let behind = self.evaluator.desk.add_call(self.place.id);
            self.guesses.push(Guess { other, behind });
            self.place.id = behind;
        }
        is_taken
    }

    /// Goes back to the last branch that was guessed, and the other way from there.
    fn turn_back(&mut self) -> Option<()> {
        self.turns += 1;
        let Guess { other, behind } = self.guesses.pop().filter(|_| self.turns <= TURNS_MAX)?;
        self.evaluator.desk.drop_call(behind);
        self.place = other;
        Some(())
    }

    /// What holds the same as before has not been written.
    #[expect(clippy::iter_over_hash_type, reason = "each says something of an access of its own")]
    fn settle_writes(&mut self) {
        for Stored { before, now, access } in self.place.stored.values() {
            let is_same = before == now && now.whole().is_some();
            let kind = if is_same { AccessKind::Read } else { AccessKind::Written };
            self.evaluator.desk.accesses[*access].kind = kind;
        }
    }
}

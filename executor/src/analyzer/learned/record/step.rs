//! What one instruction does to the shadow of a call.
//!
//! *Must not know*: when a call begins or ends.

use super::{Effect, Frame, copy_returned};
use crate::analyzer::learned::{
    arithmetic::is_arithmetic,
    code_shape::immutable_at,
    expression::{Call, Environment, Node, NodeId, Origin, Segment, address_mask, arity},
    memory::{Source, has_opaque, stretch},
};
use alloy_primitives::U256;
use revm::{
    bytecode::opcode::*,
    interpreter::{
        Interpreter,
        interpreter::EthInterpreter,
        interpreter_types::{Jumps, LegacyBytecode, MemoryTr},
    },
};
use std::ops::Range;

/// Bytes that are followed into a hash, a call or a result.
const BYTES_MAX: usize = 128 * 1024;
/// How complex the condition of a branch may be to be remembered.
const CONDITION_WEIGHT_MAX: u16 = 96;
/// How complex a stored value may be to be remembered.
const STORED_WEIGHT_MAX: u16 = 160;
/// Branches, and effects, that are remembered of one call.
const GUARDS_MAX: usize = 256;
const EFFECTS_MAX: usize = 256;
/// How far the first word of calldata is shifted to leave the selector.
const SELECTOR_SHIFT: usize = 224;

/// One instruction, before it is executed.
pub(super) struct Step<'a> {
    pub(super) frame: &'a mut Frame,
    pub(super) interpreter: &'a mut Interpreter<EthInterpreter>,
}

impl Step<'_> {
    pub(super) fn follow(&mut self) {
        let depth = self.interpreter.stack.data().len();
        if self.frame.stack.len() != depth {
            // Only an instruction that is not known here leads to this.
            self.frame.stack.resize(depth, Origin::Opaque);
        }
        let instruction = self.interpreter.bytecode.opcode();
        let Some(info) = OpCode::new(instruction).map(|opcode| opcode.info()) else { return };
        let inputs = usize::from(info.inputs());
        if depth < inputs {
            return;
        }
        match instruction {
            DUP1..=DUP16 => {
                let origin = self.frame.stack[depth - 1 - usize::from(instruction - DUP1)];
                self.frame.stack.push(origin);
            }
            SWAP1..=SWAP16 => {
                self.frame.stack.swap(depth - 1, depth - 2 - usize::from(instruction - SWAP1));
            }
            _ => {
                let result = self.result(instruction);
                self.frame.stack.truncate(depth - inputs);
                for _ in 0..info.outputs() {
                    self.frame.stack.push(result);
                }
            }
        }
    }

    /// Notes what an instruction does, and says where its result comes from.
    fn result(&mut self, instruction: u8) -> Origin {
        if is_arithmetic(instruction) {
            let operands = [0, 1, 2].map(|at| self.operand(at));
            if self.is_selector(instruction, &operands) {
                return Origin::Constant;
            }
            return self.frame.arena.apply(instruction, &operands[..arity(instruction)]);
        }
        match instruction {
            ADDRESS => self.fact(Environment::This),
            CALLER => self.fact(Environment::Caller),
            CALLVALUE => self.fact(Environment::Value),
            ORIGIN => self.fact(Environment::Origin),
            COINBASE => self.fact(Environment::Beneficiary),
            TIMESTAMP => self.fact(Environment::Timestamp),
            NUMBER => self.fact(Environment::Number),
            CALLDATASIZE if !self.frame.is_creation => self.fact(Environment::CalldataSize),
            CALLDATALOAD => match self.node(0) {
                Some(offset) => self.frame.arena.origin(Node::CalldataWord(offset)),
                None => Origin::Opaque,
            },
            CALLDATACOPY => self.copy_calldata(),
            CODECOPY => self.copy_constant(0, 2),
            EXTCODECOPY => {
                self.account(0);
                self.copy_constant(1, 3)
            }
            RETURNDATACOPY => {
                if let Some((at, from, length)) = self.copy_range() {
                    copy_returned(self.frame, at, from, length);
                }
                Origin::Constant
            }
            MCOPY => {
                if let Some((at, from, length)) = self.copy_range() {
                    let pieces = self.frame.memory.pieces(from..from.saturating_add(length));
                    self.frame.memory.put(at, length, &pieces);
                }
                Origin::Constant
            }
            MLOAD => self.memory_word(),
            MSTORE => {
                if let Some(at) = self.offset(0) {
                    let (origin, _) = self.stacked(1);
                    self.frame.memory.write_word(at, origin);
                }
                Origin::Constant
            }
            MSTORE8 => {
                if let Some(at) = self.offset(0) {
                    let source = match self.operand(1).0 {
                        Origin::Constant => None,
                        Origin::Known(id) => Some(Source::Word(id, 31)),
                        Origin::Opaque => Some(Source::Opaque),
                    };
                    match source {
                        Some(source) => self.frame.memory.write(at..at + 1, source),
                        None => self.frame.memory.clear(at..at + 1),
                    }
                }
                Origin::Constant
            }
            KECCAK256 => match self.segments(0, 1) {
                Some(bytes) if bytes.iter().all(|b| matches!(b, Segment::Constant(_))) => {
                    Origin::Constant
                }
                Some(bytes) if !has_opaque(&bytes) => {
                    self.frame.arena.origin(Node::Keccak(bytes.into()))
                }
                _ => Origin::Opaque,
            },
            SLOAD => self.load(),
            SSTORE => self.store(),
            TLOAD => {
                let (_, slot) = self.operand(0);
                self.frame.transient.get(&slot).copied().unwrap_or(Origin::Opaque)
            }
            TSTORE => {
                let ((_, slot), (origin, _)) = (self.operand(0), self.operand(1));
                self.frame.transient.insert(slot, origin);
                Origin::Constant
            }
            JUMPI => {
                self.branch();
                Origin::Constant
            }
            BALANCE | EXTCODEHASH => {
                self.account(0);
                Origin::Opaque
            }
            EXTCODESIZE | SELFDESTRUCT => {
                self.account(0);
                Origin::Constant
            }
            CALL | CALLCODE => self.call(instruction, true),
            DELEGATECALL | STATICCALL => self.call(instruction, false),
            RETURN => {
                if let Some(bytes) = self.segments(0, 1)
                    && let Some(id) = self.frame.arena.add(Node::Bytes(bytes.into()))
                {
                    self.effect(Effect::Output(id));
                }
                Origin::Constant
            }
            // Constant on a path, or for a chain; or nothing that a location would follow from.
            PC | MSIZE | GAS | CODESIZE | CHAINID | RETURNDATASIZE | CALLDATASIZE => {
                Origin::Constant
            }
            PUSH20 | PUSH32 if !self.frame.is_creation => {
                let code = self.interpreter.bytecode.bytecode_slice();
                let position = self.interpreter.bytecode.pc();
                match immutable_at(code, position) {
                    Some(_) => self.frame.arena.origin(Node::Immutable(position as u32)),
                    None => Origin::Constant,
                }
            }
            PUSH0..=PUSH32 => Origin::Constant,
            _ => Origin::Opaque,
        }
    }

    /// Whether an instruction takes the selector out of calldata: it is the same in all samples of a
    /// template, and so is what a dispatcher makes of it.
    fn is_selector(&self, instruction: u8, operands: &[(Origin, U256); 3]) -> bool {
        let (word, by, all_but_selector) = match instruction {
            SHR => (operands[1], operands[0], U256::from(SELECTOR_SHIFT)),
            DIV => (operands[0], operands[1], U256::ONE << SELECTOR_SHIFT),
            _ => return false,
        };
        let is_first_word = |id| self.frame.arena.is_first_word(id);
        self.frame.key.selector.is_some()
            && by == (Origin::Constant, all_but_selector)
            && matches!(word, (Origin::Known(id), _) if is_first_word(id))
    }

    /// Origin and value of an operand, counted from the top of the stack. A word that is not known
    /// in all its bytes is not known.
    fn operand(&self, at: usize) -> (Origin, U256) {
        match self.stacked(at) {
            (Origin::Known(id), value) if self.frame.arena.is_partial(id) => {
                (Origin::Opaque, value)
            }
            operand => operand,
        }
    }

    /// As [`operand`](Self::operand), with words that are known in some of their bytes: copying
    /// them through memory brings those bytes back.
    fn stacked(&self, at: usize) -> (Origin, U256) {
        let stack = self.interpreter.stack.data();
        let position = stack.len().checked_sub(at + 1);
        position.map_or((Origin::Opaque, U256::ZERO), |position| {
            (self.frame.stack[position], stack[position])
        })
    }

    fn node(&mut self, at: usize) -> Option<NodeId> {
        let (origin, value) = self.operand(at);
        self.frame.arena.node_of(origin, value)
    }

    /// An operand as an offset into memory or calldata.
    fn offset(&self, at: usize) -> Option<usize> {
        // No memory reaches further: gas for it cannot be paid.
        u32::try_from(self.operand(at).1).ok().map(|offset| offset as usize)
    }

    fn fact(&mut self, fact: Environment) -> Origin {
        self.frame.arena.origin(Node::Environment(fact))
    }

    fn effect(&mut self, effect: Effect) {
        if self.frame.effects.len() < EFFECTS_MAX {
            self.frame.effects.push(effect);
        }
    }

    fn account(&mut self, at: usize) {
        if let Some(address) = self.node(at) {
            self.effect(Effect::Account(address));
        }
    }

    /// The operands of an instruction that copies: to, from, length.
    fn copy_range(&self) -> Option<(usize, usize, usize)> {
        Some((self.offset(0)?, self.offset(1)?, self.offset(2)?))
    }

    fn copy_constant(&mut self, at: usize, length: usize) -> Origin {
        if let (Some(at), Some(length)) = (self.offset(at), self.offset(length)) {
            self.frame.memory.clear(at..at.saturating_add(length));
        }
        Origin::Constant
    }

    fn copy_calldata(&mut self) -> Origin {
        if let (Some(at), Some(length)) = (self.offset(0), self.offset(2)) {
            let whole = match self.operand(2).0 {
                Origin::Known(id) => Some(id),
                Origin::Constant | Origin::Opaque => None,
            };
            let source = match self.node(1) {
                Some(offset) if !self.frame.is_creation => Source::Calldata(offset, 0, whole),
                _ => Source::Opaque,
            };
            self.frame.memory.write(at..at.saturating_add(length), source);
        }
        Origin::Constant
    }

    /// The real memory in a range; what has not been used yet is zero.
    fn real_memory(&self, range: Range<usize>) -> Vec<u8> {
        let memory = &self.interpreter.memory;
        let end = range.end.min(memory.size());
        let mut bytes =
            if range.start < end { memory.slice(range.start..end).to_vec() } else { Vec::new() };
        bytes.resize(range.len(), 0);
        bytes
    }

    fn memory_word(&mut self) -> Origin {
        let Some(at) = self.offset(0) else { return Origin::Opaque };
        let mut word = [0; 32];
        word.copy_from_slice(&self.real_memory(at..at + 32));
        self.frame.memory.word(at, &word, &mut self.frame.arena)
    }

    /// Bytes of memory, by the operands that give offset and length.
    fn segments(&mut self, offset: usize, length: usize) -> Option<Vec<Segment>> {
        let whole = self.operand(length);
        let length = self.offset(length).filter(|length| *length <= BYTES_MAX)?;
        if length == 0 {
            return Some(Vec::new());
        }
        let offset = self.offset(offset)?;
        let bytes = self.real_memory(offset..offset + length);
        let Frame { memory, arena, .. } = &mut *self.frame;
        let mut segments = memory.segments(offset, &bytes, arena);
        if let (Origin::Known(whole), _) = whole {
            stretch(&mut segments, whole, arena);
        }
        Some(segments)
    }

    fn load(&mut self) -> Origin {
        let Some(slot) = self.node(0) else { return Origin::Opaque };
        self.effect(Effect::Slot(slot));
        // What this call has stored itself is known; unless an inner call has changed it, which
        // then cannot be told from the state before.
        let (_, key) = self.operand(0);
        match self.frame.stored.get(&key) {
            Some((_, origin)) => *origin,
            None => self.frame.arena.origin(Node::Load(slot)),
        }
    }

    fn store(&mut self) -> Origin {
        let ((_, key), (origin, value)) = (self.operand(0), self.operand(1));
        self.frame.stored.insert(key, (value, origin));
        if let Some(slot) = self.node(0) {
            let value = self.frame.arena.node_of(origin, value);
            let value = value.filter(|id| self.frame.arena.weight(*id) <= STORED_WEIGHT_MAX);
            self.effect(Effect::Store { slot, at: (self.frame.inputs.this, key), value });
        }
        Origin::Constant
    }

    fn branch(&mut self) {
        let (Origin::Known(mut condition), value) = self.operand(1) else { return };
        let mut holds = !value.is_zero();
        while let Node::Apply(ISZERO, [inner, ..]) = self.frame.arena.get(condition) {
            condition = *inner;
            holds = !holds;
        }
        let is_worth_it = self.frame.arena.weight(condition) <= CONDITION_WEIGHT_MAX
            && self.frame.guards.len() < GUARDS_MAX;
        if is_worth_it && !self.frame.guards.iter().any(|(known, _)| *known == condition) {
            self.frame.guards.push((condition, holds));
        }
    }

    /// The node of a call. One that is made once more, and may find something else, is another one.
    fn numbered(&mut self, mut call: Call) -> Option<NodeId> {
        let Frame { arena, made, changes, .. } = &mut *self.frame;
        let before = *changes;
        *changes += usize::from(call.instruction != STATICCALL);
        let first = arena.add(Node::Call(Box::new(call.clone())))?;
        let (again, until) = made.entry(first).or_insert((0, before));
        if before > *until {
            *again = again.saturating_add(1);
        }
        *until = *changes;
        call.again = *again;
        arena.add(Node::Call(Box::new(call)))
    }

    fn call(&mut self, instruction: u8, has_value: bool) -> Origin {
        let input = 2 + usize::from(has_value);
        let (_, to) = self.operand(1);
        self.frame.pending = None;
        self.frame.pending_input.clear();
        if let (Some(offset), Some(length)) = (self.offset(input), self.offset(input + 1))
            && (to & address_mask()) == U256::from(4)
        {
            self.frame.pending_input =
                self.frame.memory.pieces(offset..offset.saturating_add(length));
        }
        let value = if has_value { self.node(2) } else { self.frame.arena.constant(U256::ZERO) };
        if let Some(to) = self.node(1) {
            let length = self.offset(input + 1).unwrap_or_default();
            let input = self
                .segments(input, input + 1)
                .unwrap_or_else(|| vec![Segment::Opaque(length as u32)]);
            let call = Call { instruction, to, value, input: input.into(), again: 0 };
            if let Some(call) = self.numbered(call) {
                self.frame.pending = Some(call);
                self.effect(Effect::Call(call));
            } else {
                self.effect(Effect::Account(to));
            }
        }
        // A path on which the call fails is another path.
        Origin::Constant
    }
}

//! What one instruction does to what is known.
//!
//! *Must not know*: where a walk began, or that it may turn back.

use super::{Place, Stored, Walk};
use crate::analyzer::learned::{
    access::AccessKind,
    arithmetic::{compute, is_arithmetic},
    bits::Bits,
    byte_arena::ByteRun,
    evaluate::{Extent, StateView, to_address},
    expression::{Environment, arity},
};
use alloy_primitives::U256;
use multilane_state::StateLocation;
use revm::bytecode::opcode::*;

impl<V: StateView> Walk<'_, '_, V> {
    /// Does an instruction that does not end the call. `None` if nobody can tell what it does.
    pub(super) fn step(&mut self, instruction: u8, code: &[u8]) -> Option<()> {
        let position = self.place.position;
        self.place.position += 1;
        match instruction {
            PUSH0..=PUSH32 => {
                let size = usize::from(instruction - PUSH0);
                self.place.position += size;
                let operand = code.get(position + 1..position + 1 + size)?;
                self.place.stack.push(Bits::of(number(operand)));
            }
            DUP1..=DUP16 => {
                let stack = &mut self.place.stack;
                let from = stack.len().checked_sub(1 + usize::from(instruction - DUP1))?;
                stack.push(stack[from]);
            }
            SWAP1..=SWAP16 => {
                let stack = &mut self.place.stack;
                let top = stack.len().checked_sub(1)?;
                let other = top.checked_sub(1 + usize::from(instruction - SWAP1))?;
                stack.swap(top, other);
            }
            JUMPDEST => {}
            JUMP => {
                let [target] = self.operands()?;
                self.jump(target)?;
            }
            JUMPI => {
                let [target, condition] = self.operands()?;
                let is_taken = match condition.whole() {
                    Some(condition) => !condition.is_zero(),
                    None if condition.is_nonzero() => true,
                    None => self.guess(position, target),
                };
                if is_taken {
                    self.jump(target)?;
                }
            }
            MLOAD => {
                let [at] = self.operands()?;
                let word = self.place.memory.word(offset(at)?)?;
                self.place.stack.push(word);
            }
            MSTORE => {
                let [at, word] = self.operands()?;
                let [value, known] = word.to_bytes();
                self.place.memory.write(offset(at)?, &value, &known)?;
            }
            MSTORE8 => {
                let [at, word] = self.operands()?;
                let [value, known] = word.to_bytes();
                self.place.memory.write(offset(at)?, &value[31..], &known[31..])?;
            }
            KECCAK256 => {
                let [at, length] = self.operands()?;
                let (at, length) = (offset(at)?, offset(length)?);
                self.handle(length);
                let bytes = self.place.memory.known(at, length);
                let hash = bytes.map(|bytes| self.evaluator.desk.hashes.hash(bytes));
                self.push(hash.map(Into::into));
            }
            SLOAD => self.load()?,
            SSTORE => self.store()?,
            TLOAD => {
                let [slot] = self.operands()?;
                let known = slot.whole().and_then(|slot| self.place.transient.get(&slot));
                self.place.stack.push(known.copied().unwrap_or(Bits::UNKNOWN));
            }
            TSTORE => {
                let [slot, value] = self.operands()?;
                if let Some(slot) = slot.whole() {
                    self.place.transient.insert(slot, value);
                }
            }
            CALL | CALLCODE | DELEGATECALL | STATICCALL => self.call(instruction)?,
            CREATE | CREATE2 => self.create(instruction)?,
            CALLDATACOPY | CODECOPY | RETURNDATACOPY | MCOPY => self.copy(instruction)?,
            EXTCODECOPY => {
                let [address, to, _, length] = self.operands()?;
                self.account(address);
                let length = offset(length)?;
                self.handle(length);
                self.place.memory.forget(offset(to)?, length)?;
            }
            _ if is_arithmetic(instruction) => self.apply(instruction)?,
            _ => self.fact(instruction)?,
        }
        Some(())
    }

    /// Takes operands from the stack, the topmost first.
    pub(super) fn operands<const N: usize>(&mut self) -> Option<[Bits; N]> {
        let stack = &mut self.place.stack;
        let mut operands: [Bits; N] = *stack.last_chunk()?;
        operands.reverse();
        stack.truncate(stack.len() - N);
        Some(operands)
    }

    pub(super) fn push(&mut self, value: Option<U256>) {
        self.place.stack.push(value.map_or(Bits::UNKNOWN, Bits::of));
    }

    fn jump(&mut self, target: Bits) -> Option<()> {
        let target = offset(target)?;
        let is_valid = self.code.legacy_jump_table()?.is_valid(target);
        self.place.position = is_valid.then_some(target)?;
        Some(())
    }

    fn apply(&mut self, instruction: u8) -> Option<()> {
        let zero = Bits::of(U256::ZERO);
        let [a, b, c] = match arity(instruction) {
            1 => [self.operands::<1>()?[0], zero, zero],
            2 => {
                let [a, b] = self.operands()?;
                [a, b, zero]
            }
            _ => self.operands()?,
        };
        let result = match (a.whole(), b.whole(), c.whole()) {
            (Some(a), Some(b), Some(c)) => Bits::of(compute(instruction, [a, b, c])?),
            _ => Bits::apply(instruction, a, b),
        };
        self.place.stack.push(result);
        Some(())
    }

    /// An instruction that asks for something about the call, the block, or an account.
    fn fact(&mut self, instruction: u8) -> Option<()> {
        let value = match instruction {
            ADDRESS => self.evaluator.fact(self.inputs, Environment::This),
            CALLER => self.evaluator.fact(self.inputs, Environment::Caller),
            CALLVALUE => self.evaluator.fact(self.inputs, Environment::Value),
            ORIGIN => self.evaluator.fact(self.inputs, Environment::Origin),
            COINBASE => self.evaluator.fact(self.inputs, Environment::Beneficiary),
            TIMESTAMP => self.evaluator.fact(self.inputs, Environment::Timestamp),
            NUMBER => self.evaluator.fact(self.inputs, Environment::Number),
            CALLDATASIZE => self.evaluator.fact(self.inputs, Environment::CalldataSize),
            CALLDATALOAD => {
                let [at] = self.operands()?;
                let at = at.whole().map(|at| usize::try_from(at).unwrap_or(usize::MAX));
                at.and_then(|at| self.evaluator.word(self.inputs.calldata, at))
            }
            PC => Some(U256::from(self.place.position - 1)),
            MSIZE => Some(U256::from(self.place.memory.len())),
            CODESIZE => Some(U256::from(self.code.len())),
            RETURNDATASIZE => self.place.returned.map(|returned| U256::from(returned.len())),
            EXTCODESIZE => {
                let [address] = self.operands()?;
                self.account(address);
                self.code_size(address)
            }
            _ => return self.unknown(instruction),
        };
        self.push(value);
        Some(())
    }

    /// An instruction whose result is not known, if it has one.
    fn unknown(&mut self, instruction: u8) -> Option<()> {
        if matches!(instruction, BALANCE | EXTCODEHASH) {
            self.account(*self.place.stack.last()?);
        }
        let info = OpCode::new(instruction)?.info();
        let stack = &mut self.place.stack;
        let rest = stack.len().checked_sub(usize::from(info.inputs()))?;
        stack.truncate(rest);
        stack.resize(rest + usize::from(info.outputs()), Bits::UNKNOWN);
        Some(())
    }

    fn account(&mut self, address: Bits) {
        if let Some(address) = address.whole() {
            let location = StateLocation::Account(to_address(address));
            self.evaluator.desk.access(self.place.id, location, AccessKind::Read);
        }
    }

    /// The size of an account's code, in bytes, if it has any before the transaction.
    fn code_size(&mut self, address: Bits) -> Option<U256> {
        let address = to_address(address.whole()?);
        let code = self.evaluator.code(address)?;
        Some(U256::from(self.evaluator.resolver.bytecode(code).len()))
    }

    fn load(&mut self) -> Option<()> {
        let [slot] = self.operands()?;
        let value = slot.whole().map_or(Bits::UNKNOWN, |slot| {
            let (id, this) = (self.place.id, self.inputs.this);
            self.evaluator.desk.access(id, StateLocation::Slot(this, slot), AccessKind::Read);
            match self.place.stored.get(&slot) {
                Some(stored) => stored.now,
                None => self.evaluator.load(id, this, slot),
            }
        });
        self.place.stack.push(value);
        Some(())
    }

    fn store(&mut self) -> Option<()> {
        let [slot, value] = self.operands()?;
        let Some(slot) = slot.whole() else { return Some(()) };
        let this = self.inputs.this;
        let Self { evaluator, place: Place { id, stored, .. }, .. } = self;
        let stored = stored.entry(slot).or_insert_with(|| {
            let before = evaluator.load(*id, this, slot);
            let access =
                evaluator.desk.access(*id, StateLocation::Slot(this, slot), AccessKind::Written);
            Stored { before, now: value, access }
        });
        stored.now = value;
        let is_followed =
            evaluator.extent == Extent::Everything && evaluator.view.is_followed(this, slot);
        evaluator.desk.write(stored.access, AccessKind::Written, is_followed.then_some(value));
        Some(())
    }

    fn copy(&mut self, instruction: u8) -> Option<()> {
        let [to, from, length] = self.operands()?;
        let (to, length) = (offset(to)?, offset(length)?);
        self.handle(length);
        let Some(from) = from.whole() else { return self.place.memory.forget(to, length) };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        match instruction {
            CALLDATACOPY => self.copy_run(self.inputs.calldata, to, from, length),
            RETURNDATACOPY => self.copy_run(self.place.returned?, to, from, length),
            MCOPY => self.place.memory.copy_within(to, from, length),
            _ => {
                let rest = self.code.original_byte_slice().get(from..).unwrap_or_default();
                self.place.memory.write_known(to, &rest[..length.min(rest.len())], length)
            }
        }
    }

    /// Copies bytes of a run into memory, as far as they are known.
    pub(super) fn copy_run(
        &mut self,
        run: ByteRun,
        to: usize,
        from: usize,
        length: usize,
    ) -> Option<()> {
        let range = from..from.saturating_add(length);
        self.evaluator.settle(run, range.clone());
        self.evaluator.note_words(run, from, length);
        let (bytes, gaps) = self.evaluator.desk.bytes.part(run, range);
        self.place.memory.write_known(to, bytes, length)?;
        for gap in gaps {
            self.place.memory.forget(to + gap.start, gap.len())?;
        }
        Some(())
    }

    /// Takes the operands that give a part of memory, and what there is as a run.
    pub(super) fn take_bytes(&mut self) -> Option<ByteRun> {
        let [at, length] = self.operands()?;
        self.bytes(offset(at)?, offset(length)?)
    }

    /// A part of memory as a run.
    pub(super) fn bytes(&mut self, at: usize, length: usize) -> Option<ByteRun> {
        self.handle(length);
        let bytes = &mut self.evaluator.desk.bytes;
        let begun = bytes.begin();
        for piece in self.place.memory.pieces(at, length)? {
            match piece {
                Ok(known) => bytes.push(known),
                Err(length) => bytes.push_unknown(length),
            }
        }
        bytes.end(begun)
    }
}

/// The operand of a PUSH.
fn number(bytes: &[u8]) -> U256 {
    // Most are short, and by far the fastest read like this.
    if bytes.len() <= 8 {
        return U256::from(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    }
    U256::from_be_slice(bytes)
}

/// A word as an offset into memory or code. `None` if it is not known, or leads further than any
/// memory.
pub(super) fn offset(word: Bits) -> Option<usize> {
    u32::try_from(word.whole()?).ok().map(|offset| offset as usize)
}

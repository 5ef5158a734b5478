//! Values: the registers of a call, computed when they are asked for.

use super::{CallInputs, Evaluator, Extent, Frame, Here, StateView};
use crate::analyzer::learned::{
    arithmetic::compute,
    bits::Bits,
    code_shape::immutable_at,
    desk::{CallId, Register},
    expression::Environment,
    memo::Question,
    program::{Operand, Step},
};
use alloy_primitives::{Address, U256};

/// Steps of one transaction, all calls together. Bytes that are put together count as well.
const STEPS_MAX: usize = 1 << 16;
/// Registers of one transaction that may be known in part.
const PARTS_MAX: usize = 256;
/// Values that may be waiting for each other. It bounds the stack.
const DEMANDS_MAX: usize = 256;

impl<V: StateView> Evaluator<'_, V> {
    /// A value, if it can be known.
    #[inline(always)]
    pub(super) fn value(&mut self, here: Here<'_>, operand: Operand) -> Option<U256> {
        match operand.place() {
            Ok(register) => {
                let place = here.registers + register;
                let state = match self.desk.registers[place] {
                    Register::Unasked => self.demand(here, register),
                    state => state,
                };
                (state == Register::Known).then(|| self.desk.values[place])
            }
            Err(constant) => Some(here.program.constants[constant]),
        }
    }

    /// Computes a register that nobody has asked for yet. It depends on earlier ones only, and on
    /// registers of other calls that do not depend on it.
    #[inline(never)]
    fn demand(&mut self, here: Here<'_>, register: usize) -> Register {
        let (step, place) = (&here.program.steps[register], here.registers + register);
        let mut state = Register::Unknown;
        self.steps += 1;
        if self.steps < STEPS_MAX && self.demands < DEMANDS_MAX {
            self.demands += 1;
            state = match self.compute(here, step) {
                Some(value) => {
                    self.desk.values[place] = value;
                    Register::Known
                }
                None => self.compute_part(here, step, place),
            };
            self.demands -= 1;
        }
        self.desk.registers[place] = state;
        state
    }

    /// Where a register is not known, some of its bits may be.
    fn compute_part(&mut self, here: Here<'_>, step: &Step, place: usize) -> Register {
        let bits = match *step {
            Step::Load(slot) => {
                let slot = self.value(here, slot);
                slot.map_or(Bits::UNKNOWN, |slot| self.load_here(here, slot))
            }
            Step::Apply(instruction, [a, b, _]) => {
                Bits::apply(instruction, self.bits(here, a), self.bits(here, b))
            }
            _ => Bits::UNKNOWN,
        };
        if let Some(value) = bits.whole() {
            self.desk.values[place] = value;
            return Register::Known;
        }
        if bits.is_known_at_all() && self.desk.parts.len() < PARTS_MAX {
            self.desk.parts.push((place, bits));
            return Register::Partly;
        }
        Register::Unknown
    }

    /// An operand, as far as it is known.
    pub(super) fn bits(&mut self, here: Here<'_>, operand: Operand) -> Bits {
        if let Some(value) = self.value(here, operand) {
            return Bits::of(value);
        }
        let Ok(register) = operand.place() else { return Bits::UNKNOWN };
        let place = here.registers + register;
        if self.desk.registers[place] != Register::Partly {
            return Bits::UNKNOWN;
        }
        // What was computed last is asked for first.
        let mut parts = self.desk.parts.iter().rev();
        parts.find(|(at, _)| *at == place).map_or(Bits::UNKNOWN, |(_, bits)| *bits)
    }

    fn compute(&mut self, here: Here<'_>, step: &Step) -> Option<U256> {
        match *step {
            Step::Environment(fact) => self.fact(self.desk.frames[here.frame].inputs, fact),
            Step::Immutable(position) => {
                let code = self.resolver.bytecode(self.desk.frames[here.frame].inputs.code);
                immutable_at(code.original_byte_slice(), position as usize)
            }
            Step::CalldataWord(offset) => {
                let offset = self.value(here, offset)?;
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                self.word(self.desk.frames[here.frame].inputs.calldata, offset)
            }
            Step::Load(slot) => {
                let slot = self.value(here, slot)?;
                self.load_here(here, slot).whole()
            }
            Step::Apply(instruction, operands) => {
                let [a, b, c] = operands;
                // Both are asked for, even if the first is not known: their bits may be.
                let (a, b) = (self.value(here, a), self.value(here, b));
                compute(instruction, [a?, b?, self.value(here, c)?])
            }
            Step::HashWord(word) => {
                let word = self.value(here, word)?;
                Some(self.desk.hashes.word(&word.to_be_bytes()).into())
            }
            Step::HashPair([first, second]) => {
                let (first, second) = (self.value(here, first)?, self.value(here, second)?);
                let mut input = [0; 64];
                input[..32].copy_from_slice(&first.to_be_bytes::<32>());
                input[32..].copy_from_slice(&second.to_be_bytes::<32>());
                Some(self.desk.hashes.pair(&input).into())
            }
            Step::Hash(pieces) => {
                let run = self.bytes(here, pieces)?;
                self.settle(run, 0..run.len());
                Some(self.desk.hash(run)?.into())
            }
            Step::Bytes(pieces) => {
                let run = self.bytes(here, pieces)?;
                self.word(run, 0)
            }
            Step::ReturnWord(call, offset) => {
                let at = self.follow(here, call);
                let output = self.desk.calls[at].output?;
                self.word(output, offset as usize)
            }
            Step::Unknown => None,
        }
    }

    fn load_here(&mut self, here: Here<'_>, slot: U256) -> Bits {
        let Frame { id, inputs: CallInputs { this, .. }, .. } = self.desk.frames[here.frame];
        self.load(id, this, slot)
    }

    /// What a slot of the called account holds. What another call of the transaction has written is
    /// not known any more.
    pub(super) fn load(&mut self, id: CallId, this: Address, slot: U256) -> Bits {
        // What this call has written itself is part of the expression.
        let is_overwritten =
            self.extent == Extent::Everything && self.desk.is_written_by_other(id, this, slot);
        if is_overwritten { Bits::UNKNOWN } else { self.view.storage(this, slot) }
    }

    pub(super) fn fact(&mut self, inputs: CallInputs, fact: Environment) -> Option<U256> {
        let number = |address: Address| U256::from_be_bytes(address.into_word().0);
        let (value, question) = match fact {
            Environment::This => (number(inputs.this), None),
            Environment::Caller => {
                let is_asked = inputs.is_of_transaction;
                (number(inputs.caller), is_asked.then_some(Question::Caller))
            }
            Environment::Value => {
                (inputs.value?, inputs.is_of_transaction.then_some(Question::Value))
            }
            Environment::Origin => (number(self.surroundings.origin), Some(Question::Caller)),
            Environment::GasLimit => (self.surroundings.gas_limit, Some(Question::GasLimit)),
            Environment::Beneficiary => (number(self.surroundings.beneficiary), None),
            Environment::Timestamp => (self.surroundings.timestamp, None),
            Environment::Number => (self.surroundings.number, None),
            Environment::CalldataSize => {
                let is_asked = inputs.calldata.is_first();
                (U256::from(inputs.calldata.len()), is_asked.then_some(Question::CalldataSize))
            }
        };
        if let Some(question) = question {
            self.note_asked(question, value);
        }
        Some(value)
    }

    /// Notes what was asked about the transaction, and the answer. Nobody remembers a prediction of
    /// everything.
    pub(super) fn note_asked(&mut self, question: Question, answer: U256) {
        if self.extent == Extent::Contended {
            self.desk.asked.push((question, answer));
        }
    }
}

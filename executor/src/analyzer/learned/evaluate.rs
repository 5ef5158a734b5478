//! The evaluator: a template and a real call give locations.
//!
//! Runs [programs](super::program). Inner calls are evaluated by their own templates. What cannot be
//! known is left out: every value here may be absent, and an absent one makes absent what depends
//! on it.
//!
//! *Must not know*: how templates are learned, or where state comes from.

use super::{
    arithmetic::compute,
    bits::Bits,
    byte_arena::{ByteArena, ByteRun},
    code_shape::immutable_at,
    explore::UnknownCall,
    expression::{Environment, address_mask},
    profile::Templates,
    program::{Action, Condition, Deed, Operand, Part, Piece, Program, Recipe, Step},
    record::FrameInputs,
    resolver::{CodeId, Resolver},
};
use crate::keccak_cache::KeccakCache;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256, keccak256};
use multilane_state::StateLocation;
use revm::{
    bytecode::opcode::{CALL, CALLCODE, DELEGATECALL},
    context::TxEnv,
    state::Bytecode,
};
use std::ops::Range;

/// State as it is before the transaction, as well as it is known.
pub(crate) trait StateView {
    /// The code that runs when an account is called, and its [shape](super::code_shape), if there
    /// is any.
    fn code(&mut self, address: Address) -> Option<(B256, Bytecode)>;

    /// What a slot holds.
    fn storage(&mut self, address: Address, slot: U256) -> Bits;

    /// Whether anything has depended on what a slot holds, so that a new value is of interest.
    fn is_followed(&self, address: Address, slot: U256) -> bool;
}

/// What a transaction's calls know of the block and the transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    pub(crate) origin: Address,
    pub(crate) beneficiary: Address,
    pub(crate) timestamp: U256,
    pub(crate) number: U256,
}

impl Surroundings {
    pub(crate) fn of(env: &EvmEnv, tx: &TxEnv) -> Self {
        Self { origin: tx.caller, ..Self::of_block(env) }
    }

    /// What is known of the block, with a sender that nobody is.
    pub(crate) fn of_block(env: &EvmEnv) -> Self {
        let block = &env.block_env;
        Self {
            origin: Address::ZERO,
            beneficiary: block.beneficiary,
            timestamp: block.timestamp,
            number: block.number,
        }
    }
}

/// A location that a call is expected to access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LearnedAccess {
    /// What is accessed: a slot, or an account.
    pub location: StateLocation,
    /// Whether its value is expected to be another one after the transaction.
    pub writes: bool,
}

/// An access, with the value that is stored as far as it is known and of interest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) location: StateLocation,
    pub(super) writes: bool,
    pub(super) stored: Bits,
}

/// The inputs of a call, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallInputs {
    pub(super) code: CodeId,
    pub(super) this: Address,
    pub(super) caller: Address,
    pub(super) value: Option<U256>,
    pub(super) calldata: ByteRun,
}

/// Calls within calls that are followed.
const DEPTH_MAX: usize = 24;
/// Calls of one transaction that are followed.
const CALLS_MAX: usize = 256;
/// Steps of one transaction, all calls together. Bytes that are put together count as well.
const STEPS_MAX: usize = 1 << 16;
/// Bytes that count as a step.
const BYTES_PER_STEP: usize = 64;
/// Registers of one transaction that may be known in part.
const PARTS_MAX: usize = 256;
/// Hashes that are remembered, of one word and of two.
const WORD_HASHES: usize = 1 << 10;
const PAIR_HASHES: usize = 1 << 13;

/// What is known of a register's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Unasked,
    Known,
    /// Some bits are known.
    Partly,
    Unknown,
}

/// What has become of one of a program's calls.
#[derive(Clone, Debug, Default)]
struct FollowedCall {
    output: Option<ByteRun>,
    /// What it accesses, as positions in the list.
    accesses: Option<Range<usize>>,
    is_made: bool,
}

/// Memory for evaluations, used again and again, and a memory of what was hashed.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) bytes: ByteArena,
    /// Of the running calls, one behind the other. Values count where the register is known.
    registers: Vec<Register>,
    values: Vec<U256>,
    /// Of registers that are known in part. Few are.
    parts: Vec<(usize, Bits)>,
    /// Positions of accesses, for writes of the same slots.
    notes: Vec<Option<usize>>,
    calls: Vec<FollowedCall>,
    /// What the transaction is expected to access; with repetitions.
    accesses: Vec<Access>,
    /// Accesses of calls that were followed, but are not made.
    unmade: Vec<Range<usize>>,
    word_hashes: KeccakCache<32>,
    pair_hashes: KeccakCache<64>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            bytes: ByteArena::default(),
            registers: Vec::new(),
            values: Vec::new(),
            parts: Vec::new(),
            notes: Vec::new(),
            calls: Vec::new(),
            accesses: Vec::new(),
            unmade: Vec::new(),
            word_hashes: KeccakCache::new(WORD_HASHES),
            pair_hashes: KeccakCache::new(PAIR_HASHES),
        }
    }
}

impl Desk {
    /// Makes ready for the next transaction.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.registers.clear();
        self.parts.clear();
        self.notes.clear();
        self.calls.clear();
        self.accesses.clear();
        self.unmade.clear();
    }

    /// What the transaction is expected to access; with repetitions.
    pub(super) fn accesses(&self) -> impl Iterator<Item = &Access> {
        let is_made = |at: usize| !self.unmade.iter().any(|range| range.contains(&at));
        let accesses = self.accesses.iter().enumerate();
        accesses.filter(move |(at, _)| is_made(*at)).map(|(_, access)| access)
    }

    /// Notes an access.
    pub(super) fn access(&mut self, access: Access) {
        self.accesses.push(access);
    }
}

/// Evaluates the calls of one transaction.
pub(super) struct Evaluator<'a, V> {
    templates: &'a Templates,
    resolver: &'a mut Resolver,
    desk: &'a mut Desk,
    view: &'a mut V,
    surroundings: Surroundings,
    /// Whether only what is usual is expected, because finer predictions have failed.
    pub(super) is_cautious: bool,
    calls: usize,
    steps: usize,
    /// Calls for which there is no template, although they run code.
    pub(super) unknown_calls: usize,
    /// Whether calls are wanted that could be tried out.
    pub(super) explores: bool,
    /// Those calls.
    pub(super) explorable: Vec<UnknownCall>,
}

/// One call under evaluation.
struct Frame<'p> {
    program: &'p Program,
    inputs: CallInputs,
    /// Where its part of the desk's lists begins.
    registers: usize,
    notes: usize,
    calls: usize,
    /// Guards that have been asked for, those that are known, and those that hold, by bits.
    asked: u128,
    known: u128,
    held: u128,
    /// The literals that were looked at last, and what came of them.
    literals: Option<(Part, Option<bool>)>,
    /// The sites of the samples that are most alike, once that is asked for.
    nearest: Option<u128>,
    depth: usize,
}

impl<'a, V: StateView> Evaluator<'a, V> {
    pub(super) fn new(
        templates: &'a Templates,
        resolver: &'a mut Resolver,
        desk: &'a mut Desk,
        view: &'a mut V,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            templates,
            resolver,
            desk,
            view,
            surroundings,
            is_cautious: false,
            calls: 0,
            steps: 0,
            unknown_calls: 0,
            explores: false,
            explorable: Vec::new(),
        }
    }

    /// Collects what a call accesses. Gives what it returns, where that is known.
    pub(super) fn call(
        &mut self,
        program: &Program,
        inputs: CallInputs,
        depth: usize,
    ) -> Option<ByteRun> {
        let mut frame = self.enter(program, inputs, depth);
        let mut output = None;
        for action in &program.actions {
            if !self.is_done(&mut frame, action) {
                continue;
            }
            self.take(&mut frame, action.steps);
            match action.deed {
                Deed::Slot(slot, note) => {
                    if let Some(slot) = self.value(&frame, slot) {
                        let at = self.slot(&frame, slot, false, Bits::UNKNOWN);
                        if let Some(note) = note {
                            self.desk.notes[frame.notes + usize::from(note)] = Some(at);
                        }
                    }
                }
                Deed::Write { slot, note, value } => self.write(&mut frame, slot, note, value),
                Deed::Account(address) => {
                    if let Some(address) = self.value(&frame, address) {
                        self.account(to_address(address), false);
                    }
                }
                Deed::Call(call) => {
                    self.desk.calls[frame.calls + usize::from(call)].is_made = true;
                }
                Deed::Output(pieces) => output = self.bytes(&frame, pieces),
            }
        }
        self.leave(&frame);
        output
    }

    /// What the guards of a program are for some inputs.
    pub(super) fn guards(&mut self, program: &Program, inputs: CallInputs) -> Vec<Option<bool>> {
        let mut frame = self.enter(program, inputs, 0);
        let guards = 0..program.guards.len();
        let guards = guards.map(|guard| self.guard(&mut frame, guard)).collect();
        self.leave(&frame);
        guards
    }

    fn enter<'p>(&mut self, program: &'p Program, inputs: CallInputs, depth: usize) -> Frame<'p> {
        let desk = &mut *self.desk;
        let frame = Frame {
            program,
            inputs,
            registers: desk.registers.len(),
            notes: desk.notes.len(),
            calls: desk.calls.len(),
            asked: 0,
            known: 0,
            held: 0,
            literals: None,
            nearest: None,
            depth,
        };
        let registers = frame.registers + program.steps.len();
        desk.registers.resize(registers, Register::Unasked);
        if desk.values.len() < registers {
            desk.values.resize(registers, U256::ZERO);
        }
        desk.notes.resize(frame.notes + usize::from(program.notes), None);
        desk.calls.resize(frame.calls + program.calls.len(), FollowedCall::default());
        frame
    }

    fn leave(&mut self, frame: &Frame<'_>) {
        let desk = &mut *self.desk;
        desk.registers.truncate(frame.registers);
        desk.notes.truncate(frame.notes);
        for followed in desk.calls.drain(frame.calls..) {
            if let (Some(accesses), false) = (followed.accesses, followed.is_made) {
                desk.unmade.push(accesses);
            }
        }
    }

    fn write(
        &mut self,
        frame: &mut Frame<'_>,
        slot: Operand,
        note: Option<u16>,
        value: Option<Recipe>,
    ) {
        let Some(slot) = self.value(frame, slot) else { return };
        let stored = match value {
            Some(Recipe { steps, result }) if self.view.is_followed(frame.inputs.this, slot) => {
                self.take(frame, steps);
                self.bits(frame, result)
            }
            _ => Bits::UNKNOWN,
        };
        let note = note.and_then(|note| self.desk.notes[frame.notes + usize::from(note)]);
        match note {
            Some(at) => {
                let access = &mut self.desk.accesses[at];
                (access.writes, access.stored) = (true, stored);
            }
            None => {
                self.slot(frame, slot, true, stored);
            }
        }
    }

    /// Notes an access to a slot. Gives its position.
    fn slot(&mut self, frame: &Frame<'_>, slot: U256, writes: bool, stored: Bits) -> usize {
        let location = StateLocation::Slot(frame.inputs.this, slot);
        self.desk.accesses.push(Access { location, writes, stored });
        self.desk.accesses.len() - 1
    }

    fn account(&mut self, address: Address, writes: bool) {
        let location = StateLocation::Account(address);
        self.desk.access(Access { location, writes, stored: Bits::UNKNOWN });
    }

    /// Whether an action is done, by its condition.
    fn is_done(&mut self, frame: &mut Frame<'_>, action: &Action) -> bool {
        match action.condition {
            Condition::Always => return true,
            _ if self.is_cautious && !action.usually => return false,
            Condition::Literals(literals) => {
                if let Some(hold) = self.literals(frame, literals) {
                    return hold;
                }
            }
            Condition::Neighbours => {}
        }
        let nearest = match frame.nearest {
            Some(nearest) => nearest,
            None => self.nearest(frame),
        };
        nearest >> action.site & 1 == 1
    }

    /// Whether all of some literals hold. `None` if that cannot be known.
    fn literals(&mut self, frame: &mut Frame<'_>, literals: Part) -> Option<bool> {
        // Actions under the same conditions follow one another.
        if let Some((last, hold)) = frame.literals
            && last == literals
        {
            return hold;
        }
        let mut all = Some(true);
        for literal in &frame.program.literals[literals.range()] {
            match self.guard(frame, usize::from(literal.guard)) {
                Some(holds) if holds == literal.holds => {}
                Some(_) => {
                    all = Some(false);
                    break;
                }
                None => all = None,
            }
        }
        frame.literals = Some((literals, all));
        all
    }

    fn guard(&mut self, frame: &mut Frame<'_>, guard: usize) -> Option<bool> {
        let bit = 1_u128 << guard;
        if frame.asked & bit == 0 {
            frame.asked |= bit;
            let Recipe { steps, result } = frame.program.guards.get(guard).copied().flatten()?;
            self.take(frame, steps);
            if let Some(value) = self.value(frame, result) {
                frame.known |= bit;
                frame.held |= if value.is_zero() { 0 } else { bit };
            }
        }
        (frame.known & bit != 0).then_some(frame.held & bit != 0)
    }

    /// The sites of the samples that are most alike.
    fn nearest(&mut self, frame: &mut Frame<'_>) -> u128 {
        let majority = &frame.program.majority;
        let mut asked = majority.asked();
        while asked != 0 {
            self.guard(frame, asked.trailing_zeros() as usize);
            asked &= asked - 1;
        }
        let nearest = majority.nearest(frame.known, frame.held);
        frame.nearest = Some(nearest);
        nearest
    }

    /// Takes steps that have not been taken yet.
    fn take(&mut self, frame: &mut Frame<'_>, steps: Part) {
        let program = frame.program;
        for step in &program.order[steps.range()] {
            let at = usize::from(*step);
            if self.desk.registers[frame.registers + at] != Register::Unasked {
                continue;
            }
            self.steps += 1;
            if self.steps >= STEPS_MAX {
                self.desk.registers[frame.registers + at] = Register::Unknown;
                continue;
            }
            let step = &program.steps[at];
            let value = self.compute(frame, step);
            let place = frame.registers + at;
            self.desk.registers[place] = match value {
                Some(value) => {
                    self.desk.values[place] = value;
                    Register::Known
                }
                None => self.compute_part(frame, step, place),
            };
        }
    }

    /// Where a register is not known, some of its bits may be.
    fn compute_part(&mut self, frame: &Frame<'_>, step: &Step, place: usize) -> Register {
        let bits = match *step {
            Step::Load(slot) => {
                let slot = self.value(frame, slot);
                slot.map_or(Bits::UNKNOWN, |slot| self.view.storage(frame.inputs.this, slot))
            }
            Step::Apply(instruction, [a, b, _]) => {
                Bits::apply(instruction, self.bits(frame, a), self.bits(frame, b))
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
    fn bits(&self, frame: &Frame<'_>, operand: Operand) -> Bits {
        if let Some(value) = self.value(frame, operand) {
            return Bits::of(value);
        }
        let Ok(register) = operand.place() else { return Bits::UNKNOWN };
        let place = frame.registers + register;
        if self.desk.registers[place] != Register::Partly {
            return Bits::UNKNOWN;
        }
        // The last of this place: earlier ones are of calls that have ended.
        let mut parts = self.desk.parts.iter().rev();
        parts.find(|(at, _)| *at == place).map_or(Bits::UNKNOWN, |(_, bits)| *bits)
    }

    /// An operand's value. The steps to it have been taken.
    fn value(&self, frame: &Frame<'_>, operand: Operand) -> Option<U256> {
        match operand.place() {
            Ok(register) => {
                let place = frame.registers + register;
                let is_known = self.desk.registers[place] == Register::Known;
                is_known.then(|| self.desk.values[place])
            }
            Err(constant) => Some(frame.program.constants[constant]),
        }
    }

    fn compute(&mut self, frame: &mut Frame<'_>, step: &Step) -> Option<U256> {
        match *step {
            Step::Environment(fact) => self.fact(frame, fact),
            Step::Immutable(position) => {
                let code = self.resolver.bytecode(frame.inputs.code);
                immutable_at(code.original_byte_slice(), position as usize)
            }
            Step::CalldataWord(offset) => {
                let offset = self.value(frame, offset)?;
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                self.desk.bytes.word(frame.inputs.calldata, offset)
            }
            Step::Load(slot) => {
                let slot = self.value(frame, slot)?;
                self.view.storage(frame.inputs.this, slot).whole()
            }
            Step::Apply(instruction, operands) => {
                let [a, b, c] = operands;
                let values = [self.value(frame, a)?, self.value(frame, b)?, self.value(frame, c)?];
                compute(instruction, values)
            }
            Step::HashWord(word) => {
                let word = self.value(frame, word)?;
                Some(self.desk.word_hashes.hash(&word.to_be_bytes()).into())
            }
            Step::HashPair([first, second]) => {
                let (first, second) = (self.value(frame, first)?, self.value(frame, second)?);
                let mut input = [0; 64];
                input[..32].copy_from_slice(&first.to_be_bytes::<32>());
                input[32..].copy_from_slice(&second.to_be_bytes::<32>());
                Some(self.desk.pair_hashes.hash(&input).into())
            }
            Step::Hash(pieces) => {
                let run = self.bytes(frame, pieces)?;
                let bytes = self.desk.bytes.known(run)?;
                let hash = match bytes.try_into() {
                    Ok(pair) => self.desk.pair_hashes.hash(pair),
                    Err(_) => keccak256(bytes),
                };
                Some(hash.into())
            }
            Step::Bytes(pieces) => {
                let run = self.bytes(frame, pieces)?;
                self.desk.bytes.word(run, 0)
            }
            Step::Call(call) => {
                self.follow(frame, usize::from(call));
                None
            }
            Step::ReturnWord(call, offset) => {
                let output = self.desk.calls[frame.calls + usize::from(call)].output?;
                self.desk.bytes.word(output, offset as usize)
            }
            Step::Unknown => None,
        }
    }

    fn fact(&self, frame: &Frame<'_>, fact: Environment) -> Option<U256> {
        let number = |address: Address| U256::from_be_bytes(address.into_word().0);
        match fact {
            Environment::This => Some(number(frame.inputs.this)),
            Environment::Caller => Some(number(frame.inputs.caller)),
            Environment::Value => frame.inputs.value,
            Environment::Origin => Some(number(self.surroundings.origin)),
            Environment::Beneficiary => Some(number(self.surroundings.beneficiary)),
            Environment::Timestamp => Some(self.surroundings.timestamp),
            Environment::Number => Some(self.surroundings.number),
            Environment::CalldataSize => Some(U256::from(frame.inputs.calldata.len())),
        }
    }

    /// Puts bytes together, of values that are there already. `None` where not even their length
    /// is known, or they are too many.
    fn bytes(&mut self, frame: &Frame<'_>, pieces: Part) -> Option<ByteRun> {
        let begun = self.desk.bytes.begin();
        let is_complete = self.push_pieces(frame, pieces).is_some();
        let run = self.desk.bytes.end(begun);
        self.steps += run.map_or(0, |run| run.len() / BYTES_PER_STEP);
        run.filter(|_| is_complete)
    }

    fn push_pieces(&mut self, frame: &Frame<'_>, pieces: Part) -> Option<()> {
        for piece in &frame.program.pieces[pieces.range()] {
            match *piece {
                Piece::Constant(part) => {
                    self.desk.bytes.push(&frame.program.bytes[part.range()]);
                }
                Piece::Opaque(length) => self.desk.bytes.push_unknown(length as usize),
                Piece::Word(word, from, length) => {
                    let (from, length) = (usize::from(from), usize::from(length));
                    match self.value(frame, word) {
                        Some(value) => {
                            let bytes = value.to_be_bytes::<32>();
                            self.desk.bytes.push(&bytes[from..from + length]);
                        }
                        None => self.desk.bytes.push_unknown(length),
                    }
                }
                Piece::Return(call, from, length) => {
                    let (from, length) = (from as usize, length as usize);
                    match self.desk.calls[frame.calls + usize::from(call)].output {
                        Some(output) => self.desk.bytes.push_part(output, from, length),
                        None => self.desk.bytes.push_unknown(length),
                    }
                }
                Piece::Calldata(offset, length) => {
                    let length = usize::try_from(self.value(frame, length)?).unwrap_or(usize::MAX);
                    match self.value(frame, offset) {
                        Some(offset) => {
                            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                            self.desk.bytes.push_part(frame.inputs.calldata, offset, length);
                        }
                        None => self.desk.bytes.push_unknown(length),
                    }
                }
            }
        }
        Some(())
    }

    /// Follows an inner call. Whether it is made is another question.
    fn follow(&mut self, frame: &Frame<'_>, call: usize) {
        let before = self.desk.accesses.len();
        let output = self.inner_call(frame, call);
        let accesses = Some(before..self.desk.accesses.len());
        let followed = &mut self.desk.calls[frame.calls + call];
        (followed.output, followed.accesses) = (output, accesses);
    }

    fn inner_call(&mut self, frame: &Frame<'_>, call: usize) -> Option<ByteRun> {
        let call = frame.program.calls[call];
        let to = to_address(self.value(frame, call.to)?);
        let value = call.value.and_then(|value| self.value(frame, value));
        let pays = call.instruction == CALL && value.is_some_and(|value| !value.is_zero());
        self.account(to, pays);
        let CallInputs { this, caller, value: own_value, .. } = frame.inputs;
        if pays {
            self.account(this, true);
        }
        if frame.depth == DEPTH_MAX || self.calls == CALLS_MAX {
            return None;
        }
        self.calls += 1;
        let calldata = self.bytes(frame, call.input)?;
        let view = &mut *self.view;
        let code = self.resolver.code(to, || view.code(to))?;
        let inputs = match call.instruction {
            DELEGATECALL => CallInputs { code, this, caller, value: own_value, calldata },
            CALLCODE => CallInputs { code, this, caller: this, value, calldata },
            _ => CallInputs { code, this: to, caller: this, value, calldata },
        };
        let selector = self.desk.bytes.selector(calldata)?;
        match self.resolver.program(self.templates, code, selector) {
            Some(resolved) => self.call(&resolved.program, inputs, frame.depth + 1),
            None => {
                self.unknown_call(selector, &inputs);
                None
            }
        }
    }

    fn unknown_call(&mut self, selector: Option<[u8; 4]>, inputs: &CallInputs) {
        self.unknown_calls += 1;
        let key = self.resolver.key(inputs.code, selector);
        if !self.explores || self.templates.was_explored(&key) {
            return;
        }
        self.explorable.push(UnknownCall {
            key,
            inputs: FrameInputs {
                code: self.resolver.bytecode(inputs.code).clone(),
                this: inputs.this,
                caller: inputs.caller,
                value: inputs.value.unwrap_or_default(),
                calldata: self.desk.bytes.with_ones(inputs.calldata),
            },
        });
    }
}

fn to_address(word: U256) -> Address {
    Address::from_word((word & address_mask()).into())
}

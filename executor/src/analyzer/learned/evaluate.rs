//! The evaluator: a template and a real call give locations.
//!
//! Runs [programs](super::program). Inner calls are evaluated by their own templates. What cannot be
//! known is left out: every value here may be absent, and an absent one makes absent what depends
//! on it.
//!
//! Nothing is computed before it is asked for. What a call is given, and what it returns, are
//! [promises](super::byte_arena) until somebody looks: the amounts that a swap hands from contract
//! to contract decide where nothing lies, so they are never worked out. That is also why calls stay
//! when they have ended, until the transaction does.
//!
//! *Must not know*: how templates are learned, or where state comes from.

use super::{
    arithmetic::compute,
    bits::Bits,
    byte_arena::{ByteRun, Promise},
    code_shape::immutable_at,
    desk::{CallId, Desk, FollowedCall, Register},
    explore::UnknownCall,
    expression::{Environment, address_mask},
    profile::{Resolved, Templates},
    program::{Action, Condition, Deed, Operand, Part, Piece, Program, Step},
    record::FrameInputs,
    resolver::{CodeId, Resolver},
};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256};
use multilane_state::StateLocation;
use revm::{
    bytecode::opcode::{CALL, CALLCODE, DELEGATECALL},
    context::TxEnv,
    state::Bytecode,
};
use std::{ops::Range, sync::Arc};

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
/// Registers of one transaction.
const REGISTERS_MAX: usize = 1 << 16;
/// Registers of one transaction that may be known in part.
const PARTS_MAX: usize = 256;
/// Values that may be waiting for each other. It bounds the stack.
const DEMANDS_MAX: usize = 256;
/// Evaluates the calls of one transaction.
pub(super) struct Evaluator<'a, V> {
    templates: &'a Templates,
    resolver: &'a mut Resolver,
    desk: &'a mut Desk,
    view: &'a mut V,
    surroundings: Surroundings,
    /// All calls, those that have ended included.
    frames: Vec<Frame>,
    /// Whether only what is usual is expected, because finer predictions have failed.
    pub(super) is_cautious: bool,
    steps: usize,
    /// Values that wait for the one that is computed.
    demands: usize,
    /// Calls for which there is no template, although they run code.
    pub(super) unknown_calls: usize,
    /// Whether calls are wanted that could be tried out.
    pub(super) explores: bool,
    /// Those calls.
    pub(super) explorable: Vec<UnknownCall>,
}

/// One call under evaluation.
struct Frame {
    resolved: Arc<Resolved>,
    inputs: CallInputs,
    id: CallId,
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

/// The call that values are asked of, and its program.
#[derive(Clone, Copy)]
struct Here<'p> {
    program: &'p Program,
    frame: usize,
    registers: usize,
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
            frames: Vec::new(),
            is_cautious: false,
            steps: 0,
            demands: 0,
            unknown_calls: 0,
            explores: false,
            explorable: Vec::new(),
        }
    }

    /// Collects what the transaction accesses.
    pub(super) fn transaction(&mut self, resolved: &Arc<Resolved>, inputs: CallInputs) {
        self.call(resolved, inputs, CallId::default(), 0);
    }

    /// Collects what a call accesses. Gives what it returns, where that is known.
    fn call(
        &mut self,
        resolved: &Arc<Resolved>,
        inputs: CallInputs,
        id: CallId,
        depth: usize,
    ) -> Option<ByteRun> {
        let program = &*resolved.program;
        let here = self.enter(resolved, inputs, id, depth)?;
        let mut output = None;
        for action in &program.actions {
            if !self.is_done(here, action) {
                continue;
            }
            match action.deed {
                Deed::Slot(slot, note) => {
                    if let Some(slot) = self.value(here, slot) {
                        let at = self.slot(here, slot, false);
                        if let Some(note) = note {
                            let notes = self.frames[here.frame].notes;
                            self.desk.notes[notes + usize::from(note)] = Some(at);
                        }
                    }
                }
                Deed::Write { slot, note, value } => self.write(here, slot, note, value),
                Deed::Account(address) => {
                    if let Some(address) = self.value(here, address) {
                        self.account(here, to_address(address), false);
                    }
                }
                Deed::Call(call) => {
                    let at = self.follow(here, call);
                    self.desk.calls[at].is_made = true;
                }
                Deed::Output(pieces) => output = self.bytes(here, pieces),
            }
        }
        output
    }

    /// What the guards of a program are for some inputs.
    pub(super) fn guards(
        &mut self,
        resolved: &Arc<Resolved>,
        inputs: CallInputs,
    ) -> Vec<Option<bool>> {
        let Some(here) = self.enter(resolved, inputs, CallId::default(), 0) else {
            return Vec::new();
        };
        (0..here.program.guards.len()).map(|guard| self.guard(here, guard)).collect()
    }

    /// Begins a call. `None` if there are too many already.
    fn enter<'p>(
        &mut self,
        resolved: &'p Arc<Resolved>,
        inputs: CallInputs,
        id: CallId,
        depth: usize,
    ) -> Option<Here<'p>> {
        let (desk, program) = (&mut *self.desk, &*resolved.program);
        let (frame, registers) = (self.frames.len(), desk.registers.len());
        let end = registers + program.steps.len();
        if frame > CALLS_MAX || end > REGISTERS_MAX {
            return None;
        }
        self.frames.push(Frame {
            resolved: Arc::clone(resolved),
            inputs,
            id,
            registers,
            notes: desk.notes.len(),
            calls: desk.calls.len(),
            asked: 0,
            known: 0,
            held: 0,
            literals: None,
            nearest: None,
            depth,
        });
        desk.registers.resize(end, Register::Unasked);
        if desk.values.len() < end {
            desk.values.resize(end, U256::ZERO);
        }
        desk.notes.resize(desk.notes.len() + usize::from(program.notes), None);
        let call = FollowedCall { parent: id, ..FollowedCall::default() };
        desk.calls.resize(desk.calls.len() + program.calls.len(), call);
        Some(Here { program, frame, registers })
    }

    fn write(&mut self, here: Here<'_>, slot: Operand, note: Option<u16>, value: Option<Operand>) {
        let Some(slot) = self.value(here, slot) else { return };
        let frame = &self.frames[here.frame];
        let note = note.and_then(|note| self.desk.notes[frame.notes + usize::from(note)]);
        let is_followed = self.view.is_followed(frame.inputs.this, slot);
        let stored =
            is_followed.then(|| value.map_or(Bits::UNKNOWN, |value| self.bits(here, value)));
        let at = note.unwrap_or_else(|| self.slot(here, slot, true));
        let access = &mut self.desk.accesses[at];
        (access.writes, access.stored) = (true, stored);
    }

    /// Notes an access to a slot. Gives its position.
    fn slot(&mut self, here: Here<'_>, slot: U256, writes: bool) -> usize {
        let Frame { id, inputs, .. } = &self.frames[here.frame];
        self.desk.access(*id, StateLocation::Slot(inputs.this, slot), writes)
    }

    fn account(&mut self, here: Here<'_>, address: Address, writes: bool) {
        let id = self.frames[here.frame].id;
        self.desk.access(id, StateLocation::Account(address), writes);
    }

    /// Whether an action is done, by its condition.
    fn is_done(&mut self, here: Here<'_>, action: &Action) -> bool {
        match action.condition {
            Condition::Always => return true,
            _ if self.is_cautious && !action.usually => return false,
            Condition::Literals(literals) => {
                if let Some(hold) = self.literals(here, literals) {
                    return hold;
                }
            }
            Condition::Neighbours => {}
        }
        let nearest = match self.frames[here.frame].nearest {
            Some(nearest) => nearest,
            None => self.nearest(here),
        };
        nearest >> action.site & 1 == 1
    }

    /// Whether all of some literals hold. `None` if that cannot be known.
    fn literals(&mut self, here: Here<'_>, literals: Part) -> Option<bool> {
        // Actions under the same conditions follow one another.
        if let Some((last, hold)) = self.frames[here.frame].literals
            && last == literals
        {
            return hold;
        }
        let mut all = Some(true);
        for literal in &here.program.literals[literals.range()] {
            match self.guard(here, usize::from(literal.guard)) {
                Some(holds) if holds == literal.holds => {}
                Some(_) => {
                    all = Some(false);
                    break;
                }
                None => all = None,
            }
        }
        self.frames[here.frame].literals = Some((literals, all));
        all
    }

    fn guard(&mut self, here: Here<'_>, guard: usize) -> Option<bool> {
        let bit = 1_u128 << guard;
        let frame = &mut self.frames[here.frame];
        if frame.asked & bit == 0 {
            frame.asked |= bit;
            let condition = here.program.guards.get(guard).copied().flatten()?;
            if let Some(value) = self.value(here, condition) {
                let frame = &mut self.frames[here.frame];
                frame.known |= bit;
                frame.held |= if value.is_zero() { 0 } else { bit };
            }
        }
        let frame = &self.frames[here.frame];
        (frame.known & bit != 0).then_some(frame.held & bit != 0)
    }

    /// The sites of the samples that are most alike.
    fn nearest(&mut self, here: Here<'_>) -> u128 {
        let majority = &here.program.majority;
        let mut asked = majority.asked();
        while asked != 0 {
            self.guard(here, asked.trailing_zeros() as usize);
            asked &= asked - 1;
        }
        let frame = &mut self.frames[here.frame];
        let nearest = majority.nearest(frame.known, frame.held);
        frame.nearest = Some(nearest);
        nearest
    }

    /// A value, if it can be known.
    #[inline]
    fn value(&mut self, here: Here<'_>, operand: Operand) -> Option<U256> {
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
                let this = self.frames[here.frame].inputs.this;
                slot.map_or(Bits::UNKNOWN, |slot| self.view.storage(this, slot))
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
    fn bits(&mut self, here: Here<'_>, operand: Operand) -> Bits {
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
            Step::Environment(fact) => self.fact(&self.frames[here.frame].inputs, fact),
            Step::Immutable(position) => {
                let code = self.resolver.bytecode(self.frames[here.frame].inputs.code);
                immutable_at(code.original_byte_slice(), position as usize)
            }
            Step::CalldataWord(offset) => {
                let offset = self.value(here, offset)?;
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                self.word(self.frames[here.frame].inputs.calldata, offset)
            }
            Step::Load(slot) => {
                let slot = self.value(here, slot)?;
                self.view.storage(self.frames[here.frame].inputs.this, slot).whole()
            }
            Step::Apply(instruction, operands) => {
                let [a, b, c] = operands;
                // Both are asked for, even if the first is not known: their bits may be.
                let (a, b) = (self.value(here, a), self.value(here, b));
                compute(instruction, [a?, b?, self.value(here, c)?])
            }
            Step::HashWord(word) => {
                let word = self.value(here, word)?;
                Some(self.desk.word_hashes.hash(&word.to_be_bytes()).into())
            }
            Step::HashPair([first, second]) => {
                let (first, second) = (self.value(here, first)?, self.value(here, second)?);
                let mut input = [0; 64];
                input[..32].copy_from_slice(&first.to_be_bytes::<32>());
                input[32..].copy_from_slice(&second.to_be_bytes::<32>());
                Some(self.desk.pair_hashes.hash(&input).into())
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

    fn fact(&self, inputs: &CallInputs, fact: Environment) -> Option<U256> {
        let number = |address: Address| U256::from_be_bytes(address.into_word().0);
        match fact {
            Environment::This => Some(number(inputs.this)),
            Environment::Caller => Some(number(inputs.caller)),
            Environment::Value => inputs.value,
            Environment::Origin => Some(number(self.surroundings.origin)),
            Environment::Beneficiary => Some(number(self.surroundings.beneficiary)),
            Environment::Timestamp => Some(self.surroundings.timestamp),
            Environment::Number => Some(self.surroundings.number),
            Environment::CalldataSize => Some(U256::from(inputs.calldata.len())),
        }
    }

    /// The word at an offset of a run, and what was promised of it.
    fn word(&mut self, run: ByteRun, at: usize) -> Option<U256> {
        match self.desk.bytes.promised_word(run, at) {
            Some(promise) => self.promised(promise),
            None => {
                self.settle(run, at..at.saturating_add(32));
                self.desk.bytes.word(run, at)
            }
        }
    }

    /// Fills the gaps in a range of a run, as far as that is possible.
    fn settle(&mut self, run: ByteRun, range: Range<usize>) {
        while let Some((gap, promise)) = self.desk.bytes.promise_in(run, range.clone()) {
            let word = self.promised(promise);
            self.desk.bytes.keep(gap, word);
        }
    }

    /// What was promised by a call.
    fn promised(&mut self, Promise { frame, word }: Promise) -> Option<U256> {
        let (registers, resolved) = {
            let Frame { registers, resolved, .. } = &self.frames[frame];
            (*registers, Arc::clone(resolved))
        };
        self.value(Here { program: &resolved.program, frame, registers }, word)
    }

    /// Puts bytes together; words that are not known yet are promised. `None` where not even their
    /// length is known, or they are too many.
    fn bytes(&mut self, here: Here<'_>, pieces: Part) -> Option<ByteRun> {
        // Whatever has to be known first: it may put bytes together itself.
        for piece in &here.program.pieces[pieces.range()] {
            match *piece {
                Piece::Calldata(offset, length) => {
                    self.value(here, offset);
                    self.value(here, length);
                }
                Piece::Return(call, ..) => {
                    self.follow(here, call);
                }
                Piece::Constant(_) | Piece::Opaque(_) | Piece::Word(..) => {}
            }
        }
        let begun = self.desk.bytes.begin();
        let is_complete = self.push_pieces(here, pieces).is_some();
        let run = self.desk.bytes.end(begun);
        self.steps += run.map_or(0, |run| run.len() / BYTES_PER_STEP);
        run.filter(|_| is_complete)
    }

    fn push_pieces(&mut self, here: Here<'_>, pieces: Part) -> Option<()> {
        for piece in &here.program.pieces[pieces.range()] {
            match *piece {
                Piece::Constant(part) => {
                    self.desk.bytes.push(&here.program.bytes[part.range()]);
                }
                Piece::Opaque(length) => self.desk.bytes.push_unknown(length as usize),
                Piece::Word(word, from, length) => {
                    self.push_word(here, word, usize::from(from), usize::from(length));
                }
                Piece::Return(call, from, length) => {
                    let (from, length) = (from as usize, length as usize);
                    let at = self.follow(here, call);
                    match self.desk.calls[at].output {
                        Some(output) => self.desk.bytes.push_part(output, from, length),
                        None => self.desk.bytes.push_unknown(length),
                    }
                }
                Piece::Calldata(offset, length) => {
                    let length = usize::try_from(self.value(here, length)?).unwrap_or(usize::MAX);
                    match self.value(here, offset) {
                        Some(offset) => {
                            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                            let calldata = self.frames[here.frame].inputs.calldata;
                            self.desk.bytes.push_part(calldata, offset, length);
                        }
                        None => self.desk.bytes.push_unknown(length),
                    }
                }
            }
        }
        Some(())
    }

    /// Appends bytes of a word, or the promise of them.
    fn push_word(&mut self, here: Here<'_>, word: Operand, from: usize, length: usize) {
        let value = match word.place() {
            Err(constant) => here.program.constants[constant],
            Ok(register) => {
                let place = here.registers + register;
                match self.desk.registers[place] {
                    Register::Known => self.desk.values[place],
                    Register::Unasked => {
                        let promise = Promise { frame: here.frame, word };
                        return self.desk.bytes.push_promised(promise, from, length);
                    }
                    Register::Partly | Register::Unknown => {
                        return self.desk.bytes.push_unknown(length);
                    }
                }
            }
        };
        self.desk.bytes.push(&value.to_be_bytes::<32>()[from..from + length]);
    }

    /// Follows an inner call, if that has not been done. Whether it is made is another question.
    /// Gives its place among all calls.
    fn follow(&mut self, here: Here<'_>, call: u16) -> usize {
        let at = self.frames[here.frame].calls + usize::from(call);
        if !self.desk.calls[at].is_followed {
            self.desk.calls[at].is_followed = true;
            let output = self.inner_call(here, usize::from(call), CallId(at as u32 + 1));
            self.desk.calls[at].output = output;
        }
        at
    }

    fn inner_call(&mut self, here: Here<'_>, call: usize, id: CallId) -> Option<ByteRun> {
        let call = here.program.calls[call];
        let to = to_address(self.value(here, call.to)?);
        let value = call.value.and_then(|value| self.value(here, value));
        let pays = call.instruction == CALL && value.is_some_and(|value| !value.is_zero());
        self.desk.access(id, StateLocation::Account(to), pays);
        let frame = &self.frames[here.frame];
        let (CallInputs { this, caller, value: own_value, .. }, depth) =
            (frame.inputs, frame.depth);
        if pays {
            self.desk.access(id, StateLocation::Account(this), true);
        }
        if depth == DEPTH_MAX {
            return None;
        }
        let calldata = self.bytes(here, call.input)?;
        let view = &mut *self.view;
        let code = self.resolver.code(to, || view.code(to))?;
        let inputs = match call.instruction {
            DELEGATECALL => CallInputs { code, this, caller, value: own_value, calldata },
            CALLCODE => CallInputs { code, this, caller: this, value, calldata },
            _ => CallInputs { code, this: to, caller: this, value, calldata },
        };
        self.settle(calldata, 0..calldata.len().min(4));
        let selector = self.desk.bytes.selector(calldata)?;
        match self.resolver.program(self.templates, code, selector) {
            Some(resolved) => self.call(&resolved, inputs, id, depth + 1),
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
        self.settle(inputs.calldata, 0..inputs.calldata.len());
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

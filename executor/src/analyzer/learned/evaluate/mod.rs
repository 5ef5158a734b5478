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

mod bytes;
mod conditions;
mod inner_calls;
mod paths;
mod values;
mod walk;

use super::{
    access::AccessKind,
    bits::Bits,
    byte_arena::ByteRun,
    desk::{CallId, Desk, FollowedCall, Register},
    expression::address_mask,
    profile::{Resolved, Templates},
    program::{Action, Deed, Part, Program, WriteStep},
    resolver::{CodeId, Resolver},
};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256};
use multilane_state::StateLocation;
pub(super) use paths::Path;
use revm::{context::TxEnv, state::Bytecode};
use std::sync::Arc;

/// State as it is before the transaction, as well as it is known.
pub(crate) trait StateView {
    /// The code that runs when an account is called, with its hash, if there is any.
    fn code(&mut self, address: Address) -> Option<(B256, Bytecode)>;

    /// What a slot holds.
    fn storage(&mut self, address: Address, slot: U256) -> Bits;

    /// Whether anything has depended on what a slot holds, be it this very transaction, so that a new
    /// value is of interest.
    fn is_followed(&self, address: Address, slot: U256) -> bool;
}

/// What a transaction's calls know of the block and the transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    pub(crate) origin: Address,
    pub(crate) gas_limit: U256,
    pub(crate) beneficiary: Address,
    pub(crate) timestamp: U256,
    pub(crate) number: U256,
}

impl Surroundings {
    pub(crate) fn of(env: &EvmEnv, tx: &TxEnv) -> Self {
        let gas_limit = U256::from(tx.gas_limit);
        Self { origin: tx.caller, gas_limit, ..Self::of_block(env) }
    }

    /// What is known of the block, with a sender that nobody is and as much gas as there can be.
    pub(crate) fn of_block(env: &EvmEnv) -> Self {
        let block = &env.block_env;
        Self {
            origin: Address::ZERO,
            gas_limit: U256::from(u64::MAX),
            beneficiary: block.beneficiary,
            timestamp: block.timestamp,
            number: block.number,
        }
    }
}

/// The inputs of a call, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallInputs {
    pub(super) code: CodeId,
    pub(super) this: Address,
    pub(super) caller: Address,
    pub(super) value: Option<U256>,
    pub(super) calldata: ByteRun,
    /// Whether caller and value are those of the transaction.
    pub(super) is_of_transaction: bool,
}

/// How much of what a transaction accesses is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything.
    Everything,
    /// What transactions have been seen to contend for, and nothing that does not lead there.
    Contended,
}

/// Calls of one transaction that are followed.
const CALLS_MAX: usize = 256;
/// Registers of one transaction.
const REGISTERS_MAX: usize = 1 << 16;

/// Evaluates the calls of one transaction.
pub(super) struct Evaluator<'a, V> {
    templates: &'a Templates,
    resolver: &'a mut Resolver,
    desk: &'a mut Desk,
    view: &'a mut V,
    surroundings: Surroundings,
    pub(super) extent: Extent,
    /// Whether only what is usual is expected, because finer predictions have failed.
    pub(super) is_cautious: bool,
    steps: usize,
    /// Values that wait for the one that is computed.
    demands: usize,
    /// Calls for which there is no template, although they run code.
    pub(super) unknown_calls: usize,
    /// Whether code is walked through where no template knows what it does.
    pub(super) walks: bool,
    /// Instructions that were walked through.
    pub(super) walked: usize,
}

/// One call under evaluation.
#[derive(Debug)]
pub(super) struct Frame {
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
            extent: Extent::Everything,
            is_cautious: false,
            steps: 0,
            demands: 0,
            unknown_calls: 0,
            walks: false,
            walked: 0,
        }
    }

    /// Calls so far that there is a template for.
    pub(super) const fn known_calls(&self) -> usize {
        self.desk.frames.len()
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
        // Little of it is of use to who wants no more than what is contended.
        if self.extent == Extent::Everything {
            resolved.read_ahead(self.resolver.time());
        }
        let here = self.enter(resolved, inputs, id, depth)?;
        if self.walks
            && (resolved.standing.is_unreliable() || self.goes_new_way(here))
            && let Some(output) = self.walk_instead(inputs, id, depth)
        {
            return Some(output);
        }
        let wanted = match self.extent {
            Extent::Everything => u128::MAX,
            Extent::Contended => resolved.contended,
        };
        // Where transactions are in each other's way, most of them write, by a site of their own.
        let at_least = match self.extent {
            Extent::Everything => AccessKind::Read,
            Extent::Contended => AccessKind::Written,
        };
        // A walk asks how much was returned. If no sample returned anything, it was nothing.
        let is_silent = |action: &Action| !matches!(action.deed, Deed::Output(_));
        let is_empty = self.walks && program.actions.iter().all(is_silent);
        let mut output = if is_empty { self.desk.bytes.run(&[]) } else { None };
        for action in &program.actions {
            // What a call returns is not worked out before somebody looks at it. Nobody looks at
            // what the transaction returns.
            let is_wanted = match action.deed {
                Deed::Output(_) => depth > 0,
                _ => wanted >> action.site & 1 == 1,
            };
            if !is_wanted || !self.is_done(here, action) {
                continue;
            }
            match action.deed {
                Deed::Slot(slot, note) => {
                    if let Some(slot) = self.value(here, slot) {
                        let at = self.slot(here, slot, action.site, at_least);
                        if let Some(note) = note {
                            let notes = self.desk.frames[here.frame].notes;
                            self.desk.notes[notes + usize::from(note)] = Some(at);
                        }
                    }
                }
                Deed::Write(write) => {
                    // Where it is a guess, another call than this may be the one that writes.
                    let value = write.value.filter(|_| self.is_certain(here, action));
                    self.write(here, WriteStep { value, ..write }, action.site);
                }
                Deed::Account(address) => {
                    if let Some(address) = self.value(here, address) {
                        self.account(here, to_address(address));
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

    /// Walks through the code of a call that a template is there for. `None`, and nothing has happened,
    /// if the walk leads nowhere.
    fn walk_instead(
        &mut self,
        inputs: CallInputs,
        parent: CallId,
        depth: usize,
    ) -> Option<ByteRun> {
        let id = self.desk.add_call(parent);
        let output = self.walk(inputs, id, depth);
        if output.is_none() {
            self.desk.drop_call(id);
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
        let (frame, registers) = (desk.frames.len(), desk.registers.len());
        let end = registers + program.steps.len();
        if frame > CALLS_MAX || end > REGISTERS_MAX {
            return None;
        }
        desk.frames.push(Frame {
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

    fn write(&mut self, here: Here<'_>, write: WriteStep, site: u8) {
        let WriteStep { slot, note, value, kind } = write;
        let Some(slot) = self.value(here, slot) else { return };
        let frame = &self.desk.frames[here.frame];
        let note = note.and_then(|note| self.desk.notes[frame.notes + usize::from(note)]);
        // Who wants no more than what is contended looks at the state before the block only.
        let is_followed =
            self.extent == Extent::Everything && self.view.is_followed(frame.inputs.this, slot);
        let stored =
            is_followed.then(|| value.map_or(Bits::UNKNOWN, |value| self.bits(here, value)));
        let at = note.unwrap_or_else(|| self.slot(here, slot, site, AccessKind::Read));
        self.desk.write(at, kind, stored);
    }

    /// Notes an access to a slot. Gives its position.
    fn slot(&mut self, here: Here<'_>, slot: U256, site: u8, kind: AccessKind) -> usize {
        let Frame { id, inputs, .. } = self.desk.frames[here.frame];
        let at = self.desk.access(id, StateLocation::Slot(inputs.this, slot), kind);
        self.desk.accesses[at].site = Some(site);
        at
    }

    fn account(&mut self, here: Here<'_>, address: Address) {
        let id = self.desk.frames[here.frame].id;
        self.desk.access(id, StateLocation::Account(address), AccessKind::Read);
    }
}

fn to_address(word: U256) -> Address {
    Address::from_word((word & address_mask()).into())
}

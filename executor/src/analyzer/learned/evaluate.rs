//! The evaluator: a template and a real call give locations.
//!
//! Inner calls are evaluated by their own templates. What cannot be known is left out: every value
//! here may be absent, and an absent one makes absent what depends on it.
//!
//! *Must not know*: how templates are learned, or where state comes from.

use super::{
    arithmetic::compute,
    code_shape::immutable_at,
    explore::UnknownCall,
    expression::{Call, Environment, Length, Node, NodeId, Segment, address_mask},
    profile::Templates,
    template::{Basis, Rule, Site, SiteKind, Template, TemplateKey},
};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
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
    fn storage(&mut self, address: Address, slot: U256) -> Option<U256>;

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

/// An access, with the value that is stored where it is known and of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Access {
    pub(super) location: StateLocation,
    pub(super) writes: bool,
    pub(super) stored: Option<U256>,
}

/// Bytes, some of which may not be known.
#[derive(Clone, Debug, Default)]
pub(super) struct PartialBytes {
    bytes: Vec<u8>,
    unknown: Vec<Range<usize>>,
}

impl PartialBytes {
    pub(super) fn known(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), unknown: Vec::new() }
    }

    fn is_known(&self, range: Range<usize>) -> bool {
        !self.unknown.iter().any(|gap| gap.start < range.end && range.start < gap.end)
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn push_unknown(&mut self, length: usize) {
        let length = length.min(BYTES_MAX);
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        if length > 0 {
            self.unknown.push(start..start + length);
        }
    }

    /// Appends a part of other bytes; zeros where it reaches beyond them.
    fn push_part(&mut self, other: &Self, from: usize, length: usize) {
        let length = length.min(BYTES_MAX);
        let start = self.bytes.len();
        let end = from.saturating_add(length).min(other.bytes.len());
        if from < end {
            self.bytes.extend_from_slice(&other.bytes[from..end]);
        }
        self.bytes.resize(start + length, 0);
        for gap in &other.unknown {
            let (gap_start, gap_end) = (gap.start.max(from), gap.end.min(from + length));
            if gap_start < gap_end {
                self.unknown.push(start + gap_start - from..start + gap_end - from);
            }
        }
    }

    /// The bytes, with a one wherever they are not known: numbers are mostly words.
    pub(super) fn with_ones(&self) -> Bytes {
        let mut bytes = self.bytes.clone();
        for gap in &self.unknown {
            if let Some(last) = bytes.get_mut(gap.end - 1) {
                *last = 1;
            }
        }
        bytes.into()
    }

    /// The word at an offset; zeros behind the end.
    fn word(&self, at: usize) -> Option<U256> {
        if !self.is_known(at..at.saturating_add(32)) {
            return None;
        }
        let mut word = [0; 32];
        if let Some(bytes) = self.bytes.get(at..) {
            let length = bytes.len().min(32);
            word[..length].copy_from_slice(&bytes[..length]);
        }
        Some(U256::from_be_bytes(word))
    }
}

/// The inputs of a call, as far as they are known.
#[derive(Clone, Debug)]
pub(super) struct CallInputs {
    pub(super) code: Bytecode,
    pub(super) this: Option<Address>,
    pub(super) caller: Option<Address>,
    pub(super) value: Option<U256>,
    pub(super) calldata: PartialBytes,
}

/// Calls within calls that are followed.
const DEPTH_MAX: usize = 24;
/// Calls of one transaction that are followed.
const CALLS_MAX: usize = 256;
/// Expressions within expressions, all calls together: what the stack is sure to hold.
const NESTING_MAX: usize = 512;
/// Bytes of one piece of calldata or returned data.
const BYTES_MAX: usize = 128 * 1024;

/// Evaluates the calls of one transaction.
pub(super) struct Evaluator<'a, V> {
    templates: &'a Templates,
    view: &'a mut V,
    surroundings: Surroundings,
    /// Whether only what is usual is expected, because finer predictions have failed.
    pub(super) is_cautious: bool,
    calls: usize,
    /// Expressions that are being computed.
    nesting: usize,
    /// What the transaction is expected to access; with repetitions.
    pub(super) accesses: Vec<Access>,
    /// Calls for which there is no template, although they run code.
    pub(super) unknown_calls: Vec<UnknownCall>,
}

/// What is known of an expression's value.
#[derive(Clone, Copy, Debug, Default)]
enum Memo {
    #[default]
    Unasked,
    Known(U256),
    Unknown,
}

/// A call that has been followed.
struct Followed {
    node: NodeId,
    output: Option<PartialBytes>,
    /// What it accesses, until it turns out that the call is made.
    accesses: Vec<Access>,
    is_made: bool,
}

/// One call under evaluation.
struct Frame<'t> {
    template: &'t Template,
    inputs: CallInputs,
    memo: Vec<Memo>,
    followed: Vec<Followed>,
    /// The sites of the samples that are most alike, once that is asked for.
    nearest: Option<u128>,
    depth: usize,
}

impl<'a, V: StateView> Evaluator<'a, V> {
    pub(super) fn new(
        templates: &'a Templates,
        view: &'a mut V,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            templates,
            view,
            surroundings,
            is_cautious: false,
            calls: 0,
            nesting: 0,
            accesses: Vec::new(),
            unknown_calls: Vec::new(),
        }
    }

    /// Collects what a call accesses. Gives what it returns, where that is known.
    pub(super) fn call(
        &mut self,
        template: &Template,
        inputs: CallInputs,
        depth: usize,
    ) -> Option<PartialBytes> {
        let memo = vec![Memo::Unasked; template.nodes()];
        let mut frame =
            Frame { template, inputs, memo, followed: Vec::new(), nearest: None, depth };
        let mut output = None;
        for (at, site) in template.sites().iter().enumerate() {
            if !self.is_there(&mut frame, at, &site.rule) {
                continue;
            }
            match site.kind {
                SiteKind::Slot | SiteKind::Write => self.slot(&mut frame, site),
                SiteKind::Account => {
                    if let Some(address) = self.value(&mut frame, site.node) {
                        self.account(to_address(address), false);
                    }
                }
                SiteKind::Call => {
                    let at = self.follow(&mut frame, site.node);
                    let followed = &mut frame.followed[at];
                    if !followed.is_made {
                        followed.is_made = true;
                        self.accesses.append(&mut followed.accesses);
                    }
                }
                SiteKind::Output => {
                    if let Node::Bytes(segments) = template.node(site.node) {
                        output = self.bytes(&mut frame, segments);
                    }
                }
            }
        }
        output
    }

    /// What the guards of a template are for some inputs.
    pub(super) fn guards(&mut self, template: &Template, inputs: CallInputs) -> Vec<Option<bool>> {
        let memo = vec![Memo::Unasked; template.nodes()];
        let mut frame =
            Frame { template, inputs, memo, followed: Vec::new(), nearest: None, depth: 0 };
        let truth = |value: U256| !value.is_zero();
        template.guards().iter().map(|guard| self.value(&mut frame, *guard).map(truth)).collect()
    }

    fn slot(&mut self, frame: &mut Frame<'_>, site: &Site) {
        let (Some(this), Some(slot)) = (frame.inputs.this, self.value(frame, site.node)) else {
            return;
        };
        let writes = site.kind == SiteKind::Write;
        let stored = match site.value {
            Some(value) if self.view.is_followed(this, slot) => self.value(frame, value),
            _ => None,
        };
        self.accesses.push(Access { location: StateLocation::Slot(this, slot), writes, stored });
    }

    fn account(&mut self, address: Address, writes: bool) {
        let location = StateLocation::Account(address);
        self.accesses.push(Access { location, writes, stored: None });
    }

    /// Whether a site is there, by its rule.
    fn is_there(&mut self, frame: &mut Frame<'_>, site: usize, rule: &Rule) -> bool {
        match &rule.basis {
            Basis::Always => return true,
            _ if self.is_cautious && !rule.usually => return false,
            Basis::Guards(literals) => {
                let mut is_known = true;
                for (guard, expected) in literals {
                    match self.guard(frame, *guard) {
                        Some(holds) if holds != *expected => return false,
                        Some(_) => {}
                        None => is_known = false,
                    }
                }
                if is_known {
                    return true;
                }
            }
            Basis::Neighbours => {}
        }
        let nearest = match frame.nearest {
            Some(nearest) => nearest,
            None => self.nearest(frame),
        };
        nearest >> site & 1 == 1
    }

    fn guard(&mut self, frame: &mut Frame<'_>, guard: u8) -> Option<bool> {
        let condition = frame.template.guard(guard)?;
        self.value(frame, condition).map(|value| !value.is_zero())
    }

    /// The sites of the samples that are most alike.
    fn nearest(&mut self, frame: &mut Frame<'_>) -> u128 {
        let (mut known, mut held) = (0, 0);
        for guard in frame.template.compared_guards() {
            if let Some(holds) = self.guard(frame, guard) {
                known |= 1 << guard;
                held |= u128::from(holds) << guard;
            }
        }
        let nearest = frame.template.nearest(known, held);
        frame.nearest = Some(nearest);
        nearest
    }

    fn value(&mut self, frame: &mut Frame<'_>, id: NodeId) -> Option<U256> {
        match frame.memo[id.get()] {
            Memo::Known(value) => return Some(value),
            Memo::Unknown => return None,
            Memo::Unasked => {}
        }
        if self.nesting == NESTING_MAX {
            return None;
        }
        self.nesting += 1;
        let value = self.compute(frame, id);
        self.nesting -= 1;
        frame.memo[id.get()] = value.map_or(Memo::Unknown, Memo::Known);
        value
    }

    fn compute(&mut self, frame: &mut Frame<'_>, id: NodeId) -> Option<U256> {
        let template = frame.template;
        match template.node(id) {
            Node::Constant(value) => Some(*value),
            Node::Environment(fact) => self.fact(frame, *fact),
            Node::Immutable(position) => {
                immutable_at(frame.inputs.code.original_byte_slice(), *position as usize)
            }
            Node::CalldataWord(offset) => {
                let offset = self.value(frame, *offset)?;
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                frame.inputs.calldata.word(offset)
            }
            Node::Load(slot) => {
                let slot = self.value(frame, *slot)?;
                self.view.storage(frame.inputs.this?, slot)
            }
            Node::Apply(instruction, operands) => {
                let mut values = [U256::ZERO; 3];
                let arity = super::expression::arity(*instruction);
                for (value, operand) in values.iter_mut().zip(&operands[..arity]) {
                    *value = self.value(frame, *operand)?;
                }
                compute(*instruction, values)
            }
            Node::Keccak(segments) => {
                let bytes = self.bytes(frame, segments)?;
                bytes.unknown.is_empty().then(|| keccak256(&bytes.bytes).into())
            }
            Node::Bytes(segments) => self.bytes(frame, segments)?.word(0),
            Node::Call(_) => None,
            Node::ReturnWord(call, offset) => {
                let at = self.follow(frame, *call);
                let output = frame.followed[at].output.as_ref()?;
                output.word(*offset as usize)
            }
        }
    }

    fn fact(&self, frame: &Frame<'_>, fact: Environment) -> Option<U256> {
        let number = |address: Address| U256::from_be_bytes(address.into_word().0);
        match fact {
            Environment::This => frame.inputs.this.map(number),
            Environment::Caller => frame.inputs.caller.map(number),
            Environment::Value => frame.inputs.value,
            Environment::Origin => Some(number(self.surroundings.origin)),
            Environment::Beneficiary => Some(number(self.surroundings.beneficiary)),
            Environment::Timestamp => Some(self.surroundings.timestamp),
            Environment::Number => Some(self.surroundings.number),
            Environment::CalldataSize => Some(U256::from(frame.inputs.calldata.bytes.len())),
        }
    }

    /// Puts bytes together. `None` where not even their length is known.
    fn bytes(&mut self, frame: &mut Frame<'_>, segments: &[Segment]) -> Option<PartialBytes> {
        let mut all = PartialBytes::default();
        for segment in segments {
            match segment {
                Segment::Constant(bytes) => all.push(bytes),
                Segment::Opaque(length) => all.push_unknown(*length as usize),
                Segment::Word(id, from, length) => {
                    let (from, length) = (usize::from(*from), usize::from(*length));
                    match self.value(frame, *id) {
                        Some(value) => {
                            all.push(&value.to_be_bytes::<32>()[from..(from + length).min(32)]);
                        }
                        None => all.push_unknown(length),
                    }
                }
                Segment::Return(call, from, length) => {
                    let at = self.follow(frame, *call);
                    match &frame.followed[at].output {
                        Some(output) => all.push_part(output, *from as usize, *length as usize),
                        None => all.push_unknown(*length as usize),
                    }
                }
                Segment::Calldata(offset, length) => {
                    let length = match length {
                        Length::Fixed(length) => *length as usize,
                        Length::Of(id) => usize::try_from(self.value(frame, *id)?).ok()?,
                    };
                    if length > BYTES_MAX {
                        return None;
                    }
                    match self.value(frame, *offset) {
                        Some(offset) => {
                            let offset = usize::try_from(offset).unwrap_or(usize::MAX / 2);
                            all.push_part(&frame.inputs.calldata, offset, length);
                        }
                        None => all.push_unknown(length),
                    }
                }
            }
            if all.bytes.len() > BYTES_MAX {
                return None;
            }
        }
        Some(all)
    }

    /// Follows an inner call, once. Gives its place in the list.
    fn follow(&mut self, frame: &mut Frame<'_>, id: NodeId) -> usize {
        if let Some(at) = frame.followed.iter().position(|followed| followed.node == id) {
            return at;
        }
        let before = self.accesses.len();
        let output = match frame.template.node(id) {
            Node::Call(call) => self.inner_call(frame, call),
            _ => None,
        };
        let accesses = self.accesses.split_off(before);
        frame.followed.push(Followed { node: id, output, accesses, is_made: false });
        frame.followed.len() - 1
    }

    fn inner_call(&mut self, frame: &mut Frame<'_>, call: &Call) -> Option<PartialBytes> {
        let to = to_address(self.value(frame, call.to)?);
        let value = call.value.and_then(|value| self.value(frame, value));
        let pays = call.instruction == CALL && value.is_some_and(|value| !value.is_zero());
        self.account(to, pays);
        if pays && let Some(this) = frame.inputs.this {
            self.account(this, true);
        }
        if frame.depth == DEPTH_MAX || self.calls == CALLS_MAX {
            return None;
        }
        self.calls += 1;
        let calldata = self.bytes(frame, &call.input)?;
        let (shape, code) = self.view.code(to)?;
        let selector_is_known = calldata.is_known(0..calldata.bytes.len().min(4));
        let key = TemplateKey::new(shape, &calldata.bytes);
        let template: Option<Arc<Template>> =
            selector_is_known.then(|| self.templates.get(&key)).flatten();
        let Frame { inputs, depth, .. } = frame;
        let inputs = match call.instruction {
            DELEGATECALL => {
                let CallInputs { this, caller, value, .. } = *inputs;
                CallInputs { code, this, caller, value, calldata }
            }
            CALLCODE => {
                CallInputs { code, this: inputs.this, caller: inputs.this, value, calldata }
            }
            _ => CallInputs { code, this: Some(to), caller: inputs.this, value, calldata },
        };
        let depth = *depth + 1;
        match template {
            Some(template) => self.call(&template, inputs, depth),
            None => {
                if selector_is_known {
                    self.unknown_calls.extend(UnknownCall::of(key, &inputs));
                }
                None
            }
        }
    }
}

fn to_address(word: U256) -> Address {
    Address::from_word((word & address_mask()).into())
}

//! The recorder: follows an execution and finds out where each location came from.
//!
//! Beside the stack and the memory of each call it keeps a shadow, in which every value that does
//! not follow from the code alone has an [expression](super::expression) over the call's own
//! inputs. What is constant on the path that was taken costs nothing there. A nested call has a
//! shadow of its own, in terms of its own inputs; so what one call of a pool teaches holds for all
//! callers of that pool.
//!
//! *Must not know*: what has been learned before, or what becomes of the samples.

mod step;

use super::{
    code_shape::CodeShapes,
    expression::{Arena, Environment, Node, NodeId, Origin},
    memory::{ShadowMemory, Source},
    template::TemplateKey,
};
use alloy_primitives::{Address, Bytes, U256, map::HashMap};
use revm::{
    bytecode::opcode::GT,
    context_interface::{ContextTr, Transaction},
    inspector::Inspector,
    interpreter::{
        CallInputs, CallOutcome, CreateInputs, CreateOutcome, InstructionResult, Interpreter,
        interpreter::EthInterpreter,
    },
    state::Bytecode,
};
use step::Step;

/// Instructions after which a transaction is not followed any more.
const STEPS_MAX: usize = 2_000_000;
/// The identity precompile.
const IDENTITY: Address = Address::with_last_byte(4);

/// Something that a call does to state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// A slot of the called account is accessed.
    Slot(NodeId),
    /// A value is stored in a slot: the slot's expression, where that led, and the value's
    /// expression if it is followed.
    Store { slot: NodeId, at: (Address, U256), value: Option<NodeId> },
    /// An account is looked at.
    Account(NodeId),
    /// Another account is called.
    Call(NodeId),
    /// The call returns bytes.
    Output(NodeId),
}

/// What one call taught.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) key: TemplateKey,
    pub(super) inputs: FrameInputs,
    pub(super) arena: Arena,
    /// In order.
    pub(super) effects: Vec<Effect>,
    /// Conditions of branches and whether they held, in order.
    pub(super) guards: Vec<(NodeId, bool)>,
}

/// The inputs of a call.
#[derive(Clone, Debug)]
pub(super) struct FrameInputs {
    pub(super) code: Bytecode,
    pub(super) this: Address,
    pub(super) caller: Address,
    pub(super) value: U256,
    pub(super) calldata: Bytes,
}

/// Where the bytes that the last call returned came from.
#[derive(Debug, Default)]
enum Returned {
    /// There are none, or constant ones.
    #[default]
    Constant,
    /// Those of a call.
    Of(NodeId),
    /// Those that were given to the identity precompile.
    Pieces(Vec<(usize, usize, Source)>),
    Opaque,
}

/// One running call.
#[derive(Debug)]
struct Frame {
    key: TemplateKey,
    inputs: FrameInputs,
    is_creation: bool,
    has_code: bool,
    arena: Arena,
    stack: Vec<Origin>,
    memory: ShadowMemory,
    /// What this call itself has stored in a slot, and how it came to be.
    stored: HashMap<U256, (U256, Origin)>,
    transient: HashMap<U256, Origin>,
    effects: Vec<Effect>,
    guards: Vec<(NodeId, bool)>,
    returned: Returned,
    /// How many calls were made that may have changed something.
    changes: usize,
    /// The calls that were made: how often again, and what `changes` was then.
    made: HashMap<NodeId, (u8, usize)>,
    /// The call that is being made, if it is followed.
    pending: Option<NodeId>,
    pending_input: Vec<(usize, usize, Source)>,
    /// Whether the stack and its shadow ever disagreed.
    is_broken: bool,
}

impl Frame {
    fn new(key: TemplateKey, inputs: FrameInputs, is_creation: bool, has_code: bool) -> Self {
        Self {
            key,
            inputs,
            is_creation,
            has_code,
            arena: Arena::default(),
            stack: Vec::new(),
            memory: ShadowMemory::default(),
            stored: HashMap::default(),
            transient: HashMap::default(),
            effects: Vec::new(),
            guards: Vec::new(),
            returned: Returned::Constant,
            changes: 0,
            made: HashMap::default(),
            pending: None,
            pending_input: Vec::new(),
            is_broken: false,
        }
    }

    /// Notes that so much gas was not enough for the transaction.
    fn guard_gas(&mut self, gas_limit: u64) {
        let arena = &mut self.arena;
        let limit = arena.add(Node::Environment(Environment::GasLimit));
        let (Some(limit), Some(too_little)) = (limit, arena.constant(U256::from(gas_limit))) else {
            return;
        };
        if let Some(is_more) = arena.add(Node::Apply(GT, [limit, too_little, limit])) {
            self.guards.push((is_more, false));
        }
    }
}

fn ran_out_of_gas(result: InstructionResult) -> bool {
    use InstructionResult::{
        InvalidOperandOOG, MemoryOOG, OutOfGas, PrecompileOOG, ReentrancySentryOOG,
    };
    matches!(result, OutOfGas | MemoryOOG | PrecompileOOG | InvalidOperandOOG | ReentrancySentryOOG)
}

/// Records the calls of one transaction.
#[derive(Debug)]
pub(super) struct Recorder<'a> {
    shapes: &'a CodeShapes,
    frames: Vec<Frame>,
    finished: Vec<Sample>,
    steps: usize,
    /// Whether a call ran out of gas.
    lacks_gas: bool,
}

impl<'a> Recorder<'a> {
    pub(super) const fn new(shapes: &'a CodeShapes) -> Self {
        Self { shapes, frames: Vec::new(), finished: Vec::new(), steps: 0, lacks_gas: false }
    }

    /// What was recorded: inner calls before those that made them.
    pub(super) fn into_samples(self) -> Vec<Sample> {
        self.finished
    }

    /// Ends the innermost call. One that ran out of gas has accessed what came before that, too.
    fn finish(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        if frame.has_code && !frame.is_creation && !frame.is_broken {
            let Frame { key, inputs, arena, effects, guards, .. } = frame;
            self.finished.push(Sample { key, inputs, arena, effects, guards });
        }
    }
}

impl<CTX: ContextTr> Inspector<CTX, EthInterpreter> for Recorder<'_> {
    fn step(&mut self, interpreter: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        self.steps += 1;
        if let Some(frame) = self.frames.last_mut() {
            if self.steps > STEPS_MAX {
                frame.is_broken = true;
            } else {
                Step { frame, interpreter }.follow();
            }
        }
    }

    fn call(&mut self, context: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let (code_hash, code) = &inputs.known_bytecode;
        let calldata = inputs.input.bytes(context);
        self.frames.push(Frame::new(
            self.shapes.key(*code_hash, code, calldata.first_chunk().copied()),
            FrameInputs {
                code: code.clone(),
                this: inputs.target_address,
                caller: inputs.caller,
                value: inputs.call_value(),
                calldata,
            },
            false,
            !code.is_empty(),
        ));
        None
    }

    fn call_end(&mut self, context: &mut CTX, inputs: &CallInputs, outcome: &mut CallOutcome) {
        let result = *outcome.instruction_result();
        self.lacks_gas |= ran_out_of_gas(result);
        if let [frame] = &mut self.frames[..]
            && self.lacks_gas
            && !result.is_ok()
        {
            frame.guard_gas(context.tx().gas_limit());
        }
        let had_code = self.frames.last().is_some_and(|frame| frame.has_code);
        self.finish();
        let Some(caller) = self.frames.last_mut() else { return };
        let pending = caller.pending.take();
        let input = std::mem::take(&mut caller.pending_input);
        let length = outcome.result.output.len();
        caller.returned = match pending {
            _ if length == 0 => Returned::Constant,
            _ if inputs.bytecode_address == IDENTITY => Returned::Pieces(input),
            Some(call) if result.is_ok() && had_code => Returned::Of(call),
            _ => Returned::Opaque,
        };
        let target = outcome.memory_offset.clone();
        let copied = target.len().min(length);
        copy_returned(caller, target.start, 0, copied);
    }

    fn create(&mut self, _: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.frames.push(Frame::new(
            TemplateKey::default(),
            FrameInputs {
                code: Bytecode::default(),
                this: Address::ZERO,
                caller: inputs.caller(),
                value: inputs.value(),
                calldata: Bytes::new(),
            },
            true,
            true,
        ));
        None
    }

    fn create_end(&mut self, _: &mut CTX, _: &CreateInputs, _: &mut CreateOutcome) {
        self.finish();
        if let Some(creator) = self.frames.last_mut() {
            creator.returned = Returned::Opaque;
        }
    }
}

/// Notes where bytes come from that were copied out of returned data.
fn copy_returned(frame: &mut Frame, at: usize, from: usize, length: usize) {
    let range = at..at.saturating_add(length);
    match &frame.returned {
        Returned::Constant => frame.memory.clear(range),
        Returned::Of(call) => frame.memory.write(range, Source::Return(*call, from)),
        Returned::Opaque => frame.memory.write(range, Source::Opaque),
        Returned::Pieces(pieces) => {
            let mut whole = ShadowMemory::default();
            whole.put(0, from.saturating_add(length), pieces);
            let pieces = whole.pieces(from..from.saturating_add(length));
            frame.memory.put(at, length, &pieces);
        }
    }
}

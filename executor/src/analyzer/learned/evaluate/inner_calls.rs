//! Inner calls: followed by their own templates.

use super::{CallInputs, Evaluator, Here, StateView, to_address};
use crate::analyzer::learned::{
    byte_arena::ByteRun, desk::CallId, explore::UnknownCall, record::FrameInputs,
};
use multilane_state::StateLocation;
use revm::bytecode::opcode::{CALL, CALLCODE, DELEGATECALL};

/// Calls within calls that are followed.
const DEPTH_MAX: usize = 24;

impl<V: StateView> Evaluator<'_, V> {
    /// Follows an inner call, if that has not been done. Whether it is made is another question.
    /// Gives its place among all calls.
    pub(super) fn follow(&mut self, here: Here<'_>, call: u16) -> usize {
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
        let (own @ CallInputs { this, .. }, depth) = (frame.inputs, frame.depth);
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
            DELEGATECALL => CallInputs { code, calldata, ..own },
            instruction => CallInputs {
                code,
                this: if instruction == CALLCODE { this } else { to },
                caller: this,
                value,
                calldata,
                is_of_transaction: false,
            },
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

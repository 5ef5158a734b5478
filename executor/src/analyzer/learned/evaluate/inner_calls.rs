//! Inner calls: followed by their own templates.

use super::{CallInputs, Evaluator, Here, StateView, to_address};
use crate::analyzer::learned::{
    access::AccessKind, byte_arena::ByteRun, desk::CallId, resolver::CodeId,
};
use alloy_primitives::{Address, U256};
use multilane_state::StateLocation;
use revm::bytecode::opcode::{CALL, CALLCODE, DELEGATECALL};

/// Calls within calls that are followed.
const DEPTH_MAX: usize = 24;

/// Who makes a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) inputs: CallInputs,
    pub(super) depth: usize,
}

/// What a call is about, but for its calldata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called {
    /// CALL, CALLCODE, DELEGATECALL or STATICCALL.
    pub(super) instruction: u8,
    /// Whose code is called.
    pub(super) to: Address,
    /// In wei, if it is known.
    pub(super) value: Option<U256>,
}

impl<V: StateView> Evaluator<'_, V> {
    /// Follows an inner call, if that has not been done. Whether it is made is another question.
    /// Gives its place among all calls.
    pub(super) fn follow(&mut self, here: Here<'_>, call: u16) -> usize {
        let at = self.desk.frames[here.frame].calls + usize::from(call);
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
        let frame = &self.desk.frames[here.frame];
        let caller = Caller { inputs: frame.inputs, depth: frame.depth };
        let called = Called { instruction: call.instruction, to, value };
        self.note_called(caller, called, id);
        let calldata = self.bytes(here, call.input)?;
        self.make_call(caller, called, calldata, id)
    }

    /// Notes what a call accesses before its code does anything.
    pub(super) fn note_called(&mut self, caller: Caller, called: Called, id: CallId) {
        let pays = called.instruction == CALL && called.value.is_some_and(|value| !value.is_zero());
        let kind = if pays { AccessKind::Credited } else { AccessKind::Read };
        self.desk.access(id, StateLocation::Account(called.to), kind);
        if pays {
            let payer = StateLocation::Account(caller.inputs.this);
            self.desk.access(id, payer, AccessKind::Debited);
        }
    }

    /// Collects what a call of another account accesses. Gives what it returns, where that is known.
    pub(super) fn make_call(
        &mut self,
        Caller { inputs: own, depth }: Caller,
        Called { instruction, to, value }: Called,
        calldata: ByteRun,
        id: CallId,
    ) -> Option<ByteRun> {
        if depth == DEPTH_MAX {
            return None;
        }
        let code = self.code(to)?;
        let inputs = match instruction {
            DELEGATECALL => CallInputs { code, calldata, ..own },
            instruction => CallInputs {
                code,
                this: if instruction == CALLCODE { own.this } else { to },
                caller: own.this,
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
                self.unknown_calls += 1;
                if self.walks { self.walk(inputs, id, depth + 1) } else { None }
            }
        }
    }

    /// The code that runs when an account is called, if any does.
    pub(super) fn code(&mut self, address: Address) -> Option<CodeId> {
        let view = &mut *self.view;
        self.resolver.code(address, || view.code(address))
    }
}

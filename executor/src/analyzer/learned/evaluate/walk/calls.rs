//! Calls and creations that a walk comes to.

use super::{Walk, instructions::offset};
use crate::analyzer::learned::{
    access::AccessKind,
    bits::Bits,
    byte_arena::ByteRun,
    evaluate::{
        StateView,
        inner_calls::{Called, Caller},
        to_address,
    },
};
use alloy_primitives::{B256, U256, keccak256};
use multilane_state::StateLocation;
use revm::bytecode::opcode::{CALL, CALLCODE, CREATE2};

impl<V: StateView> Walk<'_, '_, V> {
    /// A call, which succeeds: mostly, who expects a failure does not call.
    pub(super) fn call(&mut self, instruction: u8) -> Option<()> {
        let [_, to] = self.operands()?;
        let value = match instruction {
            CALL | CALLCODE => self.operands::<1>()?[0].whole(),
            _ => Some(U256::ZERO),
        };
        let input = self.take_bytes();
        let [output, length] = self.operands()?;
        let returned = to.whole().zip(input).and_then(|(to, input)| {
            self.follow_call(Called { instruction, to: to_address(to), value }, input)
        });
        // What nobody knows is a word, mostly.
        let returned = returned.or_else(|| self.unknown_word())?;
        self.place.returned = Some(returned);
        let copied = offset(length)?.min(returned.len());
        self.handle(copied);
        self.copy_run(returned, offset(output)?, 0, copied)?;
        self.push(Some(U256::ONE));
        Some(())
    }

    fn follow_call(&mut self, called: Called, input: ByteRun) -> Option<ByteRun> {
        let caller = Caller { inputs: self.inputs, depth: self.depth };
        let id = self.evaluator.desk.add_call(self.place.id);
        self.evaluator.note_called(caller, called, id);
        self.evaluator.make_call(caller, called, input, id)
    }

    fn unknown_word(&mut self) -> Option<ByteRun> {
        let bytes = &mut self.evaluator.desk.bytes;
        let begun = bytes.begin();
        bytes.push_unknown(32);
        bytes.end(begun)
    }

    /// A creation. The address is known where it follows from the code (EIP-1014).
    pub(super) fn create(&mut self, instruction: u8) -> Option<()> {
        let [_, at, length] = self.operands()?;
        let (at, length) = (offset(at)?, offset(length)?);
        self.handle(length);
        let code = self.place.memory.known(at, length).map(keccak256);
        let salt = if instruction == CREATE2 { self.operands::<1>()?[0] } else { Bits::UNKNOWN };
        let address = code.zip(salt.whole()).map(|(code, salt)| {
            let created = self.inputs.this.create2(B256::from(salt), code);
            let location = StateLocation::Account(created);
            self.evaluator.desk.access(self.place.id, location, AccessKind::Written);
            created.into_word().into()
        });
        self.place.returned = None;
        self.push(address);
        Some(())
    }
}

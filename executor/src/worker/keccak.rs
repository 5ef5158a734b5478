//! KECCAK256 with a memory for what Solidity and Vyper hash most: the two words of a mapping's slot.

use crate::backend::Recorder;
use alloy_evm::eth::EthEvmContext;
use revm::{
    bytecode::opcode::KECCAK256,
    context_interface::Cfg,
    handler::instructions::EthInstructions,
    interpreter::{
        Instruction, InstructionContext, InstructionExecResult, InstructionResult,
        instructions::system, interpreter::EthInterpreter, interpreter_types::MemoryTr,
    },
};

/// A key and the number of a mapping's slot.
const MAPPING_INPUT: usize = 64;

/// Puts the instruction into a table, at the gas that it had.
pub(super) fn install<DB>(instructions: &mut EthInstructions<EthInterpreter, EthEvmContext<DB>>)
where
    DB: Recorder,
{
    let table = instructions.instruction_table_mut();
    table[KECCAK256 as usize] = Instruction::new(keccak256::<DB>);
}

fn keccak256<DB>(
    context: InstructionContext<'_, EthEvmContext<DB>, EthInterpreter>,
) -> InstructionExecResult
where
    DB: Recorder,
{
    let InstructionContext { interpreter, host } = context;
    // Stack: offset, length. Memory that has to grow first is left to revm.
    let offset = interpreter.stack.peek(0).ok().and_then(|offset| usize::try_from(offset).ok());
    let length = interpreter.stack.peek(1).ok().and_then(|length| usize::try_from(length).ok());
    let (Some(offset), Some(MAPPING_INPUT)) = (offset, length) else {
        return system::keccak256(InstructionContext { interpreter, host });
    };
    if offset.saturating_add(MAPPING_INPUT) > interpreter.memory.size() {
        return system::keccak256(InstructionContext { interpreter, host });
    }
    if !interpreter.gas.record_regular_cost(host.cfg.gas_params().keccak256_cost(MAPPING_INPUT)) {
        return Err(InstructionResult::OutOfGas);
    }
    let mut input = [0; MAPPING_INPUT];
    input.copy_from_slice(&interpreter.memory.slice_len(offset, MAPPING_INPUT));
    let hash = host.journaled_state.database.mapping_hash(&input);
    let Some((_, top)) = interpreter.stack.popn_top::<1>() else {
        return Err(InstructionResult::StackUnderflow);
    };
    *top = hash.into();
    Ok(())
}

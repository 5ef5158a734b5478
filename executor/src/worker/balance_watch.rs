//! Instructions that tell the worker's database which balances and nonces an execution depends on.
//!
//! The interpreter sees a balance in a handful of places only: BALANCE and SELFBALANCE push it,
//! SELFDESTRUCT moves all of it, and CALL, CALLCODE, CREATE and CREATE2 check that it covers the
//! value sent. Everything else adds to it or takes from it blindly. Wrapping these seven
//! instructions is therefore enough to know which reads of a balance must be exact, which need
//! "at least so much", and which do not matter. (Whether an account is *empty* also depends on its
//! balance; [`AccountRead::stands`](multilane_state::multi_version::AccountRead::stands) checks
//! that for every account read.)

use crate::backend::Recorder;
use alloy_evm::eth::EthEvmContext;
use alloy_primitives::{Address, U256};
use revm::{
    bytecode::opcode::{BALANCE, CALL, CALLCODE, CREATE, CREATE2, SELFBALANCE, SELFDESTRUCT},
    handler::instructions::EthInstructions,
    interpreter::{
        Instruction, InstructionContext, InstructionExecResult,
        instructions::{contract, host},
        interpreter::EthInterpreter,
        interpreter_types::InputsTr,
    },
};

type Context<'a, DB> = InstructionContext<'a, EthEvmContext<DB>, EthInterpreter>;

/// Puts the watching instructions into a table, at the gas they had.
pub(crate) fn install<DB>(instructions: &mut EthInstructions<EthInterpreter, EthEvmContext<DB>>)
where
    DB: Recorder,
{
    let table = instructions.instruction_table_mut();
    table[BALANCE as usize] = Instruction::new(balance::<DB>);
    table[SELFBALANCE as usize] = Instruction::new(selfbalance::<DB>);
    table[SELFDESTRUCT as usize] = Instruction::new(selfdestruct::<DB>);
    table[CALL as usize] = Instruction::new(call::<CALL, DB>);
    table[CALLCODE as usize] = Instruction::new(call::<CALLCODE, DB>);
    table[CREATE as usize] = Instruction::new(create::<false, DB>);
    table[CREATE2 as usize] = Instruction::new(create::<true, DB>);
}

fn balance<DB>(context: Context<'_, DB>) -> InstructionExecResult
where
    DB: Recorder,
{
    let InstructionContext { interpreter, host: context } = context;
    let address = interpreter.stack.peek(0).ok().map(|word| Address::from_word(word.into()));
    host::balance(InstructionContext { interpreter, host: &mut *context })?;
    if let Some(address) = address {
        context.journaled_state.database.balance_was_seen(address);
    }
    Ok(())
}

fn selfbalance<DB>(context: Context<'_, DB>) -> InstructionExecResult
where
    DB: Recorder,
{
    let address = context.interpreter.input.target_address();
    context.host.journaled_state.database.balance_was_seen(address);
    host::selfbalance(context)
}

fn selfdestruct<DB>(context: Context<'_, DB>) -> InstructionExecResult
where
    DB: Recorder,
{
    let address = context.interpreter.input.target_address();
    context.host.journaled_state.database.balance_was_seen(address);
    host::selfdestruct(context)
}

fn call<const KIND: u8, DB>(context: Context<'_, DB>) -> InstructionExecResult
where
    DB: Recorder,
{
    // Stack: gas, recipient, value.
    if let Ok(value) = context.interpreter.stack.peek(2)
        && !value.is_zero()
    {
        check_own_balance(context.interpreter.input.target_address(), value, context.host);
    }
    contract::call::<KIND, _, _>(context)
}

fn create<const IS_CREATE2: bool, DB>(context: Context<'_, DB>) -> InstructionExecResult
where
    DB: Recorder,
{
    let creator = context.interpreter.input.target_address();
    // The new address (CREATE) and the overflow check (both) depend on the creator's nonce.
    context.host.journaled_state.database.nonce_was_seen(creator);
    // Stack: value.
    if let Ok(value) = context.interpreter.stack.peek(0)
        && !value.is_zero()
    {
        check_own_balance(creator, value, context.host);
    }
    contract::create::<IS_CREATE2, _, _>(context)
}

fn check_own_balance<DB>(address: Address, value: U256, host: &mut EthEvmContext<DB>)
where
    DB: Recorder,
{
    let journal = &mut host.journaled_state;
    if let Some(account) = journal.inner.state.get(&address) {
        let balance = account.info.balance;
        journal.database.balance_was_checked(address, balance, value);
    }
}

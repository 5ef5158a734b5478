//! State roots beside an execution, from the witness of its block.

use alloy_primitives::B256;
use multilane::{
    state::BlockOutput,
    verification::{IntermediateRoots, StateRoots},
};
use multilane_fixtures::archive::ArchivedBlock;
use revm::state::EvmState;
use std::borrow::Cow;

/// The state root after each transaction, or why there are none.
pub(crate) type IntermediateStateRoots = Result<Vec<B256>, Cow<'static, str>>;

/// Sees the changes of each transaction in order.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(usize, &EvmState);

const NO_WITNESS: &str = "no witness";

/// Runs an execution of a block with an observer that computes the state root after each
/// transaction, where receipts carry it (before Byzantium) and a witness is there.
pub(crate) fn with_intermediate_roots<T>(
    block: &ArchivedBlock,
    execute: impl FnOnce(Observer<'_>) -> T,
) -> (T, IntermediateStateRoots) {
    if !IntermediateRoots::needed(&block.chain, &block.input) {
        let reason = Cow::Borrowed("receipts carry no state roots since Byzantium");
        return (execute(&mut |_, _| {}), Err(reason));
    }
    let trie = match &block.witness {
        Some(witness) => witness.trie().map_err(|error| Cow::Owned(error.to_string())),
        None => Err(Cow::Borrowed(NO_WITNESS)),
    };
    match trie {
        Ok(trie) => {
            let mut roots = IntermediateRoots::new(&block.chain, &block.input, trie);
            let result = execute(&mut |index, changes| roots.observe(index, changes));
            (result, roots.finish())
        }
        Err(reason) => (execute(&mut |_, _| {}), Err(reason)),
    }
}

/// The state root after the block, next to those between the transactions.
pub(crate) fn state_roots(
    block: &ArchivedBlock,
    output: &BlockOutput,
    intermediate: IntermediateStateRoots,
) -> StateRoots {
    let after_block = match &block.witness {
        Some(witness) => witness
            .trie()
            .and_then(|mut trie| {
                trie.apply_bundle(&output.bundle)?;
                trie.root()
            })
            .map_err(|error| error.to_string().into()),
        None => Err(Cow::Borrowed(NO_WITNESS)),
    };
    StateRoots { after_block, after_transactions: intermediate }
}

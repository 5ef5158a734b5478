//! Importing one block: rules, both engines, verification, commit.

use crate::{devnet, state::CompleteState};
use alloy_consensus::{
    Block, Header, TxEnvelope,
    transaction::{Recovered, SignerRecoverable},
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::B256;
use multilane::{
    ExecutionError, ExecutorConfig, ParallelExecutor, Shared,
    block_rules::{self, BlockRuleError},
    sequential,
    state::{BlockInput, BlockOutput, ChainSpec},
    verification::{
        Check, CheckOutcome, IntermediateRoots, StateRoots, compare_outputs, verify_block,
    },
};
use revm::{database::WrapDatabaseRef, state::EvmState};

/// The oracle and the parallel executors that are held against it.
#[derive(Debug)]
pub(crate) struct Engines(Vec<(usize, ParallelExecutor)>);

impl Engines {
    /// The oracle alone.
    pub(crate) const fn sequential() -> Self {
        Self(Vec::new())
    }

    /// The oracle and the parallel pipeline, which may not give up on small blocks.
    pub(crate) fn both() -> Self {
        let executor = |threads| {
            let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
            let executor = ParallelExecutor::new(config)
                .unwrap_or_else(|error| panic!("no executor with {threads} threads: {error}"));
            (threads, executor)
        };
        Self([1, 2, 4, 8].map(executor).into())
    }
}

/// Why a block was not imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("block cannot be decoded: {0}")]
    Decoding(alloy_rlp::Error),
    #[error("block rule: {0}")]
    Rule(BlockRuleError),
    #[error("transaction {0} has no valid signature")]
    Signature(usize),
    #[error("{0}")]
    Execution(ExecutionError),
    #[error("header check {0}")]
    Commitment(Check),
}

/// How an import ends badly.
#[derive(Debug)]
pub(crate) enum ImportError {
    /// The block is not valid.
    Refused(Box<Refusal>),
    /// The block could not be judged, or the engines disagree: never what a test expects.
    Broken(String),
}

impl From<Refusal> for ImportError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// A chain's head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) state: CompleteState,
}

/// Imports a block on top of a head.
pub(crate) fn import(
    chain: &ChainSpec,
    head: &Head,
    rlp: &[u8],
    engines: &Engines,
) -> Result<Head, ImportError> {
    let block = decode(rlp)?;
    block_rules::check_header(chain, &block.header, &head.header).map_err(Refusal::Rule)?;
    let block = recover(chain, block)?;
    block_rules::check_body(chain, &block).map_err(Refusal::Rule)?;
    let (mut output, roots) = execute(chain, &block, &head.state, engines)?;
    if let Some(list) = &mut output.access_list {
        devnet::without_later_calls(list);
    }

    let mut trie = head.state.trie().clone();
    let root = trie
        .apply_bundle(&output.bundle)
        .and_then(|()| trie.root())
        .map_err(|error| ImportError::Broken(format!("state root: {error}")))?;
    let roots = StateRoots::unavailable("the block needs no intermediate roots")
        .with_after_block(Ok::<_, String>(root))
        .with_after_transactions(roots);
    for check in verify_block(chain, &block, &output, &roots) {
        match check.outcome {
            CheckOutcome::Ok => {}
            CheckOutcome::Mismatch { .. } => return Err(Refusal::Commitment(check).into()),
            CheckOutcome::Unavailable(_) => return Err(ImportError::Broken(check.to_string())),
        }
    }

    let hash = block.header.hash_slow();
    let mut state = head.state.after(&output.bundle, trie);
    state.insert_block_hash(block.header.number, hash);
    Ok(Head { header: block.header, hash, state })
}

fn decode(mut rlp: &[u8]) -> Result<Block<TxEnvelope>, Refusal> {
    let block = alloy_rlp::Decodable::decode(&mut rlp).map_err(Refusal::Decoding)?;
    if rlp.is_empty() {
        Ok(block)
    } else {
        Err(Refusal::Decoding(alloy_rlp::Error::UnexpectedLength))
    }
}

fn recover(chain: &ChainSpec, block: Block<TxEnvelope>) -> Result<BlockInput, Refusal> {
    let Block { header, body } = block;
    // Before EIP-2 both values of a signature's s are valid.
    let homestead = chain.is_homestead_active_at_block(header.number);
    let transactions = body
        .transactions
        .into_iter()
        .enumerate()
        .map(|(index, transaction)| {
            let signer = if homestead {
                transaction.recover_signer()
            } else {
                transaction.recover_signer_unchecked()
            };
            let signer = signer.map_err(|_| Refusal::Signature(index))?;
            Ok(Recovered::new_unchecked(transaction, signer))
        })
        .collect::<Result<_, _>>()?;
    Ok(BlockInput {
        hash: Some(header.hash_slow()),
        header,
        transactions,
        ommer_count: body.ommers.len(),
        ommers: body.ommers,
        withdrawals: body.withdrawals.map(|withdrawals| withdrawals.into_inner()),
    })
}

type IntermediateStateRoots = Result<Vec<B256>, std::borrow::Cow<'static, str>>;
type Execution = Result<(BlockOutput, IntermediateStateRoots), ExecutionError>;

/// Executes with every engine. They must agree in everything, error texts included.
fn execute(
    chain: &ChainSpec,
    block: &BlockInput,
    state: &CompleteState,
    engines: &Engines,
) -> Result<(BlockOutput, IntermediateStateRoots), ImportError> {
    let expected = observed(chain, block, state, |observe| {
        sequential::execute_block_observed(chain, block, WrapDatabaseRef(state), observe)
    });
    for (threads, executor) in &engines.0 {
        let actual = observed(chain, block, state, |observe| {
            executor
                .execute_block_observed(chain, block, &Shared(state), observe)
                .map(|(output, _)| output)
        });
        if let Some(difference) = difference(&expected, &actual) {
            return Err(ImportError::Broken(format!("{threads} threads differ: {difference}")));
        }
    }
    expected.map_err(|error| match error {
        ExecutionError::InvalidBlock { .. } => Refusal::Execution(error).into(),
        other => ImportError::Broken(other.to_string()),
    })
}

/// Executes with an observer that collects intermediate roots where receipts need them.
fn observed(
    chain: &ChainSpec,
    block: &BlockInput,
    state: &CompleteState,
    execute: impl FnOnce(&mut dyn FnMut(usize, &EvmState)) -> Result<BlockOutput, ExecutionError>,
) -> Execution {
    if !IntermediateRoots::needed(chain, block) {
        let output = execute(&mut |_, _| {})?;
        return Ok((output, Err("receipts carry no state roots".into())));
    }
    let mut roots = IntermediateRoots::new(chain, block, state.trie().clone());
    let output = execute(&mut |transaction, changes| roots.observe(transaction, changes))?;
    Ok((output, roots.finish()))
}

fn difference(expected: &Execution, actual: &Execution) -> Option<String> {
    match (expected, actual) {
        (Ok((expected, expected_roots)), Ok((actual, actual_roots))) => {
            if let Some(first) = compare_outputs(expected, actual).first() {
                return Some(first.to_string());
            }
            (expected_roots != actual_roots).then(|| "intermediate state roots".to_owned())
        }
        (Err(expected), Err(actual)) => {
            let (expected, actual) = (expected.to_string(), actual.to_string());
            (expected != actual).then(|| format!("sequential: {expected}; parallel: {actual}"))
        }
        (Ok(_), Err(actual)) => Some(format!("sequential succeeds; parallel: {actual}")),
        (Err(expected), Ok(_)) => Some(format!("sequential: {expected}; parallel succeeds")),
    }
}

//! Block access lists (EIP-7928): the recorded ones are those of the oracle, right ones spare every
//! conflict, and wrong ones change nothing but that an enforced one is refused.

use crate::{generated, mainnet};
use alloy_eips::eip7928::{AccountChanges, BlockAccessIndex, BlockAccessList};
use alloy_evm::block::BlockValidationError;
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{Address, U256};
use multilane::{
    AccessHints, ExecutionError, ExecutorConfig, ParallelExecutor, Shared, sequential,
    state::{
        BlockInput, BlockOutput, ChainSpec,
        access_list::{AccessListError, Deviation},
    },
    verification::compare_outputs,
};
use multilane_fixtures::archive::{ArchivedBlock, BlockArchive, BlockEntry, ParentState};
use proptest::prelude::*;
use revm::{DatabaseRef, database::WrapDatabaseRef};
use std::{error::Error, sync::Arc};

const THREADS: [usize; 4] = [1, 2, 4, 8];

/// One block, what the oracle makes of it, and executors of different sizes.
struct Case<'a, DB> {
    name: &'a str,
    chain: &'a ChainSpec,
    block: &'a BlockInput,
    prestate: &'a DB,
    executors: &'a [ParallelExecutor],
    serial: &'a BlockOutput,
}

fn executors() -> [ParallelExecutor; 4] {
    THREADS.map(|threads| {
        let config = ExecutorConfig::new()
            .with_threads(threads)
            .with_allow_sequential(false)
            .with_access_lists(true);
        ParallelExecutor::new(config).expect("threads can be started")
    })
}

impl<DB> Case<'_, DB>
where
    DB: DatabaseRef<Error: Error + Send + Sync + 'static> + Sync,
{
    fn exact(&self) -> BlockAccessList {
        self.serial.access_list.clone().expect("the oracle was asked for the list")
    }

    fn run(
        &self,
        executor: &ParallelExecutor,
        hints: &AccessHints,
    ) -> Result<(BlockOutput, usize), ExecutionError> {
        executor
            .execute_block_hinted(self.chain, self.block, &Shared(self.prestate), hints)
            .map(|(output, stats)| (output, stats.conflicts))
    }

    /// Gives the serial result, whatever `hints` say. The number of conflicts, for each executor.
    fn agrees(&self, hints: &AccessHints, what: &str) -> Vec<usize> {
        let run = |executor: &ParallelExecutor| {
            let threads = executor.config().threads;
            let (output, conflicts) = self.run(executor, hints).unwrap_or_else(|error| {
                panic!("{}: {what} at {threads} threads: {error}", self.name)
            });
            let differences = compare_outputs(self.serial, &output);
            assert!(
                differences.is_empty(),
                "{}: {what} at {threads} threads: {differences:#?}",
                self.name
            );
            conflicts
        };
        self.executors.iter().map(run).collect()
    }

    /// The recorded list is the oracle's, and serves as advice and as law.
    fn records_and_consumes(&self) -> Vec<usize> {
        self.agrees(&AccessHints::None, "recording");
        let list = Arc::new(self.exact());
        let mut conflicts = self.agrees(&AccessHints::Advisory(Arc::clone(&list)), "advisory");
        conflicts.extend(self.agrees(&AccessHints::Enforced(list), "enforced"));
        conflicts
    }

    /// A wrong list is harmless as advice, and makes the block invalid as law.
    fn survives(&self, list: BlockAccessList, what: &str) {
        let exact = self.exact() == list;
        let list = Arc::new(list);
        self.agrees(&AccessHints::Advisory(Arc::clone(&list)), what);
        let enforced = AccessHints::Enforced(list);
        if exact {
            self.agrees(&enforced, what);
            return;
        }
        let refusals: Vec<_> = self
            .executors
            .iter()
            .map(|executor| match self.run(executor, &enforced) {
                Ok(_) => panic!("{}: {what} is accepted", self.name),
                Err(error) => {
                    assert!(list_error(&error).is_some(), "{}: {what}: {error}", self.name);
                    error.to_string()
                }
            })
            .collect();
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:#?}");
    }
}

/// What an error says about a list.
fn list_error(error: &ExecutionError) -> Option<(Option<usize>, &AccessListError)> {
    match error {
        ExecutionError::InvalidBlock { transaction, cause: BlockValidationError::Other(cause) } => {
            cause.downcast_ref().map(|cause| (*transaction, cause))
        }
        _ => None,
    }
}

/// Ways to be wrong about a block of so many transactions.
fn hostile(exact: &BlockAccessList, transactions: usize) -> Vec<(&'static str, BlockAccessList)> {
    let changed = |change: fn(&mut AccountChanges)| {
        let mut list = exact.clone();
        list.iter_mut().for_each(change);
        list
    };
    let truncated = exact[..exact.len() / 2].to_vec();
    let inverted = changed(|account| {
        for change in &mut account.balance_changes {
            change.post_balance = !change.post_balance;
        }
        for change in &mut account.nonce_changes {
            change.new_nonce = !change.new_nonce;
        }
        for change in account.storage_changes.iter_mut().flat_map(|slot| &mut slot.changes) {
            change.new_value = !change.new_value;
        }
        for change in &mut account.code_changes {
            change.new_code = vec![0xef, 1, 0].into();
        }
    });
    let early = changed(|account| {
        for change in &mut account.balance_changes {
            change.block_access_index = BlockAccessIndex::PRE_EXECUTION;
        }
        for change in account.storage_changes.iter_mut().flat_map(|slot| &mut slot.changes) {
            change.block_access_index = BlockAccessIndex::PRE_EXECUTION;
        }
    });
    let reversed = exact.iter().rev().cloned().collect();
    vec![
        ("nothing", Vec::new()),
        ("the first half", truncated),
        ("inverted values", inverted),
        ("everything at once", early),
        ("the wrong order", reversed),
        ("random values", random(exact, transactions)),
    ]
}

/// The block's own accounts and slots, with other changes.
fn random(exact: &BlockAccessList, transactions: usize) -> BlockAccessList {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        // xorshift64: any sequence will do, as long as it is the same in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut list = exact.clone();
    for account in &mut list {
        for change in &mut account.balance_changes {
            change.block_access_index = BlockAccessIndex::new(next(transactions as u64 + 2));
            change.post_balance = U256::from(next(u64::MAX));
        }
        for change in account.storage_changes.iter_mut().flat_map(|slot| &mut slot.changes) {
            change.block_access_index = BlockAccessIndex::new(next(transactions as u64 + 2));
            change.new_value = U256::from(next(4));
        }
        if next(5) == 0 {
            account.address = Address::left_padding_from(&next(u64::MAX).to_be_bytes());
        }
    }
    list
}

/// Changes one value, and demands that it is found.
fn one_wrong_value<DB>(case: &Case<'_, DB>)
where
    DB: DatabaseRef<Error: Error + Send + Sync + 'static> + Sync,
{
    let mut list = case.exact();
    let Some(change) = list
        .iter_mut()
        .flat_map(|account| &mut account.storage_changes)
        .flat_map(|slot| slot.changes.iter_mut())
        .find(|change| change.block_access_index != BlockAccessIndex::PRE_EXECUTION)
    else {
        return;
    };
    change.new_value = !change.new_value;
    let transaction = change.block_access_index.get() as usize - 1;
    let hints = AccessHints::Enforced(Arc::new(list));
    let error = case.run(&case.executors[1], &hints).expect_err("the list is wrong");
    let (named, error) = list_error(&error).expect("the list is what is wrong");
    assert_eq!(named, Some(transaction), "{}: {error}", case.name);
    let AccessListError::Deviation { deviation, .. } = error else {
        panic!("{}: {error}", case.name)
    };
    let is_change = matches!(**deviation, Deviation::Change { field: "value", .. });
    assert!(is_change, "{}: {error}", case.name);
}

/// A block of an archive, and what the oracle makes of it.
fn with_archived(
    archive: &BlockArchive,
    entry: &BlockEntry,
    executors: &[ParallelExecutor],
    check: impl FnOnce(&Case<'_, ParentState>),
) {
    let ArchivedBlock { origin, chain, input, prestate, .. } =
        archive.load(entry).expect("the block can be loaded");
    let serial =
        sequential::execute_block_with_access_list(&chain, &input, WrapDatabaseRef(&prestate))
            .unwrap_or_else(|error| panic!("{origin}: sequential: {error}"));
    let name = origin.to_string();
    check(&Case {
        name: &name,
        chain: &chain,
        block: &input,
        prestate: &prestate,
        executors,
        serial: &serial,
    });
}

#[test]
fn mainnet_blocks_record_and_consume() {
    let Some(archive) = mainnet::archive() else { return };
    let executors = executors();
    for entry in archive.entries() {
        with_archived(&archive, entry, &executors, |case| {
            let conflicts = case.records_and_consumes();
            // Before that an account may exist and be empty, which shows in gas and not in the list.
            let has_no_empty_accounts =
                case.chain.is_spurious_dragon_active_at_block(case.block.header.number);
            assert!(
                !has_no_empty_accounts || conflicts.iter().all(|count| *count == 0),
                "{}: {conflicts:?} conflicts",
                case.name
            );
            one_wrong_value(case);
        });
    }
}

#[test]
fn mainnet_blocks_survive_hostile_lists() {
    let Some(archive) = mainnet::archive() else { return };
    let executors = &executors()[1..3];
    // Every kind of wrong list, each with blocks of several forks.
    for (at, entry) in archive.entries().iter().enumerate() {
        with_archived(&archive, entry, executors, |case| {
            let mut lists = hostile(&case.exact(), case.block.transactions.len());
            let (what, list) = lists.swap_remove(at % lists.len());
            case.survives(list, what);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn generated_blocks_record_consume_and_survive(plan in generated::plan()) {
        let (chain, block, prestate) = (ChainSpec::mainnet(), plan.block(), plan.prestate());
        let oracle = |hints: &AccessHints, executor: &ParallelExecutor| {
            executor.execute_block_hinted(&chain, &block, &Shared(&prestate), hints)
        };
        let executors = executors();
        match sequential::execute_block_with_access_list(&chain, &block, WrapDatabaseRef(&prestate))
        {
            Ok(serial) => {
                let case = Case {
                    name: "generated block",
                    chain: &chain,
                    block: &block,
                    prestate: &prestate,
                    executors: &executors,
                    serial: &serial,
                };
                case.records_and_consumes();
                for (what, list) in hostile(&case.exact(), block.transactions.len()) {
                    case.survives(list, what);
                }
            }
            Err(serial) => {
                let (all, nothing) = (AccountChanges::default(), Arc::new(Vec::new()));
                for executor in &executors {
                    let advisory = AccessHints::Advisory(Arc::new(vec![all.clone()]));
                    let error = oracle(&advisory, executor).expect_err("the block is invalid");
                    prop_assert_eq!(error.to_string(), serial.to_string());
                    // Whatever comes first in the block is what is wrong with it.
                    let enforced = AccessHints::Enforced(Arc::clone(&nothing));
                    let error = oracle(&enforced, executor).expect_err("the block is invalid");
                    let same = error.to_string() == serial.to_string();
                    prop_assert!(same || list_error(&error).is_some(), "{}", error);
                }
            }
        }
    }
}

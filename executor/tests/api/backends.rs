//! Backends that break: what comes of it is an error, and the executor works for the next block.

use crate::{forced, watchdog::Watchdog, workload::Workload};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, U256};
use multilane::{
    ExecutionError, SourceError,
    backend::{BackendDb, BackendEvm, BackendOutcome, EvmBackend, MainnetEvm},
};
use revm::{
    context::TxEnv,
    context_interface::{Transaction, result::EVMError},
    state::{Account, AccountInfo, AccountStatus},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// How the EVM breaks.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Panics,
    /// Changes an account that it has never looked at.
    ChangesUnread,
}

/// Mainnet's EVM, but for one transaction.
struct Faulty<'a> {
    fault: Fault,
    caller: Address,
    nonce: u64,
    is_broken: &'a AtomicBool,
}

impl EvmBackend for Faulty<'static> {
    fn create_evm<'evm>(
        &'evm self,
        env: &EvmEnv,
        db: BackendDb<'evm>,
    ) -> Box<dyn BackendEvm + 'evm> {
        let Self { fault, caller, nonce, is_broken } = *self;
        let evm = MainnetEvm::new(env, db);
        Box::new(FaultyEvm { evm, faulty: Faulty { fault, caller, nonce, is_broken } })
    }
}

struct FaultyEvm<'evm> {
    evm: MainnetEvm<'evm>,
    faulty: Faulty<'static>,
}

impl BackendEvm for FaultyEvm<'_> {
    fn transact(&mut self, tx: &TxEnv) -> Result<BackendOutcome, EVMError<SourceError>> {
        let mut outcome = self.evm.transact(tx)?;
        let Faulty { fault, caller, nonce, is_broken } = self.faulty;
        if tx.caller() == caller && tx.nonce() == nonce && is_broken.load(Ordering::Relaxed) {
            match fault {
                Fault::Panics => panic!("the test breaks the EVM"),
                Fault::ChangesUnread => {
                    let mut account = Account::from(AccountInfo::from_balance(U256::ONE));
                    account.status |= AccountStatus::Touched;
                    outcome.result.state.insert(Address::repeat_byte(0x77), account);
                }
            }
        }
        Ok(outcome)
    }
}

#[test]
fn a_broken_evm_is_an_internal_error() {
    static IS_BROKEN: AtomicBool = AtomicBool::new(false);
    let _watchdog = Watchdog::new("broken backends");
    let workload = Workload::mixed(61, 150);
    let (env, block) = (workload.env(), workload.tx_envs());
    let expected = forced(1).execute_block_ref(&workload.prestate, &env, &block).unwrap();
    let at = 70;
    let (caller, nonce) = (block[at].caller, block[at].nonce);
    for fault in [Fault::Panics, Fault::ChangesUnread] {
        for threads in [1, 3] {
            let backend = Faulty { fault, caller, nonce, is_broken: &IS_BROKEN };
            let executor = forced(threads).with_backend(backend);
            IS_BROKEN.store(true, Ordering::Relaxed);
            match executor.execute_block_ref(&workload.prestate, &env, &block) {
                Err(ExecutionError::Internal { transaction: Some(index), .. }) => {
                    assert_eq!(index, at, "{fault:?} at {threads} threads");
                }
                other => panic!("{fault:?} at {threads} threads: {other:?}"),
            }
            IS_BROKEN.store(false, Ordering::Relaxed);
            let works = executor.execute_block_ref(&workload.prestate, &env, &block).unwrap();
            assert!(works == expected, "{fault:?} at {threads} threads: not usable any more");
        }
    }
}

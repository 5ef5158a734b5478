//! EVMs that are not mainnet's: in parallel they do what they do one transaction after another.

#[path = "../../examples/custom_evm/chain.rs"]
mod chain;

use crate::{
    client::{Style, import},
    drop_in::{context, eth_with},
    generated::{Plan, plan},
};
use alloy_consensus::{TxEnvelope, transaction::Recovered};
use alloy_evm::{
    Database, EvmEnv, EvmFactory, FromRecoveredTx,
    eth::{EthBlockExecutionCtx, EthEvm, EthEvmBuilder, EthEvmContext},
    precompiles::{DynPrecompile, PrecompilesMap},
};
use alloy_primitives::{Address, Bytes, TxKind, U256};
use chain::{Chain, chain_evm, transact};
use multilane::{
    ExecutionError, ExecutorConfig, Lookahead, ParallelBlockExecutorFactory, ParallelExecutor,
    Shared,
    backend::{BackendDb, BackendEvm, BackendRules, EvmBackend, FactoryBackend, MainnetEvm},
};
use multilane_state::ChainSpec;
use proptest::prelude::*;
use revm::{
    DatabaseCommit, Inspector,
    context::{BlockEnv, DBErrorMarker, TxEnv},
    context_interface::{
        ContextTr,
        result::{EVMError, ExecutionResult, HaltReason},
    },
    database::{
        BundleState, CacheDB, EmptyDB, State, WrapDatabaseRef,
        states::bundle_state::BundleRetention,
    },
    inspector::NoOpInspector,
    precompile::{PrecompileId, PrecompileOutput},
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode},
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const THREADS: [usize; 4] = [1, 2, 4, 8];

fn forced(threads: usize) -> ParallelExecutor {
    let config = ExecutorConfig::new().with_threads(threads).with_allow_sequential(false);
    ParallelExecutor::new(config).expect("threads can be started")
}

/// Results and changes, or the index of an invalid transaction.
type Outcome = Result<(Vec<ExecutionResult>, BundleState), usize>;

/// The example's chain, one transaction after another.
fn serial_chain(db: &CacheDB<EmptyDB>, env: &EvmEnv, block: &[TxEnv]) -> Outcome {
    let state = State::builder().with_database_ref(db).with_bundle_update().build();
    let mut evm = chain_evm(env, state);
    let mut results = Vec::new();
    for (index, tx) in block.iter().enumerate() {
        let executed = match transact(&mut evm, tx, false) {
            Ok(executed) => executed.result,
            Err(EVMError::Transaction(_)) => return Err(index),
            Err(error) => panic!("transaction {index}: {error}"),
        };
        evm.ctx.db_mut().commit(executed.state);
        results.push(executed.result);
    }
    let state = evm.ctx.db_mut();
    state.merge_transitions(BundleRetention::Reverts);
    Ok((results, state.take_bundle()))
}

fn outcome<B>(
    executor: &ParallelExecutor<B>,
    db: &CacheDB<EmptyDB>,
    env: &EvmEnv,
    block: &[TxEnv],
) -> Outcome {
    match executor.execute_block_ref(db, env, block) {
        Ok(outcome) => Ok(outcome),
        Err(ExecutionError::InvalidBlock { transaction: Some(index), .. }) => Err(index),
        Err(error) => panic!("{error}"),
    }
}

/// A block's transactions as revm has them, in its environment.
fn transactions(plan: &Plan) -> (EvmEnv, Vec<TxEnv>) {
    let block = plan.block();
    let to_tx_env = |tx: &Recovered<TxEnvelope>| TxEnv::from_recovered_tx(tx.inner(), tx.signer());
    (
        ChainSpec::mainnet().evm_env(&block.header),
        block.transactions.iter().map(to_tx_env).collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Fees to three accounts that anybody may look at, a precompile, and every fork.
    #[test]
    fn a_chain_with_a_fee_rule(plan in plan()) {
        let ((env, block), db) = (transactions(&plan), plan.prestate());
        let serial = serial_chain(&db, &env, &block);
        for threads in THREADS {
            let parallel = outcome(&forced(threads).with_backend(Chain), &db, &env, &block);
            prop_assert_eq!(&serial, &parallel, "{} threads", threads);
        }
    }

    /// Mainnet's own EVM as a backend is mainnet.
    #[test]
    fn mainnet_as_a_backend(plan in plan()) {
        let ((env, block), db) = (transactions(&plan), plan.prestate());
        let native = outcome(&forced(4), &db, &env, &block);
        for threads in [1, 4] {
            let tickets = Tickets::default();
            let parallel = outcome(&forced(threads).with_backend(tickets), &db, &env, &block);
            prop_assert_eq!(&native, &parallel, "{} threads", threads);
        }
    }
}

/// A precompile that gives each caller the next number, which it keeps beside the journal.
const TICKETS: Address = Address::with_last_byte(0xD0);
/// Stores what it gets from [`TICKETS`] under the caller's address.
const TAKER: Address = Address::with_last_byte(0xD1);

/// Mainnet with numbered tickets.
#[derive(Default)]
struct Tickets(Arc<AtomicU64>);

impl EvmBackend for Tickets {
    fn rules(&self, _env: &EvmEnv) -> BackendRules {
        BackendRules::mainnet().with_ordered([TICKETS])
    }

    fn create_evm<'evm>(
        &'evm self,
        env: &EvmEnv,
        db: BackendDb<'evm>,
    ) -> Box<dyn BackendEvm + 'evm> {
        let mut evm = MainnetEvm::new(env, db);
        evm.precompiles_mut().extend_precompiles([(TICKETS, tickets(&self.0))]);
        Box::new(evm)
    }
}

fn tickets(next: &Arc<AtomicU64>) -> DynPrecompile {
    let next = Arc::clone(next);
    DynPrecompile::new_stateful(PrecompileId::custom("tickets"), move |input| {
        let number = U256::from(next.fetch_add(1, Ordering::Relaxed));
        let bytes = Bytes::copy_from_slice(&number.to_be_bytes::<32>());
        Ok(PrecompileOutput::new(0, bytes, input.reservoir))
    })
}

fn person(id: usize) -> Address {
    Address::left_padding_from(&[0x5E, (id >> 8) as u8, id as u8])
}

/// People who pay each other and take tickets, some of them in vain.
fn ticket_block() -> (CacheDB<EmptyDB>, Vec<TxEnv>) {
    let mut db = CacheDB::new(EmptyDB::new());
    // CALL to 0xD0 without input, and SSTORE of what it returns.
    let code = alloy_primitives::hex!("6020 6000 6000 6000 6000 60d0 5a f1 50 6000 51 33 55 00");
    let code = Bytecode::new_raw(code.into());
    db.insert_account_info(TAKER, AccountInfo::default().with_nonce(1).with_code(code));
    for id in 0..120 {
        db.insert_account_info(person(id), AccountInfo::from_balance(U256::from(1_000_000_000)));
    }
    let block = (0..300).map(|index| {
        let caller = person(index * 7 % 120);
        let to = match index % 3 {
            0 => TAKER,
            1 => TICKETS,
            _ => person(index % 50),
        };
        let value = U256::from(if to == TAKER { 0 } else { index });
        let (kind, gas_limit) = (TxKind::Call(to), 90_000);
        TxEnv { caller, kind, value, gas_limit, gas_price: 1, ..TxEnv::default() }
    });
    let mut nonces = std::collections::BTreeMap::new();
    let with_nonce = |mut tx: TxEnv| {
        let nonce: &mut u64 = nonces.entry(tx.caller).or_default();
        tx.nonce = *nonce;
        *nonce += 1;
        tx
    };
    (db, block.map(with_nonce).collect())
}

/// Each ticket is given once, in the order of the block: a speculation that took one would be seen
/// in all that come later.
#[test]
fn a_precompile_with_a_state_of_its_own_runs_in_order() {
    let (db, block) = ticket_block();
    let env = EvmEnv::default();
    let serial = outcome(&forced(1).with_backend(Tickets::default()), &db, &env, &block);
    let (_, bundle) = serial.as_ref().expect("the block is valid");
    let numbers = bundle.account(&TAKER).expect("tickets are stored").storage.len();
    assert!(numbers > 30, "{numbers} people have a ticket");
    for threads in THREADS {
        for _ in 0..5 {
            let tickets = Tickets::default();
            let given = Arc::clone(&tickets.0);
            let parallel = outcome(&forced(threads).with_backend(tickets), &db, &env, &block);
            assert_eq!(serial, parallel, "{threads} threads");
            assert_eq!(given.load(Ordering::Relaxed), 200, "{threads} threads");
        }
    }
}

/// An alloy-evm factory of a chain with one more precompile.
#[derive(Clone, Copy, Debug)]
struct SquareRoots;

impl EvmFactory for SquareRoots {
    type Evm<DB: Database, I: Inspector<EthEvmContext<DB>>> = EthEvm<DB, I, PrecompilesMap>;
    type Context<DB: Database> = EthEvmContext<DB>;
    type Tx = TxEnv;
    type Error<E: DBErrorMarker> = EVMError<E>;
    type HaltReason = HaltReason;
    type Spec = SpecId;
    type BlockEnv = BlockEnv;
    type Precompiles = PrecompilesMap;

    fn create_evm<DB: Database>(&self, db: DB, env: EvmEnv) -> Self::Evm<DB, NoOpInspector> {
        self.create_evm_with_inspector(db, env, NoOpInspector {})
    }

    fn create_evm_with_inspector<DB: Database, I: Inspector<Self::Context<DB>>>(
        &self,
        db: DB,
        env: EvmEnv,
        inspector: I,
    ) -> Self::Evm<DB, I> {
        let own = chain_evm(&env, EmptyDB::new()).precompiles;
        EthEvmBuilder::new(db, env).inspector(inspector).precompiles(own).build()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// A client's own EVM factory, through a whole block and as a drop-in.
    #[test]
    fn the_evms_of_a_factory(plan in plan(), threads in 2_usize..5) {
        let (chain, block, db) = (ChainSpec::mainnet(), plan.block(), plan.prestate());
        let (factory, env) = (eth_with(&chain, SquareRoots), chain.evm_env(&block.header));
        let serial = import(
            &factory,
            env.clone(),
            context(&block),
            &block.transactions,
            WrapDatabaseRef(&db),
            Style::WholeBlock,
        );
        let backend = FactoryBackend::new(SquareRoots);
        let executor = Arc::new(forced(threads).with_backend(backend));
        let direct = executor.execute_block_with(
            &factory,
            env.clone(),
            context(&block),
            &block.transactions,
            &Shared(&db),
            |_, _| {},
        );
        match (&serial, direct) {
            (Ok(serial), Ok((result, bundle, _))) => {
                prop_assert_eq!((&serial.result, &serial.bundle), (&result, &bundle));
            }
            (Err(_), Err(_)) => {}
            (serial, direct) => prop_assert!(false, "serial {serial:?}, direct {direct:?}"),
        }

        let source = Arc::new(plan.prestate());
        let known = move |_: &EvmEnv, _: &EthBlockExecutionCtx<'_>| {
            let source = Arc::clone(&source);
            Some(Lookahead::new(move || Ok::<_, Infallible>(WrapDatabaseRef(Arc::clone(&source)))))
        };
        let factory = ParallelBlockExecutorFactory::new(factory, executor, known);
        let drop_in = import(
            &factory,
            env,
            context(&block),
            &block.transactions,
            WrapDatabaseRef(&db),
            Style::WholeBlock,
        );
        match (serial, drop_in) {
            (Ok(serial), Ok(drop_in)) => {
                prop_assert_eq!(serial.result, drop_in.result);
                prop_assert_eq!(serial.bundle, drop_in.bundle);
                prop_assert_eq!(factory.served().serial, 0);
            }
            (Err(serial), Err(drop_in)) => {
                prop_assert_eq!(serial.to_string(), drop_in.to_string());
            }
            (serial, drop_in) => prop_assert!(false, "serial {serial:?}, drop-in {drop_in:?}"),
        }
    }
}

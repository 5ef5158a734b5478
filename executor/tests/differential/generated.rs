//! Generated blocks: random mixes of transactions that are delicate to run in parallel, under every
//! fork, some of them invalid.

use crate::{
    contracts::{Contract, word, words},
    predictors::Prediction,
};
use alloy_consensus::{
    Header, SignableTransaction, TxEip1559, TxEip7702, TxEnvelope, TxLegacy, transaction::Recovered,
};
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256};
use multilane::{Shared, sequential, verification::compare_outputs};
use multilane_fixtures::sample::Account;
use multilane_state::{BlockInput, ChainSpec};
use proptest::prelude::*;
use revm::{
    database::{CacheDB, EmptyDB, WrapDatabaseRef},
    state::{AccountInfo, Bytecode},
};
use std::sync::LazyLock;

const SENDERS: usize = 6;
/// What senders own: enough for everything but the poorest one's larger payments.
const RICH: u64 = 1_000_000_000_000_000_000;
const POOR: u64 = 3_000_000_000_000_000;
const GAS_PRICE: u128 = 10_000_000_000;

static ACCOUNTS: LazyLock<Vec<Account>> = LazyLock::new(|| {
    (0..SENDERS).map(|index| Account::new(&format!("sender {index}"), 1)).collect()
});

/// Blocks of mainnet whose number and time select the rules, oldest first.
const FORKS: [(&str, u64, u64); 14] = [
    ("frontier", 1, 1_438_269_988),
    ("homestead", 1_150_000, 1_457_981_393),
    ("tangerine", 2_463_000, 1_476_796_771),
    ("spurious dragon", 2_675_000, 1_479_831_344),
    ("byzantium", 4_370_000, 1_508_131_331),
    ("petersburg", 7_280_000, 1_551_383_524),
    ("istanbul", 9_069_000, 1_575_764_709),
    ("berlin", 12_244_000, 1_618_481_223),
    ("london", 12_965_000, 1_628_166_822),
    ("paris", 15_537_394, 1_663_224_179),
    ("shanghai", 17_034_870, 1_681_338_479),
    ("cancun", 19_426_587, 1_710_338_135),
    ("prague", 22_431_084, 1_746_612_311),
    ("osaka", 23_935_694, 1_764_798_551),
];
const PRAGUE: usize = 12;
const LONDON: usize = 8;

/// One transaction, before it is given a nonce.
#[derive(Clone, Debug)]
enum Step {
    Transfer { to: Party, amount: u64 },
    Call { contract: Contract, first: Argument, second: u8, value: u64 },
    CallChild { factory: Contract, salt: u8, heir: Party },
    Deploy,
    Delegate { authority: usize, to: Contract, wrong_nonce: bool },
    CallSender { sender: usize },
}

/// Somebody to pay.
#[derive(Clone, Copy, Debug)]
enum Party {
    Sender(usize),
    Fresh(u8),
    Beneficiary,
    Precompile,
    Contract(Contract),
    Child(u8),
}

/// A first argument.
#[derive(Clone, Copy, Debug)]
enum Argument {
    Number(u8),
    Party(Party),
}

/// A block, before it is one.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    fork: usize,
    /// The beneficiary: one of the senders, or somebody else.
    beneficiary: Option<usize>,
    steps: Vec<(usize, Step)>,
    /// A transaction that gets a nonce too high, if any: the block is invalid there.
    nonce_gap: Option<usize>,
    gas_limit: u64,
}

const BENEFICIARY: Address = Address::with_last_byte(0xBE);

impl Plan {
    fn party(&self, party: Party) -> Address {
        match party {
            Party::Sender(index) => ACCOUNTS[index].address(),
            Party::Fresh(id) => Address::left_padding_from(&[0xF0, id]),
            Party::Beneficiary => self.beneficiary(),
            Party::Precompile => Address::with_last_byte(1),
            Party::Contract(contract) => contract.address(),
            Party::Child(salt) => Contract::Factory.child(salt),
        }
    }

    fn beneficiary(&self) -> Address {
        self.beneficiary.map_or(BENEFICIARY, |index| ACCOUNTS[index].address())
    }

    pub(crate) fn block(&self) -> BlockInput {
        let (_, number, timestamp) = FORKS[self.fork];
        let header = Header {
            number,
            timestamp,
            beneficiary: self.beneficiary(),
            gas_limit: self.gas_limit,
            base_fee_per_gas: (self.fork >= LONDON).then_some(7_000_000_000),
            excess_blob_gas: (self.fork >= 11).then_some(0),
            parent_beacon_block_root: (self.fork >= 11).then(Default::default),
            ..Header::default()
        };
        let mut nonces = [0_u64; SENDERS];
        let transactions = self
            .steps
            .iter()
            .enumerate()
            .map(|(index, (sender, step))| {
                let mut nonce = nonces[*sender];
                nonces[*sender] += 1;
                if self.nonce_gap == Some(index) {
                    nonce += 5;
                }
                self.transaction(*sender, nonce, step, &mut nonces)
            })
            .collect();
        BlockInput {
            header,
            hash: None,
            transactions,
            ommers: Vec::new(),
            ommer_count: 0,
            withdrawals: (self.fork >= 10).then(Vec::new),
        }
    }

    fn transaction(
        &self,
        sender: usize,
        nonce: u64,
        step: &Step,
        nonces: &mut [u64; SENDERS],
    ) -> Recovered<TxEnvelope> {
        let from = ACCOUNTS[sender].address();
        let mut authorizations = Vec::new();
        let (to, value, input) = match step {
            Step::Transfer { to, amount } => (TxKind::Call(self.party(*to)), *amount, Bytes::new()),
            Step::Call { contract, first, second, value } => {
                let first = match first {
                    Argument::Number(number) => U256::from(*number),
                    Argument::Party(party) => word(self.party(*party)),
                };
                let input = words(&[first, U256::from(*second), U256::from(3)]);
                (TxKind::Call(contract.address()), *value, input)
            }
            Step::CallChild { factory, salt, heir } => {
                let input = words(&[word(self.party(*heir))]);
                (TxKind::Call(factory.child(*salt)), 0, input)
            }
            Step::Deploy => (TxKind::Create, 5, Contract::Counter.code()),
            Step::Delegate { authority, to, wrong_nonce } if self.fork >= PRAGUE => {
                let at = nonces[*authority] + u64::from(*wrong_nonce);
                authorizations.push(ACCOUNTS[*authority].authorize(to.address(), at));
                if !wrong_nonce {
                    nonces[*authority] += 1;
                }
                (TxKind::Call(ACCOUNTS[*authority].address()), 0, words(&[U256::from(1)]))
            }
            Step::Delegate { authority: sender, .. } | Step::CallSender { sender } => {
                (TxKind::Call(ACCOUNTS[*sender].address()), 1, words(&[U256::from(2)]))
            }
        };
        let (gas_limit, value) = (250_000, U256::from(value));
        let envelope = if let (false, TxKind::Call(to)) = (authorizations.is_empty(), to) {
            unsigned(TxEip7702 {
                chain_id: 1,
                nonce,
                gas_limit,
                max_fee_per_gas: GAS_PRICE * 2,
                max_priority_fee_per_gas: 1_000_000_000,
                to,
                value,
                access_list: Default::default(),
                authorization_list: authorizations,
                input,
            })
        } else if self.fork >= LONDON && nonce % 2 == 1 {
            unsigned(TxEip1559 {
                chain_id: 1,
                nonce,
                gas_limit,
                max_fee_per_gas: GAS_PRICE * 2,
                max_priority_fee_per_gas: 2_000_000_000,
                to,
                value,
                access_list: Default::default(),
                input,
            })
        } else {
            let gas_price = GAS_PRICE;
            unsigned(TxLegacy { chain_id: None, nonce, gas_price, gas_limit, to, value, input })
        };
        Recovered::new_unchecked(envelope, from)
    }

    pub(crate) fn prestate(&self) -> CacheDB<EmptyDB> {
        let mut db = CacheDB::new(EmptyDB::new());
        for (index, account) in ACCOUNTS.iter().enumerate() {
            let balance = U256::from(if index == 0 { POOR } else { RICH });
            db.insert_account_info(
                account.address(),
                AccountInfo { balance, ..AccountInfo::default() },
            );
        }
        for contract in Contract::ALL {
            let info = AccountInfo::default()
                .with_balance(U256::from(100))
                .with_nonce(1)
                .with_code(Bytecode::new_raw(contract.code()));
            db.insert_account_info(contract.address(), info);
        }
        for slot in 0..4 {
            db.insert_account_storage(Contract::Mover.address(), U256::from(slot), U256::from(5))
                .expect("the database is in memory");
        }
        db
    }
}

fn unsigned<T: SignableTransaction<Signature>>(transaction: T) -> TxEnvelope
where
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    transaction.into_signed(Signature::test_signature()).into()
}

/// Both engines on one block: same output, or same error.
fn check(plan: &Plan) {
    let (chain, block, prestate) = (ChainSpec::mainnet(), plan.block(), plan.prestate());
    let serial = sequential::execute_block(&chain, &block, WrapDatabaseRef(&prestate));
    let configurations = [1, 2, 4, 8]
        .map(|threads| (Prediction::Own, threads))
        .into_iter()
        .chain(Prediction::ALL.map(|prediction| (prediction, 3)));
    for (prediction, threads) in configurations {
        let parallel =
            prediction.executor(threads).execute_block(&chain, &block, &Shared(&prestate));
        let context = || format!("{prediction:?} at {threads} threads, {}", FORKS[plan.fork].0);
        match (&serial, parallel) {
            (Ok(serial), Ok((parallel, stats))) => {
                let differences = compare_outputs(serial, &parallel);
                assert!(differences.is_empty(), "{}: {stats:?}: {differences:#?}", context());
            }
            (Err(serial), Err(parallel)) => {
                assert_eq!(serial.to_string(), parallel.to_string(), "{}", context());
            }
            (serial, parallel) => {
                panic!("{}: sequential {serial:?}, parallel {parallel:?}", context())
            }
        }
    }
}

fn party() -> impl Strategy<Value = Party> {
    prop_oneof![
        4 => (0..SENDERS).prop_map(Party::Sender),
        3 => (0..3_u8).prop_map(Party::Fresh),
        2 => Just(Party::Beneficiary),
        1 => Just(Party::Precompile),
        1 => proptest::sample::select(&Contract::ALL[..]).prop_map(Party::Contract),
        1 => (0..2_u8).prop_map(Party::Child),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let argument =
        prop_oneof![(0..4_u8).prop_map(Argument::Number), party().prop_map(Argument::Party),];
    let contract = || proptest::sample::select(&Contract::ALL[..]);
    let factory = proptest::sample::select(vec![Contract::Factory, Contract::EphemeralFactory]);
    // Some payments are more than the poor sender can afford after a few others.
    let amount = prop_oneof![Just(0), 1..1000_u64, Just(POOR / 3)];
    prop_oneof![
        4 => (party(), amount).prop_map(|(to, amount)| Step::Transfer { to, amount }),
        8 => (contract(), argument, 0..4_u8, prop_oneof![Just(0), 1..50_u64]).prop_map(
            |(contract, first, second, value)| Step::Call { contract, first, second, value }
        ),
        3 => (factory, 0..2_u8, party())
            .prop_map(|(factory, salt, heir)| Step::CallChild { factory, salt, heir }),
        1 => Just(Step::Deploy),
        2 => (0..SENDERS, contract(), any::<bool>()).prop_map(|(authority, to, wrong_nonce)| {
            Step::Delegate { authority, to, wrong_nonce }
        }),
        1 => (0..SENDERS).prop_map(|sender| Step::CallSender { sender }),
    ]
}

/// A block of any fork.
pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    (
        0..FORKS.len(),
        proptest::option::weighted(0.3, 0..SENDERS),
        proptest::collection::vec((0..SENDERS, step()), 1..40),
        proptest::option::weighted(0.05, 0..40_usize),
        prop_oneof![9 => Just(30_000_000_u64), 1 => Just(2_000_000)],
    )
        .prop_map(|(fork, beneficiary, steps, nonce_gap, gas_limit)| Plan {
            fork,
            beneficiary,
            steps,
            nonce_gap,
            gas_limit,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_mixes_give_the_serial_result(plan in plan()) {
        check(&plan);
    }
}

/// How many transactions of a kind succeed in a plain block, so that the generator is known to
/// reach what it is meant to reach.
#[test]
fn the_contracts_do_what_they_say() {
    let salt = |salt| Argument::Number(salt);
    let call = |contract, first, value| (1, Step::Call { contract, first, second: 1, value });
    let steps = vec![
        call(Contract::Counter, Argument::Number(1), 0),
        call(Contract::Mover, Argument::Number(0), 0),
        call(Contract::CoinbaseReader, Argument::Number(0), 0),
        call(Contract::CoinbasePayer, Argument::Number(0), 9),
        call(Contract::Payer, Argument::Party(Party::Fresh(1)), 0),
        call(Contract::Factory, salt(0), 0),
        (2, Step::CallChild { factory: Contract::Factory, salt: 0, heir: Party::Fresh(2) }),
        call(Contract::Factory, salt(0), 0),
        call(Contract::EphemeralFactory, salt(1), 0),
        call(Contract::NonceFactory, Argument::Number(3), 0),
        call(Contract::CodeReader, Argument::Party(Party::Child(0)), 0),
        call(Contract::SelfBalance, Argument::Number(2), 4),
        (3, Step::Delegate { authority: 4, to: Contract::Counter, wrong_nonce: false }),
        (3, Step::CallSender { sender: 4 }),
    ];
    let plan =
        Plan { fork: PRAGUE, beneficiary: None, steps, nonce_gap: None, gas_limit: 30_000_000 };
    let output = sequential::execute_block(
        &ChainSpec::mainnet(),
        &plan.block(),
        WrapDatabaseRef(&plan.prestate()),
    )
    .expect("the block is valid");
    let failed: Vec<_> =
        (0..output.receipts.len()).filter(|index| !output.receipts[*index].status()).collect();
    assert_eq!(failed, [7], "a second CREATE2 over a live child burns the gas that it is given");
    let stored = |contract: Contract, slot: u64| {
        let account = &output.bundle.state[&contract.address()];
        account.storage.get(&U256::from(slot)).map(|slot| slot.present_value)
    };
    assert_eq!(stored(Contract::Counter, 1), Some(U256::ONE));
    assert_eq!(stored(Contract::Mover, 1), Some(U256::from(8)));
    assert_ne!(stored(Contract::CoinbaseReader, 0), None);
    assert_eq!(stored(Contract::CoinbasePayer, 0), Some(U256::ONE));
    assert_eq!(stored(Contract::Factory, 0), Some(word(Contract::Factory.child(0))));
    assert_eq!(
        stored(Contract::EphemeralFactory, 0),
        Some(word(Contract::EphemeralFactory.child(1)))
    );
    assert_ne!(stored(Contract::NonceFactory, 3), None);
    assert_eq!(stored(Contract::SelfBalance, 2), Some(U256::from(104)));
    let delegated = &output.bundle.state[&ACCOUNTS[4].address()];
    assert_eq!(delegated.storage[&U256::from(2)].present_value, U256::ONE);
    check(&plan);
}

//! Learning and predicting, end to end, with codes that do one thing each.

use super::{
    LearnedAccess, LearnedPrediction, Profile,
    record::{Effect, Sample},
    replay::{StateBefore, replay},
};
use crate::{Shared, workers::Workers};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, Bytes, TxKind, U256, hex, keccak256};
use multilane_state::StateLocation;
use revm::{
    Context, DatabaseCommit, ExecuteEvm, MainBuilder, MainContext,
    context::TxEnv,
    database::{CacheDB, EmptyDB},
    state::{AccountInfo, Bytecode, EvmState},
};

const CALLER: Address = Address::with_last_byte(0xAA);
const CONTRACT: Address = Address::with_last_byte(0xC0);
const OTHER: Address = Address::with_last_byte(0xC1);
const LOGIC: Address = Address::with_last_byte(0xD0);
const NEW_LOGIC: Address = Address::with_last_byte(0xD1);

/// Adds one to `mapping[word]`, where the mapping lies in slot 7: Solidity's way.
const COUNTER: [u8; 22] = hex!("6004 35 5f 52 6007 6020 52 6040 5f 20 80 54 6001 01 90 55 00");
/// The same with the mapping in slot 8.
const OTHER_COUNTER: [u8; 22] =
    hex!("6004 35 5f 52 6008 6020 52 6040 5f 20 80 54 6001 01 90 55 00");
/// Hands its calldata on to the code at the address in slot 0, in its own storage.
const PROXY: [u8; 13] = hex!("36 5f 5f 37 5f 5f 36 5f 5f 54 5a f4 00");
/// Stores in slot 1 if the word is not zero, else in slot 2.
const CHOICE: [u8; 19] = hex!("6004 35 600c 57 6001 6002 55 00 5b 6001 6001 55 00");

/// Stores in slot 100 + n, where n is what slot 0 holds, and adds one to slot 0.
const LIST: [u8; 15] = hex!("5f 54 80 6001 01 5f 55 6064 01 6001 90 55");
/// Looks at slot 5 and runs out of gas.
const WASTE: [u8; 4] = hex!("6005 54 fe");

/// Stores in slots 1 and 2.
const WRITE: [u8; 11] = hex!("6001 6001 55 6001 6002 55 00");
/// Looks at slot 5, if it is that function that is called.
const DISPATCHER: [u8; 22] = hex!("5f 35 60e0 1c 63 12345678 14 6011 57 5f 5f fd 5b 6005 54 00");

/// Stores the word in slot 1.
const SETTER: [u8; 7] = hex!("6004 35 6001 55 00");
/// Hands its calldata on like the proxy; then stores in slot 100 + n, where n is what slot 1 holds.
const FOLLOWER: [u8; 23] =
    hex!("36 5f 5f 37 5f 5f 36 5f 5f 54 5a f4 50 6001 6001 54 6064 01 55 00");

/// Stores in the slots below n, where n is the word.
const ROUNDS: [u8; 23] = hex!("6004 35 5b 80 15 6015 57 6001 90 03 80 6007 90 55 6003 56 5b 00");
/// Fails where it looks at slot 1, and goes on where it looks at slot 2. Which it is depends on gas.
const MAZE: [u8; 24] = hex!("5a 6012 57 6001 54 50 6001 600e 57 00 5b 5f 5f fd 5b 6002 54 50 00");
/// Looks at slot 5 and never ends.
const TREADMILL: [u8; 8] = hex!("6005 54 5b 6003 56 00");

/// A chain of one block, with a profile that learns from it.
struct Chain {
    state: CacheDB<EmptyDB>,
    profile: Profile,
    env: EvmEnv,
}

impl Chain {
    fn new() -> Self {
        let mut state = CacheDB::new(EmptyDB::new());
        let rich = AccountInfo { balance: U256::MAX >> 8, ..AccountInfo::default() };
        state.insert_account_info(CALLER, rich);
        Self { state, profile: Profile::new(), env: EvmEnv::default() }
    }

    fn deploy(&mut self, address: Address, code: &[u8]) {
        let code = Bytecode::new_raw(Bytes::copy_from_slice(code));
        let info =
            AccountInfo { code_hash: code.hash_slow(), code: Some(code), ..AccountInfo::default() };
        self.state.insert_account_info(address, info);
    }

    fn store(&mut self, address: Address, slot: u64, value: U256) {
        self.state.insert_account_storage(address, U256::from(slot), value).unwrap();
    }

    /// A call of a function with one word.
    fn call(&self, to: Address, word: U256) -> TxEnv {
        let mut data = hex!("12345678").to_vec();
        data.extend(word.to_be_bytes::<32>());
        let nonce = self.state.cache.accounts[&CALLER].info.nonce;
        TxEnv {
            caller: CALLER,
            kind: TxKind::Call(to),
            data: data.into(),
            nonce,
            gas_limit: 200_000,
            ..TxEnv::default()
        }
    }

    /// Executes and commits, and gives the changes.
    fn execute(&mut self, tx: &TxEnv, succeeds: bool) -> EvmState {
        let EvmEnv { cfg_env, block_env, .. } = self.env.clone();
        let mut evm = Context::mainnet()
            .with_block(block_env)
            .with_cfg(cfg_env)
            .with_db(&mut self.state)
            .build_mainnet();
        let result = evm.transact(tx.clone()).unwrap();
        assert_eq!(result.result.is_success(), succeeds, "{:?}", result.result);
        self.state.commit(result.state.clone());
        result.state
    }

    fn learn(&mut self, tx: &TxEnv) {
        self.learn_outcome(tx, true);
    }

    fn learn_outcome(&mut self, tx: &TxEnv, succeeds: bool) {
        let changes = self.execute(tx, succeeds);
        self.profile.learn(&self.env, tx, &changes);
    }

    /// What a call of a contract teaches.
    fn record(&mut self, to: Address) -> Vec<Sample> {
        let call = self.call(to, U256::ZERO);
        let changes = self.execute(&call, true);
        replay(&self.profile.templates.shapes, &self.env, &call, StateBefore::of(&changes))
    }

    fn predict(&self, tx: &TxEnv) -> Option<LearnedPrediction> {
        self.profile.predictor(&self.env, &Shared(&self.state)).predict(tx)
    }

    /// The predicted slots, and whether they are written; sorted.
    fn slots(&self, tx: &TxEnv) -> Vec<(Address, U256, bool)> {
        slots_of(&self.predict(tx).expect("the function has been learned"))
    }
}

/// The slots of a prediction, and whether they are written; sorted.
fn slots_of(prediction: &LearnedPrediction) -> Vec<(Address, U256, bool)> {
    let slot = |access: &LearnedAccess| match access.location {
        StateLocation::Slot(address, slot) => Some((address, slot, access.writes())),
        _ => None,
    };
    let mut slots: Vec<_> = prediction.accesses.iter().filter_map(slot).collect();
    slots.sort_unstable();
    slots
}

fn mapping(word: U256, base: u8) -> U256 {
    let mut bytes = word.to_be_bytes::<32>().to_vec();
    bytes.extend(U256::from(base).to_be_bytes::<32>());
    keccak256(bytes).into()
}

#[test]
fn a_mapping_learned_from_one_key_is_known_for_all() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &COUNTER);
    chain.deploy(OTHER, &COUNTER);
    let [first, second] = [5, 6].map(U256::from);
    assert_eq!(chain.predict(&chain.call(CONTRACT, first)), None);
    chain.learn(&chain.call(CONTRACT, first));
    for contract in [CONTRACT, OTHER] {
        let slots = chain.slots(&chain.call(contract, second));
        assert_eq!(slots, [(contract, mapping(second, 7), true)]);
    }
}

#[test]
fn a_proxy_leads_to_the_code_that_it_names_now() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &PROXY);
    chain.deploy(LOGIC, &COUNTER);
    chain.deploy(NEW_LOGIC, &OTHER_COUNTER);
    chain.store(CONTRACT, 0, LOGIC.into_word().into());
    let [first, second] = [5, 6].map(U256::from);
    chain.learn(&chain.call(CONTRACT, first));
    let sorted = |mut slots: Vec<_>| {
        slots.sort_unstable();
        slots
    };
    assert_eq!(
        chain.slots(&chain.call(CONTRACT, second)),
        sorted(vec![(CONTRACT, U256::ZERO, false), (CONTRACT, mapping(second, 7), true)])
    );
    // After an upgrade nothing that the old code did is predicted. The new code has never been
    // called, so it is walked through.
    chain.store(CONTRACT, 0, NEW_LOGIC.into_word().into());
    assert_eq!(
        chain.slots(&chain.call(CONTRACT, second)),
        sorted(vec![(CONTRACT, U256::ZERO, false), (CONTRACT, mapping(second, 8), true)])
    );
}

#[test]
fn a_branch_is_told_by_its_condition() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &CHOICE);
    let [yes, no] = [3_u64, 0].map(U256::from);
    chain.learn(&chain.call(CONTRACT, yes));
    chain.store(CONTRACT, 1, U256::ZERO);
    chain.learn(&chain.call(CONTRACT, no));
    let slots = |word| chain.slots(&chain.call(CONTRACT, word));
    assert_eq!(slots(U256::from(77)), [(CONTRACT, U256::from(1), true)]);
    assert_eq!(slots(no), [(CONTRACT, U256::from(2), true)]);
}

#[test]
fn what_earlier_transactions_store_is_expected() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &LIST);
    let call = chain.call(CONTRACT, U256::ZERO);
    for _ in 0..2 {
        chain.learn(&chain.call(CONTRACT, U256::ZERO));
    }
    let source = Shared(&chain.state);
    let mut predictor = chain.profile.predictor(&chain.env, &source);
    for length in 2..5_u64 {
        let slots = slots_of(&predictor.predict(&call).expect("the function has been learned"));
        let at = |slot: u64| (CONTRACT, U256::from(slot), true);
        assert_eq!(slots, [at(0), at(100 + length)]);
    }
}

#[test]
fn who_runs_out_of_gas_teaches_what_came_before() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &WASTE);
    chain.learn_outcome(&chain.call(CONTRACT, U256::ZERO), false);
    let call = chain.call(CONTRACT, U256::ZERO);
    assert_eq!(chain.slots(&call), [(CONTRACT, U256::from(5), false)]);
}

#[test]
fn a_gas_limit_that_was_too_low_is_too_low() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &WRITE);
    let poor = |chain: &Chain| TxEnv { gas_limit: 50_000, ..chain.call(CONTRACT, U256::ZERO) };
    chain.learn_outcome(&poor(&chain), false);
    chain.learn(&chain.call(CONTRACT, U256::ZERO));
    let slots = |call| chain.slots(&call).into_iter().map(|(_, slot, writes)| (slot, writes));
    let [first, second] = [1, 2].map(U256::from);
    assert!(slots(chain.call(CONTRACT, U256::ZERO)).eq([(first, true), (second, true)]));
    assert!(slots(poor(&chain)).eq([(first, false), (second, false)]));
}

#[test]
fn a_dispatcher_is_no_branch() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &DISPATCHER);
    let samples = chain.record(CONTRACT);
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].guards, []);
    assert_eq!(samples[0].effects.len(), 1);
}

#[test]
fn a_way_that_nobody_has_gone_is_walked_and_then_learned() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &ROUNDS);
    chain.learn(&chain.call(CONTRACT, U256::ONE));
    chain.store(CONTRACT, 0, U256::ZERO);
    let rounds = |n: u64| chain.call(CONTRACT, U256::from(n));
    let (once, thrice) = (rounds(1), rounds(3));
    assert!(!chain.predict(&once).unwrap().is_walked());
    let prediction = chain.predict(&thrice).unwrap();
    assert!(prediction.is_walked());
    let written = |slots: std::ops::Range<u64>| -> Vec<_> {
        slots.map(|slot| (CONTRACT, U256::from(slot), true)).collect()
    };
    assert_eq!(slots_of(&prediction), written(0..3));
    // However right it was, there is something to learn. After that no code is looked at.
    let changes = chain.execute(&thrice, true);
    (0..3).for_each(|slot| chain.store(CONTRACT, slot, U256::ZERO));
    assert!(chain.profile.review(Some(&prediction), &changes));
    chain.profile.learn(&chain.env, &thrice, &changes);
    let learned = chain.predict(&thrice).unwrap();
    assert!(!learned.is_walked());
    assert_eq!(slots_of(&learned), written(0..3));
}

#[test]
fn a_walk_turns_back_from_a_failure_and_ends_where_the_code_does_not() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &PROXY);
    chain.deploy(LOGIC, &COUNTER);
    chain.deploy(NEW_LOGIC, &MAZE);
    chain.deploy(OTHER, &TREADMILL);
    chain.store(CONTRACT, 0, LOGIC.into_word().into());
    chain.learn(&chain.call(CONTRACT, U256::ONE));
    let call = chain.call(CONTRACT, U256::ONE);
    let proxy = (CONTRACT, U256::ZERO, false);
    chain.store(CONTRACT, 0, NEW_LOGIC.into_word().into());
    assert_eq!(chain.slots(&call), [proxy, (CONTRACT, U256::from(2), false)]);
    chain.store(CONTRACT, 0, OTHER.into_word().into());
    assert_eq!(chain.slots(&call), [proxy, (CONTRACT, U256::from(5), false)]);
}

#[test]
fn what_another_call_has_written_is_not_what_it_was() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &FOLLOWER);
    chain.deploy(LOGIC, &SETTER);
    chain.store(CONTRACT, 0, LOGIC.into_word().into());
    chain.learn(&chain.call(CONTRACT, U256::from(5)));
    // Slot 1 holds five, and will hold nine when it is looked at.
    let slots = chain.slots(&chain.call(CONTRACT, U256::from(9)));
    assert_eq!(slots, [(CONTRACT, U256::ZERO, false), (CONTRACT, U256::ONE, true)]);
}

#[test]
fn a_call_that_may_find_something_else_is_another_call() {
    let mut chain = Chain::new();
    let looks = hex!("5f 5f 5f 5f 60c1 5a fa 50");
    let acts = hex!("5f 5f 5f 5f 5f 60c1 5a f1 50");
    chain.deploy(CONTRACT, &[&looks[..], &acts, &looks, &looks].concat());
    let samples = chain.record(CONTRACT);
    let [Effect::Call(first), Effect::Call(between), Effect::Call(second), Effect::Call(third)] =
        samples[0].effects[..]
    else {
        panic!("{:?}", samples[0].effects)
    };
    assert_eq!(second, third);
    assert!(first != second && first != between && between != second);
}

#[test]
fn what_is_exported_can_be_imported_and_nothing_else() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &COUNTER);
    chain.learn(&chain.call(CONTRACT, U256::from(5)));
    let pairs: Vec<_> = chain.profile.export().collect();
    let restored = Profile::new();
    for (key, template) in &pairs {
        restored.import(key, template).unwrap();
    }
    assert_eq!(restored.len(), chain.profile.len());
    let tx = chain.call(CONTRACT, U256::from(9));
    let before = chain.slots(&tx);
    chain.profile = restored;
    assert_eq!(chain.slots(&tx), before);

    // Whatever else is imported: it is refused, or harmless.
    let (key, template) = &pairs[0];
    assert!(chain.profile.import(key, &template[..template.len() / 2]).is_err());
    for at in 0..template.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = template.clone();
            changed[at] = value;
            if chain.profile.import(key, &changed).is_ok() {
                let _ = chain.predict(&tx);
            }
        }
    }
}

#[test]
fn the_least_used_templates_go_where_memory_is_short() {
    let mut chain = Chain::new();
    chain.profile = Profile::with_capacity(20_000);
    // Beyond the precompiles.
    for id in 0..60_u8 {
        let contract = Address::with_last_byte(id + 100);
        // Another code each.
        chain.deploy(contract, &[&COUNTER[..], &[id]].concat());
        chain.learn(&chain.call(contract, U256::from(5)));
        assert!(chain.profile.size() <= 20_000);
    }
    assert!(chain.profile.len() > 2);
    let [oldest, newest] = [100, 159].map(Address::with_last_byte);
    assert_eq!(chain.predict(&chain.call(oldest, U256::ONE)), None);
    assert!(chain.predict(&chain.call(newest, U256::ONE)).is_some());
}

#[test]
fn a_block_is_predicted_where_it_is_contended_by_any_number_of_workers() {
    let mut chain = Chain::new();
    chain.deploy(CONTRACT, &COUNTER);
    for word in 1..20 {
        let call = chain.call(CONTRACT, U256::from(word));
        chain.learn(&call);
    }
    let source = Shared(&chain.state);
    let block: Vec<TxEnv> =
        (0..300_u64).map(|word| chain.call(CONTRACT, U256::from(word % 7))).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let predict = |threads| {
        let workers = Workers::for_this_thread(&pool, threads);
        let position = |at, _: &TxEnv, _: Option<&LearnedPrediction>| at;
        chain.profile.predict_block((&chain.env, &source), &block, workers, position)
    };
    // Nobody is asked what nobody has contended for.
    assert!(!chain.profile.is_of_use());
    assert!(predict(1).1.iter().all(Option::is_none));

    let slot = |at: usize| mapping(U256::from(at % 7), 7);
    let mut predictor = chain.profile.predictor(&chain.env, &source);
    let paths = predictor.paths(&block[3], &[(CONTRACT, slot(3))]);
    assert!(!paths.is_empty());
    paths.iter().for_each(|(_, path)| chain.profile.contend(path));
    // As long as nothing was in vain, that is of no use.
    assert!(!chain.profile.is_of_use());
    let key = predictor.key(&block[3]).unwrap();
    chain.profile.templates.standing(&key).unwrap().traffic.note_unforeseen(300, Some(100));
    chain.profile.templates.reconsider(&key);
    assert!(chain.profile.is_of_use());
    let (positions, alone) = predict(1);
    assert!(positions.into_iter().eq(0..300));
    for (at, prediction) in alone.iter().enumerate() {
        let [access] = prediction.as_ref().unwrap().accesses[..] else { panic!("{prediction:?}") };
        assert_eq!(access.location, StateLocation::Slot(CONTRACT, slot(at)));
    }
    for _ in 0..4 {
        assert_eq!(predict(4).1, alone);
    }
}

#[test]
fn what_has_changed_or_is_gone_is_not_predicted_by_whoever_looked_it_up_before() {
    let mut chain = Chain::new();
    let profile = Profile::with_capacity(8 << 10);
    let learn = |chain: &mut Chain, code: &[u8], word: u64| {
        chain.deploy(CONTRACT, code);
        let call = chain.call(CONTRACT, U256::from(word));
        let changes = chain.execute(&call, true);
        profile.learn(&chain.env, &call, &changes);
        call
    };
    let state = {
        let mut before = Chain::new();
        before.deploy(CONTRACT, &CHOICE);
        before.state
    };
    let (env, source) = (chain.env.clone(), Shared(&state));
    let mut predictor = profile.predictor(&env, &source);
    let mut slots = |tx: &TxEnv| predictor.predict(tx).map(|prediction| slots_of(&prediction));

    let to_first = chain.call(CONTRACT, U256::ONE);
    assert_eq!(slots(&to_first), None);
    learn(&mut chain, &CHOICE, 1);
    let first = Some(vec![(CONTRACT, U256::from(1), true)]);
    assert_eq!(slots(&to_first), first);
    let to_second = learn(&mut chain, &CHOICE, 0);
    assert_eq!(slots(&to_second), Some(vec![(CONTRACT, U256::from(2), true)]));
    assert_eq!(slots(&to_first), first);

    // Others take its place.
    for size in 1..500 {
        let before = profile.len();
        learn(&mut chain, &[&WRITE[..], &vec![0; size]].concat(), 0);
        if profile.len() <= before {
            break;
        }
    }
    assert_eq!(slots(&to_first), None);
}

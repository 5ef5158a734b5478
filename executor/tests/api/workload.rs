//! Blocks to execute, made from a seed.

use crate::contracts::{Contract, word, words};
use alloy_consensus::{
    Header, SignableTransaction, TxEip1559, TxEip7702, TxEnvelope, TxLegacy, transaction::Recovered,
};
use alloy_evm::{EvmEnv, FromRecoveredTx};
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, hex};
use multilane_fixtures::sample::Account;
use multilane_state::{BlockInput, ChainSpec};
use revm::{
    context::TxEnv,
    database::{CacheDB, EmptyDB},
    state::{AccountInfo, Bytecode},
};
use std::{collections::BTreeMap, sync::LazyLock};

pub(crate) const BENEFICIARY: Address = Address::with_last_byte(0xBE);
/// Stores the hash of the block before.
pub(crate) const HASHER: Address = Address::with_last_byte(0xE1);
/// With an argument: stores it in slot 0. Without: stores in slot 1 what lies in the slot that
/// slot 0 names.
pub(crate) const CHOOSER: Address = Address::with_last_byte(0xE2);
pub(crate) const ETHER: u128 = 1_000_000_000_000_000_000;
const GAS_PRICE: u128 = 10_000_000_000;

/// Contracts that neither spend nor create: a sender may delegate to them and still be good for its
/// next transaction.
const HARMLESS: [Contract; 6] = [
    Contract::Counter,
    Contract::Mover,
    Contract::CoinbaseReader,
    Contract::BalanceReader,
    Contract::CodeReader,
    Contract::SelfBalance,
];

/// Senders that can sign, so that they can delegate.
static SIGNERS: LazyLock<Vec<Account>> =
    LazyLock::new(|| (0..8).map(|index| Account::new(&format!("signer {index}"), 1)).collect());

/// A block of Prague and the state before it.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) chain: ChainSpec,
    pub(crate) input: BlockInput,
    pub(crate) prestate: CacheDB<EmptyDB>,
    nonces: BTreeMap<Address, u64>,
}

impl Workload {
    /// A block without transactions, over a state with all contracts.
    pub(crate) fn empty() -> Self {
        let header = Header {
            number: 22_431_084,
            timestamp: 1_746_612_311,
            beneficiary: BENEFICIARY,
            gas_limit: 10_000_000_000,
            base_fee_per_gas: Some(7_000_000_000),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(Default::default()),
            ..Header::default()
        };
        let input = BlockInput {
            header,
            hash: None,
            transactions: Vec::new(),
            ommers: Vec::new(),
            ommer_count: 0,
            withdrawals: Some(Vec::new()),
        };
        let mut workload = Self {
            chain: ChainSpec::mainnet(),
            input,
            prestate: CacheDB::new(EmptyDB::new()),
            nonces: BTreeMap::new(),
        };
        for contract in Contract::ALL {
            workload.deploy(contract.address(), contract.code());
        }
        workload.deploy(HASHER, hex!("6001 43 03 40 6000 55 00").into());
        workload
            .deploy(CHOOSER, hex!("36 600c 57 6000 54 54 6001 55 00 5b 600035 6000 55 00").into());
        for slot in 0..4 {
            workload.store(Contract::Mover.address(), slot, 5);
        }
        workload
    }

    /// A random mix of everything that the contracts can do.
    pub(crate) fn mixed(seed: u64, transactions: usize) -> Self {
        let mut workload = Self::empty();
        let mut random = Random(seed);
        let mut senders: Vec<Address> = (0..24).map(|id| person(0x5E, id)).collect();
        senders.extend(SIGNERS.iter().map(Account::address));
        for sender in &senders {
            workload.fund(*sender, ETHER);
        }
        for _ in 0..transactions {
            let from = senders[random.below(senders.len())];
            workload.random_transaction(&mut random, &senders, from);
        }
        workload
    }

    /// A mix in which nearly everything touches the same few slots and accounts.
    pub(crate) fn contended(seed: u64, transactions: usize) -> Self {
        let mut workload = Self::empty();
        let mut random = Random(seed);
        let senders: Vec<Address> = SIGNERS.iter().take(4).map(Account::address).collect();
        for sender in &senders {
            workload.fund(*sender, ETHER);
        }
        for _ in 0..transactions {
            let from = senders[random.below(senders.len())];
            if random.below(3) == 0 {
                workload.random_transaction(&mut random, &senders, from);
            } else {
                let contract =
                    [Contract::Mover, Contract::Counter, Contract::SelfBalance][random.below(3)];
                let arguments = [random.word(2), random.word(2), random.word(3)];
                workload.call(from, contract.address(), random.below(3) as u128, words(&arguments));
            }
        }
        workload
    }

    fn random_transaction(&mut self, random: &mut Random, senders: &[Address], from: Address) {
        let party = |random: &mut Random| match random.below(8) {
            0..3 => senders[random.below(senders.len())],
            3..5 => person(0xF0, random.below(12)),
            5 => BENEFICIARY,
            6 => Contract::ALL[random.below(Contract::ALL.len())].address(),
            _ => Contract::Factory.child(random.below(2) as u8),
        };
        match random.below(16) {
            0..4 => {
                let (to, amount) = (party(random), random.below(1000) as u128);
                self.call(from, to, amount, Bytes::new());
            }
            4..12 => {
                let contract = Contract::ALL[random.below(Contract::ALL.len())];
                let first = if random.below(2) == 0 { random.word(4) } else { word(party(random)) };
                let arguments = words(&[first, random.word(4), random.word(6)]);
                self.call(from, contract.address(), random.below(20) as u128, arguments);
            }
            12 => {
                let factory = [Contract::Factory, Contract::EphemeralFactory][random.below(2)];
                let heir = words(&[word(party(random))]);
                self.call(from, factory.child(random.below(2) as u8), 0, heir);
            }
            13 => self.push(from, TxKind::Create, 5, Contract::Counter.code()),
            14 => {
                let authority = &SIGNERS[random.below(SIGNERS.len())];
                let to = HARMLESS[random.below(HARMLESS.len())];
                self.delegate(from, authority, to.address(), random.below(4) == 0);
            }
            _ => self.call(from, [HASHER, CHOOSER][random.below(2)], 0, Bytes::new()),
        }
    }

    /// Gives an account a balance in wei.
    pub(crate) fn fund(&mut self, address: Address, balance: u128) {
        let info = AccountInfo::default().with_balance(U256::from(balance));
        self.prestate.insert_account_info(address, info);
    }

    fn deploy(&mut self, address: Address, code: Bytes) {
        let info = AccountInfo::default()
            .with_balance(U256::from(100))
            .with_nonce(1)
            .with_code(Bytecode::new_raw(code));
        self.prestate.insert_account_info(address, info);
    }

    /// Sets a slot of the state before the block.
    pub(crate) fn store(&mut self, address: Address, slot: u64, value: u64) {
        self.prestate
            .insert_account_storage(address, U256::from(slot), U256::from(value))
            .expect("the database is in memory");
    }

    /// So many payments between strangers: nothing depends on anything.
    pub(crate) fn payments(count: usize) -> Self {
        let mut workload = Self::empty();
        for id in 0..count {
            workload.fund(person(0x5E, id), ETHER);
            workload.pay(person(0x5E, id), person(0xF0, id), 1);
        }
        workload
    }

    /// Adds a plain payment.
    pub(crate) fn pay(&mut self, from: Address, to: Address, amount: u128) {
        let nonce = self.next_nonce(from);
        self.push_unsigned(
            from,
            TxLegacy {
                chain_id: None,
                nonce,
                gas_price: GAS_PRICE,
                gas_limit: 21_000,
                to: TxKind::Call(to),
                value: U256::from(amount),
                input: Bytes::new(),
            },
        );
    }

    /// Adds a call.
    pub(crate) fn call(&mut self, from: Address, to: Address, value: u128, input: Bytes) {
        self.push(from, TxKind::Call(to), value, input);
    }

    fn push(&mut self, from: Address, to: TxKind, value: u128, input: Bytes) {
        let nonce = self.next_nonce(from);
        let (gas_limit, value) = (250_000, U256::from(value));
        if nonce.is_multiple_of(2) {
            let gas_price = GAS_PRICE;
            let legacy = TxLegacy { chain_id: None, nonce, gas_price, gas_limit, to, value, input };
            self.push_unsigned(from, legacy);
        } else {
            self.push_unsigned(
                from,
                TxEip1559 {
                    chain_id: 1,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: GAS_PRICE * 2,
                    max_priority_fee_per_gas: 2_000_000_000,
                    to,
                    value,
                    access_list: Default::default(),
                    input,
                },
            );
        }
    }

    fn delegate(&mut self, from: Address, authority: &Account, to: Address, wrong_nonce: bool) {
        let nonce = self.next_nonce(from);
        let authorization = if wrong_nonce {
            authority.authorize(to, u64::MAX / 2)
        } else {
            let nonce = self.next_nonce(authority.address());
            authority.authorize(to, nonce)
        };
        self.push_unsigned(
            from,
            TxEip7702 {
                chain_id: 1,
                nonce,
                gas_limit: 250_000,
                max_fee_per_gas: GAS_PRICE * 2,
                max_priority_fee_per_gas: 1_000_000_000,
                to: authority.address(),
                value: U256::ZERO,
                access_list: Default::default(),
                authorization_list: vec![authorization],
                input: words(&[U256::from(1)]),
            },
        );
    }

    fn push_unsigned<T: SignableTransaction<Signature>>(&mut self, from: Address, unsigned: T)
    where
        TxEnvelope: From<alloy_consensus::Signed<T>>,
    {
        let signed = unsigned.into_signed(Signature::test_signature());
        self.input.transactions.push(Recovered::new_unchecked(signed.into(), from));
    }

    fn next_nonce(&mut self, sender: Address) -> u64 {
        let nonce = self.nonces.entry(sender).or_default();
        *nonce += 1;
        *nonce - 1
    }

    /// The block's environment.
    pub(crate) fn env(&self) -> EvmEnv {
        self.chain.evm_env(&self.input.header)
    }

    /// The transactions as revm has them.
    pub(crate) fn tx_envs(&self) -> Vec<TxEnv> {
        let to_tx_env =
            |tx: &Recovered<TxEnvelope>| TxEnv::from_recovered_tx(tx.inner(), tx.signer());
        self.input.transactions.iter().map(to_tx_env).collect()
    }
}

/// An address of a family of many.
pub(crate) fn person(family: u8, id: usize) -> Address {
    let [.., a, b] = (id as u32).to_be_bytes();
    Address::left_padding_from(&[family, a, b])
}

/// A small generator (SplitMix64), so that a seed gives the same block in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn word(&mut self, bound: usize) -> U256 {
        U256::from(self.below(bound))
    }
}

//! A real node with real traffic.

use crate::rpc::call;
use alloy::{
    consensus::{SignableTransaction, TxEip7702, TxEnvelope},
    eips::{Encodable2718, eip7702::Authorization},
    primitives::{Address, Bytes, U256, address, hex},
    signers::{SignerSync, local::PrivateKeySigner},
};
use multilane_fixtures::anvil::{self, AnvilError};
use serde_json::{Value, json};
use std::env;

/// The genesis of anvil's chain: every fork up to Osaka from the start.
pub(crate) const GENESIS: &str = r#"{"config": {"chainId": 31337, "homesteadBlock": 0,
    "eip150Block": 0, "eip155Block": 0, "eip158Block": 0, "byzantiumBlock": 0,
    "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0,
    "londonBlock": 0, "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
    "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0, "osakaTime": 0}}"#;

/// `storage[word 0] += word 1`, and logs the old value.
const ADDER: &str = "6020356000358054918201905560005260206000a000";
/// CREATE2 of a contract that writes a slot, with word 0 as the salt.
const FACTORY: &str = "69600160005560016000f3600052600035600a60166000f560005260206000f3";
/// `storage[0] = blockhash(number - word 0)`.
const HASH_READER: &str = "60003543034060005500";
/// `storage[1] = ` what the EIP-2935 contract says of block `number - word 0`.
const HISTORY_READER: &str = "60003543036000526020600060206000730000f90827f1c53a10cb7a02335b1753200\
    029355afa5060005160015500";
/// Fails with all its gas.
const FAILURE: &str = "fe";

/// anvil's first development accounts, whose keys everybody knows.
const ACCOUNTS: [Address; 6] = [
    address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    address!("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
    address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906"),
    address!("0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
    address!("0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
];
/// The key of the second account, which delegates by EIP-7702.
const AUTHORITY_KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
/// The key of the third account, which sends the delegation.
const SPONSOR_KEY: &str = "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

/// Number of blocks that [`Anvil::start`] mines.
pub(crate) const BLOCKS: u64 = 8;

/// A running node with traffic.
#[derive(Debug)]
pub(crate) struct Anvil {
    pub(crate) port: u16,
    /// Ends when dropped.
    _node: anvil::Anvil,
}

impl Anvil {
    /// A node with [`BLOCKS`] blocks of traffic. `None`, with a message, where anvil is not
    /// installed.
    ///
    /// # Panics
    ///
    /// In CI if anvil is not installed; anywhere if it does not run.
    pub(crate) fn start() -> Option<Self> {
        let arguments = ["--no-mining", "--order", "fifo", "--hardfork", "osaka"];
        let node =
            match anvil::Anvil::start(arguments.into_iter().chain(["--timestamp", "1800000000"])) {
                Err(message @ AnvilError::NotInstalled) => {
                    assert!(env::var("CI").as_deref() != Ok("true"), "{message}");
                    eprintln!("test left out: {message}");
                    return None;
                }
                started => started.expect("anvil runs"),
            };
        let anvil = Self { port: node.port(), _node: node };
        anvil.mine_traffic();
        Some(anvil)
    }

    fn send(&self, transaction: Value) {
        call(self.port, "eth_sendTransaction", json!([transaction]));
    }

    fn mine(&self, transactions: usize) {
        call(self.port, "evm_mine", json!([]));
        let block = call(self.port, "eth_getBlockByNumber", json!(["latest", false]));
        let mined = block["transactions"].as_array().map_or(0, Vec::len);
        assert_eq!(mined, transactions, "transactions in block {}", block["number"]);
    }

    /// Deployments and their first calls in one block; then calls that meet in slots and do not,
    /// transfers to new and old accounts, failures, creations, delegations, an empty block.
    fn mine_traffic(&self) {
        let [deployer, authority, sponsor, one, two, three] = ACCOUNTS;
        let contracts: Vec<Address> = (0..5).map(|nonce| deployer.create(nonce)).collect();
        let [adder, factory, hash_reader, history_reader, failure] = contracts[..] else {
            unreachable!("five contracts are deployed");
        };
        let call_to = |from: Address, to: Address, words: &[u64]| {
            let data: Vec<u8> =
                words.iter().flat_map(|&word| U256::from(word).to_be_bytes::<32>()).collect();
            json!({"from": from, "to": to, "gas": "0x30d40", "gasPrice": "0x77359400",
                "data": Bytes::from(data)})
        };
        let with = |mut transaction: Value, more: Value| {
            let (Some(members), Value::Object(more)) = (transaction.as_object_mut(), more) else {
                unreachable!("both are objects");
            };
            members.extend(more);
            transaction
        };

        // Block 1: what an earlier transaction creates is called by a later one.
        for runtime in [ADDER, FACTORY, HASH_READER, HISTORY_READER, FAILURE] {
            self.send(json!({"from": deployer, "gas": "0x7a120", "data": deployment(runtime)}));
        }
        self.send(call_to(one, adder, &[1, 5]));
        self.send(call_to(two, adder, &[1, 6]));
        self.mine(7);
        // Block 2: transfers, to accounts that exist and one that does not.
        for (from, to) in [(one, two), (two, three), (three, Address::with_last_byte(0xee))] {
            self.send(json!({"from": from, "to": to, "value": "0xde0b6b3a7640000",
                "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1"}));
        }
        self.mine(3);
        // Block 3: the same slot, other slots, an access list, a failure.
        self.send(call_to(one, adder, &[1, 1]));
        self.send(call_to(two, adder, &[1, 2]));
        self.send(call_to(three, adder, &[7, 1]));
        let list = json!({"accessList": [{"address": adder, "storageKeys":
            [format!("0x{:064x}", 1), format!("0x{:064x}", 9)]}]});
        self.send(with(call_to(deployer, adder, &[9, 1]), list));
        self.send(call_to(one, failure, &[]));
        self.mine(5);
        // Block 4: nothing. System calls alone.
        self.mine(0);
        // Block 5: created by a contract, then given money and called, then created in vain.
        self.send(call_to(one, factory, &[42]));
        let child = created_by_factory(factory, 42);
        self.send(with(call_to(two, child, &[]), json!({"value": "0x1"})));
        self.send(call_to(three, factory, &[42]));
        self.mine(3);
        // Block 6: hashes, by BLOCKHASH and from the history contract: the slot that this block's
        // system call writes, and one that an earlier block wrote.
        self.send(call_to(one, hash_reader, &[3]));
        self.send(call_to(two, history_reader, &[1]));
        self.send(call_to(three, history_reader, &[2]));
        self.mine(3);
        // Block 7: an account gets code by EIP-7702 and is called as a contract.
        let nonces = [self.nonce(authority), self.nonce(sponsor)];
        let delegation = delegation([authority, sponsor], nonces, adder);
        call(self.port, "eth_sendRawTransaction", json!([delegation]));
        self.send(call_to(one, authority, &[3, 4]));
        self.mine(2);
        // Block 8: the child and the delegation once more, now from the state before; the delegated
        // account pays itself; a call without any gas to run.
        self.send(with(call_to(two, child, &[]), json!({"value": "0x1"})));
        self.send(call_to(three, authority, &[3, 1]));
        self.send(call_to(authority, adder, &[3, 4]));
        self.send(json!({"from": one, "to": failure, "gas": "0x5208", "gasPrice": "0x77359400"}));
        self.mine(4);
    }

    fn nonce(&self, address: Address) -> u64 {
        let nonce = call(self.port, "eth_getTransactionCount", json!([address, "latest"]));
        u64::from_str_radix(nonce.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }
}

/// Init code that deploys a runtime of less than 256 bytes.
fn deployment(runtime: &str) -> Bytes {
    let runtime = hex::decode(runtime).unwrap();
    let length = u8::try_from(runtime.len()).unwrap();
    // PUSH1 length, DUP1, PUSH1 11, PUSH1 0, CODECOPY, PUSH1 0, RETURN
    let mut code = vec![0x60, length, 0x80, 0x60, 11, 0x60, 0, 0x39, 0x60, 0, 0xf3];
    code.extend(runtime);
    code.into()
}

fn created_by_factory(factory: Address, salt: u64) -> Address {
    let runtime = hex::decode(FACTORY).unwrap();
    factory.create2_from_code(U256::from(salt).to_be_bytes::<32>(), &runtime[1..11])
}

/// A signed EIP-7702 transaction in which `authority` delegates to `target`, and `sponsor` pays.
fn delegation(
    [authority, sponsor]: [Address; 2],
    [authority_nonce, sponsor_nonce]: [u64; 2],
    target: Address,
) -> Bytes {
    let [authority_key, sponsor_key]: [PrivateKeySigner; 2] =
        [AUTHORITY_KEY, SPONSOR_KEY].map(|key| key.parse().unwrap());
    assert_eq!((authority_key.address(), sponsor_key.address()), (authority, sponsor));
    let authorization =
        Authorization { chain_id: U256::from(31_337), address: target, nonce: authority_nonce };
    let signature = authority_key.sign_hash_sync(&authorization.signature_hash()).unwrap();
    let transaction = TxEip7702 {
        chain_id: 31_337,
        nonce: sponsor_nonce,
        gas_limit: 200_000,
        max_fee_per_gas: 2_000_000_000,
        max_priority_fee_per_gas: 1,
        to: authority,
        authorization_list: vec![authorization.into_signed(signature)],
        ..TxEip7702::default()
    };
    let signature = sponsor_key.sign_hash_sync(&transaction.signature_hash()).unwrap();
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
}

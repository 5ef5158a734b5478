//! Packing a block: candidates are executed on all cores, and those that do not fit or are invalid
//! are left out, each with its reason.

use alloy_consensus::{Header, SignableTransaction, TxEnvelope, TxLegacy, transaction::Recovered};
use alloy_primitives::{Address, Signature, TxKind, U256};
use multilane::{
    ExecutorConfig, ParallelExecutor, Shared,
    state::{BlockInput, ChainSpec},
};
use revm::{
    database::{CacheDB, EmptyDB},
    state::AccountInfo,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The parent state: a hundred accounts, the last of them poor.
    let account = |id: u64| Address::left_padding_from(&(10_000 + id).to_be_bytes());
    let mut db = CacheDB::new(EmptyDB::new());
    for id in 0..100 {
        let balance = if id == 99 { 1 } else { 1_000_000_000_000_000_000_u64 };
        db.insert_account_info(account(id), AccountInfo::from_balance(U256::from(balance)));
    }

    // The block to fill, under London's rules: there is room for 110 payments.
    let block = BlockInput {
        header: Header {
            number: 12_965_000,
            timestamp: 1_628_166_822,
            gas_limit: 110 * 21_000,
            base_fee_per_gas: Some(7),
            ..Header::default()
        },
        hash: None,
        transactions: Vec::new(),
        ommers: Vec::new(),
        ommer_count: 0,
        withdrawals: None,
    };

    // Candidates, best first: two payments of everybody, and one with a nonce that is too high. A
    // real builder takes them from its pool, recovered from their signatures.
    let payment = |(from, nonce): (u64, u64)| -> Recovered<TxEnvelope> {
        let transaction = TxLegacy {
            nonce,
            gas_price: 10,
            gas_limit: 21_000,
            to: TxKind::Call(account(500)),
            value: U256::from(1),
            ..TxLegacy::default()
        };
        let signed = transaction.into_signed(Signature::test_signature());
        Recovered::new_unchecked(signed.into(), account(from))
    };
    let first_round = (0..100).map(|id| (id, 0));
    let second_round = (0..100).map(|id| (id, 1));
    let candidates = first_round.chain([(0, 7)]).chain(second_round).map(payment);

    let executor = ParallelExecutor::new(ExecutorConfig::new())?;
    let chain = ChainSpec::mainnet();
    let (built, _) = executor.build_block(&chain, &block, candidates, &Shared(&db))?;

    for skipped in &built.skipped[..3] {
        eprintln!("candidate {} is skipped: {}", skipped.candidate, skipped.reason);
    }
    let (included, gas_used) = (built.transactions.len(), built.output.gas_used);
    eprintln!("{included} payments in the block, {gas_used} gas; {} skipped", built.skipped.len());
    assert_eq!((included, gas_used), (110, block.header.gas_limit));
    Ok(())
}

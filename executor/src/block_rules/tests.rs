//! Each rule, broken alone.

use super::{BlockRuleError as Error, HeaderField as Field, check_body, check_header};
use alloy_consensus::{Header, SignableTransaction, TxEnvelope, TxLegacy, transaction::Recovered};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B64, B256, Bytes, Signature, U256};
use multilane_state::{BlockInput, ChainSpec};

/// Timestamps within forks of mainnet, in seconds.
const PRAGUE: u64 = 1_750_000_000;
const OSAKA: u64 = 1_764_900_000;
const LONDON_BLOCK: u64 = 12_965_000;
const DAO_BLOCK: u64 = 1_920_000;

/// How to break a rule, and the error that it must give.
type BrokenRule<T> = (fn(&mut T), fn(&Error) -> bool);

fn prague_parent() -> Header {
    Header {
        number: 22_500_000,
        timestamp: PRAGUE,
        gas_limit: 36_000_000,
        gas_used: 18_000_000,
        base_fee_per_gas: Some(1_000_000_000),
        withdrawals_root: Some(alloy_consensus::constants::EMPTY_WITHDRAWALS),
        blob_gas_used: Some(6 * 131_072),
        excess_blob_gas: Some(131_072),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// A valid child: at target, so that base fee and excess blob gas stay.
fn child(parent: &Header) -> Header {
    Header {
        parent_hash: parent.hash_slow(),
        number: parent.number + 1,
        timestamp: parent.timestamp + 12,
        ..parent.clone()
    }
}

fn block(header: Header) -> BlockInput {
    let withdrawals = header.withdrawals_root.map(|_| Vec::new());
    BlockInput {
        hash: None,
        header,
        transactions: Vec::new(),
        ommers: Vec::new(),
        ommer_count: 0,
        withdrawals,
    }
}

fn legacy(chain_id: Option<u64>, input: Bytes) -> Recovered<TxEnvelope> {
    let signature = Signature::new(U256::ONE, U256::ONE, false);
    let transaction = TxLegacy { chain_id, input, ..TxLegacy::default() };
    Recovered::new_unchecked(transaction.into_signed(signature).into(), Address::ZERO)
}

#[test]
fn a_valid_child_breaks_no_rule() {
    let parent = prague_parent();
    let header = child(&parent);
    assert_eq!(check_header(&ChainSpec::mainnet(), &header, &parent), Ok(()));
    let mut block = block(header);
    block.header.blob_gas_used = Some(0);
    assert_eq!(check_body(&ChainSpec::mainnet(), &block), Ok(()));
}

#[test]
fn each_header_rule_is_named_when_it_is_broken() {
    let parent = prague_parent();
    let valid = child(&parent);
    let cases: Vec<BrokenRule<Header>> = vec![
        (|h| h.number += 1, |e| matches!(e, Error::Number { .. })),
        (|h| h.parent_hash = B256::ZERO, |e| matches!(e, Error::ParentHash { .. })),
        (|h| h.timestamp -= 12, |e| matches!(e, Error::Timestamp { .. })),
        (|h| h.gas_limit += h.gas_limit / 1024, |e| matches!(e, Error::GasLimitChange { .. })),
        (|h| h.gas_limit = 4999, |e| matches!(e, Error::GasLimitBounds(4999))),
        (|h| h.gas_used = h.gas_limit + 1, |e| matches!(e, Error::GasUsedAboveLimit { .. })),
        (|h| h.extra_data = vec![0; 33].into(), |e| *e == Error::ExtraDataTooLong(33)),
        (
            |h| h.base_fee_per_gas = Some(7),
            |e| *e == Error::BaseFee { stated: 7, expected: 1_000_000_000 },
        ),
        (|h| h.base_fee_per_gas = None, |e| *e == Error::MissingField(Field::BaseFee)),
        (|h| h.withdrawals_root = None, |e| *e == Error::MissingField(Field::WithdrawalsRoot)),
        (
            |h| h.parent_beacon_block_root = None,
            |e| *e == Error::MissingField(Field::ParentBeaconBlockRoot),
        ),
        (|h| h.requests_hash = None, |e| *e == Error::MissingField(Field::RequestsHash)),
        (|h| h.slot_number = Some(1), |e| *e == Error::UnexpectedField(Field::SlotNumber)),
        (|h| h.difficulty = U256::ONE, |e| *e == Error::NotProofOfStake(Field::Difficulty)),
        (|h| h.nonce = B64::with_last_byte(1), |e| *e == Error::NotProofOfStake(Field::Nonce)),
        (|h| h.ommers_hash = B256::ZERO, |e| *e == Error::NotProofOfStake(Field::OmmersHash)),
        (
            |h| h.excess_blob_gas = Some(0),
            |e| *e == Error::ExcessBlobGas { stated: 0, expected: 131_072 },
        ),
        (
            |h| h.blob_gas_used = Some(10 * 131_072),
            |e| matches!(e, Error::BlobGasAboveMaximum { .. }),
        ),
    ];
    for (index, (breaks, is_expected)) in cases.into_iter().enumerate() {
        let mut header = valid.clone();
        breaks(&mut header);
        let error = check_header(&ChainSpec::mainnet(), &header, &parent)
            .expect_err(&format!("case {index} breaks a rule"));
        assert!(is_expected(&error), "case {index}: {error}");
    }
}

#[test]
fn an_absurd_parent_is_an_error_and_no_overflow() {
    let cases: [fn(&mut Header); 5] = [
        |h| h.gas_used = u64::MAX,
        |h| h.base_fee_per_gas = Some(u64::MAX),
        |h| h.excess_blob_gas = Some(u64::MAX),
        |h| h.blob_gas_used = Some(u64::MAX),
        |h| h.number = u64::MAX,
    ];
    for breaks in cases {
        let mut parent = prague_parent();
        let mut header = child(&parent);
        breaks(&mut parent);
        header.parent_hash = parent.hash_slow();
        let error = check_header(&ChainSpec::mainnet(), &header, &parent).unwrap_err();
        assert!(matches!(error, Error::InvalidParent(_) | Error::Number { .. }), "{error}");
    }
}

#[test]
fn london_doubles_the_gas_limit_and_sets_the_base_fee() {
    let parent = Header {
        number: LONDON_BLOCK - 1,
        gas_limit: 15_000_000,
        gas_used: 15_000_000,
        difficulty: U256::ONE,
        ..Header::default()
    };
    let mut header =
        Header { gas_limit: 30_000_000, base_fee_per_gas: Some(1_000_000_000), ..child(&parent) };
    assert_eq!(check_header(&ChainSpec::mainnet(), &header, &parent), Ok(()));
    header.gas_limit = 15_000_000;
    assert!(matches!(
        check_header(&ChainSpec::mainnet(), &header, &parent),
        Err(Error::GasLimitChange { .. })
    ));
}

#[test]
fn the_first_ten_dao_fork_blocks_are_marked() {
    for (age, needs_mark) in [(0, true), (9, true), (10, false)] {
        let parent = Header {
            number: DAO_BLOCK + age - 1,
            gas_limit: 5_000_000,
            difficulty: U256::ONE,
            ..Header::default()
        };
        let mut header = child(&parent);
        let unmarked = check_header(&ChainSpec::mainnet(), &header, &parent);
        assert_eq!(unmarked, if needs_mark { Err(Error::DaoExtraData) } else { Ok(()) });
        header.extra_data = Bytes::from_static(b"dao-hard-fork");
        assert_eq!(check_header(&ChainSpec::mainnet(), &header, &parent), Ok(()));
    }
}

/// EIP-7918: where execution gas is dear, excess blob gas does not fall below its target.
#[test]
fn the_reserve_price_holds_from_osaka_on() {
    let parent = |timestamp| Header {
        timestamp,
        blob_gas_used: Some(0),
        excess_blob_gas: Some(20 * 131_072),
        base_fee_per_gas: Some(100_000_000_000),
        ..prague_parent()
    };
    for (timestamp, expected) in [(PRAGUE, 14 * 131_072), (OSAKA, 20 * 131_072)] {
        let parent = parent(timestamp);
        let header = Header { excess_blob_gas: Some(expected), ..child(&parent) };
        assert_eq!(check_header(&ChainSpec::mainnet(), &header, &parent), Ok(()));
    }
}

#[test]
fn each_body_rule_is_named_when_it_is_broken() {
    let valid = block(Header { blob_gas_used: Some(0), ..child(&prague_parent()) });
    let cases: Vec<BrokenRule<BlockInput>> = vec![
        (
            |b| b.transactions = vec![legacy(Some(1), Bytes::new())],
            |e| matches!(e, Error::BodyCommitment { field: Field::TransactionsRoot, .. }),
        ),
        (
            |b| {
                b.ommers = vec![Header::default()];
                b.ommer_count = 1;
            },
            |e| matches!(e, Error::BodyCommitment { field: Field::OmmersHash, .. }),
        ),
        (|b| b.ommer_count = 3, |e| *e == Error::TooManyOmmers(3)),
        (|b| b.withdrawals = None, |e| *e == Error::Withdrawals { present: false }),
        (
            |b| b.withdrawals = Some(vec![Withdrawal::default()]),
            |e| matches!(e, Error::BodyCommitment { field: Field::WithdrawalsRoot, .. }),
        ),
        (
            |b| b.header.blob_gas_used = Some(131_072),
            |e| *e == Error::BlobGasUsed { stated: 131_072, actual: 0 },
        ),
    ];
    for (index, (breaks, is_expected)) in cases.into_iter().enumerate() {
        let mut block = valid.clone();
        breaks(&mut block);
        let error = check_body(&ChainSpec::mainnet(), &block)
            .expect_err(&format!("case {index} breaks a rule"));
        assert!(is_expected(&error), "case {index}: {error}");
    }
}

#[test]
fn replay_protection_begins_with_spurious_dragon() {
    for (number, chain_id, expected) in [
        (2_674_999, Some(1), Err(Error::ProtectedTransaction { transaction: 0 })),
        (2_674_999, None, Ok(())),
        (2_675_000, Some(1), Ok(())),
    ] {
        let transactions = vec![legacy(chain_id, Bytes::new())];
        let transactions_root = alloy_consensus::proofs::calculate_transaction_root(&transactions);
        let header = Header { number, transactions_root, ..Header::default() };
        let block = BlockInput { transactions, ..block(header) };
        assert_eq!(check_body(&ChainSpec::mainnet(), &block), expected);
    }
}

#[test]
fn blocks_are_limited_in_size_from_osaka_on() {
    let transactions = vec![legacy(Some(1), vec![0; super::MAX_RLP_BLOCK_SIZE].into())];
    let transactions_root = alloy_consensus::proofs::calculate_transaction_root(&transactions);
    for (timestamp, is_limited) in [(PRAGUE, false), (OSAKA, true)] {
        let header = Header {
            timestamp,
            transactions_root,
            blob_gas_used: Some(0),
            ..child(&prague_parent())
        };
        let block = BlockInput { transactions: transactions.clone(), ..block(header) };
        let outcome = check_body(&ChainSpec::mainnet(), &block);
        assert_eq!(matches!(outcome, Err(Error::BlockTooLarge { .. })), is_limited);
    }
}

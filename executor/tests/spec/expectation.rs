//! What a test's exception names mean in our errors.

use crate::import::Refusal;
use alloy_evm::block::BlockValidationError;
use multilane::{
    ExecutionError,
    block_rules::{BlockRuleError as Rule, HeaderField as Field},
    verification::CheckKind,
};
use revm::context::result::InvalidTransaction as Tx;

/// Whether a refusal is for one of the reasons that a test allows, separated by `|`.
pub(crate) fn is_expected(exception: &str, refusal: &Refusal) -> bool {
    exception.split('|').any(|name| is_named(name, refusal))
}

fn is_named(name: &str, refusal: &Refusal) -> bool {
    if let Some(name) = name.strip_prefix("TransactionException.") {
        return is_transaction_exception(name, refusal);
    }
    name.strip_prefix("BlockException.").is_some_and(|name| is_block_exception(name, refusal))
}

fn is_transaction_exception(name: &str, refusal: &Refusal) -> bool {
    let rule = rule(refusal);
    let validation = validation(refusal);
    let Some(tx) = invalid_transaction(refusal) else {
        return match name {
            // The gas of all transactions together, judged before the one that exceeds it runs.
            "GAS_ALLOWANCE_EXCEEDED" => matches!(
                validation,
                Some(BlockValidationError::TransactionGasLimitMoreThanAvailableBlockGas { .. })
            ),
            "TYPE_3_TX_MAX_BLOB_GAS_ALLOWANCE_EXCEEDED" | "TYPE_3_TX_BLOB_COUNT_EXCEEDED" => {
                matches!(rule, Some(Rule::BlobGasAboveMaximum { .. }))
            }
            // Types 3 and 4 have no room for an absent recipient.
            "TYPE_3_TX_CONTRACT_CREATION" | "TYPE_4_TX_CONTRACT_CREATION" => {
                matches!(refusal, Refusal::Decoding(_))
            }
            // alloy holds gas prices in 128 bits, more than there is ether to pay.
            "GASLIMIT_PRICE_PRODUCT_OVERFLOW" => matches!(refusal, Refusal::Decoding(_)),
            "TYPE_3_TX_WITH_FULL_BLOBS" => matches!(rule, Some(Rule::BlobSidecar { .. })),
            // The fields of the header come first: before Cancun it has no blob gas.
            "TYPE_3_TX_PRE_FORK" => matches!(
                rule,
                Some(Rule::UnexpectedField(Field::BlobGasUsed | Field::ExcessBlobGas))
            ),
            _ => false,
        };
    };
    match name {
        "INSUFFICIENT_ACCOUNT_FUNDS" => matches!(tx, Tx::LackOfFundForMaxFee { .. }),
        "GASLIMIT_PRICE_PRODUCT_OVERFLOW" => matches!(tx, Tx::OverflowPaymentInTransaction),
        // Newer tests have one name for both, as the specification has one check.
        "INTRINSIC_GAS_TOO_LOW" => matches!(
            tx,
            Tx::CallGasCostMoreThanGasLimit { .. } | Tx::GasFloorMoreThanGasLimit { .. }
        ),
        "INTRINSIC_GAS_BELOW_FLOOR_GAS_COST" => matches!(tx, Tx::GasFloorMoreThanGasLimit { .. }),
        "SENDER_NOT_EOA" => matches!(tx, Tx::RejectCallerWithCode),
        "GAS_ALLOWANCE_EXCEEDED" => matches!(tx, Tx::CallerGasLimitMoreThanBlock),
        "GAS_LIMIT_EXCEEDS_MAXIMUM" => matches!(tx, Tx::TxGasLimitGreaterThanCap { .. }),
        "NONCE_MISMATCH_TOO_LOW" => matches!(tx, Tx::NonceTooLow { .. }),
        "NONCE_MISMATCH_TOO_HIGH" => matches!(tx, Tx::NonceTooHigh { .. }),
        "NONCE_IS_MAX" => matches!(tx, Tx::NonceOverflowInTransaction),
        "INSUFFICIENT_MAX_FEE_PER_GAS" => matches!(tx, Tx::GasPriceLessThanBasefee),
        "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS" => matches!(tx, Tx::PriorityFeeGreaterThanMaxFee),
        "INITCODE_SIZE_EXCEEDED" => matches!(tx, Tx::CreateInitCodeSizeLimit),
        "INVALID_CHAINID" => matches!(tx, Tx::InvalidChainId),
        "TYPE_1_TX_PRE_FORK" => matches!(tx, Tx::Eip2930NotSupported),
        "TYPE_2_TX_PRE_FORK" => matches!(tx, Tx::Eip1559NotSupported),
        "TYPE_3_TX_PRE_FORK" => matches!(tx, Tx::Eip4844NotSupported),
        "TYPE_4_TX_PRE_FORK" => matches!(tx, Tx::Eip7702NotSupported),
        "TYPE_3_TX_ZERO_BLOBS" => matches!(tx, Tx::EmptyBlobs),
        "TYPE_3_TX_INVALID_BLOB_VERSIONED_HASH" => matches!(tx, Tx::BlobVersionNotSupported),
        "TYPE_3_TX_MAX_BLOB_GAS_ALLOWANCE_EXCEEDED" | "TYPE_3_TX_BLOB_COUNT_EXCEEDED" => {
            matches!(tx, Tx::TooManyBlobs { .. })
        }
        "INSUFFICIENT_MAX_FEE_PER_BLOB_GAS" => matches!(tx, Tx::BlobGasPriceGreaterThanMax { .. }),
        "TYPE_4_EMPTY_AUTHORIZATION_LIST" => matches!(tx, Tx::EmptyAuthorizationList),
        _ => false,
    }
}

fn is_block_exception(name: &str, refusal: &Refusal) -> bool {
    let rule = rule(refusal);
    let validation = validation(refusal);
    let commitment = |kind| matches!(refusal, Refusal::Commitment(check) if check.kind == kind);
    match name {
        "RLP_STRUCTURES_ENCODING" => matches!(refusal, Refusal::Decoding(_)),
        "INVALID_GASLIMIT" => {
            matches!(rule, Some(Rule::GasLimitChange { .. } | Rule::GasLimitBounds(_)))
        }
        "INVALID_BASEFEE_PER_GAS" => matches!(rule, Some(Rule::BaseFee { .. })),
        "INCORRECT_EXCESS_BLOB_GAS" => matches!(rule, Some(Rule::ExcessBlobGas { .. })),
        "INCORRECT_BLOB_GAS_USED" => {
            matches!(rule, Some(Rule::BlobGasUsed { .. } | Rule::BlobGasAboveMaximum { .. }))
        }
        // Fields of another fork: absent ones that should be there, or present ones that should not.
        // Where one is left out in the middle, the next is read in its place and cannot be decoded.
        "INCORRECT_BLOCK_FORMAT" => {
            matches!(rule, Some(Rule::MissingField(_) | Rule::UnexpectedField(_)))
                || matches!(refusal, Refusal::Decoding(_))
                // A list out of order: the block has nothing of it but the hash.
                || commitment(CheckKind::BlockAccessListHash)
        }
        "INVALID_WITHDRAWALS_ROOT" => {
            matches!(rule, Some(Rule::BodyCommitment { field: Field::WithdrawalsRoot, .. }))
        }
        "INVALID_REQUESTS" => commitment(CheckKind::RequestsHash),
        // alloy-evm reads some malformed deposit logs leniently; the header's hash of the requests
        // refuses what comes of it.
        "INVALID_DEPOSIT_EVENT_LAYOUT" => {
            matches!(validation, Some(BlockValidationError::DepositRequestDecode(_)))
                || commitment(CheckKind::RequestsHash)
        }
        "SYSTEM_CONTRACT_CALL_FAILED" | "SYSTEM_CONTRACT_EMPTY" => matches!(
            validation,
            Some(
                BlockValidationError::WithdrawalRequestsContractCall { .. }
                    | BlockValidationError::ConsolidationRequestsContractCall { .. }
            )
        ),
        "RLP_BLOCK_LIMIT_EXCEEDED" => matches!(rule, Some(Rule::BlockTooLarge { .. })),
        "INVALID_GAS_USED" => commitment(CheckKind::GasUsed),
        "GAS_USED_OVERFLOW" => matches!(
            validation,
            Some(BlockValidationError::TransactionGasLimitMoreThanAvailableBlockGas { .. })
        ),
        "INVALID_RECEIPTS_ROOT" => commitment(CheckKind::ReceiptsRoot),
        "INVALID_STATE_ROOT" => commitment(CheckKind::StateRoot),
        "INVALID_BLOCK_ACCESS_LIST" | "INVALID_BAL_HASH" => {
            commitment(CheckKind::BlockAccessListHash)
        }
        "BLOCK_ACCESS_LIST_GAS_LIMIT_EXCEEDED" => commitment(CheckKind::BlockAccessListItems),
        "INVALID_LOG_BLOOM" => commitment(CheckKind::LogsBloom),
        _ => false,
    }
}

const fn rule(refusal: &Refusal) -> Option<&Rule> {
    match refusal {
        Refusal::Rule(rule) => Some(rule),
        _ => None,
    }
}

const fn validation(refusal: &Refusal) -> Option<&BlockValidationError> {
    match refusal {
        Refusal::Execution(ExecutionError::InvalidBlock { cause, .. }) => Some(cause),
        _ => None,
    }
}

fn invalid_transaction(refusal: &Refusal) -> Option<&Tx> {
    match validation(refusal)? {
        BlockValidationError::InvalidTx { error, .. } => error.as_invalid_tx_err(),
        _ => None,
    }
}

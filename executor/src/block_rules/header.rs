//! A header against its parent.

use super::{BlockRuleError, HeaderField};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, constants::MAXIMUM_EXTRA_DATA_SIZE};
use alloy_eips::{
    eip1559::{BaseFeeParams, INITIAL_BASE_FEE, calc_next_block_base_fee},
    eip4844::DATA_GAS_PER_BLOB,
};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks};
use alloy_primitives::{B64, U256};
use multilane_state::ChainSpec;

/// The gas limit changes by less than one part in this many from block to block.
const GAS_LIMIT_BOUND_DIVISOR: u64 = 1024;
/// The lowest gas limit.
const MIN_GAS_LIMIT: u64 = 5000;
/// The highest gas limit (EIP-1985).
const MAX_GAS_LIMIT: u64 = i64::MAX as u64;
/// London doubles the gas limit, so that the target stays (EIP-1559).
const LONDON_ELASTICITY: u64 = 2;
/// What the first blocks of the DAO fork carry (EIP-779), and how many do.
const DAO_EXTRA_DATA: &[u8] = b"dao-hard-fork";
const DAO_EXTRA_DATA_BLOCKS: u64 = 10;

/// Checks a header against its parent by the rules of the header's fork.
///
/// # Errors
///
/// The first broken rule.
pub fn check_header(
    chain: &ChainSpec,
    header: &Header,
    parent: &Header,
) -> Result<(), BlockRuleError> {
    check_lineage(header, parent)?;
    check_gas_limit(chain, header, parent)?;
    check_extra_data(chain, header)?;
    check_fields(chain, header)?;
    check_base_fee(chain, header, parent)?;
    check_merge(chain, header)?;
    check_blob_gas(chain, header, parent)
}

fn check_lineage(header: &Header, parent: &Header) -> Result<(), BlockRuleError> {
    if parent.number.checked_add(1) != Some(header.number) {
        return Err(BlockRuleError::Number { number: header.number, parent: parent.number });
    }
    let parent_hash = parent.hash_slow();
    if header.parent_hash != parent_hash {
        return Err(BlockRuleError::ParentHash { stated: header.parent_hash, actual: parent_hash });
    }
    if header.timestamp <= parent.timestamp {
        return Err(BlockRuleError::Timestamp {
            timestamp: header.timestamp,
            parent: parent.timestamp,
        });
    }
    Ok(())
}

/// Whether London begins with this header.
fn is_london_transition(chain: &ChainSpec, header: &Header, parent: &Header) -> bool {
    chain.is_london_active_at_block(header.number)
        && !chain.is_london_active_at_block(parent.number)
}

fn check_gas_limit(
    chain: &ChainSpec,
    header: &Header,
    parent: &Header,
) -> Result<(), BlockRuleError> {
    let gas_limit = header.gas_limit;
    if !(MIN_GAS_LIMIT..=MAX_GAS_LIMIT).contains(&gas_limit) {
        return Err(BlockRuleError::GasLimitBounds(gas_limit));
    }
    let parent_gas_limit = if is_london_transition(chain, header, parent) {
        parent.gas_limit.saturating_mul(LONDON_ELASTICITY)
    } else {
        parent.gas_limit
    };
    if gas_limit.abs_diff(parent_gas_limit) >= parent_gas_limit / GAS_LIMIT_BOUND_DIVISOR {
        return Err(BlockRuleError::GasLimitChange { gas_limit, parent: parent_gas_limit });
    }
    if header.gas_used > gas_limit {
        return Err(BlockRuleError::GasUsedAboveLimit { gas_used: header.gas_used, gas_limit });
    }
    Ok(())
}

fn check_extra_data(chain: &ChainSpec, header: &Header) -> Result<(), BlockRuleError> {
    if header.extra_data.len() > MAXIMUM_EXTRA_DATA_SIZE {
        return Err(BlockRuleError::ExtraDataTooLong(header.extra_data.len()));
    }
    let dao_fork = chain.ethereum_fork_activation(EthereumHardfork::Dao).block_number();
    let is_marked = dao_fork.is_some_and(|first| {
        header.number.checked_sub(first).is_some_and(|age| age < DAO_EXTRA_DATA_BLOCKS)
    });
    if is_marked && *header.extra_data != *DAO_EXTRA_DATA {
        return Err(BlockRuleError::DaoExtraData);
    }
    Ok(())
}

/// Each optional field is there exactly where the fork has it.
fn check_fields(chain: &ChainSpec, header: &Header) -> Result<(), BlockRuleError> {
    let time = header.timestamp;
    let london = chain.is_london_active_at_block(header.number);
    let shanghai = chain.is_shanghai_active_at_timestamp(time);
    let cancun = chain.is_cancun_active_at_timestamp(time);
    let prague = chain.is_prague_active_at_timestamp(time);
    let amsterdam = chain.is_amsterdam_active_at_timestamp(time);
    for (field, exists, present) in [
        (HeaderField::BaseFee, london, header.base_fee_per_gas.is_some()),
        (HeaderField::WithdrawalsRoot, shanghai, header.withdrawals_root.is_some()),
        (HeaderField::BlobGasUsed, cancun, header.blob_gas_used.is_some()),
        (HeaderField::ExcessBlobGas, cancun, header.excess_blob_gas.is_some()),
        (HeaderField::ParentBeaconBlockRoot, cancun, header.parent_beacon_block_root.is_some()),
        (HeaderField::RequestsHash, prague, header.requests_hash.is_some()),
        (HeaderField::BlockAccessListHash, amsterdam, header.block_access_list_hash.is_some()),
        (HeaderField::SlotNumber, amsterdam, header.slot_number.is_some()),
    ] {
        match (exists, present) {
            (true, false) => return Err(BlockRuleError::MissingField(field)),
            (false, true) => return Err(BlockRuleError::UnexpectedField(field)),
            (true, true) | (false, false) => {}
        }
    }
    Ok(())
}

fn check_base_fee(
    chain: &ChainSpec,
    header: &Header,
    parent: &Header,
) -> Result<(), BlockRuleError> {
    let Some(stated) = header.base_fee_per_gas else { return Ok(()) };
    let expected = if is_london_transition(chain, header, parent) {
        INITIAL_BASE_FEE
    } else {
        let base_fee =
            parent.base_fee_per_gas.ok_or(BlockRuleError::InvalidParent("it has no base fee"))?;
        // Bounds under which the next base fee, at most 9/8 of this one, is a u64.
        if parent.gas_used > parent.gas_limit {
            return Err(BlockRuleError::InvalidParent("it uses more gas than its limit"));
        }
        if base_fee > u64::MAX / 2 {
            return Err(BlockRuleError::InvalidParent("its base fee is out of bounds"));
        }
        let params = BaseFeeParams::ethereum();
        calc_next_block_base_fee(parent.gas_used, parent.gas_limit, base_fee, params)
    };
    if stated == expected { Ok(()) } else { Err(BlockRuleError::BaseFee { stated, expected }) }
}

/// EIP-3675: what proof of stake does not use is constant.
fn check_merge(chain: &ChainSpec, header: &Header) -> Result<(), BlockRuleError> {
    if !chain.is_paris_active_at_block(header.number) {
        // Whether the difficulty is the right one is a rule of proof of work.
        let is_zero = header.difficulty == U256::ZERO;
        return if is_zero { Err(BlockRuleError::ZeroDifficulty) } else { Ok(()) };
    }
    for (field, frozen) in [
        (HeaderField::Difficulty, header.difficulty == U256::ZERO),
        (HeaderField::Nonce, header.nonce == B64::ZERO),
        (HeaderField::OmmersHash, header.ommers_hash == EMPTY_OMMER_ROOT_HASH),
    ] {
        if !frozen {
            return Err(BlockRuleError::NotProofOfStake(field));
        }
    }
    Ok(())
}

fn check_blob_gas(
    chain: &ChainSpec,
    header: &Header,
    parent: &Header,
) -> Result<(), BlockRuleError> {
    let (Some(blob_gas_used), Some(stated)) = (header.blob_gas_used, header.excess_blob_gas) else {
        return Ok(());
    };
    // The schedule of the block itself holds, also in its first block (EIP-7892).
    let Some(params) = chain.blob_params(header.timestamp) else { return Ok(()) };

    // The first Cancun block has a parent without blob fields: both count as zero (EIP-4844).
    let parent_excess = parent.excess_blob_gas.unwrap_or_default();
    let parent_used = parent.blob_gas_used.unwrap_or_default();
    // Far above what any schedule allows, and low enough for the products in the computation.
    if parent_excess > u64::MAX / 2 || parent_used > u64::from(u32::MAX) * DATA_GAS_PER_BLOB {
        return Err(BlockRuleError::InvalidParent("its blob gas is out of bounds"));
    }
    let expected = params.next_block_excess_blob_gas_osaka(
        parent_excess,
        parent_used,
        parent.base_fee_per_gas.unwrap_or_default(),
    );
    if stated != expected {
        return Err(BlockRuleError::ExcessBlobGas { stated, expected });
    }
    let maximum = params.max_blob_gas_per_block();
    if blob_gas_used > maximum {
        return Err(BlockRuleError::BlobGasAboveMaximum { blob_gas_used, maximum });
    }
    Ok(())
}

//! Amsterdam as the devnet of the tests had it.
//!
//! A fork that is still being drafted changes from one devnet to the next. revm 43 and alloy-evm
//! 0.39 have a later draft than the tests: what can be set is set to the earlier one here, and what
//! cannot is in `drafts`.

use alloy_consensus::Header;
use alloy_eips::eip7928::BlockAccessList;
use alloy_evm::block::{
    BUILDER_DEPOSIT_REQUEST_PREDEPLOY_ADDRESS, BUILDER_EXIT_REQUEST_PREDEPLOY_ADDRESS,
};
use revm::{
    context::CfgEnv,
    context_interface::cfg::{GasId, GasParams},
    primitives::hardfork::SpecId,
};

/// The gas that a byte of state costs keeps its growth near this, in bytes a year (EIP-8037).
const STATE_GROWTH_A_YEAR: u128 = 100 << 30;
const BLOCKS_A_YEAR: u128 = 2_628_000;
/// The cost is rounded down to so many binary digits, after this has been added.
const DIGITS: u32 = 5;
const OFFSET: u128 = 9_578;
const SLOT_BYTES: u64 = 32;
const ACCOUNT_BYTES: u64 = 112;
const DELEGATION_BYTES: u64 = 23;

/// What an authorization costs besides the state that it adds (EIP-7702).
const AUTHORIZATION: u64 = 7_500;
/// Largest code, in bytes (EIP-7954). The code that makes it may be twice as large.
const CODE_MAX: usize = 0x8000;

/// Gas for each byte that is added to the state (EIP-8037), in a block with this gas limit.
fn state_byte(gas_limit: u64) -> u64 {
    let exact = (u128::from(gas_limit) * BLOCKS_A_YEAR).div_ceil(2 * STATE_GROWTH_A_YEAR) + OFFSET;
    let shift = (u128::BITS - exact.leading_zeros()).saturating_sub(DIGITS);
    let rounded = (exact >> shift << shift).saturating_sub(OFFSET).max(1);
    u64::try_from(rounded).unwrap_or(u64::MAX)
}

/// Gas as the devnet had it: EIP-8037 with other constants, neither EIP-2780 nor EIP-8038.
pub(crate) fn rules(header: &Header, cfg: &mut CfgEnv<SpecId>) {
    if !cfg.spec.is_enabled_in(SpecId::AMSTERDAM) {
        return;
    }
    let state_byte = state_byte(header.gas_limit);
    cfg.enable_amsterdam_eip2780 = false;
    cfg.limit_contract_code_size = Some(CODE_MAX);
    let amsterdam = GasParams::new_spec(SpecId::AMSTERDAM);
    let mut gas = GasParams::new_spec(SpecId::OSAKA);
    let kept = [
        GasId::code_deposit_cost(),
        GasId::new_account_cost(),
        GasId::tx_floor_cost_per_token(),
        GasId::tx_floor_token_zero_byte_multiplier(),
        GasId::tx_access_list_floor_byte_multiplier(),
    ];
    gas.override_gas(kept.map(|id| (id, amsterdam.get(id))));
    // EIP-7981: 64 gas for each byte of an access list, on top of what an item costs.
    let items = [GasId::tx_access_list_address_cost(), GasId::tx_access_list_storage_key_cost()];
    let [address, key] = items.map(|id| gas.get(id));
    // What an existing slot costs to change: the price of a new one is that of its bytes.
    let change = gas.get(GasId::sstore_reset_without_cold_load_cost());
    gas.override_gas([
        (items[0], address + 20 * 64),
        (items[1], key + 32 * 64),
        (GasId::create(), 9_000),
        (GasId::tx_create_cost(), 9_000),
        (GasId::new_account_cost_for_selfdestruct(), 0),
        (GasId::sstore_set_without_load_cost(), change),
        (GasId::sstore_set_refund(), change),
        (GasId::sstore_set_state_gas(), SLOT_BYTES * state_byte),
        (GasId::new_account_state_gas(), ACCOUNT_BYTES * state_byte),
        (GasId::create_state_gas(), ACCOUNT_BYTES * state_byte),
        (GasId::code_deposit_state_gas(), state_byte),
        (GasId::tx_eip7702_regular_gas(), AUTHORIZATION),
        (GasId::tx_eip7702_regular_refund(), 0),
        (GasId::tx_eip7702_state_gas_bytecode(), DELEGATION_BYTES * state_byte),
    ]);
    cfg.gas_params = gas;
}

/// Takes the accounts away that only the later draft calls at the end of each block (EIP-8282).
/// They do not exist here, so nothing but the access shows.
pub(crate) fn without_later_calls(list: &mut BlockAccessList) {
    let later = [BUILDER_DEPOSIT_REQUEST_PREDEPLOY_ADDRESS, BUILDER_EXIT_REQUEST_PREDEPLOY_ADDRESS];
    list.retain(|account| account.has_changes() || !later.contains(&account.address));
}

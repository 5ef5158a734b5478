//! Tests that revm 43 and alloy-evm 0.39 do not pass, each with its cause.
//!
//! The runner demands of each of them that it fails, and that the oracle alone fails in the same
//! words: the cause is then below this crate. A limitation that is lifted shows as a failure here.

/// Tests that fail, by what their names contain, and why they do.
#[derive(Debug)]
pub(crate) struct Limitation {
    /// All of these are in the name.
    name_parts: &'static [&'static str],
    pub(crate) cause: &'static str,
}

/// EIP-7610: creation over an account that has storage, but neither code nor nonce, must fail.
/// revm asks for code and nonce alone. No such account can come into being on mainnet any more.
pub(crate) const STORAGE_COLLISION: &str = "revm creates over accounts with storage (EIP-7610)";
/// EIP-7002 and EIP-7251 make a block invalid if the system contract has no code, or fails.
pub(crate) const EMPTY_SYSTEM_CONTRACT: &str = "alloy-evm accepts system contracts without code";
pub(crate) const SYSTEM_CALL_GAS: &str = "alloy-evm accepts system calls that run out of gas";

const LIMITATIONS: &[Limitation] = &[
    Limitation {
        name_parts: &["test_initcollision.py", "non-empty-balance-correct-initcode"],
        cause: STORAGE_COLLISION,
    },
    Limitation {
        name_parts: &["test_initcollision.py", "non-empty-balance-revert-initcode"],
        cause: STORAGE_COLLISION,
    },
    Limitation { name_parts: &["::RevertInCreateInInitCreate2Paris["], cause: STORAGE_COLLISION },
    Limitation { name_parts: &["::create2collisionStorageParis["], cause: STORAGE_COLLISION },
    Limitation { name_parts: &["::dynamicAccountOverwriteEmpty_Paris["], cause: STORAGE_COLLISION },
    Limitation {
        name_parts: &["eip7002", "test_system_contract_deployment[", "deploy_after_fork"],
        cause: EMPTY_SYSTEM_CONTRACT,
    },
    Limitation {
        name_parts: &["eip7251", "test_system_contract_deployment[", "deploy_after_fork"],
        cause: EMPTY_SYSTEM_CONTRACT,
    },
    Limitation {
        name_parts: &["test_system_contract_errors[", "system_contract_out_of_gas"],
        cause: SYSTEM_CALL_GAS,
    },
];

/// The limitation that a test is known to run into.
pub(crate) fn limitation_of(name: &str) -> Option<&'static Limitation> {
    LIMITATIONS
        .iter()
        .find(|limitation| limitation.name_parts.iter().all(|name_part| name.contains(name_part)))
}

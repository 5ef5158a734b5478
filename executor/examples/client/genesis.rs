//! The genesis file: the rules of the chain, and the state before its first block.

use alloy_genesis::Genesis;
use anyhow::Context;
use multilane::state::{ChainSpec, analyse_code};
use revm::{
    database::BundleState,
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};
use std::{fs, path::Path};

/// What a genesis file says.
#[derive(Debug)]
pub(crate) struct GenesisFile {
    /// The chain's rules.
    pub(crate) chain: ChainSpec,
    /// The allocated accounts, as changes of an empty state.
    pub(crate) state: BundleState,
}

impl GenesisFile {
    /// Reads a file in geth's form.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).context("reading it")?;
        let genesis: Genesis = serde_json::from_slice(&text).context("it is not a genesis")?;
        let chain = ChainSpec::from_config(&genesis.config)?;
        let mut state = BundleState::builder(0..=0);
        for (address, account) in genesis.alloc {
            let code = account.code.filter(|code| !code.is_empty()).map(analyse_code);
            let code_hash = code.as_ref().map_or(KECCAK_EMPTY, Bytecode::hash_slow);
            let info = AccountInfo {
                balance: account.balance,
                nonce: account.nonce.unwrap_or_default(),
                code_hash,
                code: None,
                account_id: None,
            };
            state = state.state_present_account_info(address, info);
            if let Some(code) = code {
                state = state.contract(code_hash, code);
            }
            let slots = account.storage.into_iter().flatten();
            let slots =
                slots.map(|(slot, value)| (slot.into(), (Default::default(), value.into())));
            state = state.state_storage(address, slots.collect());
        }
        Ok(Self { chain, state: state.build() })
    }
}

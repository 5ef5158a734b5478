//! The state before a block, read from the node while the block executes, and recorded.
//!
//! What is recorded is exactly what sequential execution reads: provably enough to execute the
//! block again.

use super::{
    archive::CodeStore,
    node::{Node, NodeError},
    prestate::RecordedPrestate,
    trace::TracedState,
};
use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256, map::B256Map};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use revm::{
    Database,
    state::{AccountInfo, Bytecode},
};
use std::{cell::Cell, rc::Rc};
use tokio::runtime::Handle;

/// A database over a node's state after block `parent`.
///
/// Blocks the thread on each request, so it must not be used on a thread of the async runtime.
#[derive(Debug)]
pub(super) struct ParentState<'a> {
    node: &'a Node,
    runtime: Handle,
    parent: u64,
    /// Before EIP-161 an empty account may exist, which changes what touching it costs.
    empty_may_exist: bool,
    traced: TracedState,
    /// Index of the transaction that reads.
    reader: Rc<Cell<usize>>,
    known_codes: &'a CodeStore,
    /// Codes that the trace brought, by hash.
    traced_codes: B256Map<Bytes>,
    /// An account for each code hash seen.
    code_owners: B256Map<Address>,
    record: RecordedPrestate,
}

impl<'a> ParentState<'a> {
    /// The state after block `parent`. Nothing is asked of the node until it is read.
    pub(super) fn new(
        node: &'a Node,
        runtime: Handle,
        known_codes: &'a CodeStore,
        parent: u64,
        empty_may_exist: bool,
        traced: TracedState,
    ) -> Self {
        Self {
            node,
            runtime,
            parent,
            empty_may_exist,
            traced,
            reader: Rc::default(),
            known_codes,
            traced_codes: B256Map::default(),
            code_owners: B256Map::default(),
            record: RecordedPrestate::default(),
        }
    }

    /// Where execution notes which transaction is about to run.
    pub(super) fn reader(&self) -> Rc<Cell<usize>> {
        self.reader.clone()
    }

    /// Everything that was read.
    pub(super) fn into_record(self) -> RecordedPrestate {
        self.record
    }

    /// An account as the trace or the node states it; `None` if it does not exist.
    fn load(&mut self, address: Address) -> Result<Option<AccountInfo>, NodeError> {
        let reader = self.reader.get();
        // The trace does not tell an empty account from one that does not exist.
        if !self.empty_may_exist
            && let Some(found) = self.traced.account(address)
            && let Some(account) = found.for_reader(reader)
        {
            let code_hash = keccak256(&account.code);
            let info = info(account.balance, account.nonce, code_hash);
            self.traced_codes.entry(code_hash).or_insert_with(|| account.code.clone());
            return Ok((!info.is_empty()).then_some(info));
        }
        let proof = match self.runtime.block_on(self.node.proof(address, self.parent)) {
            Ok(proof) => proof,
            // Some nodes give no proofs, or only of recent blocks, and yet have the state.
            Err(error) if !error.is_fatal() && !self.empty_may_exist => {
                return self.load_in_parts(address);
            }
            Err(error) => return Err(error),
        };
        // Nodes differ in what they call the code hash of an account that does not exist.
        let code_hash = if proof.code_hash.is_zero() { KECCAK256_EMPTY } else { proof.code_hash };
        let info = info(proof.balance, proof.nonce, code_hash);
        let exists = !info.is_empty()
            || self.empty_may_exist
                && proof.account_proof.first().is_some_and(|root| {
                    let leaf = TrieAccount {
                        nonce: proof.nonce,
                        balance: proof.balance,
                        storage_root: proof.storage_hash,
                        code_hash,
                    };
                    verify_proof(
                        keccak256(root),
                        Nibbles::unpack(keccak256(address)),
                        Some(alloy::rlp::encode(leaf)),
                        &proof.account_proof,
                    )
                    .is_ok()
                });
        Ok(exists.then_some(info))
    }

    /// An account from the methods that every node has.
    fn load_in_parts(&mut self, address: Address) -> Result<Option<AccountInfo>, NodeError> {
        let (node, parent) = (self.node, self.parent);
        let (balance, nonce, code) = self.runtime.block_on(async {
            tokio::try_join!(
                node.balance(address, parent),
                node.nonce(address, parent),
                node.code(address, parent)
            )
        })?;
        let code_hash = keccak256(&code);
        self.traced_codes.insert(code_hash, code);
        let info = info(balance, nonce, code_hash);
        Ok((!info.is_empty()).then_some(info))
    }
}

fn info(balance: U256, nonce: u64, code_hash: B256) -> AccountInfo {
    let code = (code_hash == KECCAK256_EMPTY).then(Bytecode::default);
    AccountInfo { balance, nonce, code_hash, account_id: None, code }
}

impl Database for ParentState<'_> {
    type Error = NodeError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, NodeError> {
        if let Some(known) = self.record.account(address) {
            return Ok(known);
        }
        let loaded = self.load(address)?;
        if let Some(info) = &loaded {
            self.code_owners.entry(info.code_hash).or_insert(address);
        }
        self.record.note_account(address, loaded.as_ref());
        Ok(loaded)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, NodeError> {
        if code_hash == KECCAK256_EMPTY {
            return Ok(Bytecode::default());
        }
        let known =
            self.traced_codes.get(&code_hash).cloned().or_else(|| self.known_codes.get(code_hash));
        let code = match (known, self.code_owners.get(&code_hash)) {
            (Some(code), _) => code,
            (None, Some(owner)) => self.runtime.block_on(self.node.code(*owner, self.parent))?,
            (None, None) => Bytes::new(),
        };
        let actual = keccak256(&code);
        if actual != code_hash {
            let cause = format!("the code whose hash is {code_hash} has hash {actual}");
            return Err(self.node.malformed("eth_getCode", cause));
        }
        let bytecode = Bytecode::new_raw_checked(code.clone())
            .map_err(|cause| self.node.malformed("eth_getCode", format!("{code_hash}: {cause}")))?;
        self.record.note_code(code_hash, code);
        Ok(bytecode)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, NodeError> {
        // A slot is recorded with its account.
        if self.basic(address)?.is_none() {
            return Ok(U256::ZERO);
        }
        if let Some(known) = self.record.slot(address, slot) {
            return Ok(known);
        }
        let traced = self.traced.slot(address, slot);
        let value = match traced.and_then(|found| found.for_reader(self.reader.get())) {
            Some(value) => *value,
            None => self.runtime.block_on(self.node.storage(address, slot, self.parent))?,
        };
        self.record.note_slot(address, slot, value);
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, NodeError> {
        let hash = self.runtime.block_on(self.node.block_hash(number))?;
        self.record.note_block_hash(number, hash);
        Ok(hash)
    }
}

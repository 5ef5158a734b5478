//! Which program runs where: found out once in a block, then looked up without copying.
//!
//! *Must not know*: what programs do.

use super::{
    pool::Reusable,
    profile::{Resolved, Templates},
};
use alloy_primitives::{
    Address, B256,
    map::{AddressMap, B256Map, HashMap},
};
use revm::state::Bytecode;
use std::sync::Arc;

/// A code, by its place in a [`Resolver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CodeId(u32);

/// A code that was come upon.
#[derive(Debug)]
struct Code {
    hash: B256,
    code: Bytecode,
}

/// A function of a code, by its selector.
type Function = (CodeId, Option<[u8; 4]>);

/// Codes by address, and programs by code and selector, as far as they have been asked for.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    ids: AddressMap<Option<CodeId>>,
    ids_by_hash: B256Map<CodeId>,
    codes: Vec<Code>,
    programs: HashMap<Function, Option<Arc<Resolved>>>,
    /// The generation of templates that the programs are of.
    generation: u64,
}

impl Reusable for Resolver {
    fn reset(&mut self) {
        self.ids.clear();
        self.ids_by_hash.clear();
        self.codes.clear();
        self.programs.clear();
    }
}

impl Resolver {
    /// Forgets programs that were found before a template changed.
    pub(super) fn keep_up_with(&mut self, templates: &Templates) {
        let generation = templates.generation();
        if self.generation != generation {
            self.generation = generation;
            self.programs.clear();
        }
    }

    /// The code that runs when an account is called, if any does. `load` gives it with its hash.
    pub(super) fn code(
        &mut self,
        address: Address,
        load: impl FnOnce() -> Option<(B256, Bytecode)>,
    ) -> Option<CodeId> {
        if let Some(known) = self.ids.get(&address) {
            return *known;
        }
        let id = load().and_then(|(hash, code)| match self.ids_by_hash.get(&hash) {
            Some(known) => Some(*known),
            None => self.add(hash, code),
        });
        self.ids.insert(address, id);
        id
    }

    /// Takes a code in. `None` if there are too many.
    pub(super) fn add(&mut self, hash: B256, code: Bytecode) -> Option<CodeId> {
        let id = CodeId(u32::try_from(self.codes.len()).ok()?);
        self.codes.push(Code { hash, code });
        self.ids_by_hash.insert(hash, id);
        Some(id)
    }

    /// A code.
    pub(super) fn bytecode(&self, id: CodeId) -> &Bytecode {
        &self.codes[id.0 as usize].code
    }

    /// The program of a code's function, if there is one.
    pub(super) fn program(
        &mut self,
        templates: &Templates,
        id: CodeId,
        selector: Option<[u8; 4]>,
    ) -> Option<Arc<Resolved>> {
        let Code { hash, code } = &self.codes[id.0 as usize];
        let resolve = || {
            let key = templates.key(*hash, code, selector)?;
            templates.resolve(&key).map(Arc::new)
        };
        self.programs.entry((id, selector)).or_insert_with(resolve).clone()
    }
}

//! Which program runs where: found out once, then looked up without copying.
//!
//! Codes are known for a block, as accounts get others. Programs are kept from block to block: to find
//! one among all templates takes several looks at memory that nobody has looked at lately, to see
//! that it is still [current](Resolved::is_current) takes one.
//!
//! *Must not know*: what programs do.

use super::{
    pool::Reusable,
    profile::{Resolved, Templates},
};
use alloy_primitives::{
    Address, B256,
    map::{AddressMap, HashMap},
};
use core::hash::{Hash, Hasher};
use revm::state::Bytecode;
use std::sync::Arc;

/// Programs that are kept for the next block: some ten times as many as a large one calls.
const PROGRAMS_MAX: usize = 1 << 12;

/// A code, by its place in a [`Resolver`].
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeId(u32);

/// A code that was come upon.
#[derive(Debug)]
struct Code {
    hash: B256,
    code: Bytecode,
}

/// A function of a code.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    code_hash: B256,
    selector: Option<[u8; 4]>,
}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The start of a hash is as good as all of it.
        let (start, _) = self.code_hash.split_first_chunk().expect("a hash has 32 bytes");
        state.write_u64(u64::from_ne_bytes(*start));
        state.write_u32(self.selector.map_or(0, u32::from_ne_bytes));
    }
}

/// What is known of a function.
#[derive(Debug)]
enum Known {
    /// Its program, as long as that is current.
    Program(Arc<Resolved>),
    /// That there is none in this generation of templates.
    Nothing { generation: u64 },
}

/// Codes by address, and programs by code and selector, as far as they have been asked for.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    ids: AddressMap<Option<CodeId>>,
    codes: Vec<Code>,
    programs: HashMap<Function, Known>,
    /// When programs are asked for, by the clock of templates.
    time: u64,
}

impl Reusable for Resolver {
    fn reset(&mut self) {
        self.ids.clear();
        self.codes.clear();
        if self.programs.len() > PROGRAMS_MAX {
            self.programs.clear();
        }
    }
}

impl Resolver {
    /// Says by the clock of templates when programs are asked for from now on.
    pub(super) const fn set_time(&mut self, time: u64) {
        self.time = time;
    }

    /// When programs are asked for.
    pub(super) const fn time(&self) -> u64 {
        self.time
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
        let id = load().and_then(|(hash, code)| self.add(hash, code));
        self.ids.insert(address, id);
        id
    }

    /// Takes a code in. `None` if there are too many.
    pub(super) fn add(&mut self, hash: B256, code: Bytecode) -> Option<CodeId> {
        let id = CodeId(u32::try_from(self.codes.len()).ok()?);
        self.codes.push(Code { hash, code });
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
        let function = Function { code_hash: *hash, selector };
        let resolved = match self.programs.get(&function) {
            Some(Known::Program(resolved)) if resolved.is_current() => Arc::clone(resolved),
            Some(Known::Nothing { generation }) if *generation == templates.generation() => {
                return None;
            }
            Some(_) | None => {
                // Read first: what comes to be known from here on is looked for again.
                let generation = templates.generation();
                let key = templates.key(*hash, code, selector);
                let resolved = key.and_then(|key| templates.resolve(&key)).map(Arc::new);
                let known = resolved.clone().map_or(Known::Nothing { generation }, Known::Program);
                self.programs.insert(function, known);
                resolved?
            }
        };
        resolved.standing.note_use(self.time);
        Some(resolved)
    }
}

//! Programs: templates in the form in which they are evaluated.
//!
//! A [`Program`] is one list of [`Step`]s, each of which computes one register from earlier ones.
//! Equal expressions are one register, however many locations depend on it. What the function does
//! is a list of [`Action`]s; a register is computed when an action, or an inner call, asks for it.
//! Made once for each template by [`compile`](super::compile), and shared.
//!
//! *Must not know*: values, state, or how templates are learned.

use super::{
    access::AccessKind, ahead::read, expression::Environment, majority::Majority, ways::Ways,
};
use alloy_primitives::U256;
use std::ops::Range;

/// A value: that of a register, or a constant of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operand(u16);

/// The bit that tells a constant from a register.
const CONSTANT: u16 = 1 << 15;

impl Operand {
    pub(super) const fn register(at: u16) -> Self {
        Self(at & !CONSTANT)
    }

    pub(super) const fn constant(at: u16) -> Self {
        Self(at | CONSTANT)
    }

    /// Where the value is: the position of a register, or else of a constant.
    #[inline]
    pub(super) const fn place(self) -> Result<usize, usize> {
        let at = (self.0 & !CONSTANT) as usize;
        if self.0 & CONSTANT == 0 { Ok(at) } else { Err(at) }
    }
}

/// A part of one of a program's lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Part {
    #[inline]
    pub(super) const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// How a register is computed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A fact about the call or the block.
    Environment(Environment),
    /// The operand of the PUSH at a position of the code.
    Immutable(u32),
    /// The 32 bytes of calldata at an offset.
    CalldataWord(Operand),
    /// What the called account holds in a slot.
    Load(Operand),
    /// An arithmetic instruction.
    Apply(u8, [Operand; 3]),
    /// keccak-256 of one word.
    HashWord(Operand),
    /// keccak-256 of two words: a mapping's slot.
    HashPair([Operand; 2]),
    /// keccak-256 of pieces.
    Hash(Part),
    /// The first word of pieces.
    Bytes(Part),
    /// 32 bytes that a call returned, at an offset.
    ReturnWord(u16, u32),
    /// Nothing that is ever known.
    Unknown,
}

/// A run of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// Constant bytes.
    Constant(Part),
    /// Bytes of a word: from a position, so many.
    Word(Operand, u8, u8),
    /// Calldata from an offset, so many bytes.
    Calldata(Operand, Operand),
    /// Bytes that a call returned: from a position, so many.
    Return(u16, u32, u32),
    /// So many bytes of which nothing is known.
    Opaque(u32),
}

/// A call of another account.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallStep {
    /// CALL, CALLCODE, DELEGATECALL or STATICCALL.
    pub(super) instruction: u8,
    pub(super) to: Operand,
    pub(super) value: Option<Operand>,
    /// The pieces of the calldata.
    pub(super) input: Part,
}

/// A write of a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteStep {
    pub(super) slot: Operand,
    /// The number of the note on which the access to the slot is remembered.
    pub(super) note: Option<u16>,
    /// What is stored, if that is known.
    pub(super) value: Option<Operand>,
    /// What that makes of the value before.
    pub(super) kind: AccessKind,
}

/// What an action does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// Accesses a slot of the called account. The number is that of the note on which the access is
    /// remembered for the write of the same slot.
    Slot(Operand, Option<u16>),
    /// Writes a slot of the called account.
    Write(WriteStep),
    /// Looks at an account.
    Account(Operand),
    /// Makes a call, by its number.
    Call(u16),
    /// Returns pieces.
    Output(Part),
}

/// When something is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    Always,
    /// If these literals hold.
    Literals(Part),
    /// If the samples that are most alike did it; by the site's bit.
    Neighbours,
}

/// Something that the function does, always or sometimes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action {
    pub(super) condition: Condition,
    /// Whether most samples did it.
    pub(super) usually: bool,
    /// The site of the template, by position.
    pub(super) site: u8,
    pub(super) deed: Deed,
}

/// A guard and whether it has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) guard: u8,
    pub(super) holds: bool,
}

/// A template, ready to be evaluated.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) constants: Vec<U256>,
    pub(super) steps: Vec<Step>,
    pub(super) pieces: Vec<Piece>,
    pub(super) bytes: Vec<u8>,
    pub(super) calls: Vec<CallStep>,
    pub(super) actions: Vec<Action>,
    pub(super) literals: Vec<Literal>,
    /// By the guard's number.
    pub(super) guards: Vec<Option<Operand>>,
    /// Notes that actions share.
    pub(super) notes: u16,
    /// What the samples did, for what nothing simple decides.
    pub(super) majority: Majority,
    /// The ways that samples have gone.
    pub(super) ways: Ways,
}

impl Program {
    /// Reads all of the program [ahead](super::ahead) of its use.
    pub(super) fn read_ahead(&self) {
        read(&self.actions);
        read(&self.steps);
        read(&self.literals);
        read(&self.guards);
        read(&self.calls);
        read(&self.pieces);
        read(&self.constants);
        read(&self.bytes);
        self.majority.read_ahead();
        self.ways.read_ahead();
    }

    /// What is done at a site.
    pub(super) fn action_at(&self, site: u8) -> Option<&Action> {
        self.actions.iter().find(|action| action.site == site)
    }
}

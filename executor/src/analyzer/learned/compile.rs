//! From a template to a program.
//!
//! Takes over what the template's sites and guards depend on, in the order of the arena, which is
//! one in which operands come first; all else in the arena is left behind.
//!
//! *Must not know*: values, or how a program is evaluated.

use super::{
    expression::{Call, Length, Node, NodeId, Segment, arity, for_each_operand},
    majority::Majority,
    program::{
        Action, CallStep, Condition, Deed, Literal, Operand, Part, Piece, Program, Step, WriteStep,
    },
    template::{Basis, Site, SiteKind, Template},
    ways::Ways,
};
use alloy_primitives::U256;

/// Registers, and constants, of a program.
const REGISTERS_MAX: usize = 4096;
/// What of a template is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything that a prediction needs.
    Prediction,
    /// The guards, all of them.
    Guards,
}

/// The program of a template. `None` if it would be too large to be worth evaluating.
pub(super) fn compile(template: &Template, scope: Scope) -> Option<Program> {
    let majority = match scope {
        Scope::Prediction => template.majority(),
        Scope::Guards => Majority::default(),
    };
    let ways = if scope == Scope::Prediction { template.ways() } else { Ways::default() };
    let mut used_guards = majority.asked() | ways.asked();
    let sites = if scope == Scope::Prediction { template.sites() } else { &[] };
    for site in sites {
        if let Basis::Guards(literals) = &site.rule.basis {
            used_guards |= literals.iter().fold(0, |used, (guard, _)| used | 1 << guard);
        }
    }
    if scope == Scope::Guards {
        used_guards = u128::MAX;
    }
    let guards: Vec<Option<NodeId>> = (template.guards().iter().enumerate())
        .map(|(at, guard)| (used_guards >> at & 1 == 1).then_some(*guard))
        .collect();
    let roots = sites.iter().flat_map(|site| [Some(site.node), site.value]);
    let roots: Vec<NodeId> = roots.chain(guards.iter().copied()).flatten().collect();
    let mut compiler = Compiler::new(template);
    compiler.translate(&roots)?;
    let guards = guards.iter().map(|guard| guard.and_then(|guard| compiler.operand(guard)));
    compiler.program.guards = guards.collect();
    compiler.actions(sites)?;
    Some(Program { majority, ways, ..compiler.program })
}

/// A program in the making.
struct Compiler<'t> {
    template: &'t Template,
    /// Where each node's value will be. That of a call is never known.
    operands: Vec<Option<Operand>>,
    /// The number of the call that a node is.
    calls: Vec<Option<u16>>,
    program: Program,
}

impl<'t> Compiler<'t> {
    fn new(template: &'t Template) -> Self {
        let nodes = template.nodes();
        Self {
            template,
            operands: vec![None; nodes],
            calls: vec![None; nodes],
            program: Program::default(),
        }
    }

    /// Makes registers and constants of everything that the roots depend on.
    fn translate(&mut self, roots: &[NodeId]) -> Option<()> {
        let template = self.template;
        let mut is_needed = vec![false; template.nodes()];
        for root in roots {
            is_needed[root.get()] = true;
        }
        // Operands come before what they are operands of.
        for at in (0..is_needed.len()).rev() {
            if is_needed[at] {
                for_each_operand(template.node(NodeId::at(at)), |id| is_needed[id.get()] = true);
            }
        }
        for at in (0..is_needed.len()).filter(|at| is_needed[*at]) {
            let id = NodeId::at(at);
            self.operands[at] = Some(match template.node(id) {
                // The arena has each of them once.
                Node::Constant(value) => self.new_constant(*value)?,
                node => {
                    let step = self.step(id, node)?;
                    self.register(step)?
                }
            });
        }
        Some(())
    }

    fn constant(&mut self, value: U256) -> Option<Operand> {
        match self.program.constants.iter().position(|known| *known == value) {
            Some(at) => Some(Operand::constant(at as u16)),
            None => self.new_constant(value),
        }
    }

    fn new_constant(&mut self, value: U256) -> Option<Operand> {
        let at = self.program.constants.len();
        self.program.constants.push(value);
        (at < REGISTERS_MAX).then(|| Operand::constant(at as u16))
    }

    fn register(&mut self, step: Step) -> Option<Operand> {
        let at = self.program.steps.len();
        self.program.steps.push(step);
        (at < REGISTERS_MAX).then(|| Operand::register(at as u16))
    }

    /// Where a node's value will be. Nodes are translated in the order of the arena, so it has been
    /// settled.
    fn operand(&self, id: NodeId) -> Option<Operand> {
        self.operands[id.get()]
    }

    fn step(&mut self, id: NodeId, node: &Node) -> Option<Step> {
        Some(match node {
            // Constants have no step.
            Node::Constant(_) => Step::Unknown,
            Node::Environment(fact) => Step::Environment(*fact),
            Node::Immutable(position) => Step::Immutable(*position),
            Node::CalldataWord(offset) => Step::CalldataWord(self.operand(*offset)?),
            Node::Load(slot) => Step::Load(self.operand(*slot)?),
            Node::Apply(instruction, operands) => {
                let mut values = [self.operand(operands[0])?; 3];
                for (value, operand) in values.iter_mut().zip(&operands[..arity(*instruction)]) {
                    *value = self.operand(*operand)?;
                }
                Step::Apply(*instruction, values)
            }
            Node::Keccak(segments) => match self.words(segments)?[..] {
                // What is hashed most does not have to be put together.
                [word] => Step::HashWord(word),
                [first, second] => Step::HashPair([first, second]),
                _ => Step::Hash(self.pieces(segments)?),
            },
            Node::Bytes(segments) => Step::Bytes(self.pieces(segments)?),
            Node::Call(call) => {
                self.call(id, call)?;
                Step::Unknown
            }
            Node::ReturnWord(call, offset) => match self.calls[call.get()] {
                Some(call) => Step::ReturnWord(call, *offset),
                None => Step::Unknown,
            },
        })
    }

    /// The words that segments consist of; none if there is anything else among them.
    fn words(&mut self, segments: &[Segment]) -> Option<Vec<Operand>> {
        let mut words = Vec::new();
        for segment in segments {
            match segment {
                Segment::Word(id, 0, 32) => words.push(self.operand(*id)?),
                Segment::Constant(bytes) if bytes.len() % 32 == 0 => {
                    for word in bytes.chunks_exact(32).take(3) {
                        words.push(self.constant(U256::from_be_slice(word))?);
                    }
                }
                _ => return Some(Vec::new()),
            }
        }
        Some(words)
    }

    fn call(&mut self, id: NodeId, call: &Call) -> Option<()> {
        let value = match call.value {
            Some(value) => Some(self.operand(value)?),
            None => None,
        };
        let (to, input) = (self.operand(call.to)?, self.pieces(&call.input)?);
        let number = u16::try_from(self.program.calls.len()).ok()?;
        self.program.calls.push(CallStep { instruction: call.instruction, to, value, input });
        self.calls[id.get()] = Some(number);
        Some(())
    }

    fn pieces(&mut self, segments: &[Segment]) -> Option<Part> {
        let mut pieces = Vec::with_capacity(segments.len());
        for segment in segments {
            pieces.push(match segment {
                Segment::Constant(constant) => {
                    let bytes = &mut self.program.bytes;
                    let start = bytes.len();
                    bytes.extend_from_slice(constant);
                    Piece::Constant(part(start, bytes.len())?)
                }
                Segment::Opaque(length) => Piece::Opaque(*length),
                Segment::Word(id, from, length) => Piece::Word(self.operand(*id)?, *from, *length),
                Segment::Return(call, from, length) => match self.calls[call.get()] {
                    Some(call) => Piece::Return(call, *from, *length),
                    None => Piece::Opaque(*length),
                },
                Segment::Calldata(offset, length) => {
                    let length = match length {
                        Length::Fixed(length) => self.constant(U256::from(*length))?,
                        Length::Of(id) => self.operand(*id)?,
                    };
                    Piece::Calldata(self.operand(*offset)?, length)
                }
            });
        }
        let start = self.program.pieces.len();
        self.program.pieces.extend(pieces);
        part(start, self.program.pieces.len())
    }

    fn actions(&mut self, sites: &[Site]) -> Option<()> {
        let notes = self.notes(sites);
        for (at, site) in sites.iter().enumerate() {
            let result = self.operand(site.node)?;
            let step = result.place().ok().and_then(|register| self.program.steps.get(register));
            let deed = match (site.kind, self.calls[site.node.get()], step) {
                (SiteKind::Slot, ..) => Deed::Slot(result, notes[at]),
                (SiteKind::Write, ..) => {
                    let value = site.value.and_then(|value| self.operand(value));
                    let kind = self.template.kind_of_write(site);
                    Deed::Write(WriteStep { slot: result, note: notes[at], value, kind })
                }
                (SiteKind::Account, ..) => Deed::Account(result),
                (SiteKind::Call, Some(call), _) => Deed::Call(call),
                (SiteKind::Output, _, Some(Step::Bytes(pieces))) => Deed::Output(*pieces),
                // Templates have calls and bytes in these places.
                (SiteKind::Call | SiteKind::Output, ..) => continue,
            };
            let condition = self.condition(site)?;
            let usually = site.rule.usually;
            self.program.actions.push(Action { condition, usually, site: at as u8, deed });
        }
        Some(())
    }

    /// A slot's access and the write of the same slot share a note.
    fn notes(&mut self, sites: &[Site]) -> Vec<Option<u16>> {
        let mut notes = vec![None; sites.len()];
        for (at, write) in sites.iter().enumerate() {
            let is_pair = |site: &Site| site.kind == SiteKind::Slot && site.node == write.node;
            if write.kind == SiteKind::Write
                && let Some(slot) = sites.iter().position(is_pair)
            {
                let note = Some(self.program.notes);
                (notes[slot], notes[at]) = (note, note);
                self.program.notes += 1;
            }
        }
        notes
    }

    fn condition(&mut self, site: &Site) -> Option<Condition> {
        Some(match &site.rule.basis {
            Basis::Always => Condition::Always,
            Basis::Neighbours => Condition::Neighbours,
            Basis::Guards(literals) => {
                let literal =
                    |(guard, holds): &(u8, bool)| Literal { guard: *guard, holds: *holds };
                let literals: Vec<Literal> = literals.iter().map(literal).collect();
                let all = &mut self.program.literals;
                // Equal conditions are one part, by which an evaluation knows them.
                let is_there = |start: &usize| all[*start..].starts_with(&literals);
                let start = (0..all.len()).find(is_there).unwrap_or(all.len());
                if start == all.len() {
                    all.extend(&literals);
                }
                Condition::Literals(part(start, start + literals.len())?)
            }
        })
    }
}

/// A part of a list, unless the list is too long.
fn part(start: usize, end: usize) -> Option<Part> {
    Some(Part { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? })
}

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
        Action, CallStep, Condition, Deed, Literal, Operand, Part, Piece, Program, Recipe, Step,
    },
    template::{Basis, Site, SiteKind, Template},
};
use alloy_primitives::U256;

/// Registers, and constants, of a program.
const REGISTERS_MAX: usize = 4096;
/// Steps of all recipes together.
const ORDER_MAX: usize = 1 << 17;

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
    let mut used_guards = majority.asked();
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
    compiler.guards(&guards)?;
    compiler.actions(sites)?;
    Some(Program { majority, samples: template.samples(), ..compiler.program })
}

/// A program in the making.
struct Compiler<'t> {
    template: &'t Template,
    /// Where each node's value will be; of a call, the register that says that it was followed.
    operands: Vec<Option<Operand>>,
    /// The number of the call that a node is.
    calls: Vec<Option<u16>>,
    /// The registers that each register is computed from.
    needs: Vec<Vec<u16>>,
    /// Those of the step in the making.
    needed_now: Vec<u16>,
    /// Registers that the actions so far are certain to have computed.
    is_certain: Vec<bool>,
    /// The last recipe that each register is part of, counted from one.
    taken_for: Vec<u32>,
    recipes: u32,
    program: Program,
}

impl<'t> Compiler<'t> {
    fn new(template: &'t Template) -> Self {
        let nodes = template.nodes();
        Self {
            template,
            operands: vec![None; nodes],
            calls: vec![None; nodes],
            needs: Vec::new(),
            needed_now: Vec::new(),
            is_certain: Vec::new(),
            taken_for: Vec::new(),
            recipes: 0,
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
                Node::Constant(value) => self.constant(*value)?,
                node => {
                    let step = self.step(id, node)?;
                    self.register(step)?
                }
            });
        }
        Some(())
    }

    fn constant(&mut self, value: U256) -> Option<Operand> {
        let constants = &mut self.program.constants;
        let at = constants.iter().position(|known| *known == value).unwrap_or_else(|| {
            constants.push(value);
            constants.len() - 1
        });
        (at < REGISTERS_MAX).then(|| Operand::constant(at as u16))
    }

    fn register(&mut self, step: Step) -> Option<Operand> {
        let at = self.program.steps.len();
        self.program.steps.push(step);
        self.needs.push(std::mem::take(&mut self.needed_now));
        self.is_certain.push(false);
        self.taken_for.push(0);
        (at < REGISTERS_MAX).then(|| Operand::register(at as u16))
    }

    /// Where a node's value will be. Nodes are translated in the order of the arena, so it has been
    /// settled.
    fn operand(&mut self, id: NodeId) -> Option<Operand> {
        let operand = self.operands[id.get()]?;
        if let Ok(register) = operand.place() {
            self.needed_now.push(register as u16);
        }
        Some(operand)
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
            Node::Call(call) => Step::Call(self.call(id, call)?),
            Node::ReturnWord(call, offset) => match self.call_number(*call)? {
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

    fn call(&mut self, id: NodeId, call: &Call) -> Option<u16> {
        let value = match call.value {
            Some(value) => Some(self.operand(value)?),
            None => None,
        };
        let (to, input) = (self.operand(call.to)?, self.pieces(&call.input)?);
        let number = u16::try_from(self.program.calls.len()).ok()?;
        self.program.calls.push(CallStep { instruction: call.instruction, to, value, input });
        self.calls[id.get()] = Some(number);
        Some(number)
    }

    /// The number of a call of which the result is needed. `Some(None)` if the node is no call.
    fn call_number(&mut self, id: NodeId) -> Option<Option<u16>> {
        self.operand(id)?;
        Some(self.calls[id.get()])
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
                Segment::Return(call, from, length) => match self.call_number(*call)? {
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

    /// The steps that lead to some registers, without those that are certain to have been taken.
    fn steps_to(&mut self, registers: &[u16]) -> Option<Part> {
        let start = self.program.order.len();
        self.recipes += 1;
        let mut open = registers.to_vec();
        while let Some(register) = open.pop() {
            let at = usize::from(register);
            if self.taken_for[at] != self.recipes && !self.is_certain[at] {
                self.taken_for[at] = self.recipes;
                self.program.order.push(register);
                open.extend(&self.needs[at]);
            }
        }
        // Registers are computed from earlier ones.
        let order = &mut self.program.order;
        order[start..].sort_unstable();
        if order.len() > ORDER_MAX { None } else { part(start, order.len()) }
    }

    fn recipe(&mut self, id: NodeId) -> Option<Recipe> {
        let result = self.operands[id.get()]?;
        let register = result.place().ok().map(|at| at as u16);
        Some(Recipe { steps: self.steps_to(register.as_slice())?, result })
    }

    fn guards(&mut self, guards: &[Option<NodeId>]) -> Option<()> {
        for guard in guards {
            let recipe = match guard {
                Some(guard) => Some(self.recipe(*guard)?),
                None => None,
            };
            self.program.guards.push(recipe);
        }
        Some(())
    }

    fn actions(&mut self, sites: &[Site]) -> Option<()> {
        let notes = self.notes(sites);
        for (at, site) in sites.iter().enumerate() {
            let Recipe { mut steps, result } = self.recipe(site.node)?;
            let register = result.place().unwrap_or_default();
            let deed = match (site.kind, self.program.steps.get(register)) {
                (SiteKind::Slot, _) => Deed::Slot(result, notes[at]),
                (SiteKind::Write, _) => {
                    let value = match site.value {
                        Some(value) => Some(self.recipe(value)?),
                        None => None,
                    };
                    Deed::Write { slot: result, note: notes[at], value }
                }
                (SiteKind::Account, _) => Deed::Account(result),
                (SiteKind::Call, Some(Step::Call(call))) => Deed::Call(*call),
                (SiteKind::Output, Some(Step::Bytes(pieces))) => {
                    let pieces = *pieces;
                    // The pieces are put together when they are returned, not before.
                    let needs = self.needs[register].clone();
                    steps = self.steps_to(&needs)?;
                    Deed::Output(pieces)
                }
                // Templates have calls and bytes in these places.
                (SiteKind::Call | SiteKind::Output, _) => continue,
            };
            let condition = self.condition(site)?;
            if matches!(condition, Condition::Always) {
                for step in &self.program.order[steps.range()] {
                    self.is_certain[usize::from(*step)] = true;
                }
            }
            let usually = site.rule.usually;
            self.program.actions.push(Action { condition, usually, site: at as u8, deed, steps });
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

//! Templates: what a code does when a function of it is called.
//!
//! A template is learned from [samples](super::record::Sample) of one key. It is a list of *sites*:
//! slots, accounts, inner calls and results, each by its expression. A site that not every sample
//! had gets a *rule*: branches of the code whose conditions tell when it is there.
//!
//! *Must not know*: state, blocks, or other templates. Whoever merges a sample brings the values of
//! the conditions along.

use super::{
    access::AccessKind,
    expression::{Arena, Needs, Node, NodeId},
    majority::Majority,
    record::{Effect, Sample},
    ways::Ways,
};
use alloy_primitives::{Address, B256, U256, map::HashMap};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// What a template is for: the code that really runs, and the function that is called.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct TemplateKey {
    /// The size of the code, in bytes. It tells most codes apart before a shape is worked out.
    pub(crate) size: u32,
    /// The [shape](super::code_shape) of the code; of a delegated account (EIP-7702) that of the
    /// delegate's.
    pub(crate) shape: B256,
    /// The first four bytes of calldata. A shorter one has none.
    pub(crate) selector: Option<[u8; 4]>,
}

/// What a site is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum SiteKind {
    /// A slot of the called account is accessed.
    Slot,
    /// A slot of the called account has another value after the transaction.
    Write,
    /// An account is looked at.
    Account,
    /// Another account is called.
    Call,
    /// The call returns bytes.
    Output,
}

/// Something that a call does, always or sometimes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Site {
    pub(super) kind: SiteKind,
    pub(super) node: NodeId,
    pub(super) rule: Rule,
    /// Of a write, the value that is stored; `None` if it is not known, or not always the same
    /// expression.
    pub(super) value: Option<NodeId>,
    /// How many of the template's guards were known on the path before the site.
    guards_before: u8,
}

/// When a site is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    /// How to find out.
    pub(super) basis: Basis,
    /// Whether most samples had the site.
    pub(super) usually: bool,
}

/// What tells whether a site is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Basis {
    /// Every sample had it.
    Always,
    /// All of these guards hold (`true`) or do not hold, in all samples that had it and in hardly any
    /// other.
    Guards(Vec<(u8, bool)>),
    /// Nothing simple does: the samples that are most alike have to tell.
    Neighbours,
}

/// What one sample had, by bits: sites, guards whose condition is known, and those that held.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Row {
    present: u128,
    known: u128,
    held: u128,
    /// Guards that the sample passed, and that were what its inputs make of them.
    passed: u128,
}

/// What of a template a sample had, by bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Adopted {
    /// Sites.
    present: u128,
    /// Guards that it passed, and those that held there.
    passed: u128,
    held: u128,
}

/// Sites and guards of a template; bits of a [`Row`].
const SITES_MAX: usize = 128;
const GUARDS_MAX: usize = 128;
/// Samples from which on a template may be settled.
const SETTLED_FROM: u32 = 16;
/// Samples from which rules are made. Older ones are forgotten.
const ROWS_MAX: usize = 64;
/// How complex a condition may be by which a call is compared with the samples: what decides where
/// a call goes is mostly simple, and the rest is arithmetic that costs more than it tells.
const COMPARED_WEIGHT_MAX: u16 = 32;
/// Conditions of one rule.
const LITERALS_MAX: usize = 3;
/// A rule may be wrong about one sample for so many that had the site: calls fail in any place.
const ERRORS_SHARE: usize = 8;

/// What is known of one function of one code.
#[derive(Clone, Debug, Default)]
pub(super) struct Template {
    arena: Arena,
    sites: Vec<Site>,
    guards: Vec<NodeId>,
    rows: Vec<Row>,
    /// Guards, by bits, that held in some samples and not in others.
    varying: u128,
    /// Those of them that are cheap to evaluate. By them a call is compared with the samples.
    compared: u128,
    /// Samples merged so far, those included that are forgotten.
    samples: u32,
    /// Sites, by bits, that transactions [contend](super::contention) for, or come to them by.
    contended: u128,
}

impl Template {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.arena.get(id)
    }

    /// How many expressions there are.
    pub(super) fn nodes(&self) -> usize {
        self.arena.nodes().len()
    }

    pub(super) fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The conditions of all guards.
    pub(super) fn guards(&self) -> &[NodeId] {
        &self.guards
    }

    /// What a write makes of the value before.
    pub(super) fn kind_of_write(&self, site: &Site) -> AccessKind {
        site.value.map_or(AccessKind::Written, |value| self.arena.kind_of_write(site.node, value))
    }

    /// The template with these parts.
    pub(super) fn of(
        arena: Arena,
        sites: Vec<Site>,
        guards: Vec<NodeId>,
        rows: Vec<Row>,
        samples: u32,
        contended: u128,
    ) -> Self {
        let varying = varying(&rows);
        let compared = varying & light(&arena, &guards);
        Self { arena, sites, guards, rows, varying, compared, samples, contended }
    }

    /// What the template consists of.
    pub(super) fn parts(&self) -> (&Arena, &[Site], &[NodeId], &[Row], u32) {
        (&self.arena, &self.sites, &self.guards, &self.rows, self.samples)
    }

    /// Whether a template may have these parts.
    pub(super) fn fits(sites: &[Site], guards: &[NodeId], rows: &[Row]) -> bool {
        sites.len() <= SITES_MAX && guards.len() <= GUARDS_MAX && rows.len() <= ROWS_MAX
    }

    /// The samples, to be asked where nothing simple decides.
    pub(super) fn majority(&self) -> Majority {
        if self.sites.iter().all(|site| site.rule.basis == Basis::Always) {
            return Majority::default();
        }
        Majority::of(self.rows.iter().map(|row| [row.known, row.held, row.present]), self.compared)
    }

    /// The ways that samples have gone, by branches that follow from the call alone: what is known of
    /// the others may be wrong.
    pub(super) fn ways(&self) -> Ways {
        let needs_no_state = |guard: &&NodeId| self.arena.needs(**guard) == Needs::Call;
        let compared = bits_of(&self.guards, needs_no_state);
        Ways::of(self.rows.iter().map(|row| [row.passed & compared, row.held]))
    }

    /// Whether many samples did the same, all of them: there is little to learn from another one.
    pub(super) fn is_settled(&self) -> bool {
        let is_certain = |site: &Site| site.rule.basis == Basis::Always;
        self.samples >= SETTLED_FROM && self.sites.iter().all(is_certain)
    }

    /// Whether an earlier state of the template predicts the same: it has the same sites by the same
    /// rules, no rule asks the samples, and none of them has gone a new way. Expressions keep their
    /// places as a template learns.
    pub(super) fn predicts_as(&self, earlier: &Self) -> bool {
        let is_same = |(new, old): (&Site, &Site)| {
            let what = |site: &Site| (site.kind, site.node, site.value);
            what(new) == what(old) && new.rule == old.rule && new.rule.basis != Basis::Neighbours
        };
        self.sites.len() == earlier.sites.len()
            && self.sites.iter().zip(&earlier.sites).all(is_same)
            && self.ways() == earlier.ways()
    }

    /// The sites, by bits, that transactions contend for, or come to them by.
    pub(super) const fn contended(&self) -> u128 {
        self.contended
    }

    /// Notes sites that transactions contend for, or come to them by.
    pub(super) const fn contend(&mut self, sites: u128) {
        self.contended |= sites;
    }

    /// Roughly the memory that the template takes, in bytes.
    pub(super) fn size(&self) -> usize {
        // Nodes are kept twice, in the list and in its index.
        256 + self.nodes() * 2 * (size_of::<Node>() + 24)
            + self.sites.len() * (size_of::<Site>() + 4)
            + self.guards.len() * size_of::<NodeId>()
            + self.rows.len() * size_of::<Row>()
    }

    /// Takes a sample's expressions in. Gives the sites that it had, and the guards that it passed.
    pub(super) fn adopt(
        &mut self,
        sample: &Sample,
        was_written: impl Fn(&(Address, U256)) -> bool,
    ) -> Adopted {
        let moved = &mut HashMap::default();
        let mut passed_conditions = Vec::with_capacity(sample.guards.len());
        for (condition, holds) in &sample.guards {
            let condition = self.arena.adopt(&sample.arena, *condition, moved);
            self.add_guard(condition);
            passed_conditions.push((condition, *holds));
        }
        let (mut passed, mut held) = (0, 0);
        for (condition, holds) in passed_conditions {
            if let Some(at) = self.guards.iter().position(|guard| *guard == condition) {
                passed |= 1 << at;
                held |= u128::from(holds) << at;
            }
        }
        let mut present = 0;
        let mut stored: Vec<(NodeId, Option<NodeId>)> = Vec::new();
        for effect in &sample.effects {
            let (kind, node) = match effect {
                Effect::Slot(slot) | Effect::Store { slot, .. } => (SiteKind::Slot, *slot),
                Effect::Account(address) => (SiteKind::Account, *address),
                Effect::Call(call) => (SiteKind::Call, *call),
                Effect::Output(bytes) => (SiteKind::Output, *bytes),
            };
            let node = self.arena.adopt(&sample.arena, node, moved);
            present |= self.site(kind, node);
            if let Effect::Store { at, value, .. } = effect
                && was_written(at)
            {
                let value = value.map(|value| self.arena.adopt(&sample.arena, value, moved));
                stored.push((node, value));
            }
        }
        for (at, (slot, value)) in stored.iter().enumerate() {
            // Of several values stored in one slot the last one stays.
            if !stored[at + 1..].iter().any(|(later, _)| later == slot) {
                present |= self.write_site(*slot, *value);
            }
        }
        Adopted { present, passed, held }
    }

    /// Adds a guard. Where there are too many, one goes that has never told two samples apart.
    fn add_guard(&mut self, condition: NodeId) {
        if self.guards.contains(&condition) {
            return;
        }
        if self.guards.len() < GUARDS_MAX {
            self.guards.push(condition);
            return;
        }
        let is_used = |guard: usize| {
            self.sites.iter().any(|site| match &site.rule.basis {
                Basis::Guards(literals) => {
                    literals.iter().any(|(used, _)| usize::from(*used) == guard)
                }
                Basis::Always | Basis::Neighbours => false,
            })
        };
        // One of this very sample is known to no row yet.
        let known = self.rows.iter().fold(0, |known, row| known | row.known);
        let constant = known & !self.varying;
        let useless = (0..GUARDS_MAX).find(|guard| constant >> guard & 1 == 1 && !is_used(*guard));
        if let Some(guard) = useless {
            self.guards[guard] = condition;
            for row in &mut self.rows {
                row.known &= !(1 << guard);
                row.held &= !(1 << guard);
                row.passed &= !(1 << guard);
            }
        }
    }

    /// The bit of a written slot's site.
    fn write_site(&mut self, slot: NodeId, value: Option<NodeId>) -> u128 {
        let known = self.sites.len();
        let bit = self.site(SiteKind::Write, slot);
        let is_new = self.sites.len() > known;
        if let Some(site) = self.sites.get_mut(bit.trailing_zeros() as usize) {
            site.value = if is_new || site.value == value { value } else { None };
        }
        bit
    }

    /// The bit of a site, which is added if it is new. None is left where there are too many.
    fn site(&mut self, kind: SiteKind, node: NodeId) -> u128 {
        let known = self.sites.iter().position(|site| site.kind == kind && site.node == node);
        let at = match known {
            Some(at) => at,
            None if self.sites.len() < SITES_MAX => {
                self.sites.push(Site {
                    kind,
                    node,
                    rule: Rule { basis: Basis::Always, usually: true },
                    value: None,
                    guards_before: self.guards.len().min(GUARDS_MAX) as u8,
                });
                self.sites.len() - 1
            }
            None => return 0,
        };
        1 << at
    }

    /// Ends the merge of a sample: what it had, and what its inputs make of each guard.
    pub(super) fn learn(&mut self, adopted: Adopted, guards: impl Iterator<Item = Option<bool>>) {
        let Adopted { present, passed, held } = adopted;
        let mut row = Row { present, ..Row::default() };
        for (at, holds) in guards.take(GUARDS_MAX).enumerate() {
            if let Some(holds) = holds {
                row.known |= 1 << at;
                row.held |= u128::from(holds) << at;
            }
        }
        row.passed = passed & row.known & !(row.held ^ held);
        if self.rows.len() == ROWS_MAX {
            self.rows.remove(0);
        }
        self.rows.push(row);
        self.samples += 1;
        self.varying = varying(&self.rows);
        self.compared = self.varying & light(&self.arena, &self.guards);
        let needs: Vec<Needs> = self.guards.iter().map(|guard| self.arena.needs(*guard)).collect();
        for at in 0..self.sites.len() {
            self.sites[at].rule = rule(&self.rows, at, self.sites[at].guards_before, &needs);
        }
    }
}

/// Guards, by bits, that held in some rows and not in others.
fn varying(rows: &[Row]) -> u128 {
    let held = rows.iter().fold(0, |held, row| held | row.held);
    let missed = rows.iter().fold(0, |missed, row| missed | (row.known & !row.held));
    held & missed
}

/// Guards, by bits, whose conditions are cheap to evaluate.
fn light(arena: &Arena, guards: &[NodeId]) -> u128 {
    let is_light = |guard: &&NodeId| arena.weight(**guard) <= COMPARED_WEIGHT_MAX;
    bits_of(guards, is_light)
}

/// Those of some guards, by bits, of which something holds.
fn bits_of(guards: &[NodeId], holds: impl Fn(&&NodeId) -> bool) -> u128 {
    let guards = guards.iter().enumerate().filter(|(_, guard)| holds(guard));
    guards.fold(0, |bits, (at, _)| bits | 1 << at)
}

/// Finds the rule of a site: the fewest guards, chosen one by one, that tell the samples that had it
/// from the others, but for a few. `needs` are those of the guards.
fn rule(rows: &[Row], site: usize, guards_before: u8, needs: &[Needs]) -> Rule {
    let has = |row: &Row| row.present >> site & 1 == 1;
    let count = rows.iter().filter(|row| has(row)).count();
    let usually = 2 * count >= rows.len();
    if count == rows.len() {
        return Rule { basis: Basis::Always, usually };
    }
    let neighbours = Rule { basis: Basis::Neighbours, usually };
    if count == 0 {
        return neighbours;
    }
    let is_known = |row: &Row, guard: u8| row.known >> guard & 1 == 1;
    let holds = |row: &Row, (guard, value): (u8, bool)| {
        is_known(row, guard) && (row.held >> guard & 1 == 1) == value
    };
    // The branch nearest before a site decides most often; those after it, hardly ever.
    let before = (0..guards_before).rev();
    let order = before.chain(guards_before..needs.len() as u8);
    // Only what holds for all that had the site can be among its guards.
    let candidates: Vec<(u8, bool)> = order
        .flat_map(|guard| [(guard, true), (guard, false)])
        .filter(|literal| rows.iter().filter(|row| has(row)).all(|row| holds(row, *literal)))
        .collect();
    let mut others: Vec<&Row> = rows.iter().filter(|row| !has(row)).collect();
    let mut literals = Vec::new();
    while !others.is_empty() {
        // Of the samples that a literal excludes, one that went the other way says more than one that
        // did not come to the branch.
        let worth = |literal: &(u8, bool)| -> usize {
            let excluded = others.iter().filter(|row| !holds(row, *literal));
            excluded.map(|row| 1 + usize::from(is_known(row, literal.0))).sum()
        };
        let needs_of = |literal: &(u8, bool)| needs.get(usize::from(literal.0)).copied();
        let rank = |literal: &&(u8, bool)| (worth(literal), Reverse(needs_of(literal)));
        // The first of the best: `max_by_key` would give the last.
        let best = candidates.iter().rev().max_by_key(rank);
        match best {
            Some(literal) if worth(literal) > 0 && literals.len() < LITERALS_MAX => {
                literals.push(*literal);
                others.retain(|row| holds(row, *literal));
            }
            Some(_) if !literals.is_empty() && others.len() * ERRORS_SHARE <= count => break,
            _ => return neighbours,
        }
    }
    Rule { basis: Basis::Guards(literals), usually }
}

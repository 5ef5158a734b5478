//! Expressions: how a value follows from a call.
//!
//! An [`Arena`] holds the expressions of one code's call, each made of earlier ones. Equal
//! expressions are one node, so a node's id says whether two values were computed the same way.
//!
//! *Must not know*: any value of a real call. [`evaluate`](super::evaluate) computes them, and
//! [`record`](super::record) finds them.

mod sums;

use alloy_primitives::{U256, map::HashMap};
use revm::bytecode::opcode::{ADD, AND, MUL, SUB};
use serde::{Deserialize, Serialize};

/// A node of an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// Position in the arena's list.
    pub(super) const fn get(self) -> usize {
        self.0 as usize
    }

    /// The node at a position.
    pub(super) const fn at(position: usize) -> Self {
        Self(position as u32)
    }
}

/// What an execution may know beside its calldata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Environment {
    /// The account whose storage is used (ADDRESS).
    This,
    /// CALLER.
    Caller,
    /// CALLVALUE, in wei.
    Value,
    /// The transaction's sender.
    Origin,
    /// The block's beneficiary.
    Beneficiary,
    /// The block's time, in seconds.
    Timestamp,
    /// The block's number.
    Number,
    /// CALLDATASIZE, in bytes.
    CalldataSize,
    /// The transaction's gas limit.
    GasLimit,
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Node {
    /// A constant of the code, or of the path that was taken through it.
    Constant(U256),
    /// A fact about the call or the block.
    Environment(Environment),
    /// The operand of the PUSH at a position of the code: a value that was put in when the contract
    /// was created.
    Immutable(u32),
    /// The 32 bytes of calldata at an offset.
    CalldataWord(NodeId),
    /// What the called account holds in a slot.
    Load(NodeId),
    /// An arithmetic instruction and its operands, the topmost of the stack first. Unused operands
    /// repeat the first.
    Apply(u8, [NodeId; 3]),
    /// keccak-256 of bytes.
    Keccak(Box<[Segment]>),
    /// Bytes, read as one number where there are 32 of them.
    Bytes(Box<[Segment]>),
    /// A call of another account. Not a value; [`Node::ReturnWord`] is.
    Call(Box<Call>),
    /// 32 bytes that a call returned, at an offset.
    ReturnWord(NodeId, u32),
}

/// A call made by a code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Call {
    /// The instruction: CALL, CALLCODE, DELEGATECALL or STATICCALL.
    pub(super) instruction: u8,
    /// Whose code is called.
    pub(super) to: NodeId,
    /// The value that is sent, in wei. `None` if it is not known how it follows.
    pub(super) value: Option<NodeId>,
    /// The calldata.
    pub(super) input: Box<[Segment]>,
    /// How often the same call has been made before, if calls between may have changed what it finds.
    pub(super) again: u8,
}

/// A run of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Segment {
    /// Constant bytes.
    Constant(Box<[u8]>),
    /// Bytes of a word: from a position, so many.
    Word(NodeId, u8, u8),
    /// Calldata from an offset.
    Calldata(NodeId, Length),
    /// Bytes that a call returned: from a position, so many.
    Return(NodeId, u32, u32),
    /// So many bytes of which nothing is known.
    Opaque(u32),
}

/// The length of a piece of calldata, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Length {
    /// The same in every call on this path.
    Fixed(u32),
    /// As an expression says.
    Of(NodeId),
}

/// How a value came to be, as far as it is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A constant of the path; the value itself is on the real stack.
    Constant,
    /// As an expression says.
    Known(NodeId),
    /// Not followed: too complex, or of a kind that cannot be foreseen.
    Opaque,
}

/// What has to be known to compute a value. What needs more is known more seldom: slots change within
/// a block, and inner calls may have no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Needs {
    /// The call and the block.
    Call,
    /// Slots as well.
    Storage,
    /// Inner calls as well.
    Results,
}

/// How many nodes an expression may have, shared ones counted each time.
const WEIGHT_MAX: u16 = 192;
/// What a call, and a run of bytes, counts for at most.
const CALL_WEIGHT_MAX: u16 = 24;
const BYTES_WEIGHT_MAX: u16 = 64;
/// How many nodes an arena may have.
const NODES_MAX: usize = 4096;
/// The bits of an address.
const ADDRESS_BITS: usize = 160;

/// The expressions of one code's call.
#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    nodes: Vec<Node>,
    weights: Vec<u16>,
    needs: Vec<Needs>,
    ids: HashMap<Node, NodeId>,
}

impl Arena {
    /// The arena with these nodes, each of which refers to earlier ones only. `None` if one of them
    /// is too complex.
    pub(super) fn of(nodes: Vec<Node>) -> Option<Self> {
        let mut arena = Self::default();
        for node in nodes {
            if arena.weigh(&node) > WEIGHT_MAX {
                return None;
            }
            arena.push(node);
        }
        Some(arena)
    }

    /// The nodes; each refers to earlier ones only.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.get()]
    }

    /// Whether the node is a word of which some bytes are not known.
    pub(super) fn is_partial(&self, id: NodeId) -> bool {
        let is_opaque = |segment: &Segment| matches!(segment, Segment::Opaque(_));
        matches!(self.get(id), Node::Bytes(segments) if segments.iter().any(is_opaque))
    }

    /// Whether the node is the first word of calldata.
    pub(super) fn is_first_word(&self, id: NodeId) -> bool {
        let zero = Node::Constant(U256::ZERO);
        matches!(self.get(id), Node::CalldataWord(offset) if *self.get(*offset) == zero)
    }

    /// How many nodes the expression has.
    pub(super) fn weight(&self, id: NodeId) -> u16 {
        self.weights[id.get()]
    }

    /// What has to be known to compute the expression.
    pub(super) fn needs(&self, id: NodeId) -> Needs {
        self.needs[id.get()]
    }

    /// The node, unless it would be too complex.
    pub(super) fn add(&mut self, node: Node) -> Option<NodeId> {
        if let Some(id) = self.ids.get(&node) {
            return Some(*id);
        }
        (self.weigh(&node) <= WEIGHT_MAX && self.nodes.len() < NODES_MAX).then(|| self.push(node))
    }

    fn push(&mut self, node: Node) -> NodeId {
        let id = NodeId::at(self.nodes.len());
        self.weights.push(self.weigh(&node));
        self.needs.push(self.needs_of(&node));
        self.ids.insert(node.clone(), id);
        self.nodes.push(node);
        id
    }

    fn needs_of(&self, node: &Node) -> Needs {
        let mut needs = match node {
            Node::Load(_) => Needs::Storage,
            Node::Call(_) | Node::ReturnWord(..) => Needs::Results,
            _ => Needs::Call,
        };
        for_each_operand(node, |operand| needs = needs.max(self.needs(operand)));
        needs
    }

    fn weigh(&self, node: &Node) -> u16 {
        let mut weight = 1_u16;
        for_each_operand(node, |operand| {
            weight = weight.saturating_add(self.weights[operand.get()]);
        });
        match node {
            // A call is followed whatever it is given, so it weighs little where its result is used.
            Node::Call(_) => weight.min(CALL_WEIGHT_MAX),
            Node::Bytes(_) => weight.min(BYTES_WEIGHT_MAX),
            _ => weight,
        }
    }

    pub(super) fn constant(&mut self, value: U256) -> Option<NodeId> {
        self.add(Node::Constant(value))
    }

    /// Adds a node as the origin of a value.
    pub(super) fn origin(&mut self, node: Node) -> Origin {
        self.add(node).map_or(Origin::Opaque, Origin::Known)
    }

    /// The node of a value, of which the origin and the value itself are known.
    pub(super) fn node_of(&mut self, origin: Origin, value: U256) -> Option<NodeId> {
        match origin {
            Origin::Constant => self.constant(value),
            Origin::Known(id) => Some(id),
            Origin::Opaque => None,
        }
    }

    /// What an arithmetic instruction makes of its operands.
    pub(super) fn apply(&mut self, instruction: u8, operands: &[(Origin, U256)]) -> Origin {
        if operands.iter().all(|(origin, _)| *origin == Origin::Constant) {
            return Origin::Constant;
        }
        let constants = operands
            .iter()
            .filter(|(origin, _)| *origin == Origin::Constant)
            .map(|(_, value)| value);
        if matches!(instruction, AND | MUL) && constants.clone().any(U256::is_zero) {
            return Origin::Constant;
        }
        let mut ids = [NodeId(0); 3];
        for (at, (origin, value)) in operands.iter().enumerate() {
            let Some(id) = self.node_of(*origin, *value) else { return Origin::Opaque };
            ids[at] = id;
        }
        for at in operands.len()..3 {
            ids[at] = ids[0];
        }
        if instruction == ADD {
            return self.sum(ids[0], ids[1]);
        }
        if instruction == SUB
            && let Some(difference) = self.difference(ids[0], ids[1])
        {
            return difference;
        }
        if instruction == AND
            && let Some(same) = self.unmasked(ids[0], ids[1])
        {
            return Origin::Known(same);
        }
        self.origin(Node::Apply(instruction, ids))
    }

    /// The operand of an AND that changes nothing: an address stays one under an address's mask.
    fn unmasked(&self, a: NodeId, b: NodeId) -> Option<NodeId> {
        let (mask, value) = match (self.get(a), self.get(b)) {
            (Node::Constant(mask), _) => (*mask, b),
            (_, Node::Constant(mask)) => (*mask, a),
            _ => return None,
        };
        let is_masked = match self.get(value) {
            Node::Environment(
                Environment::This
                | Environment::Caller
                | Environment::Origin
                | Environment::Beneficiary,
            ) => (mask & address_mask()) == address_mask(),
            Node::Apply(AND, [x, y, _]) => {
                [x, y].iter().any(|operand| *self.get(**operand) == Node::Constant(mask))
            }
            _ => false,
        };
        is_masked.then_some(value)
    }

    /// Takes an expression over from another arena. `moved` remembers what has been taken over.
    pub(super) fn adopt(
        &mut self,
        other: &Self,
        id: NodeId,
        moved: &mut HashMap<NodeId, NodeId>,
    ) -> NodeId {
        if let Some(here) = moved.get(&id) {
            return *here;
        }
        let node = map_operands(other.get(id), &mut |operand| self.adopt(other, operand, moved));
        let here = match self.ids.get(&node) {
            Some(here) => *here,
            None => self.push(node),
        };
        moved.insert(id, here);
        here
    }
}

/// The largest address, as a number.
pub(super) fn address_mask() -> U256 {
    (U256::ONE << ADDRESS_BITS) - U256::ONE
}

/// How many operands an arithmetic instruction has.
pub(super) const fn arity(instruction: u8) -> usize {
    use revm::bytecode::opcode::{ADDMOD, ISZERO, MULMOD, NOT};
    match instruction {
        ISZERO | NOT => 1,
        ADDMOD | MULMOD => 3,
        _ => 2,
    }
}

/// Whether runs of bytes keep within their words.
pub(super) fn is_segments(segments: &[Segment]) -> bool {
    segments.iter().all(|segment| match segment {
        Segment::Word(_, from, length) => usize::from(*from) + usize::from(*length) <= 32,
        _ => true,
    })
}

/// Visits the expressions that a node refers to.
pub(super) fn for_each_operand(node: &Node, mut visit: impl FnMut(NodeId)) {
    let segments = |segments: &[Segment], visit: &mut dyn FnMut(NodeId)| {
        for segment in segments {
            match segment {
                Segment::Constant(_) | Segment::Opaque(_) => {}
                Segment::Word(id, ..) | Segment::Return(id, ..) => visit(*id),
                Segment::Calldata(offset, length) => {
                    visit(*offset);
                    if let Length::Of(id) = length {
                        visit(*id);
                    }
                }
            }
        }
    };
    match node {
        Node::Constant(_) | Node::Environment(_) | Node::Immutable(_) => {}
        Node::CalldataWord(id) | Node::Load(id) | Node::ReturnWord(id, _) => visit(*id),
        Node::Apply(instruction, operands) => {
            operands[..arity(*instruction)].iter().for_each(|id| visit(*id));
        }
        Node::Keccak(bytes) | Node::Bytes(bytes) => segments(bytes, &mut visit),
        Node::Call(call) => {
            visit(call.to);
            call.value.into_iter().for_each(&mut visit);
            segments(&call.input, &mut visit);
        }
    }
}

/// A copy of a node with other operands.
fn map_operands(node: &Node, map: &mut dyn FnMut(NodeId) -> NodeId) -> Node {
    fn segments(segments: &[Segment], map: &mut dyn FnMut(NodeId) -> NodeId) -> Box<[Segment]> {
        let segment = |segment: &Segment| match segment {
            Segment::Constant(bytes) => Segment::Constant(bytes.clone()),
            Segment::Opaque(length) => Segment::Opaque(*length),
            Segment::Word(id, from, length) => Segment::Word(map(*id), *from, *length),
            Segment::Return(id, from, length) => Segment::Return(map(*id), *from, *length),
            Segment::Calldata(offset, length) => Segment::Calldata(
                map(*offset),
                match length {
                    Length::Fixed(bytes) => Length::Fixed(*bytes),
                    Length::Of(id) => Length::Of(map(*id)),
                },
            ),
        };
        segments.iter().map(segment).collect()
    }
    match node {
        Node::Constant(value) => Node::Constant(*value),
        Node::Environment(fact) => Node::Environment(*fact),
        Node::Immutable(position) => Node::Immutable(*position),
        Node::CalldataWord(id) => Node::CalldataWord(map(*id)),
        Node::Load(id) => Node::Load(map(*id)),
        Node::ReturnWord(id, offset) => Node::ReturnWord(map(*id), *offset),
        Node::Apply(instruction, operands) => Node::Apply(*instruction, operands.map(map)),
        Node::Keccak(bytes) => Node::Keccak(segments(bytes, map)),
        Node::Bytes(bytes) => Node::Bytes(segments(bytes, map)),
        Node::Call(call) => Node::Call(Box::new(Call {
            instruction: call.instruction,
            to: map(call.to),
            value: call.value.map(&mut *map),
            input: segments(&call.input, map),
            again: call.again,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::bytecode::opcode::SHL;

    fn known(arena: &mut Arena, node: Node) -> Origin {
        arena.origin(node)
    }

    #[test]
    fn constants_fold_and_masks_of_addresses_vanish() {
        let mut arena = Arena::default();
        let constant = (Origin::Constant, U256::from(7));
        assert_eq!(arena.apply(SHL, &[constant, constant]), Origin::Constant);
        let caller = known(&mut arena, Node::Environment(Environment::Caller));
        let masked = arena.apply(AND, &[(Origin::Constant, address_mask()), (caller, U256::ZERO)]);
        assert_eq!(masked, caller);
        let opaque = (Origin::Opaque, U256::ZERO);
        assert_eq!(arena.apply(AND, &[(Origin::Constant, U256::ZERO), opaque]), Origin::Constant);
        assert_eq!(arena.apply(ADD, &[(caller, U256::ZERO), opaque]), Origin::Opaque);
    }

    #[test]
    fn an_expression_that_grows_too_complex_is_opaque() {
        let mut arena = Arena::default();
        let mut origin = known(&mut arena, Node::Environment(Environment::Value));
        for _ in 0..20 {
            origin = arena.apply(MUL, &[(origin, U256::ONE), (origin, U256::ONE)]);
        }
        assert_eq!(origin, Origin::Opaque);
    }

    #[test]
    fn adopted_expressions_are_shared() {
        let mut from = Arena::default();
        let four = from.constant(U256::from(4)).unwrap();
        let word = from.add(Node::CalldataWord(four)).unwrap();
        let hash = from.add(Node::Keccak([Segment::Word(word, 0, 32)].into())).unwrap();
        let mut to = Arena::default();
        to.constant(U256::ONE).unwrap();
        let first = to.adopt(&from, hash, &mut HashMap::default());
        let again = to.adopt(&from, hash, &mut HashMap::default());
        assert_eq!((first, to.nodes().len()), (again, 4));
    }
}

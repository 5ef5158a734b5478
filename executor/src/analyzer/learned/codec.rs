//! Templates as bytes, to be kept beyond the life of a profile.
//!
//! What comes from outside is checked before it is believed to be a template: every reference has
//! to lead to an earlier node, so that no evaluation can fail or run without end. Whether the
//! template is *true* need not be checked; a false one costs time only.

use super::{
    arithmetic::is_arithmetic,
    expression::{Arena, Node, NodeId, Segment, for_each_operand, is_segments},
    template::{Basis, Row, Site, SiteKind, Template, TemplateKey},
};
use alloy_primitives::hex;
use serde::{Deserialize, Serialize};

/// Why bytes are no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template {key} of the profile cannot be read: {cause}")]
pub struct ProfileError {
    /// The bytes of the key, in hexadecimal.
    pub key: String,
    /// What is wrong.
    pub cause: String,
}

/// A template as it is written.
#[derive(Serialize, Deserialize)]
struct Stored {
    nodes: Vec<Node>,
    sites: Vec<Site>,
    guards: Vec<NodeId>,
    rows: Vec<Row>,
    samples: u32,
    contended: u128,
}

pub(super) fn encode(key: &TemplateKey, template: &Template) -> Option<(Vec<u8>, Vec<u8>)> {
    let (arena, sites, guards, rows, samples) = template.parts();
    let stored = Stored {
        nodes: arena.nodes().to_vec(),
        sites: sites.to_vec(),
        guards: guards.to_vec(),
        rows: rows.to_vec(),
        samples,
        contended: template.contended(),
    };
    Some((postcard::to_allocvec(key).ok()?, postcard::to_allocvec(&stored).ok()?))
}

pub(super) fn decode(key: &[u8], template: &[u8]) -> Result<(TemplateKey, Template), ProfileError> {
    let error = |cause: String| ProfileError { key: hex::encode(key), cause };
    let decoded_key = postcard::from_bytes(key).map_err(|cause| error(cause.to_string()))?;
    let stored: Stored =
        postcard::from_bytes(template).map_err(|cause| error(cause.to_string()))?;
    check(&stored).map_err(|cause| error(cause.to_owned()))?;
    let Stored { nodes, sites, guards, rows, samples, contended } = stored;
    let arena = Arena::of(nodes).ok_or_else(|| error("an expression is too complex".to_owned()))?;
    Ok((decoded_key, Template::of(arena, sites, guards, rows, samples, contended)))
}

fn check(stored: &Stored) -> Result<(), &'static str> {
    let Stored { nodes, sites, guards, rows, .. } = stored;
    for (at, node) in nodes.iter().enumerate() {
        let mut is_ordered = true;
        for_each_operand(node, |operand| is_ordered &= operand.get() < at);
        let segments: &[Segment] = match node {
            Node::Keccak(segments) | Node::Bytes(segments) => segments,
            Node::Call(call) => &call.input,
            Node::Apply(instruction, operands) => {
                is_ordered &= operands.iter().all(|operand| operand.get() < at);
                if !is_arithmetic(*instruction) {
                    return Err("an expression has an unknown operation");
                }
                &[]
            }
            _ => &[],
        };
        if !is_ordered {
            return Err("an expression refers to a later one");
        }
        if !is_segments(segments) {
            return Err("a word has more than 32 bytes");
        }
    }
    let exists = |id: &NodeId| id.get() < nodes.len();
    let is_site = |site: &Site| {
        exists(&site.node)
            && site.value.iter().all(exists)
            && match &site.rule.basis {
                Basis::Guards(literals) => {
                    literals.iter().all(|(guard, _)| usize::from(*guard) < guards.len())
                }
                Basis::Always | Basis::Neighbours => true,
            }
            && match (site.kind, &nodes[site.node.get()]) {
                (SiteKind::Call, node) => matches!(node, Node::Call(_)),
                (SiteKind::Output, node) => matches!(node, Node::Bytes(_)),
                (SiteKind::Slot | SiteKind::Write | SiteKind::Account, _) => true,
            }
    };
    if !sites.iter().all(is_site) || !guards.iter().all(exists) {
        return Err("it refers to an expression that is not there");
    }
    if !Template::fits(sites, guards, rows) {
        return Err("it is larger than templates may be");
    }
    Ok(())
}

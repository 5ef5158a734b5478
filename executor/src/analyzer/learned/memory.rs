//! Where the bytes in an execution's memory came from.
//!
//! Only what does not follow from the code alone is noted; all else in memory is constant on the
//! path. *Must not know*: what the bytes are. Whoever reads brings the real memory along.

use super::expression::{Arena, Length, Node, NodeId, Origin, Segment};
use alloy_primitives::U256;
use revm::bytecode::opcode::{AND, OR};
use std::{collections::BTreeMap, ops::Range};

/// A run of bytes that is not constant.
#[derive(Clone, Copy, Debug)]
struct Piece {
    length: usize,
    source: Source,
}

/// Where a piece's bytes come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A word, from a byte of it on.
    Word(NodeId, usize),
    /// Calldata, so many bytes behind an offset. The length of the whole, where it is an
    /// expression, holds for the piece as long as it has not been cut.
    Calldata(NodeId, usize, Option<NodeId>),
    /// What a call returned, from a byte on.
    Return(NodeId, usize),
    /// Nobody knows.
    Opaque,
}

impl Source {
    /// The source of what lies `by` bytes further on.
    fn skip(self, by: usize) -> Self {
        match self {
            Self::Word(id, from) => Self::Word(id, from + by),
            Self::Calldata(offset, from, _) if by > 0 => Self::Calldata(offset, from + by, None),
            Self::Return(call, from) => Self::Return(call, from + by),
            same => same,
        }
    }

    /// The source of a piece that was cut at its end.
    fn cut(self) -> Self {
        match self {
            Self::Calldata(offset, from, _) => Self::Calldata(offset, from, None),
            same => same,
        }
    }
}

/// The memory of one call, or the data that a call returned.
#[derive(Clone, Debug, Default)]
pub(super) struct ShadowMemory(BTreeMap<usize, Piece>);

impl ShadowMemory {
    /// Notes that bytes are constant now.
    pub(super) fn clear(&mut self, range: Range<usize>) {
        if range.is_empty() || self.0.is_empty() {
            return;
        }
        let before = self.0.range(..range.start).next_back().map(|(start, piece)| (*start, *piece));
        if let Some((start, piece)) = before
            && start + piece.length > range.start
        {
            let kept = Piece { length: range.start - start, source: piece.source.cut() };
            self.0.insert(start, kept);
            self.keep_tail(start, piece, range.end);
        }
        while let Some((start, piece)) =
            self.0.range(range.clone()).next().map(|(start, piece)| (*start, *piece))
        {
            self.0.remove(&start);
            self.keep_tail(start, piece, range.end);
        }
    }

    /// Puts back what of a piece lies behind `end`.
    fn keep_tail(&mut self, start: usize, piece: Piece, end: usize) {
        let length = (start + piece.length).saturating_sub(end);
        if length > 0 {
            let source = piece.source.skip(end - start);
            self.0.insert(end, Piece { length, source });
        }
    }

    /// Notes where bytes come from.
    pub(super) fn write(&mut self, range: Range<usize>, source: Source) {
        self.clear(range.clone());
        if !range.is_empty() {
            self.0.insert(range.start, Piece { length: range.len(), source });
        }
    }

    /// Notes that a whole word was stored.
    pub(super) fn write_word(&mut self, at: usize, origin: Origin) {
        match origin {
            Origin::Constant => self.clear(at..at.saturating_add(32)),
            Origin::Known(id) => self.write(at..at.saturating_add(32), Source::Word(id, 0)),
            Origin::Opaque => self.write(at..at.saturating_add(32), Source::Opaque),
        }
    }

    /// What in a range is not constant: offset in the range, length and source of each piece.
    pub(super) fn pieces(&self, range: Range<usize>) -> Vec<(usize, usize, Source)> {
        let mut found = Vec::new();
        let first =
            self.0.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        for (start, piece) in self.0.range(first..range.end.max(first)) {
            let end = start + piece.length;
            let (from, to) = ((*start).max(range.start), end.min(range.end));
            if from < to {
                let source = piece.source.skip(from - start);
                let source = if to < end { source.cut() } else { source };
                found.push((from - range.start, to - from, source));
            }
        }
        found
    }

    /// Puts copied pieces down.
    pub(super) fn put(&mut self, at: usize, length: usize, pieces: &[(usize, usize, Source)]) {
        self.clear(at..at.saturating_add(length));
        for (offset, length, source) in pieces {
            self.write(at + offset..at + offset + length, *source);
        }
    }

    /// The origin of the bytes in a range. `bytes` are the bytes themselves.
    pub(super) fn segments(&self, start: usize, bytes: &[u8], arena: &mut Arena) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut position = 0;
        for (offset, length, source) in self.pieces(start..start.saturating_add(bytes.len())) {
            append(&mut segments, Segment::Constant(bytes[position..offset].into()));
            position = offset + length;
            match source {
                Source::Word(id, from) => append_word(&mut segments, id, from, length, arena),
                _ => append(&mut segments, segment(source, length, arena)),
            }
        }
        append(&mut segments, Segment::Constant(bytes[position..].into()));
        segments
    }

    /// The origin of a word. `bytes` are its bytes.
    pub(super) fn word(&self, at: usize, bytes: &[u8; 32], arena: &mut Arena) -> Origin {
        let segments = self.segments(at, bytes, arena);
        match segments[..] {
            [Segment::Constant(_)] => Origin::Constant,
            [Segment::Word(id, 0, 32)] => Origin::Known(id),
            [Segment::Calldata(offset, _)] => arena.origin(Node::CalldataWord(offset)),
            [Segment::Return(call, from, 32)] => arena.origin(Node::ReturnWord(call, from)),
            [Segment::Opaque(_)] => Origin::Opaque,
            _ => arena.origin(Node::Bytes(segments.into())),
        }
    }
}

/// Whether some of the bytes are not known.
pub(super) fn has_opaque(segments: &[Segment]) -> bool {
    segments.iter().any(|segment| matches!(segment, Segment::Opaque(_)))
}

/// Appends a segment; to the last one, where they belong together.
fn append(segments: &mut Vec<Segment>, next: Segment) {
    match (segments.last_mut(), next) {
        (_, Segment::Constant(bytes)) if bytes.is_empty() => {}
        (Some(Segment::Constant(last)), Segment::Constant(bytes)) => {
            *last = [&**last, &*bytes].concat().into();
        }
        (Some(Segment::Word(last, from, length)), Segment::Word(id, start, more))
            if *last == id && *from + *length == start =>
        {
            *length += more;
        }
        (Some(Segment::Return(last, from, length)), Segment::Return(call, start, more))
            if *last == call && from.checked_add(*length) == Some(start) =>
        {
            *length += more;
        }
        (Some(Segment::Opaque(length)), Segment::Opaque(more)) => *length += more,
        (_, next) => segments.push(next),
    }
}

/// Appends bytes of a word. A word that was itself put together is taken apart again: code that
/// copies memory word by word cuts words at any byte, and what it copies is whole again in the end.
fn append_word(
    segments: &mut Vec<Segment>,
    id: NodeId,
    from: usize,
    length: usize,
    arena: &mut Arena,
) {
    let parts = match arena.get(id) {
        Node::Bytes(parts) if parts.iter().all(|part| fixed_length(part).is_some()) => {
            parts.clone()
        }
        _ => return append(segments, Segment::Word(id, from as u8, length as u8)),
    };
    let mut start = 0;
    for part in &parts {
        let end = start + fixed_length(part).unwrap_or_default();
        let (first, last) = (start.max(from), end.min(from + length));
        if first < last {
            let (skip, length) = (first - start, last - first);
            let cut = match part {
                Segment::Constant(bytes) => Segment::Constant(bytes[skip..skip + length].into()),
                Segment::Word(id, from, _) => Segment::Word(*id, from + skip as u8, length as u8),
                Segment::Return(call, from, _) => {
                    Segment::Return(*call, from + skip as u32, length as u32)
                }
                Segment::Calldata(offset, _) => {
                    segment(Source::Calldata(*offset, skip, None), length, arena)
                }
                Segment::Opaque(_) => Segment::Opaque(length as u32),
            };
            append(segments, cut);
        }
        start = end;
    }
}

/// Makes bytes as long as `whole` says, by the longest piece of calldata among them, if all lengths
/// are taken for fixed: code that copies word by word has made many pieces of it, and how many there
/// are depends on the call.
pub(super) fn stretch(segments: &mut Vec<Segment>, whole: NodeId, arena: &mut Arena) {
    let Some(total) = segments.iter().map(fixed_length).sum::<Option<usize>>() else { return };
    let longest = calldata_runs(segments, arena).into_iter().max_by_key(|run| run.length);
    let Some(run) = longest.filter(|run| run.length >= STRETCHED_MIN) else { return };
    let rest = U256::from(total - run.length);
    let start = arena.plus(run.start.0, U256::from(run.start.1));
    if let (Some(start), Some(length)) = (start, arena.plus(whole, rest.wrapping_neg())) {
        segments.splice(run.segments, [Segment::Calldata(start, Length::Of(length))]);
    }
}

/// How much calldata in one piece has its length made an expression, in bytes. Two words are what
/// mappings hash.
const STRETCHED_MIN: usize = 64;

/// Segments that are one piece of calldata.
struct CalldataRun {
    segments: Range<usize>,
    /// An offset in calldata, and so many bytes on.
    start: (NodeId, usize),
    length: usize,
}

impl CalldataRun {
    fn is_followed_by(&self, (offset, from): (NodeId, usize), arena: &Arena) -> bool {
        let end = U256::from(self.start.1 + self.length);
        let gap = arena.distance(self.start.0, offset);
        gap.is_some_and(|gap| gap.wrapping_add(U256::from(from)) == end)
    }
}

fn calldata_runs(segments: &[Segment], arena: &Arena) -> Vec<CalldataRun> {
    let mut runs: Vec<CalldataRun> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let (start, length) = match segment {
            Segment::Calldata(offset, Length::Fixed(length)) => ((*offset, 0), *length as usize),
            Segment::Word(word, from, length) => {
                let offset = match arena.get(*word) {
                    Node::CalldataWord(offset) => Some(*offset),
                    _ if *length < 32 => first_calldata(*word, arena),
                    _ => None,
                };
                let Some(offset) = offset else { continue };
                ((offset, usize::from(*from)), usize::from(*length))
            }
            _ => continue,
        };
        match runs.last_mut() {
            Some(run) if run.segments.end == at && run.is_followed_by(start, arena) => {
                run.segments.end += 1;
                run.length += length;
            }
            _ => runs.push(CalldataRun { segments: at..at + 1, start, length }),
        }
    }
    runs
}

/// Where the calldata begins that the bytes begin with that are used of a word. The last word of what
/// is copied is masked, and put together with what was there before.
fn first_calldata(word: NodeId, arena: &Arena) -> Option<NodeId> {
    match arena.get(word) {
        Node::CalldataWord(offset) => Some(*offset),
        Node::Bytes(segments) => match segments.first() {
            Some(Segment::Calldata(offset, _)) => Some(*offset),
            _ => None,
        },
        Node::Apply(AND | OR, [a, b, _]) => {
            first_calldata(*a, arena).or_else(|| first_calldata(*b, arena))
        }
        _ => None,
    }
}

/// The length of a segment, in bytes, if it is always the same.
fn fixed_length(segment: &Segment) -> Option<usize> {
    match segment {
        Segment::Constant(bytes) => Some(bytes.len()),
        Segment::Word(_, _, length) => Some(usize::from(*length)),
        Segment::Calldata(_, Length::Fixed(length))
        | Segment::Return(_, _, length)
        | Segment::Opaque(length) => Some(*length as usize),
        Segment::Calldata(_, Length::Of(_)) => None,
    }
}

fn segment(source: Source, length: usize, arena: &mut Arena) -> Segment {
    let opaque = Segment::Opaque(length as u32);
    match source {
        Source::Word(id, from) => Segment::Word(id, from as u8, length as u8),
        Source::Return(call, from) => Segment::Return(call, from as u32, length as u32),
        Source::Opaque => opaque,
        Source::Calldata(offset, from, whole) => {
            let length = whole.map_or(Length::Fixed(length as u32), Length::Of);
            let start = arena.plus(offset, U256::from(from));
            start.map_or(opaque, |start| Segment::Calldata(start, length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::expression::Environment, *};

    fn word(arena: &mut Arena, fact: Environment) -> NodeId {
        arena.add(Node::Environment(fact)).unwrap()
    }

    #[test]
    fn a_word_written_over_others_cuts_them() {
        let mut arena = Arena::default();
        let [old, new] = [Environment::This, Environment::Caller].map(|f| word(&mut arena, f));
        let mut memory = ShadowMemory::default();
        memory.write_word(0, Origin::Known(old));
        memory.write_word(32, Origin::Known(old));
        memory.write_word(16, Origin::Known(new));
        let segments = memory.segments(0, &[0; 70], &mut arena);
        assert_eq!(
            segments,
            [
                Segment::Word(old, 0, 16),
                Segment::Word(new, 0, 32),
                Segment::Word(old, 16, 16),
                Segment::Constant([0; 6].into()),
            ]
        );
        memory.write_word(16, Origin::Constant);
        assert_eq!(memory.word(16, &[0; 32], &mut arena), Origin::Constant);
        assert_eq!(memory.pieces(0..16).len(), 1);
    }

    #[test]
    fn a_range_inside_one_piece_keeps_both_sides() {
        let mut arena = Arena::default();
        let start = arena.constant(U256::from(4)).unwrap();
        let mut memory = ShadowMemory::default();
        memory.write(100..200, Source::Calldata(start, 0, None));
        memory.clear(120..130);
        let at = |arena: &mut Arena, offset: u64| {
            let offset = arena.constant(U256::from(offset)).unwrap();
            arena.origin(Node::CalldataWord(offset))
        };
        assert_eq!(memory.word(140, &[0; 32], &mut arena), at(&mut arena, 44));
        assert_eq!(memory.word(120, &[0; 32], &mut arena), {
            let thirty_four = arena.constant(U256::from(34)).unwrap();
            arena.origin(Node::Bytes(
                [
                    Segment::Constant([0; 10].into()),
                    Segment::Calldata(thirty_four, Length::Fixed(22)),
                ]
                .into(),
            ))
        });
    }

    #[test]
    fn what_is_copied_word_by_word_is_whole_again() {
        let mut arena = Arena::default();
        let [from, to] = [Environment::This, Environment::Caller].map(|f| word(&mut arena, f));
        let mut memory = ShadowMemory::default();
        memory.write_word(4, Origin::Known(from));
        memory.write_word(36, Origin::Known(to));
        memory.write_word(68, Origin::Opaque);
        // A call's data, behind a selector, is copied from 0 to 200.
        for at in [0, 32, 64] {
            let copied = memory.word(at, &[7; 32], &mut arena);
            memory.write_word(200 + at, copied);
        }
        assert_eq!(
            memory.segments(200, &[7; 96], &mut arena),
            [
                Segment::Constant([7; 4].into()),
                Segment::Word(from, 0, 32),
                Segment::Word(to, 0, 32),
                Segment::Opaque(28),
            ]
        );
    }

    #[test]
    fn calldata_that_is_copied_word_by_word_is_as_long_as_the_call_says() {
        let mut arena = Arena::default();
        let [start, length, mask] =
            [Environment::Value, Environment::CalldataSize, Environment::This]
                .map(|fact| word(&mut arena, fact));
        let mut memory = ShadowMemory::default();
        memory.write(1000..1068, Source::Calldata(start, 0, None));
        for at in [0, 32] {
            let copied = memory.word(1000 + at, &[7; 32], &mut arena);
            memory.write_word(4 + at, copied);
        }
        // What is left is masked, and put together with what was there.
        let rest = memory.word(1064, &[7; 32], &mut arena);
        let masked = arena.apply(AND, &[(rest, U256::ZERO), (Origin::Known(mask), U256::ZERO)]);
        let last = arena.apply(OR, &[(masked, U256::ZERO), (Origin::Constant, U256::ZERO)]);
        memory.write_word(68, last);
        let mut segments = memory.segments(0, &[7; 72], &mut arena);
        assert_eq!(segments.len(), 4);
        stretch(&mut segments, length, &mut arena);
        let length = arena.plus(length, U256::from(4).wrapping_neg()).unwrap();
        assert_eq!(
            segments,
            [Segment::Constant([7; 4].into()), Segment::Calldata(start, Length::Of(length))]
        );
    }

    #[test]
    fn copies_keep_their_origin() {
        let mut arena = Arena::default();
        let caller = word(&mut arena, Environment::Caller);
        let mut memory = ShadowMemory::default();
        memory.write_word(0, Origin::Known(caller));
        let pieces = memory.pieces(0..64);
        memory.put(16, 64, &pieces);
        assert_eq!(memory.word(16, &[0; 32], &mut arena), Origin::Known(caller));
        assert_eq!(memory.pieces(0..16).len(), 1);
    }
}

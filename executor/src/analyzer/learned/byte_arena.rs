//! Bytes of calldata and returned data, some of which may not be known.
//!
//! A word that nobody has asked for yet is *promised*: there is a gap where its bytes belong, which
//! is filled when they are needed. Most of what calls hand to each other never is.
//!
//! All bytes of one transaction's calls lie one behind the other in one buffer, which is used again
//! for the next transaction; so putting bytes together allocates nothing.
//!
//! *Must not know*: what the bytes mean.

use super::program::Operand;
use alloy_primitives::U256;
use std::ops::Range;

/// Bytes of one run.
const RUN_MAX: usize = 128 * 1024;
/// Bytes of one transaction, all calls together.
const ARENA_MAX: usize = 1 << 20;

/// Bytes that belong together, in a [`ByteArena`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByteRun {
    start: usize,
    length: usize,
    /// Positions in the list of gaps.
    first_gap: usize,
    last_gap: usize,
}

impl ByteRun {
    /// How many bytes there are.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Whether it is the first one in its arena.
    pub(super) const fn is_first(&self) -> bool {
        self.start == 0
    }

    const fn has_gaps(&self) -> bool {
        self.first_gap < self.last_gap
    }
}

/// A value that can be worked out: an operand of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    /// The call, by its position.
    pub(super) frame: usize,
    pub(super) word: Operand,
}

/// Where bytes are not known, or not known yet.
#[derive(Clone, Debug)]
struct Gap {
    /// Positions in the buffer. Empty if the gap has been filled.
    range: Range<usize>,
    /// The word that they are of, and the first of its bytes.
    promise: Option<(Promise, usize)>,
}

impl Gap {
    fn is_in(&self, range: &Range<usize>) -> bool {
        !self.range.is_empty() && self.range.start < range.end && range.start < self.range.end
    }
}

/// The buffer. Runs are appended to it, one after the other.
#[derive(Debug, Default)]
pub(super) struct ByteArena {
    bytes: Vec<u8>,
    gaps: Vec<Gap>,
}

impl ByteArena {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.gaps.clear();
    }

    /// A run of known bytes. `None` if they are too many.
    pub(super) fn run(&mut self, bytes: &[u8]) -> Option<ByteRun> {
        let begun = self.begin();
        self.push(bytes);
        self.end(begun)
    }

    /// Begins a run, to which everything belongs that is pushed until its [end](Self::end).
    pub(super) fn begin(&self) -> ByteRun {
        let (start, gaps) = (self.bytes.len(), self.gaps.len());
        ByteRun { start, length: 0, first_gap: gaps, last_gap: gaps }
    }

    /// Ends a run. `None` if it has become too long; then it is dropped.
    pub(super) fn end(&mut self, begun: ByteRun) -> Option<ByteRun> {
        let length = self.bytes.len() - begun.start;
        if length > RUN_MAX || self.bytes.len() > ARENA_MAX {
            self.bytes.truncate(begun.start);
            self.gaps.truncate(begun.first_gap);
            return None;
        }
        Some(ByteRun { length, last_gap: self.gaps.len(), ..begun })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn push_unknown(&mut self, length: usize) {
        self.push_gap(length, None);
    }

    /// Appends bytes of a word that is promised: from a position, so many.
    pub(super) fn push_promised(&mut self, promise: Promise, from: usize, length: usize) {
        self.push_gap(length, Some((promise, from)));
    }

    fn push_gap(&mut self, length: usize, promise: Option<(Promise, usize)>) {
        // One byte more than a run may have is enough for it to be dropped.
        let length = length.min(RUN_MAX + 1);
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        if length > 0 {
            self.gaps.push(Gap { range: start..start + length, promise });
        }
    }

    /// Appends a part of a run; zeros where it reaches beyond the run.
    pub(super) fn push_part(&mut self, run: ByteRun, from: usize, length: usize) {
        let length = length.min(RUN_MAX + 1);
        let start = self.bytes.len();
        let from = from.min(run.length);
        let copied = length.min(run.length - from);
        let source = run.start + from..run.start + from + copied;
        self.bytes.extend_from_within(source.clone());
        self.bytes.resize(start + length, 0);
        for at in run.first_gap..run.last_gap {
            let gap = &self.gaps[at];
            if gap.is_in(&source) {
                let (first, end) =
                    (gap.range.start.max(source.start), gap.range.end.min(source.end));
                let skipped = first - gap.range.start;
                let promise = gap.promise.map(|(promise, from)| (promise, from + skipped));
                let range = start + first - source.start..start + end - source.start;
                self.gaps.push(Gap { range, promise });
            }
        }
    }

    /// The first gap in a range of a run of which the bytes are promised.
    pub(super) fn promise_in(&self, run: ByteRun, range: Range<usize>) -> Option<(usize, Promise)> {
        let range = positions(run, range);
        let mut gaps = (run.first_gap..run.last_gap).map(|at| (at, &self.gaps[at]));
        gaps.find_map(|(at, gap)| {
            let (promise, _) = gap.promise.filter(|_| gap.is_in(&range))?;
            Some((at, promise))
        })
    }

    /// The promise that is the whole word at an offset of a run.
    pub(super) fn promised_word(&self, run: ByteRun, at: usize) -> Option<Promise> {
        let range = positions(run, at..at.saturating_add(32));
        let gaps = &self.gaps[run.first_gap..run.last_gap];
        let gap = gaps.iter().find(|gap| gap.range == range)?;
        gap.promise.filter(|(_, from)| *from == 0).map(|(promise, _)| promise)
    }

    /// Fills a gap with the word that was promised, as far as that is known.
    pub(super) fn keep(&mut self, gap: usize, word: Option<U256>) {
        let gap = &mut self.gaps[gap];
        if let (Some((_, from)), Some(word)) = (gap.promise.take(), word) {
            let bytes = word.to_be_bytes::<32>();
            let length = gap.range.len();
            self.bytes[gap.range.clone()].copy_from_slice(&bytes[from..from + length]);
            gap.range.end = gap.range.start;
        }
    }

    /// Whether all bytes in a range of a run are known. There are no gaps beyond its end.
    fn is_known(&self, run: ByteRun, range: Range<usize>) -> bool {
        let range = positions(run, range);
        !self.gaps[run.first_gap..run.last_gap].iter().any(|gap| gap.is_in(&range))
    }

    /// The bytes of a run. `None` if some are not known.
    pub(super) fn known(&self, run: ByteRun) -> Option<&[u8]> {
        self.is_known(run, 0..run.length).then(|| &self.bytes[run.start..run.start + run.length])
    }

    /// The first four bytes of a run, as calldata tells a function: `Some(None)` if there are fewer
    /// of them, `None` if they are not known.
    pub(super) fn selector(&self, run: ByteRun) -> Option<Option<[u8; 4]>> {
        let bytes = &self.bytes[run.start..run.start + run.length];
        self.is_known(run, 0..run.length.min(4)).then(|| bytes.first_chunk().copied())
    }

    /// The word at an offset of a run; zeros behind the end. `None` if it is not known.
    pub(super) fn word(&self, run: ByteRun, at: usize) -> Option<U256> {
        if run.has_gaps() && !self.is_known(run, at.min(run.length)..at.saturating_add(32)) {
            return None;
        }
        let bytes = &self.bytes[run.start..run.start + run.length];
        let rest = bytes.get(at..).unwrap_or_default();
        if let Some(word) = rest.first_chunk::<32>() {
            return Some(U256::from_be_bytes(*word));
        }
        let mut word = [0; 32];
        word[..rest.len()].copy_from_slice(rest);
        Some(U256::from_be_bytes(word))
    }

    /// The bytes of a range of a run, as far as that reaches, and where in the range they are not
    /// known.
    pub(super) fn part(
        &self,
        run: ByteRun,
        range: Range<usize>,
    ) -> (&[u8], impl Iterator<Item = Range<usize>>) {
        let bytes = &self.bytes[run.start..run.start + run.length];
        let bytes = bytes.get(range.start..range.end.min(run.length)).unwrap_or_default();
        let range = positions(run, range);
        let gaps = self.gaps[run.first_gap..run.last_gap].iter();
        let gaps = gaps.map(move |Gap { range: gap, .. }| {
            let (first, end) = (gap.start.max(range.start), gap.end.min(range.end));
            first.saturating_sub(range.start)..end.saturating_sub(range.start)
        });
        (bytes, gaps.filter(|gap| !gap.is_empty()))
    }
}

/// A range of a run, as positions in the buffer.
fn positions(run: ByteRun, range: Range<usize>) -> Range<usize> {
    run.start.saturating_add(range.start)..run.start.saturating_add(range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_their_gaps_and_end_in_zeros() {
        let mut arena = ByteArena::default();
        let begun = arena.begin();
        arena.push(&[1, 2, 3, 4]);
        arena.push_unknown(32);
        arena.push(&[5; 32]);
        let whole = arena.end(begun).unwrap();
        assert_eq!(arena.selector(whole), Some(Some([1, 2, 3, 4])));
        assert_eq!(arena.word(whole, 4), None);
        assert_eq!(arena.word(whole, 35), None);
        assert_eq!(arena.word(whole, 36), Some(U256::from_be_bytes([5; 32])));
        assert_eq!(arena.word(whole, 1_000), Some(U256::ZERO));
        assert_eq!(arena.known(whole), None);

        let begun = arena.begin();
        arena.push_part(whole, 20, 20);
        arena.push_part(whole, 66, 10);
        let part = arena.end(begun).unwrap();
        assert_eq!(part.len(), 30);
        assert_eq!(arena.selector(part), None);
        let (bytes, gaps) = arena.part(part, 10..22);
        assert_eq!(bytes[6..], [5; 6]);
        assert!(gaps.eq(std::iter::once(0..6)));
        // There is nothing behind the end.
        let (bytes, gaps) = arena.part(part, 28..40);
        assert_eq!((bytes, gaps.count()), (&[0; 2][..], 0));
        assert!(arena.part(part, 31..40).0.is_empty());
    }

    #[test]
    fn promises_are_kept_where_they_are_asked_for() {
        let mut arena = ByteArena::default();
        let promise = Promise { frame: 3, word: Operand::register(5) };
        let begun = arena.begin();
        arena.push(&[1, 2, 3, 4]);
        arena.push_promised(promise, 0, 32);
        let whole = arena.end(begun).unwrap();
        assert_eq!(arena.word(whole, 4), None);
        assert_eq!(arena.promised_word(whole, 4), Some(promise));
        assert_eq!(arena.promised_word(whole, 5), None);
        let begun = arena.begin();
        arena.push_part(whole, 34, 32);
        let part = arena.end(begun).unwrap();
        assert_eq!(arena.promise_in(whole, 0..4), None);
        let (gap, found) = arena.promise_in(part, 0..32).unwrap();
        assert_eq!(found, promise);
        let mut word = [0; 32];
        (word[30], word[31]) = (8, 9);
        arena.keep(gap, Some(U256::from_be_bytes(word)));
        assert_eq!(arena.promise_in(part, 0..32), None);
        assert_eq!(arena.known(part).unwrap()[..3], [8, 9, 0]);
        // The other copy is as it was.
        let (gap, _) = arena.promise_in(whole, 0..32).unwrap();
        arena.keep(gap, None);
        assert_eq!((arena.word(whole, 4), arena.promised_word(whole, 4)), (None, None));
    }

    #[test]
    fn what_grows_too_long_is_dropped() {
        let mut arena = ByteArena::default();
        let kept = arena.run(&[7; 32]).unwrap();
        let begun = arena.begin();
        arena.push_unknown(usize::MAX);
        assert!(arena.end(begun).is_none());
        let begun = arena.begin();
        arena.push_part(kept, 3, usize::MAX);
        assert!(arena.end(begun).is_none());
        assert_eq!(arena.known(kept), Some(&[7; 32][..]));
    }
}

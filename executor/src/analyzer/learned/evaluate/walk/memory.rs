//! The memory of a call that is walked through: bytes, and which of their bits are known.

use crate::analyzer::learned::bits::Bits;
use std::ops::Range;

/// Bytes of one call's memory.
const SIZE_MAX: usize = 128 * 1024;

/// Memory that grows where it is used; zeros at first.
///
/// Nothing is done, and `None` is given, where an operation reaches further than [`SIZE_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    bytes: Vec<u8>,
    /// Ones where the bits are known.
    known: Vec<u8>,
}

impl Memory {
    /// How far it reaches, in bytes.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes memory reach to the end of so many bytes from an offset.
    fn reach(&mut self, at: usize, length: usize) -> Option<Range<usize>> {
        if length == 0 {
            return Some(0..0);
        }
        let end = at.checked_add(length).filter(|end| *end <= SIZE_MAX)?;
        if end > self.bytes.len() {
            let size = end.next_multiple_of(32);
            self.bytes.resize(size, 0);
            self.known.resize(size, u8::MAX);
        }
        Some(at..end)
    }

    pub(super) fn word(&mut self, at: usize) -> Option<Bits> {
        let range = self.reach(at, 32)?;
        let (mut value, mut known) = ([0; 32], [0; 32]);
        value.copy_from_slice(&self.bytes[range.clone()]);
        known.copy_from_slice(&self.known[range]);
        Some(Bits::of_bytes(value, known))
    }

    /// Writes bytes, and ones where their bits are known.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8], known: &[u8]) -> Option<()> {
        let range = self.reach(at, bytes.len())?;
        self.bytes[range.clone()].copy_from_slice(bytes);
        self.known[range].copy_from_slice(known);
        Some(())
    }

    /// Writes bytes that are known, and zeros behind them, so many together.
    pub(super) fn write_known(&mut self, at: usize, bytes: &[u8], length: usize) -> Option<()> {
        let range = self.reach(at, length)?;
        self.known[range.clone()].fill(u8::MAX);
        let (copied, rest) = self.bytes[range].split_at_mut(bytes.len());
        copied.copy_from_slice(bytes);
        rest.fill(0);
        Some(())
    }

    /// Forgets so many bytes.
    pub(super) fn forget(&mut self, at: usize, length: usize) -> Option<()> {
        let range = self.reach(at, length)?;
        self.bytes[range.clone()].fill(0);
        self.known[range].fill(0);
        Some(())
    }

    pub(super) fn copy_within(&mut self, to: usize, from: usize, length: usize) -> Option<()> {
        let (source, target) = (self.reach(from, length)?, self.reach(to, length)?);
        self.bytes.copy_within(source.clone(), target.start);
        self.known.copy_within(source, target.start);
        Some(())
    }

    /// Bytes, if all of them are known.
    pub(super) fn known(&mut self, at: usize, length: usize) -> Option<&[u8]> {
        let range = self.reach(at, length)?;
        let is_known = self.known[range.clone()].iter().all(|known| *known == u8::MAX);
        is_known.then(|| &self.bytes[range])
    }

    /// Bytes in pieces: those that are known, and how many are not.
    pub(super) fn pieces(
        &mut self,
        at: usize,
        length: usize,
    ) -> Option<impl Iterator<Item = Result<&[u8], usize>>> {
        let range = self.reach(at, length)?;
        let (mut bytes, known) = (&self.bytes[range.clone()], &self.known[range]);
        let runs = known.chunk_by(|a, b| (*a == u8::MAX) == (*b == u8::MAX));
        Some(runs.map(move |run| {
            let (piece, rest) = bytes.split_at(run.len());
            bytes = rest;
            if run[0] == u8::MAX { Ok(piece) } else { Err(run.len()) }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;

    #[test]
    fn what_is_forgotten_stays_unknown_where_it_is_copied() {
        let mut memory = Memory::default();
        let word = U256::from(7).to_be_bytes::<32>();
        memory.write_known(4, &word, 64).unwrap();
        memory.forget(36, 2).unwrap();
        memory.copy_within(100, 0, 64).unwrap();
        assert_eq!(memory.word(104).unwrap(), Bits::of(U256::from(7)));
        assert_eq!(memory.word(120).unwrap().whole(), None);
        assert_eq!(memory.known(138, 20), Some(&[0; 20][..]));
        assert_eq!(memory.known(137, 20), None);
        let pieces: Vec<_> = memory.pieces(130, 10).unwrap().collect();
        assert_eq!(pieces, [Ok(&[0, 0, 0, 0, 0, 7][..]), Err(2), Ok(&[0, 0][..])]);
    }

    #[test]
    fn nothing_reaches_without_end() {
        let mut memory = Memory::default();
        assert_eq!(memory.word(usize::MAX), None);
        assert_eq!(memory.forget(SIZE_MAX - 1, 2), None);
        assert_eq!(memory.copy_within(usize::MAX, usize::MAX, 0), Some(()));
        assert_eq!(memory.len(), 0);
    }
}

//! Bytes: what calls are given and return, put together from pieces and promises.

use super::{Evaluator, Extent, Frame, Here, StateView};
use crate::analyzer::learned::{
    byte_arena::{ByteRun, Promise},
    desk::Register,
    memo::Question,
    program::{Operand, Part, Piece},
};
use alloy_primitives::U256;
use std::{ops::Range, sync::Arc};

/// Bytes that count as a step.
const BYTES_PER_STEP: usize = 64;

impl<V: StateView> Evaluator<'_, V> {
    /// The word at an offset of a run, and what was promised of it.
    pub(super) fn word(&mut self, run: ByteRun, at: usize) -> Option<U256> {
        match self.desk.bytes.promised_word(run, at) {
            Some(promise) => self.promised(promise),
            None => {
                self.settle(run, at..at.saturating_add(32));
                let word = self.desk.bytes.word(run, at);
                if let Some(word) = word.filter(|_| run.is_first()) {
                    self.note_word(at, word);
                }
                word
            }
        }
    }

    /// Fills the gaps in a range of a run, as far as that is possible.
    pub(super) fn settle(&mut self, run: ByteRun, range: Range<usize>) {
        while let Some((gap, promise)) = self.desk.bytes.promise_in(run, range.clone()) {
            let word = self.promised(promise);
            self.desk.bytes.keep(gap, word);
        }
    }

    /// What was promised by a call.
    fn promised(&mut self, Promise { frame, word }: Promise) -> Option<U256> {
        let (registers, resolved) = {
            let Frame { registers, resolved, .. } = &self.desk.frames[frame];
            (*registers, Arc::clone(resolved))
        };
        self.value(Here { program: &resolved.program, frame, registers }, word)
    }

    /// Puts bytes together; words that are not known yet are promised. `None` where not even their
    /// length is known, or they are too many.
    pub(super) fn bytes(&mut self, here: Here<'_>, pieces: Part) -> Option<ByteRun> {
        // Whatever has to be known first: it may put bytes together itself.
        for piece in &here.program.pieces[pieces.range()] {
            match *piece {
                Piece::Calldata(offset, length) => {
                    self.value(here, offset);
                    self.value(here, length);
                }
                Piece::Return(call, ..) => {
                    self.follow(here, call);
                }
                Piece::Constant(_) | Piece::Opaque(_) | Piece::Word(..) => {}
            }
        }
        let begun = self.desk.bytes.begin();
        let is_complete = self.push_pieces(here, pieces).is_some();
        let run = self.desk.bytes.end(begun);
        self.steps += run.map_or(0, |run| run.len() / BYTES_PER_STEP);
        run.filter(|_| is_complete)
    }

    fn push_pieces(&mut self, here: Here<'_>, pieces: Part) -> Option<()> {
        for piece in &here.program.pieces[pieces.range()] {
            match *piece {
                Piece::Constant(part) => {
                    self.desk.bytes.push(&here.program.bytes[part.range()]);
                }
                Piece::Opaque(length) => self.desk.bytes.push_unknown(length as usize),
                Piece::Word(word, from, length) => {
                    self.push_word(here, word, usize::from(from), usize::from(length));
                }
                Piece::Return(call, from, length) => {
                    let (from, length) = (from as usize, length as usize);
                    let at = self.follow(here, call);
                    match self.desk.calls[at].output {
                        Some(output) => self.desk.bytes.push_part(output, from, length),
                        None => self.desk.bytes.push_unknown(length),
                    }
                }
                Piece::Calldata(offset, length) => {
                    let length = usize::try_from(self.value(here, length)?).unwrap_or(usize::MAX);
                    match self.value(here, offset) {
                        Some(offset) => {
                            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                            let calldata = self.desk.frames[here.frame].inputs.calldata;
                            self.desk.bytes.push_part(calldata, offset, length);
                            self.note_words(calldata, offset, length);
                        }
                        None => self.desk.bytes.push_unknown(length),
                    }
                }
            }
        }
        Some(())
    }

    /// Notes that the transaction's calldata was asked for a word.
    fn note_word(&mut self, at: usize, word: U256) {
        // There is nothing so far behind its end.
        if let Ok(at) = u32::try_from(at) {
            self.note_asked(Question::CalldataWord(at), word);
        }
    }

    /// Notes that bytes of calldata were asked for, if it is the transaction's.
    pub(super) fn note_words(&mut self, calldata: ByteRun, from: usize, length: usize) {
        if self.extent == Extent::Everything || !calldata.is_first() {
            return;
        }
        let end = from.saturating_add(length);
        if end > calldata.len() {
            // How many words follow depends on it.
            let size = U256::from(calldata.len());
            self.note_asked(Question::CalldataSize, size);
        }
        for at in (from..end.min(calldata.len())).step_by(32) {
            let word = self.desk.bytes.word(calldata, at).unwrap_or_default();
            self.note_word(at, word);
        }
    }

    /// Appends bytes of a word, or the promise of them.
    fn push_word(&mut self, here: Here<'_>, word: Operand, from: usize, length: usize) {
        let value = match word.place() {
            Err(constant) => here.program.constants[constant],
            Ok(register) => {
                let place = here.registers + register;
                match self.desk.registers[place] {
                    Register::Known => self.desk.values[place],
                    Register::Unasked => {
                        let promise = Promise { frame: here.frame, word };
                        return self.desk.bytes.push_promised(promise, from, length);
                    }
                    Register::Partly | Register::Unknown => {
                        return self.desk.bytes.push_unknown(length);
                    }
                }
            }
        };
        self.desk.bytes.push(&value.to_be_bytes::<32>()[from..from + length]);
    }
}

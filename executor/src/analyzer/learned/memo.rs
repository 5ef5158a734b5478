//! The memo: predictions of a block that are known already.
//!
//! Most calls of a function are like an earlier one in all that decides where they meet others: the
//! same pair, the same way through it. Only amounts differ, and nobody looks at those. So it is noted
//! what an evaluation asks about the transaction, in order, and what the answers are. An evaluation
//! asks the same again as long as it gets the same answers, so what was asked in the evaluations of a
//! function forms a tree; at the end of each way down there is a prediction.
//!
//! Answers that are always the same in a block, such as the state before it, are no part of this; so
//! a memo is good for one block.
//!
//! *Must not know*: what predictions are, or how they are made.

use crate::analyzer::{Function, function_of};
use alloy_primitives::{U256, map::HashMap};
use core::hash::{Hash, Hasher};
use revm::{context::TxEnv, context_interface::Transaction};

/// Places in the tree of a block.
const PLACES_MAX: usize = 1 << 16;
/// So many calls of a function are remembered in any case.
const TRIED_MIN: u32 = 512;
/// After them, one in so many has to be known already.
const KNOWN_SHARE: u32 = 8;

/// Something that is asked about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Its sender.
    Caller,
    /// What it pays.
    Value,
    /// How much gas it may use.
    GasLimit,
    /// How many bytes of calldata it has.
    CalldataSize,
    /// The 32 bytes of calldata at an offset; zeros behind the end.
    CalldataWord(u32),
}

impl Question {
    fn answer(self, tx: &TxEnv) -> U256 {
        match self {
            Self::Caller => tx.caller().into_word().into(),
            Self::Value => tx.value(),
            Self::GasLimit => U256::from(tx.gas_limit()),
            Self::CalldataSize => U256::from(tx.input().len()),
            Self::CalldataWord(offset) => {
                let mut word = [0; 32];
                let rest = tx.input().get(offset as usize..).unwrap_or_default();
                let length = rest.len().min(32);
                word[..length].copy_from_slice(&rest[..length]);
                U256::from_be_bytes(word)
            }
        }
    }
}

/// A place in the tree.
type Place = u32;

/// What was answered at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    place: Place,
    word: U256,
}

impl Hash for Answer {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // As integers, which takes a fraction of the time of bytes.
        hasher.write_u32(self.place);
        self.word.as_limbs().iter().for_each(|limb| hasher.write_u64(*limb));
    }
}

/// What was told about a block's transactions, by what it depends on.
#[derive(Debug)]
pub(super) struct Memo<T> {
    functions: HashMap<Function, Known>,
    places: Vec<Next<T>>,
    /// Where an answer leads.
    answers: HashMap<Answer, Place>,
}

/// What is remembered of a function.
#[derive(Debug, Default)]
struct Known {
    root: Option<Place>,
    /// How many were looked for, and how many of them were found.
    tried: u32,
    found: u32,
}

/// What comes next at a place.
#[derive(Debug)]
enum Next<T> {
    Ask(Question),
    Tell(T),
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { functions: HashMap::default(), places: Vec::new(), answers: HashMap::default() }
    }
}

impl<T> Memo<T> {
    /// What was told about a transaction like this one.
    pub(super) fn recall(&mut self, tx: &TxEnv) -> Option<&T> {
        let Self { functions, places, answers } = self;
        let known = functions.entry(function_of(tx)?).or_default();
        if !known.is_worth_it() {
            return None;
        }
        known.tried += 1;
        let mut place = known.root?;
        loop {
            match &places[place as usize] {
                Next::Ask(question) => {
                    place = *answers.get(&Answer { place, word: question.answer(tx) })?;
                }
                Next::Tell(told) => {
                    known.found += 1;
                    return Some(told);
                }
            }
        }
    }

    /// Remembers what is told about a transaction that is not known, and all that it depends on: what
    /// was asked, in order, and what the answers were.
    pub(super) fn remember(&mut self, tx: &TxEnv, asked: &[(Question, U256)], told: T) {
        let Self { functions, places, answers } = self;
        let Some(known) = function_of(tx).and_then(|function| functions.get_mut(&function)) else {
            return;
        };
        if !known.is_worth_it() || places.len() + asked.len() >= PLACES_MAX {
            return;
        }
        // Each question leads to the next one by its answer, and the last one to what is told.
        let mut way = None;
        for (question, answer) in asked {
            let known_place = match way {
                None => known.root,
                Some(way) => answers.get(&way).copied(),
            };
            let place = match known_place {
                Some(place) => place,
                None => {
                    let place = add(places, Next::Ask(*question));
                    lead(way, place, &mut known.root, answers);
                    place
                }
            };
            // A template that changed in the middle of the block asks something else.
            if !matches!(&places[place as usize], Next::Ask(known) if known == question) {
                return;
            }
            way = Some(Answer { place, word: *answer });
        }
        let end = add(places, Next::Tell(told));
        lead(way, end, &mut known.root, answers);
    }
}

fn add<T>(places: &mut Vec<Next<T>>, next: Next<T>) -> Place {
    places.push(next);
    (places.len() - 1) as Place
}

/// Makes an answer lead to a place, or, without one, the function itself.
fn lead(
    way: Option<Answer>,
    to: Place,
    root: &mut Option<Place>,
    answers: &mut HashMap<Answer, Place>,
) {
    match way {
        None => *root = Some(to),
        Some(way) => _ = answers.insert(way, to),
    }
}

impl Known {
    /// Whether calls of the function are often known already.
    const fn is_worth_it(&self) -> bool {
        self.tried < TRIED_MIN || self.found >= self.tried / KNOWN_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, Bytes};
    use revm::primitives::TxKind;

    fn call(value: u64, words: &[u64]) -> TxEnv {
        let mut data = vec![0; 4];
        for word in words {
            data.extend(U256::from(*word).to_be_bytes::<32>());
        }
        TxEnv {
            kind: TxKind::Call(Address::ZERO),
            value: U256::from(value),
            data: Bytes::from(data),
            ..TxEnv::default()
        }
    }

    /// Something that asks for the value, and for a word only if there is one.
    fn evaluate(tx: &TxEnv) -> (Vec<(Question, U256)>, U256) {
        let mut asked = Vec::new();
        let mut ask = |question: Question| {
            let answer = question.answer(tx);
            asked.push((question, answer));
            answer
        };
        let mut sum = ask(Question::Value);
        if !sum.is_zero() {
            sum += ask(Question::CalldataWord(4));
        }
        (asked, sum)
    }

    #[test]
    fn what_nobody_asks_about_does_not_matter() {
        let mut memo = Memo::default();
        let mut predict = |tx: TxEnv| {
            if let Some(known) = memo.recall(&tx) {
                return (*known, true);
            }
            let (asked, told) = evaluate(&tx);
            memo.remember(&tx, &asked, told);
            (told, false)
        };
        let is = |sum: u64, known| (U256::from(sum), known);
        assert_eq!(predict(call(0, &[7])), is(0, false));
        assert_eq!(predict(call(0, &[8])), is(0, true));
        assert_eq!(predict(call(1, &[7, 1])), is(8, false));
        assert_eq!(predict(call(1, &[7, 2])), is(8, true));
        assert_eq!(predict(call(1, &[8, 2])), is(9, false));
        assert_eq!(predict(call(1, &[])), is(1, false));
        assert_eq!(predict(call(1, &[0])), is(1, true));
        assert_eq!(predict(call(2, &[7])), is(9, false));
    }

    #[test]
    fn calls_that_are_never_alike_are_not_remembered() {
        let mut memo = Memo::default();
        for value in 1..1_000 {
            let tx = call(value, &[value]);
            assert_eq!(memo.recall(&tx), None);
            let (asked, told) = evaluate(&tx);
            memo.remember(&tx, &asked, told);
        }
        assert!(memo.places.len() < 3 * TRIED_MIN as usize);
    }
}

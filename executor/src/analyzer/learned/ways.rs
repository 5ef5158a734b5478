//! Ways: has any sample gone the way that a call goes?
//!
//! The branches of a sample that follow from its call say which way it went through the function. A
//! call that differs from every sample in one of the branches that this one passed goes a way of its
//! own: another round of a loop, a command that nobody has given. No template knows what is there.
//!
//! *Must not know*: what branches are about. They are numbers here.

use super::{ahead::read, bits::ones};

/// Ways that are told apart.
const WAYS_MAX: usize = 64;

/// Samples that went the same side of a branch from which on nobody is expected on the other one: it
/// checks something, and most of a function's branches do.
const SETTLED_FROM: usize = 16;

/// The guards, by bits, that many samples passed, all of them on the same side.
fn settled(rows: impl Iterator<Item = [u128; 2]> + Clone) -> u128 {
    let (held, missed) = rows.clone().fold((0, 0), |(held, missed), [passed, holds]| {
        (held | (passed & holds), missed | (passed & !holds))
    });
    let is_settled = |guard: &u8| {
        let passed = rows.clone().filter(|[passed, _]| passed >> guard & 1 == 1);
        passed.count() >= SETTLED_FROM
    };
    ones(held ^ missed).filter(is_settled).fold(0, |settled, guard| settled | 1 << guard)
}

/// A branch that some way passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Branch {
    guard: u8,
    /// The ways, by bits, on which its condition holds, and on which it does not.
    held: u64,
    missed: u64,
}

/// The ways that samples have gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    branches: Box<[Branch]>,
    all: u64,
}

impl Ways {
    /// The ways of samples, given as the guards that each passed and those of them that held.
    pub(super) fn of(rows: impl Iterator<Item = [u128; 2]> + Clone) -> Self {
        let settled = settled(rows.clone());
        let mut ways: Vec<[u128; 2]> = Vec::new();
        for [passed, held] in rows {
            let passed = passed & !settled;
            let way = [passed, held & passed];
            if !ways.contains(&way) && ways.len() < WAYS_MAX {
                ways.push(way);
            }
        }
        // In one order, whichever of them came first.
        ways.sort_unstable();
        let branch = |guard: u8| {
            let mut branch = Branch { guard, held: 0, missed: 0 };
            for (at, [passed, held]) in ways.iter().enumerate() {
                branch.held |= u64::from(held >> guard & 1 == 1) << at;
                branch.missed |= u64::from((passed & !held) >> guard & 1 == 1) << at;
            }
            branch
        };
        let branches = ones(ways.iter().fold(0, |all, [passed, _]| all | passed)).map(branch);
        let all = (0..ways.len()).fold(0, |all, at| all | 1_u64 << at);
        Self { branches: branches.collect(), all }
    }

    /// Reads the branches [ahead](super::ahead) of their use.
    pub(super) fn read_ahead(&self) {
        read(&self.branches);
    }

    /// The guards that have to be known, as bits.
    pub(super) fn asked(&self) -> u128 {
        self.branches.iter().fold(0, |asked, branch| asked | 1 << branch.guard)
    }

    /// Whether a call may go one of the ways, or there are none. `holds` says whether a guard holds,
    /// if that is known.
    pub(super) fn is_known(&self, mut holds: impl FnMut(u8) -> Option<bool>) -> bool {
        let mut left = self.all;
        for Branch { guard, held, missed } in &self.branches {
            // Branches that only other ways pass say nothing.
            if left & (held | missed) == 0 {
                continue;
            }
            match holds(*guard) {
                Some(true) => left &= !missed,
                Some(false) => left &= !held,
                None => {}
            }
        }
        left != 0 || self.all == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_known_by_the_branches_that_it_passes() {
        // One way passes guards 0 and 1, which both hold; the other passes guard 0 alone, which
        // does not.
        let ways = Ways::of([[0b11, 0b11], [0b01, 0b00], [0b11, 0b11]].into_iter());
        assert_eq!(ways.asked(), 0b11);
        let is_known =
            |guards: [Option<bool>; 2]| ways.is_known(|guard| guards[usize::from(guard)]);
        assert!(is_known([Some(true), Some(true)]));
        assert!(!is_known([Some(true), Some(false)]));
        // What a way does not pass says nothing of it.
        assert!(is_known([Some(false), Some(false)]));
        assert!(is_known([Some(false), None]));
        // Nothing speaks against the first way.
        assert!(is_known([None, Some(true)]) && is_known([None, None]));
        assert!(Ways::default().is_known(|_| Some(true)));
    }

    #[test]
    fn a_branch_that_everybody_takes_is_not_asked_for_ever() {
        let ways = |samples| Ways::of(std::iter::repeat_n([0b11, 0b10], samples));
        assert_eq!(ways(SETTLED_FROM - 1).asked(), 0b11);
        assert_eq!(ways(SETTLED_FROM).asked(), 0);
        assert!(ways(SETTLED_FROM).is_known(|_| Some(true)));
        // One that somebody took on the other side is.
        let rows = std::iter::repeat_n([0b11, 0b10], SETTLED_FROM).chain([[0b11, 0b11]]);
        assert_eq!(Ways::of(rows).asked(), 0b01);
    }

    #[test]
    fn the_order_of_samples_makes_no_difference() {
        let rows = [[0b11, 0b01], [0b10, 0b10], [0b01, 0b01]];
        let reversed = rows.into_iter().rev();
        assert_eq!(Ways::of(rows.into_iter()), Ways::of(reversed));
    }
}

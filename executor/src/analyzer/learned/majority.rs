//! What the samples did that are most like a call.
//!
//! Where no simple condition tells whether a site is there, a call is compared with the samples by
//! the branches that went differently in some of them, and does what most of its neighbours did.
//!
//! *Must not know*: what sites and guards are. They are bits here.

use super::{ahead::read, bits::ones};

/// Samples that agree in everything, once.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    /// Guards whose condition was known, and those of them that held.
    known: u128,
    held: u128,
    /// Sites.
    present: u128,
    count: u32,
}

/// The samples, and the guards by which calls are compared with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Majority {
    neighbours: Box<[Neighbour]>,
    /// Guards that are asked, by bits.
    asked: u128,
}

impl Majority {
    /// The majority among samples, given as known and held guards, and sites. Of guards that are
    /// `compared`, those are asked that tell samples apart in a way that no other one does.
    pub(super) fn of(rows: impl Iterator<Item = [u128; 3]> + Clone, compared: u128) -> Self {
        let mut asked = 0_u128;
        let mut columns: Vec<(u128, u128)> = Vec::new();
        for guard in ones(compared) {
            // What the samples say of the guard: a bit each.
            let mut column = (0, 0);
            for (at, [known, held, _]) in rows.clone().enumerate() {
                let bit = |bits: u128| (bits >> guard & 1) << (at % u128::BITS as usize);
                column = (column.0 | bit(known), column.1 | bit(known & held));
            }
            if !columns.contains(&column) {
                columns.push(column);
                asked |= 1 << guard;
            }
        }
        let mut neighbours: Vec<Neighbour> = Vec::new();
        for [known, held, present] in rows {
            let (known, held) = (known & asked, held & asked);
            let same = |n: &&mut Neighbour| (n.known, n.held, n.present) == (known, held, present);
            match neighbours.iter_mut().find(same) {
                Some(neighbour) => neighbour.count += 1,
                None => neighbours.push(Neighbour { known, held, present, count: 1 }),
            }
        }
        Self { neighbours: neighbours.into(), asked }
    }

    /// Reads the samples [ahead](super::ahead) of their use.
    pub(super) fn read_ahead(&self) {
        read(&self.neighbours);
    }

    /// The guards that have to be known, as bits.
    pub(super) const fn asked(&self) -> u128 {
        self.asked
    }

    /// The sites, as bits, that most of the samples had whose guards were most alike. `known` and
    /// `held` are the guards as bits.
    pub(super) fn nearest(&self, known: u128, held: u128) -> u128 {
        let known = known & self.asked;
        let differing = |neighbour: &Neighbour| (neighbour.held ^ held) & neighbour.known & known;
        // Most calls are like some sample in all that is asked, and bits are slow to count.
        let least = if self.neighbours.iter().any(|neighbour| differing(neighbour) == 0) {
            0
        } else {
            let distances = self.neighbours.iter().map(|near| differing(near).count_ones());
            distances.min().unwrap_or_default()
        };
        let is_nearest = |neighbour: &&Neighbour| match differing(neighbour) {
            0 => true,
            differing => least > 0 && differing.count_ones() == least,
        };
        let nearest = || self.neighbours.iter().filter(is_nearest);
        let all = nearest().fold(0, |all, neighbour| all | neighbour.present);
        let common = nearest().fold(all, |common, neighbour| common & neighbour.present);
        let total: u32 = nearest().map(|neighbour| neighbour.count).sum();
        let mut sites = common;
        let mut open = all & !common;
        while open != 0 {
            let site = open & open.wrapping_neg();
            open ^= site;
            let with = nearest().filter(|neighbour| neighbour.present & site != 0);
            if 2 * with.map(|neighbour| neighbour.count).sum::<u32>() >= total {
                sites |= site;
            }
        }
        sites
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_does_what_its_neighbours_did() {
        // Guards 0 and 2 always agree; so only the first of them is asked.
        let rows = [[0b111, 0b101, 0b01], [0b111, 0b101, 0b01], [0b111, 0b000, 0b10]];
        let majority = Majority::of(rows.into_iter(), 0b111);
        assert_eq!(majority.asked(), 0b011);
        assert_eq!(majority.nearest(0b011, 0b001), 0b01);
        assert_eq!(majority.nearest(0b011, 0b000), 0b10);
        // It is like none of them: more like the last one.
        assert_eq!(majority.nearest(0b011, 0b010), 0b10);
        // Nothing is known of the call: two of three samples had the first site.
        assert_eq!(majority.nearest(0, 0), 0b01);
        assert_eq!(Majority::default().nearest(0, 0), 0);
    }
}

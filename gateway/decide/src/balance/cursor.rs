//! Plain rotation.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The weight of whoever takes all of its turns.
pub const FULL: u32 = 10;

/// Round robin over a slice, without a lock.
///
/// The cursor counts turns, and turn *n* goes to the (*n* mod *u*)-th of the *u* usable ones. So the turns of those
/// that aren't usable go evenly to all others; skipping forward to the next usable one would double the load of their
/// successors.
///
/// One of less weight than the others takes only that part of its turns, evenly spread; a rotation of its own hands the
/// turns that are left to those of the greatest weight. So every share is exact, and nothing is left to chance.
#[derive(Debug, Default)]
pub struct Cursor {
    turns: AtomicUsize,
    left: AtomicUsize,
}

/// Whose turns a [`Cursor`] hands out, by weights from 0 (nobody's) to [`FULL`]. Listed once for many picks.
#[derive(Debug)]
pub struct Rota {
    /// Index and weight of each that can be picked.
    usable: Vec<(usize, u32)>,
    greatest: u32,
    /// Those of the greatest weight, where not all are.
    full: Vec<usize>,
}

impl Rota {
    /// By the weight of each index.
    pub fn new(weights: impl Iterator<Item = u32>) -> Rota {
        let usable: Vec<_> = weights.enumerate().filter(|(_, weight)| *weight > 0).collect();
        let greatest = usable.iter().map(|(_, weight)| *weight).max().unwrap_or(0);
        let full = usable.iter().filter(|(_, weight)| *weight == greatest);
        let full = match full.clone().count() == usable.len() {
            true => Vec::new(),
            false => full.map(|(index, _)| *index).collect(),
        };
        Rota { usable, greatest, full }
    }

    /// Whether some have less weight than others.
    pub fn is_uneven(&self) -> bool {
        !self.full.is_empty()
    }
}

impl Cursor {
    /// A cursor that starts at a random turn, so that several gateways don't march in step.
    pub fn random() -> Self {
        Cursor { turns: AtomicUsize::new(fastrand::usize(..usize::MAX / 2)), left: AtomicUsize::new(0) }
    }

    /// The index, below `len`, whose turn it is; `None` when none is usable. Asks `usable` a few times per index; its
    /// answer may change in between.
    pub fn next(&self, len: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let count = (0..len).filter(|index| usable(*index)).count();
        if count == 0 {
            return None;
        }
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let mut usable = (0..len).filter(|index| usable(*index));
        // There may be fewer by now.
        let first = usable.next()?;
        match turn % count {
            0 => Some(first),
            n => Some(usable.nth(n - 1).unwrap_or(first)),
        }
    }

    /// The index whose turn it is by the rota; `None` when it is nobody's. Takes the same time however many there are.
    pub fn next_of(&self, rota: &Rota) -> Option<usize> {
        let count = rota.usable.len();
        if count == 0 {
            return None;
        }
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let (whose, weight) = rota.usable.get(turn % count).copied()?;
        if !rota.is_uneven() || takes_its_turn(turn / count, weight, rota.greatest) {
            return Some(whose);
        }
        let left = self.left.fetch_add(1, Ordering::Relaxed);
        rota.full.get(left % rota.full.len()).copied()
    }
}

/// Of each `greatest` rounds, `weight` are taken, as evenly spread as can be.
fn takes_its_turn(round: usize, weight: u32, greatest: u32) -> bool {
    let (greatest, weight) = (greatest.max(1) as usize, weight as usize);
    let taken = |rounds: usize| rounds * weight / greatest;
    let round = round % greatest;
    taken(round + 1) > taken(round)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn tally(cursor: &Cursor, weights: &[u32], turns: usize) -> Vec<usize> {
        let (mut tally, rota) = (vec![0; weights.len()], Rota::new(weights.iter().copied()));
        (0..turns).for_each(|_| tally[cursor.next_of(&rota).unwrap()] += 1);
        tally
    }

    proptest! {
        #[test]
        fn a_rota_hands_out_the_same_turns_as_a_look_at_each(
            usable in prop::collection::vec(any::<bool>(), 0..20),
            start in any::<u32>(),
        ) {
            let cursor = || Cursor { turns: AtomicUsize::new(start as usize), left: AtomicUsize::new(0) };
            let rota = Rota::new(usable.iter().map(|usable| if *usable { FULL } else { 0 }));
            let (by_rota, by_looks) = (cursor(), cursor());
            for _ in 0..50 {
                prop_assert_eq!(by_rota.next_of(&rota), by_looks.next(usable.len(), |i| usable[i]));
            }
        }

        #[test]
        fn usable_ones_share_evenly(usable in prop::collection::vec(any::<bool>(), 0..20), rounds in 1_usize..5) {
            let cursor = Cursor::random();
            let well = usable.iter().filter(|u| **u).count();
            if well == 0 {
                prop_assert_eq!(cursor.next(usable.len(), |i| usable[i]), None);
                return Ok(());
            }
            let mut tally = vec![0; usable.len()];
            (0..well * rounds).for_each(|_| tally[cursor.next(usable.len(), |i| usable[i]).unwrap()] += 1);
            let expected: Vec<usize> = usable.iter().map(|u| if *u { rounds } else { 0 }).collect();
            prop_assert_eq!(tally, expected);
        }

        #[test]
        fn the_light_take_their_part_and_the_rest_goes_evenly_to_the_heaviest(
            weights in prop::collection::vec(0..=FULL, 1..8),
        ) {
            let usable = weights.iter().filter(|w| **w > 0).count();
            prop_assume!(usable > 0);
            let greatest = weights.iter().copied().max().unwrap();
            // So many rounds that both the light ones' turns and the turns that they leave come out even.
            let heaviest = weights.iter().filter(|w| **w == greatest).count();
            let rounds = greatest as usize * heaviest;
            let cursor = Cursor { turns: AtomicUsize::new(usable * 7), left: AtomicUsize::new(0) };
            let got = tally(&cursor, &weights, usable * rounds);
            let light = |weight: u32| weight as usize * heaviest;
            let left: usize =
                weights.iter().filter(|w| **w > 0 && **w < greatest).map(|w| rounds - light(*w)).sum();
            for (weight, got) in weights.iter().zip(got) {
                let expected = if *weight == greatest { rounds + left / heaviest } else { light(*weight) };
                prop_assert!(got.abs_diff(expected) <= 1, "{} of {}, not {}", got, weight, expected);
            }
        }
    }

    #[test]
    fn the_turns_that_one_takes_are_spread() {
        let cursor = Cursor { turns: AtomicUsize::new(0), left: AtomicUsize::new(0) };
        let rota = Rota::new([FULL, FULL / 2].into_iter());
        let picks: Vec<usize> = (0..40).map(|_| cursor.next_of(&rota).unwrap()).collect();
        assert!(picks.windows(4).all(|four| four.iter().filter(|pick| **pick == 1).count() == 1), "{picks:?}");
    }

    #[test]
    fn an_answer_that_changes_between_the_passes_still_yields_a_usable_one() {
        let asked = std::cell::Cell::new(0);
        let cursor = Cursor { turns: AtomicUsize::new(2), left: AtomicUsize::new(0) };
        let fickle = |index: usize| {
            asked.set(asked.get() + 1);
            asked.get() <= 3 || index == 1
        };
        assert_eq!(cursor.next(3, fickle), Some(1));
        assert_eq!(cursor.next(3, |_| false), None);
    }
}

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

/// Those that can be picked.
struct Usable {
    count: usize,
    greatest: u32,
    /// How many have the greatest weight.
    full: usize,
}

impl Cursor {
    /// A cursor that starts at a random turn, so that several gateways don't march in step.
    pub fn random() -> Self {
        Cursor { turns: AtomicUsize::new(fastrand::usize(..usize::MAX / 2)), left: AtomicUsize::new(0) }
    }

    /// The index, below `len`, whose turn it is; `None` when none is usable. Asks `usable` a few times per index; its
    /// answer may change in between.
    pub fn next(&self, len: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
        self.weighted(len, |index| if usable(index) { FULL } else { 0 })
    }

    /// As [`Cursor::next`], by weights from 0 (not usable) to [`FULL`].
    pub fn weighted(&self, len: usize, weight: impl Fn(usize) -> u32) -> Option<usize> {
        let usable = Usable::among((0..len).map(&weight))?;
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let whose = nth(len, turn % usable.count, |index| weight(index) > 0)?;
        let (round, weight_of_it) = (turn / usable.count, weight(whose));
        if takes_its_turn(round, weight_of_it, usable.greatest) {
            return Some(whose);
        }
        let left = self.left.fetch_add(1, Ordering::Relaxed);
        nth(len, left % usable.full, |index| weight(index) >= usable.greatest).or(Some(whose))
    }
}

impl Usable {
    fn among(weights: impl Iterator<Item = u32>) -> Option<Usable> {
        let mut usable = Usable { count: 0, greatest: 0, full: 0 };
        for weight in weights.filter(|weight| *weight > 0) {
            usable.count += 1;
            if weight > usable.greatest {
                (usable.greatest, usable.full) = (weight, 0);
            }
            usable.full += usize::from(weight == usable.greatest);
        }
        (usable.count > 0).then_some(usable)
    }
}

/// The n-th index that can be picked; the first, when there are fewer by now.
fn nth(len: usize, n: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
    let mut usable = (0..len).filter(|index| usable(*index));
    let first = usable.next()?;
    match n {
        0 => Some(first),
        n => Some(usable.nth(n - 1).unwrap_or(first)),
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
        let mut tally = vec![0; weights.len()];
        (0..turns).for_each(|_| tally[cursor.weighted(weights.len(), |i| weights[i]).unwrap()] += 1);
        tally
    }

    proptest! {
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
        let picks: Vec<usize> = (0..40).map(|_| cursor.weighted(2, |i| [FULL, FULL / 2][i]).unwrap()).collect();
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

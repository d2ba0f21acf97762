//! Plain rotation.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Round robin over a slice, without a lock.
///
/// The cursor counts turns, and turn *n* goes to the (*n* mod *u*)-th of the *u* usable ones. So the turns of those
/// that aren't usable go evenly to all others; skipping forward to the next usable one would double the load of their
/// successors.
#[derive(Debug, Default)]
pub struct Cursor(AtomicUsize);

impl Cursor {
    /// A cursor that starts at a random turn, so that several gateways don't march in step.
    pub fn random() -> Self {
        Cursor(AtomicUsize::new(fastrand::usize(..usize::MAX / 2)))
    }

    /// The index, below `len`, whose turn it is; `None` when none is usable. Asks `usable` at most twice per index;
    /// its answer may change in between.
    pub fn next(&self, len: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let usable_count = (0..len).filter(|index| usable(*index)).count();
        if usable_count == 0 {
            return None;
        }
        let turn = self.0.fetch_add(1, Ordering::Relaxed) % usable_count;
        let mut still_usable = (0..len).filter(|index| usable(*index));
        let first = still_usable.next()?;
        match turn {
            0 => Some(first),
            turn => Some(still_usable.nth(turn - 1).unwrap_or(first)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

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
    }

    #[test]
    fn an_answer_that_changes_between_the_passes_still_yields_a_usable_one() {
        let asked = std::cell::Cell::new(0);
        let cursor = Cursor(AtomicUsize::new(2));
        let fickle = |index: usize| {
            asked.set(asked.get() + 1);
            asked.get() <= 3 || index == 1
        };
        assert_eq!(cursor.next(3, fickle), Some(1));
        assert_eq!(cursor.next(3, |_| false), None);
    }
}

//! Smooth weighted round robin.

use std::collections::BTreeMap;

/// A new set of candidates is started at most so many picks into its cycle.
const MAX_PHASE: i64 = 1024;

/// Smooth weighted round robin over candidates known by a key.
///
/// At each pick every candidate's credit grows by its weight; the one with the greatest credit is picked and pays the
/// sum of all weights. So each candidate gets exactly its share in each cycle (as many picks as the weights' sum), its
/// turns spread evenly over the cycle; with equal weights that is a plain rotation.
///
/// Weights may differ from pick to pick, as health does; credit is kept by key meanwhile. To leave a candidate out of
/// one pick, give it weight 0: leaving it off the list forgets its credit.
///
/// A gateway's first pick is at a random place of the cycle, so that several gateways don't march in step.
#[derive(Debug, Clone)]
pub struct SmoothWeighted<K> {
    credits: Vec<(K, i64)>,
    total: i64,
}

impl<K> Default for SmoothWeighted<K> {
    fn default() -> Self {
        SmoothWeighted { credits: Vec::new(), total: 0 }
    }
}

impl<K: Ord + Clone> SmoothWeighted<K> {
    /// The index of the candidate whose turn it is; `None` when all weights are 0. Keys must not repeat.
    ///
    /// Takes time in proportion to the number of candidates, and allocates only when their keys or the keys' order
    /// changed.
    pub fn pick<'k>(&mut self, weights: impl Iterator<Item = (&'k K, u32)> + Clone) -> Option<usize>
    where
        K: 'k,
    {
        let total = weights.clone().fold(0_i64, |sum, (_, weight)| sum.saturating_add(i64::from(weight)));
        if total == 0 {
            return None;
        }
        if !self.credits.iter().map(|(known, _)| known).eq(weights.clone().map(|(given, _)| given)) {
            self.follow(weights.clone(), total);
        }
        self.bound(total);
        self.turn(weights.map(|(_, weight)| weight))
    }

    /// Takes over the given keys: the known ones with their credit, new ones with some credit that lies between the
    /// least and the greatest of those, and a wholly new set at a random place of its cycle.
    fn follow<'k>(&mut self, weights: impl Iterator<Item = (&'k K, u32)> + Clone, total: i64)
    where
        K: 'k,
    {
        let mut known: BTreeMap<K, i64> = self.credits.drain(..).collect();
        let kept: Vec<Option<i64>> = weights.clone().map(|(key, _)| known.remove(key)).collect();
        let least = kept.iter().flatten().copied().min().unwrap_or(0);
        let greatest = kept.iter().flatten().copied().max().unwrap_or(0);
        let phase = || fastrand::i64(least..=greatest);
        let credit = |kept: Option<i64>| kept.unwrap_or_else(phase);
        self.credits = weights.clone().zip(&kept).map(|((key, _), kept)| (key.clone(), credit(*kept))).collect();
        if kept.iter().all(Option::is_none) {
            self.total = total;
            for _ in 0..fastrand::i64(0..total.min(MAX_PHASE)) {
                self.turn(weights.clone().map(|(_, weight)| weight));
            }
        }
    }

    /// Credit earned under much greater weights would otherwise be paid out in one long run of turns.
    fn bound(&mut self, total: i64) {
        if total != self.total {
            self.total = total;
            self.credits.iter_mut().for_each(|(_, credit)| *credit = (*credit).clamp(-total, total));
        }
    }

    fn turn(&mut self, weights: impl Iterator<Item = u32>) -> Option<usize> {
        let mut greatest: Option<(usize, &mut i64)> = None;
        for (index, ((_, credit), weight)) in self.credits.iter_mut().zip(weights).enumerate() {
            if weight == 0 {
                continue;
            }
            *credit = credit.saturating_add(i64::from(weight));
            if greatest.as_ref().is_none_or(|(_, most)| *credit > **most) {
                greatest = Some((index, credit));
            }
        }
        let (index, credit) = greatest?;
        *credit = credit.saturating_sub(self.total);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn pick<K: Ord + Clone>(smooth: &mut SmoothWeighted<K>, weights: &[(K, u32)]) -> Option<usize> {
        smooth.pick(weights.iter().map(|(key, weight)| (key, *weight)))
    }

    fn tally(smooth: &mut SmoothWeighted<usize>, weights: &[u32], picks: u64) -> Vec<u64> {
        let weights: Vec<(usize, u32)> = weights.iter().copied().enumerate().collect();
        let mut tally = vec![0; weights.len()];
        (0..picks).for_each(|_| tally[pick(smooth, &weights).unwrap()] += 1);
        tally
    }

    #[test]
    fn nothing_to_pick() {
        let mut smooth = SmoothWeighted::default();
        assert_eq!(pick::<&str>(&mut smooth, &[]), None);
        assert_eq!(pick(&mut smooth, &[("a", 0), ("b", 0)]), None);
        assert_eq!(pick(&mut smooth, &[("a", 0), ("b", 1)]), Some(1));
    }

    #[test]
    fn turns_are_spread() {
        let mut smooth = SmoothWeighted::default();
        let weights = [("a", 5), ("b", 1), ("c", 1)];
        let picks: Vec<usize> = (0..700).map(|_| pick(&mut smooth, &weights).unwrap()).collect();
        assert!(picks.windows(5).all(|run| run.iter().any(|pick| *pick != 0)));
    }

    #[test]
    fn gateways_start_apart() {
        let weights: Vec<(usize, u32)> = (0..9).map(|key| (key, 1)).collect();
        let firsts: std::collections::BTreeSet<_> =
            (0..200).map(|_| pick(&mut SmoothWeighted::default(), &weights)).collect();
        assert!(firsts.len() > 3, "{firsts:?}");
    }

    #[test]
    fn heavy_credit_is_not_paid_out_in_one_run() {
        let mut smooth = SmoothWeighted::default();
        tally(&mut smooth, &[1_000_000, 999_983, 1], 777);
        let after = tally(&mut smooth, &[1, 1, 1], 30);
        assert!(after.iter().all(|n| (6..=14).contains(n)), "{after:?}");
    }

    #[test]
    fn greatest_weights_do_not_overflow() {
        let sum = tally(&mut SmoothWeighted::default(), &[u32::MAX; 50], 500);
        assert_eq!(sum, vec![10; 50]);
    }

    proptest! {
        #[test]
        fn each_cycle_gives_exact_shares(
            weights in prop::collection::vec(0_u32..40, 1..12),
            offset in 0_u64..200,
            cycles in 1_u64..4,
        ) {
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            prop_assume!(total > 0);
            let mut smooth = SmoothWeighted::default();
            tally(&mut smooth, &weights, offset);
            let expected: Vec<u64> = weights.iter().map(|w| u64::from(*w) * cycles).collect();
            prop_assert_eq!(tally(&mut smooth, &weights, total * cycles), expected);
        }

        #[test]
        fn joiners_of_equal_weight_join_the_rotation(old in 1_usize..8, new in 1_usize..8, offset in 0_u64..50) {
            let mut smooth = SmoothWeighted::default();
            tally(&mut smooth, &vec![1; old], offset);
            let all = old.max(new);
            prop_assert_eq!(tally(&mut smooth, &vec![1; all], all as u64), vec![1; all]);
        }

        #[test]
        fn shares_hold_while_weights_change(
            changes in prop::collection::vec(prop::collection::vec(0_u32..9, 5), 1..20),
        ) {
            let mut smooth = SmoothWeighted::default();
            for weights in &changes {
                let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
                prop_assume!(total > 0);
                let got = tally(&mut smooth, weights, total * 10);
                for (got, weight) in got.iter().zip(weights) {
                    prop_assert!(got.abs_diff(u64::from(*weight) * 10) <= 5, "{:?} {:?}", got, weight);
                }
            }
        }
    }
}

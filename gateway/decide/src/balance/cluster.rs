//! What weight each cluster gets, by the host's scheme and the clusters' health.

use std::collections::BTreeMap;

/// How clusters share the work, as a host says it.
#[derive(Debug)]
pub enum Scheme<'a, K> {
    /// Over all healthy instances of all clusters.
    RoundRobin,
    /// Clusters by weight; a cluster that is not named gets nothing.
    Weighted(&'a BTreeMap<K, u32>),
    /// The first of these clusters that has a healthy instance.
    ActivePassive(&'a [K]),
}

/// What is known about a cluster as a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<K> {
    /// Which cluster.
    pub cluster: K,
    /// Whether a request can get there: it is the gateway's own, or a tunnel to one of its gateways is up.
    pub reachable: bool,
    /// How many of its instances are healthy.
    pub healthy: u32,
    /// How many instances it has, healthy or not.
    pub instances: u32,
}

/// The clusters' weights, as [`SmoothWeighted`](super::SmoothWeighted) takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<K> {
    /// One per candidate, in the candidates' order; 0 for those that get nothing.
    pub weights: Vec<(K, u32)>,
    /// Panic mode: nothing within reach is healthy, so the scheme is applied to all instances within reach. Health
    /// evidence is fallible; a try costs little where the alternative is a certain refusal.
    pub panic: bool,
}

impl<K> Candidate<K> {
    fn healthy_within_reach(&self) -> u32 {
        if self.reachable { self.healthy } else { 0 }
    }

    fn instances_within_reach(&self) -> u32 {
        if self.reachable { self.instances } else { 0 }
    }
}

/// The weight of each candidate under the scheme. All weights are 0 only when nothing that the scheme allows is within
/// reach, not even in panic mode.
pub fn cluster_weights<K: Ord + Clone>(scheme: Scheme<'_, K>, candidates: &[Candidate<K>]) -> Choice<K> {
    let by_health = weights(&scheme, candidates, Candidate::healthy_within_reach);
    if by_health.iter().any(|(_, weight)| *weight > 0) {
        return Choice { weights: by_health, panic: false };
    }
    let by_existence = weights(&scheme, candidates, Candidate::instances_within_reach);
    let panic = by_existence.iter().any(|(_, weight)| *weight > 0);
    Choice { weights: by_existence, panic }
}

fn weights<K: Ord + Clone>(
    scheme: &Scheme<'_, K>,
    candidates: &[Candidate<K>],
    count: impl Fn(&Candidate<K>) -> u32,
) -> Vec<(K, u32)> {
    let active = match scheme {
        Scheme::ActivePassive(order) => first_with_any(order, candidates, &count),
        Scheme::RoundRobin | Scheme::Weighted(_) => None,
    };
    let weight = |candidate: &Candidate<K>| match (scheme, count(candidate)) {
        (_, 0) => 0,
        (Scheme::RoundRobin, count) => count,
        (Scheme::Weighted(given), _) => given.get(&candidate.cluster).copied().unwrap_or(0),
        (Scheme::ActivePassive(_), _) => u32::from(active == Some(&candidate.cluster)),
    };
    candidates.iter().map(|candidate| (candidate.cluster.clone(), weight(candidate))).collect()
}

fn first_with_any<'o, K: Ord>(
    order: &'o [K],
    candidates: &[Candidate<K>],
    count: impl Fn(&Candidate<K>) -> u32,
) -> Option<&'o K> {
    order.iter().find(|key| candidates.iter().any(|candidate| candidate.cluster == **key && count(candidate) > 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    fn candidate(cluster: &str, healthy: u32) -> Candidate<&str> {
        Candidate { cluster, reachable: true, healthy, instances: 3 }
    }

    fn shares(scheme: Scheme<'_, &'static str>, candidates: &[Candidate<&'static str>]) -> (Vec<u32>, bool) {
        let choice = cluster_weights(scheme, candidates);
        (choice.weights.into_iter().map(|(_, weight)| weight).collect(), choice.panic)
    }

    #[test]
    fn round_robin_counts_healthy_instances() {
        let mut clusters = [candidate("north", 3), candidate("south", 1), candidate("west", 0)];
        assert_eq!(shares(Scheme::RoundRobin, &clusters), (vec![3, 1, 0], false));
        clusters[0].reachable = false;
        assert_eq!(shares(Scheme::RoundRobin, &clusters), (vec![0, 1, 0], false));
    }

    #[test]
    fn weights_go_to_clusters_with_a_healthy_instance() {
        let given = BTreeMap::from([("north", 90), ("south", 10)]);
        let clusters = [candidate("north", 1), candidate("south", 3), candidate("west", 3)];
        assert_eq!(shares(Scheme::Weighted(&given), &clusters), (vec![90, 10, 0], false));
        let clusters = [candidate("north", 0), candidate("south", 3), candidate("west", 3)];
        assert_eq!(shares(Scheme::Weighted(&given), &clusters), (vec![0, 10, 0], false));
    }

    #[test]
    fn the_first_healthy_cluster_is_active() {
        let order = ["south", "north"];
        let clusters = [candidate("north", 2), candidate("south", 1), candidate("west", 3)];
        assert_eq!(shares(Scheme::ActivePassive(&order), &clusters), (vec![0, 1, 0], false));
        let clusters = [candidate("north", 2), candidate("south", 0), candidate("west", 3)];
        assert_eq!(shares(Scheme::ActivePassive(&order), &clusters), (vec![1, 0, 0], false));
    }

    #[test]
    fn panic_spreads_over_what_is_within_reach_and_keeps_to_the_scheme() {
        let mut clusters = [candidate("north", 0), candidate("south", 0), candidate("west", 0)];
        clusters[2].reachable = false;
        assert_eq!(shares(Scheme::RoundRobin, &clusters), (vec![3, 3, 0], true));
        let given = BTreeMap::from([("south", 7), ("west", 1)]);
        assert_eq!(shares(Scheme::Weighted(&given), &clusters), (vec![0, 7, 0], true));
        assert_eq!(shares(Scheme::ActivePassive(&["west", "south"]), &clusters), (vec![0, 1, 0], true));
    }

    #[test]
    fn nothing_within_reach_is_not_panic() {
        let away = Candidate { reachable: false, ..candidate("north", 3) };
        assert_eq!(shares(Scheme::RoundRobin, &[away]), (vec![0], false));
        assert_eq!(shares(Scheme::RoundRobin, &[]), (vec![], false));
    }
}

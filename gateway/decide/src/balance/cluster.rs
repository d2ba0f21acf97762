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

/// What is known about a cluster as a destination, with the way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a, K, W> {
    /// Which cluster.
    pub cluster: &'a K,
    /// Whether a request can get there: it is the gateway's own, or a tunnel to one of its gateways is up.
    pub reachable: bool,
    /// How many of its instances are healthy.
    pub healthy: u32,
    /// How many instances it has, healthy or not.
    pub instances: u32,
    /// How requests get there.
    pub way: W,
    /// Its weight, as [`SmoothWeighted`](super::SmoothWeighted) takes it; 0 while it gets nothing. See [`weigh`].
    pub weight: u32,
}

/// By which of its numbers a cluster is weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Its healthy instances.
    Health,
    /// Panic mode: nothing within reach is healthy, so the scheme is applied to all instances within reach. Health
    /// evidence is fallible; a try costs little where the alternative is a certain refusal.
    Existence,
}

impl<K, W> Candidate<'_, K, W> {
    fn count(&self, by: By) -> u32 {
        match by {
            _ if !self.reachable => 0,
            By::Health => self.healthy,
            By::Existence => self.instances,
        }
    }
}

/// Gives each candidate its weight under the scheme. Nothing has one, when nothing that the scheme allows is within
/// reach, not even in panic mode.
pub fn weigh<K: Ord, W>(scheme: &Scheme<'_, K>, candidates: &mut [Candidate<'_, K, W>]) -> Option<By> {
    [By::Health, By::Existence].into_iter().find(|by| {
        weigh_by(*by, scheme, candidates);
        candidates.iter().any(|candidate| candidate.weight > 0)
    })
}

fn weigh_by<K: Ord, W>(by: By, scheme: &Scheme<'_, K>, candidates: &mut [Candidate<'_, K, W>]) {
    let active = match scheme {
        Scheme::ActivePassive(order) => order
            .iter()
            .find(|key| candidates.iter().any(|candidate| candidate.cluster == *key && candidate.count(by) > 0)),
        Scheme::RoundRobin | Scheme::Weighted(_) => None,
    };
    for candidate in candidates {
        candidate.weight = match (scheme, candidate.count(by)) {
            (_, 0) => 0,
            (Scheme::RoundRobin, count) => count,
            (Scheme::Weighted(given), _) => given.get(candidate.cluster).copied().unwrap_or(0),
            (Scheme::ActivePassive(_), _) => u32::from(active == Some(candidate.cluster)),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    type Cluster<'a> = Candidate<'a, &'static str, ()>;

    fn candidate<'a>(cluster: &'a &'static str, healthy: u32) -> Cluster<'a> {
        Candidate { cluster, reachable: true, healthy, instances: 3, way: (), weight: 7 }
    }

    /// The weights, and whether they are those of panic mode.
    fn shares(scheme: Scheme<'_, &'static str>, candidates: &[Cluster<'_>]) -> (Vec<u32>, bool) {
        let mut candidates = candidates.to_vec();
        let by = weigh(&scheme, &mut candidates);
        (candidates.iter().map(|candidate| candidate.weight).collect(), by == Some(By::Existence))
    }

    #[test]
    fn round_robin_counts_healthy_instances() {
        let mut clusters = [candidate(&"north", 3), candidate(&"south", 1), candidate(&"west", 0)];
        assert_eq!(shares(Scheme::RoundRobin, &clusters), (vec![3, 1, 0], false));
        clusters[0].reachable = false;
        assert_eq!(shares(Scheme::RoundRobin, &clusters), (vec![0, 1, 0], false));
    }

    #[test]
    fn weights_go_to_clusters_with_a_healthy_instance() {
        let given = BTreeMap::from([("north", 90), ("south", 10)]);
        let clusters = [candidate(&"north", 1), candidate(&"south", 3), candidate(&"west", 3)];
        assert_eq!(shares(Scheme::Weighted(&given), &clusters), (vec![90, 10, 0], false));
        let clusters = [candidate(&"north", 0), candidate(&"south", 3), candidate(&"west", 3)];
        assert_eq!(shares(Scheme::Weighted(&given), &clusters), (vec![0, 10, 0], false));
    }

    #[test]
    fn the_first_healthy_cluster_is_active() {
        let order = ["south", "north"];
        let clusters = [candidate(&"north", 2), candidate(&"south", 1), candidate(&"west", 3)];
        assert_eq!(shares(Scheme::ActivePassive(&order), &clusters), (vec![0, 1, 0], false));
        let clusters = [candidate(&"north", 2), candidate(&"south", 0), candidate(&"west", 3)];
        assert_eq!(shares(Scheme::ActivePassive(&order), &clusters), (vec![1, 0, 0], false));
    }

    #[test]
    fn panic_spreads_over_what_is_within_reach_and_keeps_to_the_scheme() {
        let mut clusters = [candidate(&"north", 0), candidate(&"south", 0), candidate(&"west", 0)];
        clusters[2].reachable = false;
        assert_eq!(shares(Scheme::RoundRobin, &clusters), (vec![3, 3, 0], true));
        let given = BTreeMap::from([("south", 7), ("west", 1)]);
        assert_eq!(shares(Scheme::Weighted(&given), &clusters), (vec![0, 7, 0], true));
        assert_eq!(shares(Scheme::ActivePassive(&["west", "south"]), &clusters), (vec![0, 1, 0], true));
    }

    #[test]
    fn nothing_within_reach_is_not_panic() {
        let away = Candidate { reachable: false, ..candidate(&"north", 3) };
        assert_eq!(shares(Scheme::RoundRobin, &[away]), (vec![0], false));
        assert_eq!(shares(Scheme::RoundRobin, &[]), (vec![], false));
    }
}

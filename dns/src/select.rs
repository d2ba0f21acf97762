//! Which gateways answer for a name: grouped by cluster, the best cluster first. What is sick is left out while
//! something else is well; an answer is never empty because of what health says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use config::resource::{GatewayAddresses, Name, Scheme};
use config::snapshot::{PublicHost, Snapshot};

use crate::health::{Health, Standing};

/// The addresses of several clusters' gateways; no group is empty.
type Groups = Vec<Vec<IpAddr>>;

/// Where workloads of this cluster reach services.
pub(crate) fn mesh(snapshot: &Snapshot, health: &Health) -> Groups {
    let gateways = Gateways { snapshot, health, address: |gateway| gateway.mesh };
    gateways.best(&[&snapshot.place.cluster])
}

/// Where clients reach a public host.
pub(crate) fn public(snapshot: &Snapshot, health: &Health, host: &PublicHost, turn: u64) -> Groups {
    let gateways = Gateways { snapshot, health, address: |gateway| gateway.public };
    let members = members(snapshot, host);
    match &host.scheme {
        Scheme::RoundRobin => gateways.best(&own_first(members, &snapshot.place.cluster)),
        Scheme::Weighted(weights) => gateways.best(&drawn(&members, weights, turn)),
        Scheme::ActivePassive(order) => {
            let order: Vec<_> = order.iter().filter(|cluster| members.contains(cluster)).collect();
            gateways.active(&order, host).into_iter().collect()
        }
    }
}

/// One address of each group in turn, of one family, each group rotated; none twice, as two gateways may stand behind
/// one address (RFC 2181, section 5).
pub(crate) fn interleave(groups: Groups, family: fn(&IpAddr) -> bool, turn: u64, most: usize) -> Vec<IpAddr> {
    let rotate = |group: Vec<IpAddr>| {
        let mut group: Vec<_> = group.into_iter().filter(family).collect();
        // A remainder of a `usize` fits one.
        let by = turn.checked_rem(group.len() as u64).unwrap_or(0) as usize;
        group.rotate_left(by);
        group
    };
    let groups: Groups = groups.into_iter().map(rotate).collect();
    let rounds = groups.iter().map(Vec::len).max().unwrap_or(0);
    let round = |n| groups.iter().filter_map(move |group| group.get(n).copied());
    let mut seen = BTreeSet::new();
    (0..rounds).flat_map(round).filter(|address| seen.insert(*address)).take(most).collect()
}

/// The gateways of all clusters, and which of their addresses is meant.
struct Gateways<'s> {
    snapshot: &'s Snapshot,
    health: &'s Health,
    address: fn(&GatewayAddresses) -> Option<IpAddr>,
}

impl Gateways<'_> {
    /// The gateways of these clusters, of the best standing that any of them has.
    fn best(&self, clusters: &[&Name]) -> Groups {
        let groups = |least| clusters.iter().filter_map(|cluster| self.group(cluster, least)).collect::<Groups>();
        Standing::ALL.into_iter().map(groups).find(|groups| !groups.is_empty()).unwrap_or_default()
    }

    /// Those of the first cluster that serves and may have a healthy instance, else simply of the first that can be
    /// reached: its gateways know where the instances are.
    fn active(&self, order: &[&Name], host: &PublicHost) -> Option<Vec<IpAddr>> {
        let well = |cluster: &&&Name| match host.routes.last() {
            Some(route) => self.health.may_serve(&host.global_namespace, &route.service, cluster),
            None => true,
        };
        let mut serving = order.iter().filter(well).filter_map(|cluster| self.group(cluster, Standing::Serving));
        serving.next().or_else(|| self.best(order).into_iter().next())
    }

    /// The addresses of a cluster's gateways of at least this standing, unless there are none.
    fn group(&self, cluster: &Name, least: Standing) -> Option<Vec<IpAddr>> {
        let stands = |gateway: &&GatewayAddresses| self.health.standing(cluster, &gateway.name) >= least;
        let gateways = self.snapshot.gateways.get(cluster)?;
        let group: Vec<_> = gateways.iter().filter(stands).filter_map(self.address).collect();
        (!group.is_empty()).then_some(group)
    }
}

/// The clusters that can serve the host: the members of its GNS, or, while nobody said who they are, all.
fn members<'s>(snapshot: &'s Snapshot, host: &PublicHost) -> Vec<&'s Name> {
    let labels = snapshot.namespaces.get(&host.global_namespace).map(|gns| &gns.labels);
    let known = labels.filter(|labels| !labels.is_empty());
    snapshot.gateways.keys().filter(|cluster| known.is_none_or(|labels| labels.contains_key(*cluster))).collect()
}

fn own_first<'s>(mut clusters: Vec<&'s Name>, own: &Name) -> Vec<&'s Name> {
    clusters.sort_by_key(|cluster| *cluster != own);
    clusters
}

/// The clusters in an order drawn by weight; those without one are left out.
fn drawn<'s>(clusters: &[&'s Name], weights: &BTreeMap<Name, u32>, turn: u64) -> Vec<&'s Name> {
    let weight = |cluster: &&'s Name| weights.get(*cluster).map(|weight| (*cluster, u64::from(*weight)));
    let mut left: Vec<_> = clusters.iter().filter_map(weight).filter(|(_, weight)| *weight > 0).collect();
    let mut random = fastrand::Rng::with_seed(turn);
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let mut point = random.u64(..left.iter().map(|(_, weight)| weight).sum::<u64>());
        let hit = left.iter().position(|(_, weight)| match point.checked_sub(*weight) {
            Some(rest) => {
                point = rest;
                false
            }
            None => true,
        });
        order.push(left.swap_remove(hit.unwrap_or(0)).0);
    }
    order
}

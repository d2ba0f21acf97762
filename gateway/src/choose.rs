//! Where the next attempt goes: first which cluster, then which of its gateways, or which instance.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use config::resource::{Name, Scheme};
use decide::balance::{self, Candidate, cluster_weights};
use decide::retry::must_change_cluster;

use crate::health::Target;
use crate::plan::{Plan, PlannedService, Pool};
use crate::refusal::Refusal;
use crate::runtime::Core;
use crate::tunnel::pool::{Peer, Tunnel};

/// What a request, or a stream, wants: a port of a service, from as far as it may go.
pub struct Wanted {
    /// The service.
    pub service: Arc<PlannedService>,
    /// The service's port.
    pub port: u16,
    /// Only this version of it.
    pub version: Option<Name>,
    /// How far it may go from here.
    pub reach: Reach,
    /// How clusters share the work.
    pub scheme: Scheme,
}

/// How far a request may go from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// This gateway is the origin: any cluster.
    Everywhere,
    /// This gateway is the origin, and the caller named a cluster.
    Cluster(Name),
    /// This gateway is the destination: only instances of its own cluster, and only what was never handed over is
    /// tried again.
    Here,
}

/// Where an attempt goes.
pub enum Destination {
    /// To an instance of this cluster.
    Instance(Arc<Target>),
    /// Through a tunnel to a gateway of another.
    Peer(Arc<Peer>, Arc<Tunnel>),
}

/// As in the access log.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Instance(target) => f.write_str(&String::from_utf8_lossy(target.served_by.as_bytes())),
            Destination::Peer(peer, _) => write!(f, "{}/{}", peer.key.cluster, peer.key.gateway),
        }
    }
}

/// Where attempts went already, in vain.
#[derive(Default)]
pub struct Tried {
    targets: Vec<Arc<Target>>,
    peers: Vec<Arc<Peer>>,
    last: Option<Refusal>,
}

impl Tried {
    /// One more, and how it ended.
    pub fn add(&mut self, destination: Destination, refusal: Refusal) {
        self.last = Some(refusal);
        match destination {
            Destination::Instance(target) => self.targets.push(target),
            Destination::Peer(peer, _) => self.peers.push(peer),
        }
    }

    /// How the last one ended.
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.last
    }

    fn was_in(&self, cluster: &Name, own: &Name) -> bool {
        (cluster == own && !self.targets.is_empty()) || self.peers.iter().any(|peer| peer.key.cluster == *cluster)
    }

    fn has(&self, peer: &Arc<Peer>) -> bool {
        self.peers.iter().any(|other| Arc::ptr_eq(other, peer))
    }
}

/// A cluster with what this gateway can reach of the service there.
struct Candidacy<'p> {
    candidate: Candidate<Name>,
    way: Way<'p>,
}

enum Way<'p> {
    Here(&'p Pool),
    There(&'p [Arc<Peer>]),
}

/// Where the next attempt goes; nothing when there is nowhere left.
pub fn next(core: &Core, plan: &Plan, wanted: &Wanted, tried: &Tried, number: u32) -> Option<Destination> {
    let own = &plan.snapshot.place.cluster;
    let here = wanted.service.ports.get(&wanted.port).and_then(|port| port.pool(wanted.version.as_ref()));
    if wanted.reach == Reach::Here {
        return instance(wanted, here?, tried);
    }
    let table = core.peers.table();
    let peers = table.get(&wanted.service.service.global_namespace);
    let mut ways = Vec::with_capacity(4);
    ways.extend(here.map(|pool| local(own, pool)));
    for (cluster, versions) in &wanted.service.service.remote {
        let Some(peers) = peers.and_then(|peers| peers.get(cluster)) else { continue };
        let instances = match &wanted.version {
            Some(version) => versions.get(version).copied().unwrap_or(0),
            None => versions.values().sum(),
        };
        ways.push(remote(wanted, cluster, peers, instances));
    }
    if let Reach::Cluster(only) = &wanted.reach {
        ways.retain(|way| way.candidate.cluster == *only);
    }
    exclude(&mut ways, own, tried, number);
    pick(wanted, &ways, tried)
}

fn local<'p>(own: &Name, pool: &'p Pool) -> Candidacy<'p> {
    let (healthy, instances) = (pool.healthy(), pool.instances());
    Candidacy {
        candidate: Candidate { cluster: own.clone(), reachable: true, healthy, instances },
        way: Way::Here(pool),
    }
}

fn remote<'p>(wanted: &Wanted, cluster: &Name, peers: &'p [Arc<Peer>], instances: u32) -> Candidacy<'p> {
    let name = &wanted.service.service.name;
    let healthy = peers.iter().map(|peer| peer.healthy(name, wanted.version.as_ref())).max().unwrap_or(0);
    let reachable = peers.iter().any(|peer| peer.is_live());
    Candidacy {
        candidate: Candidate { cluster: cluster.clone(), reachable, healthy, instances },
        way: Way::There(peers),
    }
}

/// What has nothing untried is out; the last attempt goes to a cluster that wasn't tried, if there is one.
fn exclude(ways: &mut Vec<Candidacy<'_>>, own: &Name, tried: &Tried, number: u32) {
    if number == 1 {
        return;
    }
    ways.retain(|way| match way.way {
        Way::Here(pool) => pool.targets.len() > tried.targets.len(),
        Way::There(peers) => peers.iter().any(|peer| peer.is_live() && !tried.has(peer)),
    });
    let untried = |way: &Candidacy<'_>| !tried.was_in(&way.candidate.cluster, own) && way.candidate.healthy > 0;
    if must_change_cluster(number) && ways.iter().any(untried) {
        ways.retain(untried);
    }
}

fn pick(wanted: &Wanted, ways: &[Candidacy<'_>], tried: &Tried) -> Option<Destination> {
    let candidates: Vec<_> = ways.iter().map(|way| way.candidate.clone()).collect();
    let choice = cluster_weights(scheme(&wanted.scheme), &candidates);
    let mut weights = choice.weights;
    // A cluster may turn out to have no free tunnel just now: then the others share its turn.
    while weights.iter().any(|(_, weight)| *weight > 0) {
        // Where there is one cluster there is nothing to share, and no lock to wait for.
        let picked = match weights.as_slice() {
            [_] => 0,
            _ => wanted.service.clusters.lock().unwrap_or_else(PoisonError::into_inner).pick(&weights)?,
        };
        let destination = match ways.get(picked)?.way {
            Way::Here(pool) => instance(wanted, pool, tried),
            Way::There(peers) => peer(wanted, &weights.get(picked)?.0, peers, tried),
        };
        if destination.is_some() {
            if choice.panic && matches!(destination, Some(Destination::Peer(..))) {
                wanted.service.metrics.panics.inc();
            }
            return destination;
        }
        weights.get_mut(picked)?.1 = 0;
    }
    None
}

/// The next of this cluster's instances in its turn.
fn instance(wanted: &Wanted, pool: &Pool, tried: &Tried) -> Option<Destination> {
    let target = pool.next(&tried.targets, wanted.service.panic.load(Ordering::Relaxed))?;
    if target.health.is_sick() {
        wanted.service.metrics.panics.inc();
    }
    Some(Destination::Instance(target))
}

/// The next of a cluster's gateways that is live, was not tried, and knows of healthy instances, if any of them does.
fn peer(wanted: &Wanted, cluster: &Name, peers: &[Arc<Peer>], tried: &Tried) -> Option<Destination> {
    let name = &wanted.service.service.name;
    let some_healthy = peers.iter().any(|peer| peer.healthy(name, wanted.version.as_ref()) > 0);
    let usable = |peer: &Arc<Peer>| {
        peer.is_live() && !tried.has(peer) && (!some_healthy || peer.healthy(name, wanted.version.as_ref()) > 0)
    };
    let index =
        wanted.service.gateways.get(cluster)?.next(peers.len(), |index| peers.get(index).is_some_and(usable))?;
    let peer = peers.get(index)?;
    Some(Destination::Peer(peer.clone(), peer.tunnel()?))
}

fn scheme(scheme: &Scheme) -> balance::Scheme<'_, Name> {
    match scheme {
        Scheme::RoundRobin => balance::Scheme::RoundRobin,
        Scheme::Weighted(weights) => balance::Scheme::Weighted(weights),
        Scheme::ActivePassive(clusters) => balance::Scheme::ActivePassive(clusters),
    }
}

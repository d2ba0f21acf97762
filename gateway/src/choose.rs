//! Where the next attempt goes: first which cluster, then which of its gateways, or which instance.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use config::resource::{Name, Scheme};
use config::snapshot::PublicHost;
use decide::balance::{self, By, weigh};
use decide::retry::must_change_cluster;
use smallvec::SmallVec;

use crate::health::Target;
use crate::plan::{Plan, PlannedService, Pool};
use crate::refusal::Refusal;
use crate::runtime::Core;
use crate::tunnel::pool::{Peer, PeerTable, Tunnel};

/// What a request, or a stream, wants: a port of a service, from as far as it may go.
pub struct Wanted {
    /// The service.
    pub service: Arc<PlannedService>,
    /// The service's port.
    pub port: u16,
    /// Only this version of it.
    pub version: Option<Name>,
    /// The GNS that the call comes from, when it is another than the service's.
    pub from: Option<Name>,
    /// How far it may go from here.
    pub reach: Reach,
    /// The host through which it is published, which says how clusters share the work; else they do so by round robin.
    pub published: Option<Arc<PublicHost>>,
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

/// The way to a cluster.
#[derive(Clone, Copy)]
pub enum Way<'p> {
    /// To instances of this cluster.
    Here(&'p Pool),
    /// Through tunnels to these gateways.
    There(&'p [Arc<Peer>]),
}

/// A cluster in which a service may be asked for.
pub type Candidate<'p> = balance::Candidate<'p, Name, Way<'p>>;

/// More clusters than that have a service in few worlds.
pub type Candidates<'p> = SmallVec<[Candidate<'p>; 4]>;

/// Where the next attempt goes; nothing when there is nowhere left.
pub fn next(core: &Core, plan: &Plan, wanted: &Wanted, tried: &Tried, number: u32) -> Option<Destination> {
    let own = &plan.snapshot.place.cluster;
    if wanted.reach == Reach::Here {
        return instance(wanted, here(wanted)?, tried);
    }
    let table = core.peers.table();
    let mut candidates = candidates(own, &table, wanted);
    exclude(&mut candidates, own, tried, number);
    pick(wanted, &mut candidates, tried)
}

/// The clusters in which it is looked for, none of them weighed yet.
pub fn candidates<'p>(own: &'p Name, table: &'p PeerTable, wanted: &'p Wanted) -> Candidates<'p> {
    let mut candidates: Candidates<'_> = here(wanted).map(|pool| local(own, pool)).into_iter().collect();
    if wanted.reach != Reach::Here && !wanted.service.service.remote.is_empty() {
        let peers = table.of(&wanted.service.service.global_namespace, wanted.from.as_ref());
        candidates.extend(peers.into_iter().flat_map(|peers| remotes(wanted, peers)));
    }
    if let Reach::Cluster(only) = &wanted.reach {
        candidates.retain(|candidate| candidate.cluster == only);
    }
    candidates
}

/// Gives the candidates their shares; nothing has one where nothing is within reach.
pub fn share(wanted: &Wanted, candidates: &mut [Candidate<'_>]) -> Option<By> {
    weigh(&scheme(wanted), candidates)
}

/// The instances of this cluster that it may go to.
fn here(wanted: &Wanted) -> Option<&Pool> {
    let port = wanted.service.ports.get(&wanted.port)?;
    port.pool(wanted.version.as_ref(), wanted.from.is_some())
}

fn local<'p>(own: &'p Name, pool: &'p Pool) -> Candidate<'p> {
    let (healthy, instances) = (pool.healthy(), pool.instances());
    Candidate { cluster: own, reachable: true, healthy, instances, way: Way::Here(pool), weight: 0 }
}

/// The other clusters that have the service, as far as gateways of theirs are known.
fn remotes<'p>(
    wanted: &'p Wanted,
    peers: &'p BTreeMap<Name, Vec<Arc<Peer>>>,
) -> impl Iterator<Item = Candidate<'p>> + use<'p> {
    wanted.service.service.remote.iter().filter_map(|(cluster, versions)| {
        let peers = peers.get(cluster)?;
        let instances = match &wanted.version {
            Some(version) => versions.get(version).copied().unwrap_or(0),
            None => versions.values().sum(),
        };
        Some(remote(wanted, cluster, peers, instances))
    })
}

fn remote<'p>(wanted: &Wanted, cluster: &'p Name, peers: &'p [Arc<Peer>], instances: u32) -> Candidate<'p> {
    let name = &wanted.service.service.name;
    let healthy = peers.iter().map(|peer| peer.healthy(name, wanted.version.as_ref())).max().unwrap_or(0);
    let reachable = peers.iter().any(|peer| peer.is_live());
    Candidate { cluster, reachable, healthy, instances, way: Way::There(peers), weight: 0 }
}

/// What has nothing untried is out; the last attempt goes to a cluster that wasn't tried, if there is one.
fn exclude(candidates: &mut Candidates<'_>, own: &Name, tried: &Tried, number: u32) {
    if number == 1 {
        return;
    }
    candidates.retain(|candidate| match candidate.way {
        Way::Here(pool) => pool.targets.len() > tried.targets.len(),
        Way::There(peers) => peers.iter().any(|peer| peer.is_live() && !tried.has(peer)),
    });
    let untried = |candidate: &Candidate<'_>| !tried.was_in(candidate.cluster, own) && candidate.healthy > 0;
    if must_change_cluster(number) && candidates.iter().any(untried) {
        candidates.retain(|candidate| untried(candidate));
    }
}

fn pick(wanted: &Wanted, candidates: &mut [Candidate<'_>], tried: &Tried) -> Option<Destination> {
    let by = share(wanted, candidates)?;
    // A cluster may turn out to have no free tunnel just now: then the others share its turn.
    while candidates.iter().any(|candidate| candidate.weight > 0) {
        // Where there is one cluster there is nothing to share, and no lock to wait for.
        let picked = if candidates.len() == 1 { 0 } else { turn(wanted, candidates)? };
        let candidate = candidates.get_mut(picked)?;
        let destination = match candidate.way {
            Way::Here(pool) => instance(wanted, pool, tried),
            Way::There(peers) => peer(wanted, candidate.cluster, peers, tried),
        };
        if destination.is_some() {
            if by == By::Existence && matches!(destination, Some(Destination::Peer(..))) {
                wanted.service.metrics.panics.inc();
            }
            return destination;
        }
        candidate.weight = 0;
    }
    None
}

/// Which cluster's turn it is.
fn turn(wanted: &Wanted, candidates: &[Candidate<'_>]) -> Option<usize> {
    let weights = candidates.iter().map(|candidate| (candidate.cluster, candidate.weight));
    wanted.service.clusters.lock().unwrap_or_else(PoisonError::into_inner).pick(weights)
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

fn scheme(wanted: &Wanted) -> balance::Scheme<'_, Name> {
    match wanted.published.as_ref().map(|host| &host.scheme) {
        None | Some(Scheme::RoundRobin) => balance::Scheme::RoundRobin,
        Some(Scheme::Weighted(weights)) => balance::Scheme::Weighted(weights),
        Some(Scheme::ActivePassive(clusters)) => balance::Scheme::ActivePassive(clusters),
    }
}

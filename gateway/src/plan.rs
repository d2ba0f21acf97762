//! The plan: a snapshot made ready to run. Everything that a request needs is looked up, parsed and formatted here,
//! once, so that the request doesn't.

mod pool;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use config::resource::{Host, Name, Protocol, RoutePath};
use config::revoked::Revoked;
use config::snapshot::{Foreign, HostTls, Namespace, PublicHost, Service, Snapshot};
use config::wire::Rejection;
use decide::balance::{Cursor, SmoothWeighted};
use decide::retry::Budget;
use decide::route::{Pattern, Routes};
use http::HeaderValue;
use identity::trust::TrustView;
use identity::{Identity, SpiffeId, TrustBundle, TrustDomain};
use rustls::{ClientConfig, ServerConfig};

use crate::health::{Changes, Target};
use crate::metrics::ServiceMetrics;
use crate::planner::{Kept, same_identity};
use crate::upstream::secure::Security;
pub use pool::Pool;

/// What the request path decides by. Replaced whole, and read once by each request.
pub struct Plan {
    /// What it was made of.
    pub snapshot: Arc<Snapshot>,
    /// GNS → service.
    pub services: BTreeMap<Name, BTreeMap<Name, Arc<PlannedService>>>,
    /// What the cluster's workloads reach on each port of the mesh address.
    pub mesh: BTreeMap<u16, MeshPort>,
    /// The published hosts.
    pub hosts: Arc<HashMap<Host, Arc<PlannedHost>>>,
    /// GNS → whom to believe there.
    pub beliefs: BTreeMap<Name, Arc<Belief>>,
    /// The same for connections that live: all of them together. The same value for as long as nothing of it changes.
    pub trust: Arc<TrustView>,
    /// GNS → in whose name this gateway speaks there. A GNS in which it has no identity yet is absent.
    pub own: BTreeMap<Name, Arc<Own>>,
    /// GNS that is called → what tunnels out of another GNS need, by that one.
    pub crossings: BTreeMap<Name, BTreeMap<Name, Arc<CrossingTls>>>,
    /// GNS that is called → for workloads that come with certificates.
    pub callers: BTreeMap<Name, Arc<CallerTls>>,
    /// GNS → what tunnels need. A GNS in which this gateway has no identity yet is absent.
    pub tunnels: BTreeMap<Name, Arc<TunnelTls>>,
    /// What could not be made ready, and why.
    pub rejected: Vec<Rejection>,
    /// By which the next plan knows what it need not look at.
    pub(crate) kept: Kept,
}

/// What is reached on a port of the mesh address.
#[derive(Clone)]
pub enum MeshPort {
    /// Every service with this port: requests say which.
    Http,
    /// One service: nothing in its bytes could say which.
    Stream(Arc<PlannedService>),
}

/// A published host.
pub struct PlannedHost {
    /// As it was written.
    pub host: Arc<PublicHost>,
    /// For its handshakes; nothing until its certificate and key are here.
    pub tls: Option<HostServer>,
    /// Where paths go.
    pub routes: Routes<PlannedRoute>,
}

impl PlannedHost {
    /// Whether the same would be made of this host now, with these services.
    pub fn is_still<'s>(
        &self,
        host: &Arc<PublicHost>,
        service: impl Fn(&Name) -> Option<&'s Arc<PlannedService>>,
    ) -> bool {
        let mut led = self.routes.iter().zip(&host.routes);
        self.host == *host
            && self.is_settled()
            && led.all(|(before, route)| {
                before.service.as_ref().map(Arc::as_ptr) == service(&route.service).map(Arc::as_ptr)
            })
    }
}

impl PlannedHost {
    /// Whether it shows the certificate that it is to show.
    pub fn is_settled(&self) -> bool {
        self.tls.as_ref().map(|tls| &tls.source) == self.host.handshakes()
    }
}

/// What the handshakes of a host need.
#[derive(Clone)]
pub struct HostServer {
    /// What it was made of: not what the host has now, while that one's key isn't here.
    pub source: Arc<HostTls>,
    /// Made ready.
    pub config: Arc<ServerConfig>,
}

/// Where paths go.
pub struct PlannedRoute {
    /// Which paths.
    pub path: RoutePath,
    /// The service; nothing while it isn't known.
    pub service: Option<Arc<PlannedService>>,
    /// The service's port.
    pub port: u16,
}

impl PlannedRoute {
    /// Which paths it takes.
    pub fn pattern(&self) -> Pattern<'_> {
        match &self.path {
            RoutePath::Path(path) => Pattern::Exact(path),
            RoutePath::PathPrefix(prefix) => Pattern::Prefix(prefix),
        }
    }
}

/// A service, ready to be balanced over.
pub struct PlannedService {
    /// As the snapshot has it.
    pub service: Arc<Service>,
    /// Its name, as tunnels' metadata has it.
    pub name: HeaderValue,
    /// Its ports.
    pub ports: BTreeMap<u16, PlannedPort>,
    /// Shares of clusters, kept while plans come and go.
    pub clusters: Arc<Mutex<SmoothWeighted<Name>>>,
    /// Whose turn it is among the gateways of each other cluster; kept likewise.
    pub gateways: BTreeMap<Name, Arc<Cursor>>,
    /// How much may be tried again; kept likewise, and its own, so that no other service's faults use it up.
    pub budget: Arc<Budget>,
    /// Whether the ailing instances take requests too; see [`census`](crate::health::census). Kept likewise.
    pub panic: Arc<AtomicBool>,
    /// How its instances are spoken to that want mutual TLS; nothing when none does.
    pub secured: Option<Secured>,
    /// Its metrics.
    pub metrics: Arc<ServiceMetrics>,
    /// How often the health of its instances has changed; kept likewise.
    pub changes: Changes,
    /// By which change its instances were last counted, if nothing but another one makes that worth while.
    pub counted: AtomicU64,
}

/// No number of changes.
pub const UNCOUNTED: u64 = u64::MAX;

impl PlannedService {
    /// Its instances in this cluster. Its ports share them: each has the same ones, and their health.
    pub fn instances(&self) -> &[Arc<Target>] {
        self.ports.values().next().map_or(&[], |port| &port.all.targets)
    }
}

/// How a service's instances are dialled by mutual TLS.
pub struct Secured {
    /// In whose name; nothing while the gateway has no identity.
    pub own: Option<Arc<Own>>,
    /// By the namespace in which they run, which is a part of their identity.
    pub by_namespace: BTreeMap<Name, Security>,
}

/// One port of a service: the same instances as the others, each at its own address.
pub struct PlannedPort {
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Whether instances are told by a PROXY header who called.
    pub proxy_header: bool,
    /// All instances of this cluster, with all versions in turn.
    pub all: Pool,
    /// The instances of each version.
    pub versions: BTreeMap<Name, Pool>,
    /// Those that callers of other GNSs reach; nothing while nobody of another may call.
    pub crossing: Option<Crossing>,
}

/// The instances that speak mutual TLS: between two GNSs every hop does.
pub struct Crossing {
    /// All of them.
    pub all: Pool,
    /// Those of each version.
    pub versions: BTreeMap<Name, Pool>,
}

impl PlannedPort {
    /// The instances of a version, or all; of them those that a caller of the same GNS reaches, or of another.
    pub fn pool(&self, version: Option<&Name>, crossing: bool) -> Option<&Pool> {
        let (all, versions) = match (crossing, &self.crossing) {
            (false, _) => (&self.all, &self.versions),
            (true, Some(crossing)) => (&crossing.all, &crossing.versions),
            (true, None) => return None,
        };
        match version {
            Some(version) => versions.get(version),
            None => Some(all),
        }
    }
}

/// Whom to believe in one GNS.
pub struct Belief {
    /// What it was made of.
    pub source: Foreign,
    /// Its trust domain.
    pub domain: TrustDomain,
    /// Its roots.
    pub bundle: Arc<TrustBundle>,
}

impl PartialEq for Belief {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// In whose name this gateway speaks in a GNS, and whom it believes there.
pub struct Own {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The GNS's trust domain.
    pub domain: TrustDomain,
    /// Its roots.
    pub roots: Vec<String>,
    /// Who is not believed any more.
    pub revoked: BTreeSet<Revoked>,
    /// Whom it believes of its own cluster. Members that came or went elsewhere since this was made are not in it.
    pub trust: Arc<TrustView>,
}

impl Own {
    /// Whether connections in the name of the one are as good as those in the name of the other.
    pub fn same(&self, identity: &Identity, belief: &Belief) -> bool {
        same_identity(&self.identity, identity)
            && (&self.domain, &self.roots, &self.revoked)
                == (&belief.domain, &belief.source.roots, &belief.source.revoked)
    }
}

/// For workloads that come with certificates.
pub struct CallerTls {
    /// What it was made of.
    pub source: CallerSource,
    /// For requests.
    pub http: Arc<ServerConfig>,
    /// For streams.
    pub stream: Arc<ServerConfig>,
}

/// What the TLS of callers is made of.
pub struct CallerSource {
    /// Who this gateway is to them.
    pub identity: Arc<Identity>,
    /// Whose workloads may say who they are.
    pub beliefs: BTreeMap<Name, Arc<Belief>>,
}

impl CallerSource {
    /// Whether the same would be made of both.
    pub fn same(&self, other: &CallerSource) -> bool {
        same_identity(&self.identity, &other.identity) && self.beliefs == other.beliefs
    }
}

/// For tunnels out of one GNS into another.
pub struct CrossingTls {
    /// What it was made of: who this gateway is in the one, and the other.
    pub source: TunnelSource,
    /// For dialling, by cluster.
    pub clients: Clients,
}

/// For dialling the gateways of clusters.
pub type Clients = BTreeMap<Name, Dialling>;

/// What tunnels of one GNS need.
pub struct TunnelTls {
    /// What it was made of: made anew only when that changes.
    pub source: TunnelSource,
    /// SHA-256 of the roots that are believed.
    pub roots: Vec<String>,
    /// For tunnels that come in.
    pub server: Arc<ServerConfig>,
    /// For tunnels that go out, by cluster.
    pub clients: Clients,
}

/// What the dialling of a cluster's gateways needs.
#[derive(Clone)]
pub struct Dialling {
    /// For tunnels of requests.
    pub requests: Arc<ClientConfig>,
    /// For a tunnel of one stream.
    pub stream: Arc<ClientConfig>,
}

/// What the TLS of tunnels is made of.
#[derive(Clone)]
pub struct TunnelSource {
    /// Who this gateway is.
    pub identity: Arc<identity::Identity>,
    /// The GNS.
    pub namespace: Arc<Namespace>,
    /// Other GNSs, whose gateways may come in too.
    pub admitted: BTreeMap<Name, Arc<Belief>>,
}

impl TunnelSource {
    /// Whether the same would be made of both.
    pub fn same(&self, other: &TunnelSource) -> bool {
        let (a, b) = (&self.namespace, &other.namespace);
        self.same_ends(other) && (&a.labels, &a.revoked) == (&b.labels, &b.revoked) && self.admitted == other.admitted
    }

    /// Whether the same would be made of both for dialling this cluster, whatever other clusters are members.
    pub fn same_towards(&self, other: &TunnelSource, cluster: &Name) -> bool {
        let (a, b) = (&self.namespace, &other.namespace);
        let of = |gns: &Namespace| {
            gns.revoked.iter().filter(|revoked| revoked.cluster() == cluster).cloned().collect::<Vec<_>>()
        };
        self.same_ends(other) && a.labels.get(cluster) == b.labels.get(cluster) && of(a) == of(b)
    }

    /// Whether both name the same gateway, and believe in the same roots.
    fn same_ends(&self, other: &TunnelSource) -> bool {
        let (a, b) = (&self.namespace, &other.namespace);
        same_identity(&self.identity, &other.identity) && (&a.trust_domain, &a.roots) == (&b.trust_domain, &b.roots)
    }
}

impl Plan {
    /// The plan of a gateway that knows nothing yet.
    pub fn empty(snapshot: Arc<Snapshot>) -> Self {
        Plan {
            snapshot,
            services: BTreeMap::new(),
            mesh: BTreeMap::new(),
            hosts: Arc::default(),
            beliefs: BTreeMap::new(),
            trust: Arc::default(),
            own: BTreeMap::new(),
            crossings: BTreeMap::new(),
            callers: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            rejected: Vec::new(),
            kept: Kept::default(),
        }
    }

    /// The service of that name in the GNS.
    pub fn service(&self, global_namespace: &Name, name: &str) -> Option<&Arc<PlannedService>> {
        self.services.get(global_namespace)?.get(name)
    }

    /// The services of all GNSs.
    pub fn all_services(&self) -> impl Iterator<Item = &Arc<PlannedService>> {
        self.services.values().flat_map(BTreeMap::values)
    }

    /// For dialling the gateways of a cluster in a GNS: in this gateway's identity there, or in that `from` another GNS.
    pub fn tunnel_client(&self, global_namespace: &Name, from: Option<&Name>, cluster: &Name) -> Option<&Dialling> {
        let clients = match from {
            None => &self.tunnels.get(global_namespace)?.clients,
            Some(from) => &self.crossings.get(global_namespace)?.get(from)?.clients,
        };
        clients.get(cluster)
    }

    /// Of which GNS the gateway at the far end of a tunnel of this GNS is: the GNS itself, or another that is let in;
    /// nothing when its cluster is no member (any more), or nobody of that GNS may call anything (any more).
    pub fn peer(&self, global_namespace: &Name, peer: &SpiffeId) -> Option<Peer<'_>> {
        let is_of = |source: &Foreign| {
            let cluster = peer.cluster().unwrap_or_default();
            source.trust_domain == peer.trust_domain().as_str() && source.members.contains(cluster)
        };
        if self.beliefs.get(global_namespace).is_some_and(|belief| is_of(&belief.source)) {
            return Some(Peer::Own);
        }
        let admitted = &self.tunnels.get(global_namespace)?.source.admitted;
        let of = admitted.iter().find(|(_, belief)| is_of(&belief.source))?;
        Some(Peer::Other(of.0))
    }

    /// The GNS whose gateways of this cluster bear the opaque name.
    pub fn tunnel_server(&self, label: &str) -> Option<(&Name, &Arc<TunnelTls>)> {
        let own = &self.snapshot.place.cluster;
        self.tunnels.iter().find(|(_, tls)| {
            tls.source.namespace.labels.get(own).is_some_and(|host| host.as_str().eq_ignore_ascii_case(label))
        })
    }
}

/// Of which GNS the far end of a tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer<'p> {
    /// The tunnel's own.
    Own,
    /// Another.
    Other(&'p Name),
}

impl<'p> Peer<'p> {
    /// The other GNS.
    pub fn other(self) -> Option<&'p Name> {
        match self {
            Peer::Own => None,
            Peer::Other(other) => Some(other),
        }
    }
}

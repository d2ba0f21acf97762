//! The world as one place's data plane needs it: immutable and indexed. Parts that a change left alone are shared with
//! the snapshot before it. It is serialised only for people to read.
//!
//! All of it is `Eq`: by that `Arc` compares parts that are shared by where they are, without a look at what is in them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;

use crate::resource::cluster::Cidr;
use crate::resource::{
    GatewayAddresses, HealthProtocol, Host, MtlsMode, Name, Port, ResourceId, RoutePath, Scheme, SecretRef, Span,
    TlsMode,
};
use crate::revoked::Revoked;
use crate::wire::{Order, Rejection, RevisionPair};

/// For whom a snapshot is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The cluster in which the data plane stands.
    pub cluster: Name,
}

/// Everything that a data plane decides by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// For whom.
    pub place: Place,
    /// How new.
    pub revision: RevisionPair,
    /// The global namespaces of which this cluster is a member, and those that its workloads may call something in.
    pub namespaces: BTreeMap<Name, Arc<Namespace>>,
    /// Whom to believe in the other global namespaces whose services may call some of this cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub foreign: BTreeMap<Name, Arc<Foreign>>,
    /// The hosts that are published, by those global namespaces.
    pub public_hosts: Arc<HashMap<Host, Arc<PublicHost>>>,
    /// Which plain-text callers belong to which GNS; the longest prefix first.
    pub callers: Vec<Caller>,
    /// Ranges of plain-text callers that belong to no GNS served here, though they may lie in a wider range that does;
    /// the longest prefix first.
    pub strangers: Vec<Cidr>,
    /// Where each cluster's gateways are reached, this one's too.
    pub gateways: BTreeMap<Name, Arc<[GatewayAddresses]>>,
    /// What could not be served as it is written, and why.
    pub rejected: Vec<Rejection>,
}

/// A global namespace, seen from one of its clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// Its name.
    pub name: Name,
    /// A service answers as `<service>.<domain>`.
    pub domain: Host,
    /// Whether this cluster is no member, and its workloads may only call what is among the services.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub visited: bool,
    /// Its SPIFFE trust domain.
    pub trust_domain: String,
    /// The certificates of its CA, in PEM. Empty until the controller has made one: then there are no tunnels.
    pub roots: Vec<String>,
    /// The opaque names that gateways bear in this GNS, by cluster; a cluster without one is no member.
    pub labels: BTreeMap<Name, Host>,
    /// Which certificates the gateways of this place are to hold.
    pub order: Order,
    /// Who of its clusters, gateways and workloads is not believed any more.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<Revoked>,
    /// What is asked of callers.
    pub mtls: MtlsMode,
    /// How long a gateway's certificate lives.
    pub leaf_lifetime: Span,
    /// Its services, wherever they run.
    pub services: BTreeMap<Name, Arc<Service>>,
}

/// A global namespace that is not served here, but allowed in: how to know who comes from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Foreign {
    /// Its SPIFFE trust domain.
    pub trust_domain: String,
    /// The certificates of its CA, in PEM.
    pub roots: Vec<String>,
    /// Its clusters.
    pub members: BTreeSet<Name>,
    /// Who of them is not believed any more.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<Revoked>,
}

/// Callers from another global namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Allowed {
    /// Which.
    pub global_namespace: Name,
    /// Only this service of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
}

/// A service of a GNS: all its parts, in all clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its GNS.
    pub global_namespace: Name,
    /// Its name.
    pub name: Name,
    /// Its ports; all parts agree on them.
    pub ports: Vec<Port>,
    /// How this cluster's instances are checked.
    pub health_check: Check,
    /// The versions that run in this cluster.
    pub versions: BTreeMap<Name, Arc<Version>>,
    /// The versions that run elsewhere, by cluster, each with how many instances it has, sick or well.
    pub remote: BTreeMap<Name, BTreeMap<Name, u32>>,
    /// Who of other global namespaces may call it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Allowed>,
    /// Its parts in this cluster that cannot be served as they are written, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Rejection>,
}

/// A version's instances in this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Its name.
    pub name: Name,
    /// Its instances; none twice.
    pub instances: Vec<Endpoint>,
}

/// One instance of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its IP address.
    pub address: IpAddr,
    /// Its own port, for services of one port.
    pub port: Option<u16>,
    /// Its share relative to the others, at least 1.
    pub weight: u32,
    /// On which node it runs.
    pub node: Option<Name>,
    /// The namespace that stands in the identity which it must prove by mutual TLS; nothing where it speaks plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Name>,
}

impl Endpoint {
    /// Where requests for this port of the service go.
    pub fn socket(&self, port: &Port) -> SocketAddr {
        SocketAddr::new(self.address, self.port.unwrap_or(port.target()))
    }
}

/// How instances are checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What is spoken.
    pub protocol: HealthProtocol,
    /// The path of an HTTP check.
    pub path: String,
    /// Whether an HTTP check speaks HTTP/2 at once, as requests to that port do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prior_knowledge: bool,
    /// The instance's port, when checks go to another than requests.
    pub port: Option<u16>,
    /// From one check to the next.
    pub interval: Span,
    /// How long a check may take.
    pub timeout: Span,
    /// So many failures in a row make an instance sick.
    pub unhealthy_threshold: u32,
    /// So many successes in a row make it well again.
    pub healthy_threshold: u32,
    /// Which answers are well.
    pub accept: Accept,
}

/// Which answers to a health check are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Accept {
    /// 200 to 399: somebody wrote the check.
    Success,
    /// Whatever isn't the server's own fault (below 500): nobody wrote a check, so nobody promised that the path exists.
    BelowServerError,
}

/// A host that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicHost {
    /// The host.
    pub host: Host,
    /// The public service's GNS.
    pub global_namespace: Name,
    /// The public service.
    pub public_service: ResourceId,
    /// On which ports it answers.
    pub mode: TlsMode,
    /// Its certificate, once there is one; never for modes `http` and `passthrough`.
    pub certificate: Option<Arc<HostTls>>,
    /// How clusters share the work.
    pub scheme: Scheme,
    /// How long resolvers may keep an answer.
    pub ttl: Span,
    /// Where paths go: exact ones first, then the longest prefix first; the last one takes everything.
    pub routes: Vec<HostRoute>,
    /// Whether responses say who served them.
    pub service_info: bool,
}

/// A certificate chain and where its key is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostTls {
    /// The chain in PEM.
    pub chain: Arc<str>,
    /// Where the key is.
    pub secret_ref: SecretRef,
}

/// Requests whose path matches go to this port of this service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRoute {
    /// Which paths.
    pub path: RoutePath,
    /// The service's name.
    pub service: Name,
    /// The service's port.
    pub port: u16,
}

/// Plain-text callers of a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// The range.
    pub cidr: Cidr,
    /// The namespace in which they stand.
    pub namespace: Name,
    /// The GNS to which that namespace belongs.
    pub global_namespace: Name,
}

impl Snapshot {
    /// A place about which nothing is known yet.
    pub fn empty(place: Place) -> Self {
        Snapshot {
            place,
            revision: RevisionPair::default(),
            namespaces: BTreeMap::new(),
            foreign: BTreeMap::new(),
            public_hosts: Arc::default(),
            callers: Vec::new(),
            strangers: Vec::new(),
            gateways: BTreeMap::new(),
            rejected: Vec::new(),
        }
    }

    /// The GNS of a plain-text caller, by its address.
    pub fn caller(&self, address: IpAddr) -> Option<&Caller> {
        let caller = self.callers.iter().find(|caller| caller.cidr.contains(address))?;
        let closer = |range: &&Cidr| range.prefix() > caller.cidr.prefix() && range.contains(address);
        self.strangers.iter().find(closer).is_none().then_some(caller)
    }

    /// Whether an identity of that trust domain and cluster is one of the GNS, now.
    pub fn is_of(&self, global_namespace: &Name, trust_domain: &str, cluster: &str) -> bool {
        match self.namespaces.get(global_namespace) {
            Some(gns) => gns.trust_domain == trust_domain && gns.labels.contains_key(cluster),
            None => self
                .foreign
                .get(global_namespace)
                .is_some_and(|foreign| foreign.trust_domain == trust_domain && foreign.members.contains(cluster)),
        }
    }

    /// The GNS in whose domain the host stands, and what stands before the domain (`cart`, `v1.cart`, or nothing).
    pub fn namespace_of<'h>(&self, host: &'h str) -> Option<(&Arc<Namespace>, &'h str)> {
        self.namespaces.values().find_map(|gns| Some((gns, gns.domain.labels_of(host)?)))
    }
}

impl PublicHost {
    /// The certificate, where gateways use it.
    pub fn handshakes(&self) -> Option<&Arc<HostTls>> {
        self.certificate.as_ref().filter(|_| matches!(self.mode, TlsMode::Https | TlsMode::Redirect))
    }
}

impl Service {
    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.port == number)
    }
}

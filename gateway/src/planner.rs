//! Snapshot, keys and identities → plan. What didn't change is taken over from the plan before, so that connections,
//! turns and verdicts outlive changes.

mod mesh;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::live::Publisher;
use config::resource::Name;
use config::snapshot::{HostTls, Namespace, PublicHost, Snapshot};
use config::wire::Rejection;
use decide::route::Routes;
use identity::trust::TrustView;
use identity::{Accept, Bundles, KeyedCertificate, RoleKind, Trust, TrustBundle, TrustDomain, fingerprint};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::SingleCertAndKey;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use crate::health::checker::Checker;
use crate::inputs::{Identities, Inputs, Secrets};
use crate::metrics::Metrics;
use crate::plan::{Dialling, HostServer, Plan, PlannedHost, PlannedRoute, PlannedService, TunnelSource, TunnelTls};
use crate::upstream::pool::Pools;

/// What tunnels of requests speak (RFC 7301): HTTP/2.
pub const REQUESTS_ALPN: &[u8] = b"h2";
/// What the tunnel of one stream speaks: `tunnel/stream.rs`.
pub const STREAM_ALPN: &[u8] = b"tombolo-stream/1";

/// So many sessions of clients can be resumed; older ones are forgotten.
const SESSIONS: usize = 8_192;

/// Follows the inputs and publishes plans.
pub struct Planner {
    inputs: Inputs,
    publisher: Publisher<Plan>,
    checker: Arc<Checker>,
    pools: Arc<Pools>,
    metrics: Arc<Metrics>,
    public: PublicTls,
}

impl Planner {
    /// Publishes a first plan at once.
    pub fn new(inputs: Inputs, publisher: Publisher<Plan>, checker: Arc<Checker>, metrics: Arc<Metrics>) -> Self {
        let planner = Planner { inputs, publisher, checker, pools: Arc::default(), metrics, public: PublicTls::new() };
        planner.plan();
        planner
    }

    /// Makes a new plan whenever an input changes. What changes while one is made waits for the next, however often it
    /// does. Plans are made beside the runtime's workers: those have requests to serve.
    pub async fn run(self) {
        let Inputs { mut snapshot, mut secrets, mut identities } = self.inputs.clone();
        let _tidying = AbortOnDropHandle::new(tokio::spawn(self.pools.clone().tidy()));
        let planner = Arc::new(self);
        loop {
            let more = tokio::select! {
                next = snapshot.changed() => next.is_some(),
                next = secrets.changed() => next.is_some(),
                next = identities.changed() => next.is_some(),
            };
            let planner = planner.clone();
            // It fails only when the runtime ends.
            if !more || spawn_blocking(move || planner.plan()).await.is_err() {
                return;
            }
        }
    }

    fn plan(&self) {
        let (snapshot, secrets) = (self.inputs.snapshot.get(), self.inputs.secrets.get());
        let identities = self.inputs.identities.get();
        let previous = self.publisher.current();
        let revision = snapshot.revision;
        let Planner { checker, pools, metrics, public, .. } = self;
        let build = Build { previous: &previous, secrets: &secrets, checker, pools, metrics, public };
        let plan = build.plan(snapshot, &identities);
        let known: BTreeSet<_> = previous.rejected.iter().map(|Rejection { key, reason }| (key, reason)).collect();
        for Rejection { key, reason } in
            plan.rejected.iter().filter(|fault| !known.contains(&(&fault.key, &fault.reason)))
        {
            tracing::warn!(%key, %reason, "cannot be served as it is written");
        }
        for before in previous.all_services().map(|before| &before.service) {
            if plan.service(&before.global_namespace, before.name.as_str()).is_none() {
                self.metrics.forget(&before.global_namespace, &before.name);
            }
        }
        let same_services = plan.all_services().map(Arc::as_ptr).eq(previous.all_services().map(Arc::as_ptr));
        self.publisher.publish(Arc::new(plan));
        if !same_services {
            self.checker.others_now();
        }
        self.metrics.revision.set(i64::try_from(revision.global).unwrap_or(i64::MAX));
    }
}

struct Build<'a> {
    previous: &'a Plan,
    secrets: &'a Secrets,
    checker: &'a Checker,
    pools: &'a Pools,
    metrics: &'a Metrics,
    public: &'a PublicTls,
}

impl Build<'_> {
    fn plan(&self, snapshot: Arc<Snapshot>, identities: &Identities) -> Plan {
        let mut rejected = snapshot.rejected.clone();
        let own = &snapshot.place.cluster;
        let services: BTreeMap<_, BTreeMap<_, _>> = snapshot
            .namespaces
            .iter()
            .map(|(name, gns)| {
                (name.clone(), gns.services.iter().map(|(n, s)| (n.clone(), self.service(s, own))).collect())
            })
            .collect();
        let hosts = snapshot.public_hosts.iter().map(|(name, host)| {
            let services = services.get(&host.global_namespace);
            (name.clone(), self.host(host, services, &mut rejected))
        });
        let hosts = hosts.collect();
        let tunnels = self.tunnels(&snapshot, identities, &mut rejected);
        let mesh = mesh::ports(&services, &mut rejected);
        Plan { snapshot, services, mesh, hosts, tunnels, rejected }
    }

    fn host(
        &self,
        host: &Arc<PublicHost>,
        services: Option<&BTreeMap<Name, Arc<PlannedService>>>,
        rejected: &mut Vec<Rejection>,
    ) -> Arc<PlannedHost> {
        let service = |name: &Name| services.and_then(|services| services.get(name));
        let before = self.previous.hosts.get(&host.host);
        if let Some(before) = before.filter(|before| before.is_still(host, service)) {
            return before.clone();
        }
        let routes = host.routes.iter().map(|route| PlannedRoute {
            path: route.path.clone(),
            service: service(&route.service).cloned(),
            port: route.port,
        });
        let tls = host.handshakes().and_then(|certificate| {
            let kept = before.and_then(|before| before.tls.clone());
            self.host_tls(certificate, kept.clone()).unwrap_or_else(|reason| {
                let reason = format!("the certificate of {} cannot be used: {reason}", host.host);
                rejected.push(Rejection { key: host.public_service.to_string(), reason });
                kept
            })
        });
        let routes = Routes::new(routes.collect(), PlannedRoute::pattern);
        Arc::new(PlannedHost { host: host.clone(), tls, routes })
    }

    /// The old certificate goes on serving until the new one's key is here, so that none of the two is ever missing.
    fn host_tls(&self, certificate: &Arc<HostTls>, kept: Option<HostServer>) -> Result<Option<HostServer>, String> {
        if kept.as_ref().is_some_and(|kept| kept.source == *certificate) {
            return Ok(kept);
        }
        let Some(key) = self.secrets.get(&certificate.secret_ref) else { return Ok(kept) };
        let keyed = KeyedCertificate::from_pem(&certificate.chain, key.pem()).map_err(|error| error.to_string())?;
        let config = Arc::new(self.public.server(&keyed).map_err(|error| error.to_string())?);
        Ok(Some(HostServer { source: certificate.clone(), config }))
    }

    fn tunnels(
        &self,
        snapshot: &Snapshot,
        identities: &Identities,
        rejected: &mut Vec<Rejection>,
    ) -> BTreeMap<Name, Arc<TunnelTls>> {
        let mut tunnels = BTreeMap::new();
        for (name, namespace) in &snapshot.namespaces {
            let Some(identity) = identities.get(name) else { continue };
            let source = TunnelSource { identity: identity.clone(), namespace: namespace.clone() };
            let before = self.previous.tunnels.get(name);
            let tls = match before.filter(|before| before.source.same(&source)) {
                Some(same) => Ok(same.clone()),
                None => tunnel_tls(source, &snapshot.place.cluster, before.map(Arc::as_ref)),
            };
            match tls {
                Ok(tls) => drop(tunnels.insert(name.clone(), tls)),
                Err(reason) => rejected.push(Rejection { key: format!("trust/{name}"), reason }),
            }
        }
        tunnels
    }
}

/// What all public hosts share of TLS, so that each costs little. A session belongs to the name that it was made for
/// (rustls looks at that when one is resumed), and no host asks for a client's certificate.
struct PublicTls {
    provider: Arc<CryptoProvider>,
    sessions: Arc<ServerSessionMemoryCache>,
}

impl PublicTls {
    fn new() -> Self {
        PublicTls { provider: Arc::new(default_provider()), sessions: ServerSessionMemoryCache::new(SESSIONS) }
    }

    /// HTTPS for the public: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    fn server(&self, keyed: &KeyedCertificate) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(keyed.certified_key())));
        config.session_storage = self.sessions.clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// What a cluster is dialled with stays the one that was, where it can: each new one costs the tunnels to it.
fn tunnel_tls(source: TunnelSource, own: &Name, before: Option<&TunnelTls>) -> Result<Arc<TunnelTls>, String> {
    let domain: TrustDomain = source.namespace.trust_domain.parse().map_err(|error| format!("{error}"))?;
    let trust = Arc::new(trust_view(&source.namespace, &domain)?);
    let accept = Accept::new(domain.clone(), [RoleKind::Gateway]);
    let both = [REQUESTS_ALPN, STREAM_ALPN];
    let server = identity::tls::tunnel_server_config(&source.identity, trust.clone(), accept, &both)
        .map_err(|error| error.to_string())?;
    let others = source.namespace.labels.keys().filter(|cluster| *cluster != own);
    let clients = others.map(|cluster| {
        let same = before.filter(|before| before.source.same_towards(&source, cluster));
        if let Some(kept) = same.and_then(|before| before.clients.get(cluster)) {
            return Ok((cluster.clone(), kept.clone()));
        }
        let dial = |alpn| {
            let (trust, domain) = (trust.clone(), domain.clone());
            identity::tls::tunnel_client_config(&source.identity, trust, domain, cluster.as_str(), &[alpn])
                .map(Arc::new)
                .map_err(|error| error.to_string())
        };
        Ok::<_, String>((cluster.clone(), Dialling { requests: dial(REQUESTS_ALPN)?, stream: dial(STREAM_ALPN)? }))
    });
    let clients = clients.collect::<Result<_, _>>()?;
    let roots = trust.roots(&domain).map(|bundle| bundle.certificates().map(fingerprint).collect()).unwrap_or_default();
    Ok(Arc::new(TunnelTls { clients, server: Arc::new(server), source, roots }))
}

/// What is believed in a GNS: its roots, and the clusters that are its members now.
fn trust_view(namespace: &Namespace, domain: &TrustDomain) -> Result<TrustView, String> {
    let mut roots = Vec::new();
    for pem in &namespace.roots {
        roots.extend(identity::pem::decode_certificates(pem).map_err(|error| error.to_string())?);
    }
    let bundle = TrustBundle::new(roots).map_err(|error| error.to_string())?;
    let members = namespace.labels.keys().map(|cluster| (domain.clone(), cluster.to_string())).collect();
    let bundles = Bundles::from_iter([(domain.clone(), bundle)]);
    Ok(TrustView { bundles, members, revoked: Default::default() })
}

#[cfg(test)]
mod tests;

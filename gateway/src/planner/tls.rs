//! In whose name the gateway speaks in each global namespace, and whom it believes: for tunnels, for callers, for
//! instances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::{MtlsMode, Name};
use config::revoked::Revoked;
use config::snapshot::{Foreign, Namespace, Snapshot};
use config::wire::Rejection;
use identity::trust::TrustView;
use identity::{Accept, Identity, Role, RoleKind, SpiffeId, TrustBundle, TrustDomain, fingerprint};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::Build;
use crate::inputs::Identities;
use crate::plan::{Belief, CallerSource, CallerTls, Clients, CrossingTls, Dialling, Own, TunnelSource, TunnelTls};
use crate::upstream::secure::{MutualTls, Security};

/// What tunnels of requests speak (RFC 7301): HTTP/2.
pub const REQUESTS_ALPN: &[u8] = b"h2";
/// What the tunnel of one stream speaks: `tunnel/stream.rs`.
pub const STREAM_ALPN: &[u8] = b"tombolo-stream/1";
/// What tells the mesh's TLS from an application's own, on ports of which the bytes say nothing.
pub const MESH_ALPN: &[u8] = b"tombolo/1";
/// HTTP/2 and HTTP/1.1 with workloads.
const HTTP2_ALPN: &[u8] = b"h2";
const HTTP1_ALPN: &[u8] = b"http/1.1";

/// GNS → whom to believe.
pub(super) type Beliefs = BTreeMap<Name, Arc<Belief>>;

impl Build<'_> {
    /// Whom to believe in every GNS that has something to do with this cluster. One whose roots cannot be read is left
    /// out, and named.
    pub(super) fn beliefs(&self, snapshot: &Snapshot, rejected: &mut Vec<Rejection>) -> Beliefs {
        let own = snapshot.namespaces.iter().filter(|(_, gns)| !gns.roots.is_empty());
        let own = own.map(|(name, gns)| (name, believed(gns)));
        let foreign = snapshot.foreign.iter().map(|(name, foreign)| (name, Foreign::clone(foreign)));
        let mut beliefs = Beliefs::new();
        for (name, source) in own.chain(foreign) {
            let before = self.previous.beliefs.get(name).filter(|before| before.source == source);
            match before.map_or_else(|| belief(source).map(Arc::new), |before| Ok(before.clone())) {
                Ok(belief) => drop(beliefs.insert(name.clone(), belief)),
                Err(reason) => rejected.push(Rejection { key: format!("trust/{name}"), reason }),
            }
        }
        beliefs
    }

    /// All that is believed, for connections that live.
    pub(super) fn trust(&self, beliefs: &Beliefs) -> Arc<TrustView> {
        let same = self.previous.beliefs.iter().eq(beliefs.iter());
        if same { self.previous.trust.clone() } else { Arc::new(view(beliefs.values())) }
    }

    /// In whose name it speaks, in each GNS in which it has an identity.
    pub(super) fn own(
        &self,
        snapshot: &Snapshot,
        identities: &Identities,
        beliefs: &Beliefs,
    ) -> BTreeMap<Name, Arc<Own>> {
        let members = snapshot.namespaces.iter().filter(|(_, gns)| !gns.visited);
        let own = members.filter_map(|(name, _)| {
            let (identity, belief) = (identities.get(name)?, beliefs.get(name)?);
            let before = self.previous.own.get(name).filter(|before| before.same(identity, belief));
            let new = || {
                Arc::new(Own {
                    identity: identity.clone(),
                    domain: belief.domain.clone(),
                    roots: belief.source.roots.clone(),
                    revoked: belief.source.revoked.clone(),
                    trust: Arc::new(view([belief])),
                })
            };
            Some((name.clone(), before.cloned().unwrap_or_else(new)))
        });
        own.collect()
    }

    pub(super) fn tunnels(
        &self,
        snapshot: &Snapshot,
        (own, beliefs): (&BTreeMap<Name, Arc<Own>>, &Beliefs),
        rejected: &mut Vec<Rejection>,
    ) -> BTreeMap<Name, Arc<TunnelTls>> {
        let mut tunnels = BTreeMap::new();
        for (name, own) in own {
            let (Some(namespace), Some(belief)) = (snapshot.namespaces.get(name), beliefs.get(name)) else { continue };
            let admitted =
                admitted(namespace).into_iter().filter_map(|gns| Some((gns.clone(), beliefs.get(gns)?.clone())));
            let source = TunnelSource {
                identity: own.identity.clone(),
                namespace: namespace.clone(),
                admitted: admitted.collect(),
            };
            let before = self.previous.tunnels.get(name);
            let tls = match before.filter(|before| before.source.same(&source)) {
                Some(same) => Ok(same.clone()),
                None => tunnel_tls(source, belief, &snapshot.place.cluster, before.map(Arc::as_ref)),
            };
            match tls {
                Ok(tls) => drop(tunnels.insert(name.clone(), tls)),
                Err(reason) => rejected.push(Rejection { key: format!("trust/{name}"), reason }),
            }
        }
        tunnels
    }

    /// For tunnels out of the GNSs in which it has an identity into those that let them in.
    pub(super) fn crossings(
        &self,
        snapshot: &Snapshot,
        (own, beliefs): (&BTreeMap<Name, Arc<Own>>, &Beliefs),
        rejected: &mut Vec<Rejection>,
    ) -> BTreeMap<Name, BTreeMap<Name, Arc<CrossingTls>>> {
        let mut crossings: BTreeMap<Name, BTreeMap<Name, Arc<CrossingTls>>> = BTreeMap::new();
        for (to, namespace) in &snapshot.namespaces {
            let Some(belief) = beliefs.get(to) else { continue };
            for from in admitted(namespace) {
                let Some(own) = own.get(from) else { continue };
                let source = TunnelSource {
                    identity: own.identity.clone(),
                    namespace: namespace.clone(),
                    admitted: BTreeMap::new(),
                };
                let before = self.previous.crossings.get(to).and_then(|from_all| from_all.get(from));
                let before_clients = before.map(|before| (&before.source, &before.clients));
                match clients(&source, belief, &snapshot.place.cluster, before_clients) {
                    Ok(clients) => {
                        let crossing = Arc::new(CrossingTls { source, clients });
                        crossings.entry(to.clone()).or_default().insert(from.clone(), crossing);
                    }
                    Err(reason) => rejected.push(Rejection { key: format!("trust/{to}"), reason }),
                }
            }
        }
        crossings
    }

    /// For workloads that come with certificates, by the GNS that they call. Where this cluster is no member of it, the
    /// gateway is that of the callers.
    pub(super) fn callers(
        &self,
        snapshot: &Snapshot,
        (own, beliefs): (&BTreeMap<Name, Arc<Own>>, &Beliefs),
        rejected: &mut Vec<Rejection>,
    ) -> BTreeMap<Name, Arc<CallerTls>> {
        let mut callers = BTreeMap::new();
        for (name, namespace) in snapshot.namespaces.iter().filter(|(_, gns)| gns.mtls != MtlsMode::Off) {
            let shown = own.get(name).or_else(|| admitted(namespace).into_iter().find_map(|from| own.get(from)));
            let Some(shown) = shown else { continue };
            let source = CallerSource { identity: shown.identity.clone(), beliefs: beliefs.clone() };
            let tls = match self.previous.callers.get(name).filter(|before| before.source.same(&source)) {
                Some(same) => Ok(same.clone()),
                None => caller_tls(source, &snapshot.place.cluster),
            };
            match tls {
                Ok(tls) => drop(callers.insert(name.clone(), tls)),
                Err(reason) => rejected.push(Rejection { key: format!("trust/{name}"), reason }),
            }
        }
        callers
    }
}

/// How the instances of a service in a namespace of this cluster are dialled by mutual TLS. Connections that are opened
/// so are of that number.
pub(super) fn instances(
    number: u64,
    own: &Own,
    (namespace, service): (&Name, &Name),
    server_name: &str,
    cluster: &Name,
) -> Security {
    let role =
        Role::Workload { cluster: cluster.to_string(), namespace: namespace.to_string(), service: service.to_string() };
    let made = || {
        let id = SpiffeId::new(own.domain.clone(), role).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(server_name.to_owned()).map_err(|error| error.to_string())?;
        let config = |alpn| -> Result<ClientConfig, String> {
            identity::tls::instance_client_config(&own.identity, own.trust.clone(), id.clone(), &[alpn])
                .map_err(|error| error.to_string())
        };
        Ok::<_, String>(MutualTls::new(number, name, [config(HTTP1_ALPN)?, config(HTTP2_ALPN)?, config(MESH_ALPN)?]))
    };
    match made() {
        Ok(tls) => Security::Mutual(Arc::new(tls)),
        Err(error) => {
            tracing::error!(%service, %namespace, %error, "instances cannot be dialled by mutual TLS");
            Security::Missing
        }
    }
}

/// The other GNSs that may call something in this one.
fn admitted(namespace: &Namespace) -> BTreeSet<&Name> {
    let allowed = namespace.services.values().flat_map(|service| &service.allowed);
    allowed.map(|allowed| &allowed.global_namespace).collect()
}

pub(super) fn believed(namespace: &Namespace) -> Foreign {
    Foreign {
        trust_domain: namespace.trust_domain.clone(),
        roots: namespace.roots.clone(),
        members: namespace.labels.keys().cloned().collect(),
        revoked: namespace.revoked.clone(),
    }
}

pub(super) fn belief(source: Foreign) -> Result<Belief, String> {
    let domain: TrustDomain = source.trust_domain.parse().map_err(|error| format!("{error}"))?;
    let mut roots = Vec::new();
    for pem in &source.roots {
        roots.extend(identity::pem::decode_certificates(pem).map_err(|error| error.to_string())?);
    }
    let bundle = TrustBundle::new(roots).map_err(|error| error.to_string())?;
    Ok(Belief { source, domain, bundle: Arc::new(bundle) })
}

/// What is believed in these GNSs: each domain by its own roots, and the clusters that are members now.
fn view<'b>(beliefs: impl IntoIterator<Item = &'b Arc<Belief>>) -> TrustView {
    let mut view = TrustView::default();
    for Belief { source, domain, bundle } in beliefs.into_iter().map(Arc::as_ref) {
        view.bundles.insert(domain.clone(), bundle.clone());
        let members =
            source.members.iter().filter(|cluster| !source.revoked.contains(&Revoked::Cluster((*cluster).clone())));
        view.members.extend(members.map(|cluster| (domain.clone(), cluster.to_string())));
        view.revoked_ids.extend(source.revoked.iter().filter_map(|revoked| name_of(revoked, domain)));
    }
    view
}

/// What stands in the certificates of whoever is revoked; nothing for a cluster, which is no member then.
fn name_of(revoked: &Revoked, domain: &TrustDomain) -> Option<SpiffeId> {
    let role = match revoked {
        Revoked::Cluster(_) => return None,
        Revoked::Gateway { cluster, name } => Role::Gateway { cluster: cluster.to_string(), name: name.to_string() },
        Revoked::Workload { cluster, namespace, service } => Role::Workload {
            cluster: cluster.to_string(),
            namespace: namespace.to_string(),
            service: service.to_string(),
        },
    };
    SpiffeId::new(domain.clone(), role).ok()
}

pub(super) fn tunnel_tls(
    source: TunnelSource,
    belief: &Arc<Belief>,
    cluster: &Name,
    before: Option<&TunnelTls>,
) -> Result<Arc<TunnelTls>, String> {
    let trust = Arc::new(view([belief].into_iter().chain(source.admitted.values())));
    let admitted = source.admitted.values().map(|belief| belief.domain.clone());
    let accept = Accept::new(belief.domain.clone(), [RoleKind::Gateway]).and_domains(admitted);
    let both = [REQUESTS_ALPN, STREAM_ALPN];
    let server = identity::tls::gateway_server_config(&source.identity, trust, accept, &both)
        .map_err(|error| error.to_string())?;
    let before = before.map(|before| (&before.source, &before.clients));
    let clients = clients(&source, belief, cluster, before)?;
    let roots = belief.bundle.certificates().map(fingerprint).collect();
    Ok(Arc::new(TunnelTls { clients, server: Arc::new(server), source, roots }))
}

/// What a cluster is dialled with stays the one that was, where it can: each new one costs the tunnels to it.
fn clients(
    source: &TunnelSource,
    belief: &Arc<Belief>,
    own: &Name,
    before: Option<(&TunnelSource, &Clients)>,
) -> Result<Clients, String> {
    let trust = Arc::new(view([belief]));
    let others = source.namespace.labels.keys().filter(|cluster| *cluster != own);
    let clients = others.map(|cluster| {
        let same = before.filter(|(before, _)| before.same_towards(source, cluster));
        if let Some(kept) = same.and_then(|(_, clients)| clients.get(cluster)) {
            return Ok((cluster.clone(), kept.clone()));
        }
        let dial = |alpn| {
            let (trust, domain) = (trust.clone(), belief.domain.clone());
            identity::tls::tunnel_client_config(&source.identity, trust, domain, cluster.as_str(), &[alpn])
                .map(Arc::new)
                .map_err(|error| error.to_string())
        };
        Ok((cluster.clone(), Dialling { requests: dial(REQUESTS_ALPN)?, stream: dial(STREAM_ALPN)? }))
    });
    clients.collect()
}

/// Workloads of every GNS that is known here may say who they are: whether they may call is another matter, of which
/// they are told. Of another cluster nobody comes in: they have gateways of their own.
fn caller_tls(source: CallerSource, cluster: &Name) -> Result<Arc<CallerTls>, String> {
    let trust = Arc::new(view(source.beliefs.values()));
    let domains: BTreeSet<TrustDomain> = source.beliefs.values().map(|belief| belief.domain.clone()).collect();
    let accept =
        Accept { domains, roles: [RoleKind::Workload].into(), cluster: Some(cluster.to_string()), ..Accept::default() };
    let server = |alpn: &[&[u8]]| {
        identity::tls::gateway_server_config(&source.identity, trust.clone(), accept.clone(), alpn)
            .map(Arc::new)
            .map_err(|error| error.to_string())
    };
    let (http, stream) = (server(&[HTTP2_ALPN, HTTP1_ALPN])?, server(&[MESH_ALPN])?);
    Ok(Arc::new(CallerTls { source, http, stream }))
}

/// Whether both are the same certificate.
pub(crate) fn same_identity(one: &Identity, other: &Identity) -> bool {
    one.keyed().facts().fingerprint == other.keyed().facts().fingerprint
}

//! The services of each GNS, joined from their parts in namespaces and clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::{HealthCheck, Instance, InstanceTls, MtlsMode, Name, Port, Protocol, ProxyProtocol, ServiceSpec};
use crate::snapshot::{Accept, Check, Endpoint, Service, Snapshot, Version};
use crate::wire::Rejection;
use crate::world::Key;

use super::checks::Checks;
use super::namespaces::Services;
use super::rejected::{Rejected, rejection};
use super::{Frame, shared};

/// What one namespace of one cluster holds of a service.
struct Part<'w> {
    key: Key,
    ports: &'w [Port],
    /// Own cluster first, then by cluster and namespace: the first part says what the others must agree to.
    rank: (bool, &'w Name, &'w Name),
    body: Body<'w>,
}

enum Body<'w> {
    Local { namespace: &'w Name, spec: &'w ServiceSpec },
    Remote { cluster: &'w Name, versions: &'w BTreeMap<Name, u32> },
}

/// The services of which the frame knows parts; what is said of each in `rejected` is said anew.
pub(super) fn compile(
    frame: &Frame<'_>,
    checks: &Checks,
    previous: Option<&Snapshot>,
    rejected: &mut Rejected,
) -> BTreeMap<Name, Services> {
    let mut services: BTreeMap<Name, Services> = BTreeMap::new();
    for (of @ (gns, name), parts) in parts(frame) {
        let allowed = frame.access.allowed(gns, name);
        if frame.access.is_visited(gns) && allowed.is_empty() {
            continue;
        }
        let mode = frame.known.global_namespaces.get(gns).map_or_else(MtlsMode::default, |spec| spec.mtls);
        let mut reasons = Vec::new();
        let parts = agreeing(parts, &mut reasons);
        reasons.extend(parts.iter().filter_map(|part| part.unfit(gns, mode)));
        let left_out = here(&reasons);
        rejected.of_service(of, reasons);
        let old = previous.and_then(|previous| previous.namespaces.get(gns)?.services.get(name));
        let service = Service { allowed, left_out, ..service(of, mode, &parts, checks.of(of), old) };
        services.entry(gns.clone()).or_default().insert(name.clone(), shared(service, old));
    }
    services
}

fn parts<'w>(frame: &Frame<'w>) -> BTreeMap<(&'w Name, &'w Name), Vec<Part<'w>>> {
    let (known, place) = (&frame.known, frame.place);
    let mut owners = BTreeMap::new();
    // Many services share a namespace.
    let mut owner = |cluster: &'w Name, namespace: &'w Name| -> Option<&'w Name> {
        *owners.entry((cluster, namespace)).or_insert_with(|| frame.reached(cluster, namespace))
    };
    let mut parts: BTreeMap<_, Vec<Part<'w>>> = BTreeMap::new();
    for local in known.services.iter().filter(|local| *local.cluster == place.cluster) {
        let Some(gns) = owner(local.cluster, local.namespace) else { continue };
        parts.entry((gns, local.name)).or_default().push(Part {
            key: Key::Resource(local.id.clone()),
            ports: &local.spec.ports,
            rank: (false, local.cluster, local.namespace),
            body: Body::Local { namespace: local.namespace, spec: local.spec },
        });
    }
    for remote in known.remote_services.iter().filter(|remote| remote.cluster != place.cluster) {
        let Some(gns) = owner(&remote.cluster, &remote.namespace) else { continue };
        parts.entry((gns, &remote.name)).or_default().push(Part {
            key: remote.key(),
            ports: &remote.ports,
            rank: (true, &remote.cluster, &remote.namespace),
            body: Body::Remote { cluster: &remote.cluster, versions: &remote.versions },
        });
    }
    parts
}

/// Of what is left out, what is in this cluster: of others only a summary is known.
fn here(reasons: &[Rejection]) -> Vec<Rejection> {
    reasons.iter().filter(|rejection| rejection.key.starts_with("Service/")).cloned().collect()
}

/// The parts that agree with the first; the others are named.
fn agreeing<'w>(mut parts: Vec<Part<'w>>, reasons: &mut Vec<Rejection>) -> Vec<Part<'w>> {
    parts.sort_by_key(|part| part.rank);
    let mut agreeing: Vec<Part<'w>> = Vec::with_capacity(parts.len());
    for part in parts {
        match agreeing.first().and_then(|first| disagreement(first, &part)) {
            Some(reason) => reasons.push(rejection(&part.key, reason)),
            None => agreeing.push(part),
        }
    }
    agreeing
}

fn disagreement(first: &Part<'_>, other: &Part<'_>) -> Option<String> {
    if first.ports == other.ports {
        return None;
    }
    if promised(first.ports) != promised(other.ports) {
        return Some(format!("its ports differ from those of {}, with which it is one service", first.key));
    }
    // Callers don't see these, but one cluster's gateways read them from the first part for all instances.
    let both_local = matches!((&first.body, &other.body), (Body::Local { .. }, Body::Local { .. }));
    (both_local && targets(first.ports) != targets(other.ports)).then(|| {
        format!("its ports' targets or proxyProtocol differ from those of {}, with which it is one service", first.key)
    })
}

/// What callers rely on: numbers, and what is spoken there.
fn promised(ports: &[Port]) -> BTreeSet<(u16, Protocol)> {
    ports.iter().map(|port| (port.port, port.protocol)).collect()
}

fn targets(ports: &[Port]) -> BTreeSet<(u16, u16, Option<ProxyProtocol>)> {
    ports.iter().map(|port| (port.port, port.target(), port.proxy_protocol)).collect()
}

fn service(
    (gns, name): (&Name, &Name),
    mode: MtlsMode,
    parts: &[Part<'_>],
    public: Option<&HealthCheck>,
    old: Option<&Arc<Service>>,
) -> Service {
    let ports = parts.first().map(|part| part.ports.to_vec()).unwrap_or_default();
    let locals = || parts.iter().filter_map(Part::local);
    let versions = versions(locals(), mode, &ports, old);
    let written = locals().find_map(|(_, spec)| spec.health_check.as_ref()).or(public);
    Service {
        global_namespace: gns.clone(),
        name: name.clone(),
        health_check: written.map_or_else(|| Check::unwritten(&ports), |check| Check::written(check, &ports)),
        ports,
        versions,
        remote: remote(parts),
        allowed: Vec::new(),
        left_out: Vec::new(),
    }
}

impl<'w> Part<'w> {
    /// Its namespace, and what it is.
    fn local(&self) -> Option<(&'w Name, &'w ServiceSpec)> {
        match self.body {
            Body::Local { namespace, spec } => Some((namespace, spec)),
            Body::Remote { .. } => None,
        }
    }

    /// Which versions are no endpoints in this mode.
    fn unfit(&self, gns: &Name, mode: MtlsMode) -> Option<Rejection> {
        let unfit = self.local().and_then(|(_, spec)| mode.unfit(spec))?;
        Some(rejection(&self.key, unfit.explain(gns)))
    }
}

/// The versions of this cluster, those of several namespaces joined.
fn versions<'w>(
    locals: impl Iterator<Item = (&'w Name, &'w ServiceSpec)>,
    mode: MtlsMode,
    ports: &[Port],
    old: Option<&Arc<Service>>,
) -> BTreeMap<Name, Arc<Version>> {
    let mut instances: BTreeMap<&Name, Vec<Endpoint>> = BTreeMap::new();
    let mut parts = 0;
    for (namespace, spec) in locals {
        parts += 1;
        for version in &spec.versions {
            let endpoints = instances.entry(&version.name).or_default();
            if mode.serves(version.tls) {
                let tls = (version.tls == InstanceTls::Mesh).then_some(namespace);
                endpoints.extend(version.instances.iter().map(|instance| endpoint(instance, tls)));
            }
        }
    }
    let version = |(name, instances): (&Name, Vec<Endpoint>)| {
        // One part by itself has none: it would not be valid.
        let instances = if parts > 1 { without_doubles(instances, ports) } else { instances };
        let version = Version { name: name.clone(), instances };
        (name.clone(), shared(version, old.and_then(|old| old.versions.get(name))))
    };
    instances.into_iter().map(version).collect()
}

/// One instance counts once, by where it is reached: the first to name it says the rest.
fn without_doubles(mut instances: Vec<Endpoint>, ports: &[Port]) -> Vec<Endpoint> {
    let target = ports.first().map(Port::target);
    let mut seen = BTreeSet::new();
    instances.retain(|instance| seen.insert((instance.address, instance.port.or(target))));
    instances
}

fn endpoint(instance: &Instance, tls: Option<&Name>) -> Endpoint {
    Endpoint {
        address: instance.address,
        port: instance.port,
        weight: instance.weight.unwrap_or(1).max(1),
        node: instance.node.clone(),
        tls: tls.cloned(),
    }
}

fn remote(parts: &[Part<'_>]) -> BTreeMap<Name, BTreeMap<Name, u32>> {
    let mut clusters: BTreeMap<Name, BTreeMap<Name, u32>> = BTreeMap::new();
    for part in parts {
        let Body::Remote { cluster, versions } = part.body else { continue };
        let counts = clusters.entry(cluster.clone()).or_default();
        for (version, count) in versions {
            let sum = counts.entry(version.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
    clusters
}

impl Check {
    /// The check that somebody wrote.
    fn written(check: &HealthCheck, ports: &[Port]) -> Self {
        let of_requests = ports.first().filter(|_| check.port.is_none()).map(|port| port.protocol);
        Check {
            prior_knowledge: matches!(of_requests, Some(Protocol::Http2 | Protocol::Grpc)),
            protocol: check.protocol,
            path: check.path.clone(),
            port: check.port,
            interval: check.interval,
            timeout: check.timeout,
            unhealthy_threshold: check.unhealthy_threshold,
            healthy_threshold: check.healthy_threshold,
            accept: Accept::Success,
        }
    }

    /// The check of a service for which nobody wrote one: what its first port speaks.
    fn unwritten(ports: &[Port]) -> Self {
        use crate::resource::HealthProtocol::{Http, Tcp};
        let http = ports.first().is_none_or(|port| port.protocol == Protocol::Http);
        let check = HealthCheck { protocol: if http { Http } else { Tcp }, ..HealthCheck::default() };
        Check { accept: Accept::BelowServerError, ..Check::written(&check, ports) }
    }
}

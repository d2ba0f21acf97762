//! The services of each GNS, joined from their parts in namespaces and clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::{HealthCheck, Instance, InstanceTls, MtlsMode, Name, Port, Protocol, ProxyProtocol, ServiceSpec};
use crate::snapshot::{Accept, Check, Endpoint, Place, Service, Snapshot, Version};
use crate::world::Key;

use super::access::Access;
use super::known::Known;
use super::membership::Membership;
use super::namespaces::Services;
use super::{Rejected, shared};

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

/// A GNS and a service of it.
type Of<'w> = (&'w Name, &'w Name);

pub(super) fn compile(
    known: &Known<'_>,
    place: &Place,
    (membership, access): (&Membership<'_>, &Access<'_>),
    previous: Option<&Snapshot>,
    rejected: &mut Rejected,
) -> BTreeMap<Name, Services> {
    let checks = public_checks(known);
    let mut services: BTreeMap<Name, Services> = BTreeMap::new();
    for ((gns, name), parts) in parts(known, place, (membership, access)) {
        let allowed = access.allowed(gns, name);
        if access.is_visited(gns) && allowed.is_empty() {
            continue;
        }
        let mode = known.global_namespaces.get(gns).map_or_else(MtlsMode::default, |spec| spec.mtls);
        let parts = agreeing(parts, rejected);
        parts.iter().for_each(|part| part.tell_unfit(gns, mode, rejected));
        let old = previous.and_then(|previous| previous.namespaces.get(gns)?.services.get(name));
        let service = service((gns, name), mode, &parts, checks.get(&(gns, name)).copied(), old);
        let service = Service { allowed, ..service };
        services.entry(gns.clone()).or_default().insert(name.clone(), shared(service, old));
    }
    services
}

fn parts<'w>(
    known: &Known<'w>,
    place: &Place,
    (membership, access): (&Membership<'w>, &Access<'w>),
) -> BTreeMap<Of<'w>, Vec<Part<'w>>> {
    let mut owners = BTreeMap::new();
    // Many services share a namespace. A GNS without this cluster has no services here, but for those that are called.
    let mut owner = |cluster: &'w Name, namespace: &'w Name| -> Option<&'w Name> {
        let reached = |gns: &&Name| access.is_here(gns) || access.is_visited(gns);
        let owner = || membership.owner(cluster, namespace).filter(reached);
        *owners.entry((cluster, namespace)).or_insert_with(owner)
    };
    let mut parts: BTreeMap<Of<'w>, Vec<Part<'w>>> = BTreeMap::new();
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

/// The parts that agree with the first; the others are named.
fn agreeing<'w>(mut parts: Vec<Part<'w>>, rejected: &mut Rejected) -> Vec<Part<'w>> {
    parts.sort_by_key(|part| part.rank);
    let mut agreeing: Vec<Part<'w>> = Vec::with_capacity(parts.len());
    for part in parts {
        match agreeing.first().and_then(|first| disagreement(first, &part)) {
            Some(reason) => rejected.add(&part.key, reason),
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
    (gns, name): Of<'_>,
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

    /// Says which versions are no endpoints in this mode.
    fn tell_unfit(&self, gns: &Name, mode: MtlsMode, rejected: &mut Rejected) {
        if let Some(unfit) = self.local().and_then(|(_, spec)| mode.unfit(spec)) {
            rejected.add(&self.key, unfit.explain(gns));
        }
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

/// The health checks that public services bring for services that have none: the first public service's, by identity.
fn public_checks<'w>(known: &Known<'w>) -> BTreeMap<Of<'w>, &'w HealthCheck> {
    let mut checks = BTreeMap::new();
    for ((gns, _), (_, spec)) in &known.public_services {
        let Some(check) = &spec.health_check else { continue };
        for service in spec.routes.iter().map(|route| &route.service).chain([&spec.service]) {
            checks.entry((*gns, service)).or_insert(check);
        }
    }
    checks
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

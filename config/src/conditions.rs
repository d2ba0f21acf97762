//! What is to be said of resources that were accepted though something that they name isn't there.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::membership::Membership;
use crate::resource::{
    AccessPolicySpec, CertificateSource, Condition, ConditionStatus, GlobalNamespaceSpec, MtlsMode, Name, Port,
    Protocol, PublicServiceSpec, ResourceId, Scheme, ServiceSpec, Spec, TlsMode,
};
use crate::world::{Fact, World};

/// At most so many examples stand in a message.
const EXAMPLES: usize = 5;

/// What of a world conditions are told by. Make it once for many resources.
pub struct Overview<'w> {
    world: &'w World,
    membership: Membership<'w>,
    clusters: BTreeSet<&'w Name>,
    /// Where services run or callers stand: cluster and namespace.
    places: BTreeSet<(&'w Name, &'w Name)>,
    /// The ports of each GNS's services.
    services: BTreeMap<(&'w Name, &'w Name), BTreeMap<u16, Protocol>>,
    /// The services whose instances are known, with their GNS.
    instances: Vec<(&'w Name, &'w ResourceId, &'w ServiceSpec)>,
}

/// The conditions of one resource. Those that only members can tell (`Ready`) are not among them.
pub fn conditions(world: &World, id: &ResourceId) -> Vec<Condition> {
    Overview::of(world).conditions(id)
}

impl<'w> Overview<'w> {
    /// Looks over a world: of the controller, with every cluster's services; or of one cluster.
    pub fn of(world: &'w World) -> Self {
        let global_namespaces = world.resources().filter_map(|resource| match (&resource.id, &resource.spec) {
            (ResourceId::GlobalNamespace(name), Spec::GlobalNamespace(spec)) => Some((name, spec)),
            _ => None,
        });
        let mut overview = Overview {
            world,
            membership: Membership::of(global_namespaces),
            clusters: BTreeSet::new(),
            places: BTreeSet::new(),
            services: BTreeMap::new(),
            instances: Vec::new(),
        };
        world.facts.values().for_each(|fact| overview.take(fact));
        overview
    }

    fn take(&mut self, fact: &'w Fact) {
        match fact {
            Fact::Resource(resource) => match (&resource.id, &resource.spec) {
                (ResourceId::Cluster(name), Spec::Cluster(spec)) => {
                    self.clusters.insert(name);
                    self.places.extend(spec.workloads.iter().map(|row| (name, &row.namespace)));
                }
                (ResourceId::Service { cluster, namespace, name }, Spec::Service(spec)) => {
                    self.service((cluster, namespace), name, &spec.ports);
                    let owner = self.membership.owner(cluster, namespace);
                    self.instances.extend(owner.map(|gns| (gns, &resource.id, spec)));
                }
                _ => {}
            },
            Fact::Remote(remote) => {
                self.service((&remote.cluster, &remote.namespace), &remote.name, &remote.ports);
            }
            _ => {}
        }
    }

    fn service(&mut self, place: (&'w Name, &'w Name), name: &'w Name, ports: &[Port]) {
        self.places.insert(place);
        if let Some(gns) = self.membership.owner(place.0, place.1) {
            let ports = ports.iter().map(|port| (port.port, port.protocol));
            self.services.entry((gns, name)).or_default().extend(ports);
        }
    }

    /// The conditions of one resource.
    pub fn conditions(&self, id: &ResourceId) -> Vec<Condition> {
        let Some(resource) = self.world.resource(id) else { return Vec::new() };
        match (id, &resource.spec) {
            (ResourceId::GlobalNamespace(name), Spec::GlobalNamespace(spec)) => self.global_namespace(name, spec),
            (ResourceId::PublicService { global_namespace, .. }, Spec::PublicService(spec)) => {
                vec![resolved(self.unresolved(global_namespace, spec))]
            }
            (ResourceId::Certificate { global_namespace, .. }, Spec::Certificate(_)) => {
                vec![resolved(self.unknown_global_namespace(global_namespace).into_iter().collect())]
            }
            (ResourceId::AccessPolicy { .. }, Spec::AccessPolicy(spec)) => vec![resolved(self.unresolved_access(spec))],
            (ResourceId::Service { cluster, namespace, .. }, Spec::Service(spec)) => {
                let gns = self.membership.owner(cluster, namespace);
                let unfit = gns.and_then(|gns| self.unfit(gns, spec));
                [member(gns, cluster, namespace)].into_iter().chain(unfit).collect()
            }
            _ => Vec::new(),
        }
    }

    fn mode(&self, gns: &Name) -> Option<MtlsMode> {
        match &self.world.resource(&ResourceId::GlobalNamespace(gns.clone()))?.spec {
            Spec::GlobalNamespace(spec) => Some(spec.mtls),
            _ => None,
        }
    }

    /// What of a service the mode of its GNS leaves out.
    fn unfit(&self, gns: &Name, spec: &ServiceSpec) -> Option<Condition> {
        let unfit = self.mode(gns)?.unfit(spec)?;
        let message = sentence(&unfit.explain(gns));
        Some(condition("Endpoints", ConditionStatus::False, "MtlsMode", message))
    }

    /// The services of which the mode leaves something out.
    fn unfit_services(&self, gns: &Name, mode: MtlsMode) -> Option<Condition> {
        let of_gns = self.instances.iter().filter(|(of, ..)| *of == gns);
        let unfit: Vec<_> =
            of_gns.filter(|(.., spec)| mode.unfit(spec).is_some()).map(|(_, id, _)| id.to_string()).collect();
        let examples = unfit.get(..EXAMPLES).unwrap_or(&unfit).join(", ");
        let message = format!(
            "{} services have instances that are no endpoints, since they do not speak as this mode wants it: \
             {examples}. `tombolo describe` says of each what to do.",
            unfit.len()
        );
        (!unfit.is_empty()).then(|| condition("LeftOut", ConditionStatus::True, "MtlsMode", message))
    }

    /// What a policy names and isn't there, or can't be called across its boundary.
    fn unresolved_access(&self, spec: &AccessPolicySpec) -> Vec<Unresolved> {
        let unknown = |gns| self.unknown_global_namespace(gns);
        let no_service = |gns, service: &Name| {
            (unknown(gns).is_none() && !self.services.contains_key(&(gns, service))).then(|| {
                let message = format!(
                    "No member namespace of GlobalNamespace/{gns} has a service {service}: start it, or correct the name."
                );
                ("UnknownService", message)
            })
        };
        let off = |gns: &Name| {
            (self.mode(gns) == Some(MtlsMode::Off)).then(|| {
                let message = format!(
                    "GlobalNamespace/{gns} is mtls: off, and between global namespaces every hop is mutual TLS: \
                     write mtls: permissive or strict there."
                );
                ("MtlsMode", message)
            })
        };
        let own = &spec.global_namespace;
        let sources = spec.from.iter().flat_map(|source| {
            let gns = &source.global_namespace;
            let service = source.service.as_ref().and_then(|service| no_service(gns, service));
            unknown(gns).into_iter().chain(service).chain(off(gns))
        });
        let targets = spec.to.iter().filter_map(|target| no_service(own, &target.service));
        unknown(own).into_iter().chain(off(own)).chain(sources).chain(targets).collect()
    }

    fn global_namespace(&self, name: &Name, spec: &GlobalNamespaceSpec) -> Vec<Condition> {
        let count = self.clusters.iter().filter(|cluster| self.membership.has_member(name, cluster)).count();
        let matches = match count {
            0 => no_match(spec),
            _ => condition("Matches", ConditionStatus::True, "Clusters", format!("Matches={count} clusters.")),
        };
        [matches].into_iter().chain(self.overlap(name)).chain(self.unfit_services(name, spec.mtls)).collect()
    }

    /// The namespaces that this GNS's rows match and that another gets.
    fn overlap(&self, gns: &Name) -> Option<Condition> {
        let lost = self.places.iter().filter_map(|(cluster, namespace)| {
            let claimed = self.membership.claimants(cluster, namespace).any(|claimant| claimant == gns);
            let owner = self.membership.owner(cluster, namespace).filter(|owner| claimed && *owner != gns)?;
            Some(format!("{cluster}/{namespace} belongs to GlobalNamespace/{owner}"))
        });
        let lost: Vec<String> = lost.collect();
        let examples = lost.get(..EXAMPLES).unwrap_or(&lost).join(", ");
        let message = format!("{} namespaces matched here belong to others: {examples}. Narrow the rows.", lost.len());
        (!lost.is_empty()).then(|| condition("Overlap", ConditionStatus::True, "CloserMatch", message))
    }

    fn unresolved(&self, gns: &Name, spec: &PublicServiceSpec) -> Vec<Unresolved> {
        // Without its GNS nothing else can be found, and saying so would only hide the reason.
        if let Some(unknown) = self.unknown_global_namespace(gns) {
            return vec![unknown];
        }
        let routes = spec.routes.iter().map(|route| (&route.service, route.port));
        let targets: BTreeSet<(&Name, u16)> = routes.chain([(&spec.service, spec.port)]).collect();
        let targets =
            targets.into_iter().filter_map(|(service, port)| self.unfit_target(gns, service, port, spec.tls.mode));
        let clusters: BTreeSet<&Name> = spec.hosts.iter().flat_map(|host| named_clusters(&host.scheme)).collect();
        let clusters = clusters.into_iter().filter_map(|cluster| self.unknown_cluster(gns, cluster));
        targets.chain(self.unknown_certificate(gns, spec)).chain(clusters).collect()
    }

    fn unknown_global_namespace(&self, gns: &Name) -> Option<Unresolved> {
        let id = ResourceId::GlobalNamespace(gns.clone());
        self.world.resource(&id).is_none().then(|| {
            ("UnknownGlobalNamespace", format!("There is no {id}: apply it, or correct spec.globalNamespace."))
        })
    }

    /// A target that isn't there, or doesn't speak what the public service needs of it.
    fn unfit_target(&self, gns: &Name, service: &Name, port: u16, mode: TlsMode) -> Option<Unresolved> {
        let Some(ports) = self.services.get(&(gns, service)) else {
            let message = format!(
                "No member namespace of GlobalNamespace/{gns} has a service {service}: start it, or correct the name."
            );
            return Some(("UnknownService", message));
        };
        let Some(protocol) = ports.get(&port) else {
            let message = format!("Service {service} has no port {port}: it has {}.", joined(ports.keys()));
            return Some(("UnknownPort", message));
        };
        let (fits, needed) = match mode {
            TlsMode::Passthrough => (*protocol == Protocol::Tls, "protocol: tls, for tls.mode passthrough"),
            _ => (!protocol.is_stream(), "protocol: http, http2 or grpc, or tls.mode passthrough"),
        };
        let message = || format!("Port {port} of service {service} speaks {}: it needs {needed}.", protocol.as_str());
        (!fits).then(|| ("WrongProtocol", message()))
    }

    fn unknown_certificate(&self, gns: &Name, spec: &PublicServiceSpec) -> Option<Unresolved> {
        let Some(CertificateSource::Uploaded(name)) = &spec.tls.certificate else { return None };
        let id = ResourceId::Certificate { global_namespace: gns.clone(), name: name.clone() };
        self.world
            .resource(&id)
            .is_none()
            .then(|| ("UnknownCertificate", format!("There is no {id}: apply it, or correct spec.tls.certificate.")))
    }

    fn unknown_cluster(&self, gns: &Name, cluster: &Name) -> Option<Unresolved> {
        let known = self.clusters.contains(cluster) && self.membership.has_member(gns, cluster);
        (!known).then(|| {
            ("UnknownCluster", format!("Cluster {cluster} is no member of GlobalNamespace/{gns}: correct the scheme."))
        })
    }
}

/// A reason, and a sentence.
type Unresolved = (&'static str, String);

fn resolved(unresolved: Vec<Unresolved>) -> Condition {
    let message = unresolved.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>().join(" ");
    match unresolved.first() {
        None => condition("ResolvedRefs", ConditionStatus::True, "Resolved", "Everything that it names is there."),
        Some((reason, _)) => condition("ResolvedRefs", ConditionStatus::False, reason, message),
    }
}

/// Whether a service belongs to a GNS: nobody calls one that belongs to none.
fn member(gns: Option<&Name>, cluster: &Name, namespace: &Name) -> Condition {
    match gns {
        Some(gns) => condition("Member", ConditionStatus::True, "Matched", format!("It is of GlobalNamespace/{gns}.")),
        None => {
            let message = format!(
                "No member row of a GlobalNamespace matches namespace {namespace} of cluster {cluster}: add one, if the \
                 service shall be called through gateways."
            );
            condition("Member", ConditionStatus::False, "NoGlobalNamespace", message)
        }
    }
}

fn no_match(spec: &GlobalNamespaceSpec) -> Condition {
    let message = match spec.members.is_empty() {
        true => "Matches=0: it has no member rows. Add one to spec.members.",
        false => "Matches=0: no cluster's name is matched by a row. Correct spec.members, or let the cluster join.",
    };
    condition("Matches", ConditionStatus::False, "NoCluster", message)
}

fn condition(kind: &str, status: ConditionStatus, reason: &str, message: impl Into<String>) -> Condition {
    Condition { kind: kind.to_owned(), status, reason: reason.to_owned(), message: message.into() }
}

fn named_clusters(scheme: &Scheme) -> Vec<&Name> {
    match scheme {
        Scheme::RoundRobin => Vec::new(),
        Scheme::Weighted(weights) => weights.keys().collect(),
        Scheme::ActivePassive(clusters) => clusters.iter().collect(),
    }
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).chain(['.']).collect()).unwrap_or_default()
}

fn joined<'p>(ports: impl Iterator<Item = &'p u16>) -> String {
    ports.map(u16::to_string).collect::<Vec<_>>().join(", ")
}

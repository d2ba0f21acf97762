//! The world's facts by what they are, in the order of their identities.

use std::collections::{BTreeMap, BTreeSet};

use crate::resource::{
    CertificateSpec, ClusterSpec, GlobalNamespaceSpec, Name, PublicServiceSpec, Resource, ResourceId, ServiceSpec, Spec,
};
use crate::validate;
use crate::world::{ClusterGateways, Fact, GlobalNamespaceTrust, HostCertificate, RemoteService, World};

use super::Rejected;

/// A name, and what scopes it: a GNS or, for services, a cluster and a namespace.
type Scoped<'w> = (&'w Name, &'w Name);

/// What is known, readily found.
#[derive(Default)]
pub(super) struct Known<'w> {
    pub(super) clusters: BTreeMap<&'w Name, &'w ClusterSpec>,
    pub(super) global_namespaces: BTreeMap<&'w Name, &'w GlobalNamespaceSpec>,
    /// Those of the GNSs that cannot be served as they are written.
    pub(super) unserved: BTreeSet<&'w Name>,
    pub(super) public_services: BTreeMap<Scoped<'w>, (&'w ResourceId, &'w PublicServiceSpec)>,
    pub(super) certificates: BTreeMap<Scoped<'w>, &'w CertificateSpec>,
    pub(super) services: Vec<LocalService<'w>>,
    pub(super) remote_services: Vec<&'w RemoteService>,
    pub(super) gateways: BTreeMap<&'w Name, &'w ClusterGateways>,
    pub(super) trust: BTreeMap<&'w Name, &'w GlobalNamespaceTrust>,
    pub(super) host_certificates: BTreeMap<Scoped<'w>, &'w HostCertificate>,
}

/// A service that an agent discovered or read.
#[derive(Clone, Copy)]
pub(super) struct LocalService<'w> {
    pub(super) id: &'w ResourceId,
    pub(super) cluster: &'w Name,
    pub(super) namespace: &'w Name,
    pub(super) name: &'w Name,
    pub(super) spec: &'w ServiceSpec,
}

impl<'w> Known<'w> {
    pub(super) fn of(world: &'w World, rejected: &mut Rejected) -> Self {
        let mut known = Known::default();
        for fact in world.facts.values() {
            match fact {
                Fact::Resource(resource) => known.take(resource, rejected),
                Fact::Remote(remote) => known.remote_services.push(remote),
                Fact::Gateways(gateways) => {
                    known.gateways.insert(&gateways.cluster, gateways);
                }
                Fact::Trust(trust) => {
                    known.trust.insert(&trust.global_namespace, trust);
                }
                Fact::Mesh(_) => {} // the control plane's; the top-level CA vouches for nobody here
                Fact::HostCertificate(certificate) => {
                    let of = (&certificate.global_namespace, &certificate.public_service);
                    known.host_certificates.insert(of, certificate);
                }
            }
        }
        known
    }

    /// A GNS that cannot be served as it is written still keeps what is its own: nothing of it falls to another.
    fn take_unserved(&mut self, resource: &'w Resource) {
        if let (ResourceId::GlobalNamespace(name), Spec::GlobalNamespace(spec)) = (&resource.id, &resource.spec) {
            self.global_namespaces.insert(name, spec);
            self.unserved.insert(name);
        }
    }

    fn take(&mut self, resource: &'w Resource, rejected: &mut Rejected) {
        let id = &resource.id;
        if let Some(fault) = validate::faults(resource).first() {
            rejected.add(id, fault.to_string());
            return self.take_unserved(resource);
        }
        match (id, &resource.spec) {
            (ResourceId::Cluster(name), Spec::Cluster(spec)) => {
                self.clusters.insert(name, spec);
            }
            (ResourceId::GlobalNamespace(name), Spec::GlobalNamespace(spec)) => {
                self.global_namespaces.insert(name, spec);
            }
            (ResourceId::PublicService { global_namespace, name }, Spec::PublicService(spec)) => {
                self.public_services.insert((global_namespace, name), (id, spec));
            }
            (ResourceId::Certificate { global_namespace, name }, Spec::Certificate(spec)) => {
                self.certificates.insert((global_namespace, name), spec);
            }
            (ResourceId::Service { cluster, namespace, name }, Spec::Service(spec)) => {
                self.services.push(LocalService { id, cluster, namespace, name, spec });
            }
            (ResourceId::Node { .. }, Spec::Node(_)) => {}
            _ => rejected.add(id, "its spec is of another kind than its identity"),
        }
    }
}

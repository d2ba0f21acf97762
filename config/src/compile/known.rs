//! The world's facts by what they are, in the order of their identities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::{
    AccessPolicySpec, CertificateSpec, ClusterSpec, GlobalNamespaceSpec, Name, PublicServiceSpec, Resource, ResourceId,
    ServiceSpec, Spec,
};
use crate::world::{ClusterGateways, Fact, GlobalNamespaceTrust, HostCertificate, RemoteService};

use super::rejected::Rejected;

/// A name, and what scopes it: a GNS or, for services, a cluster and a namespace.
type Scoped<'w> = (&'w Name, &'w Name);

/// What is known, readily found.
#[derive(Default)]
pub(super) struct Known<'w> {
    pub(super) clusters: BTreeMap<&'w Name, &'w ClusterSpec>,
    pub(super) global_namespaces: BTreeMap<&'w Name, &'w GlobalNamespaceSpec>,
    /// Those of the GNSs that cannot be served as they are written.
    pub(super) unserved: BTreeSet<&'w Name>,
    pub(super) public_services: BTreeMap<Scoped<'w>, PublicService<'w>>,
    pub(super) certificates: BTreeMap<Scoped<'w>, &'w CertificateSpec>,
    pub(super) access_policies: BTreeMap<Scoped<'w>, &'w AccessPolicySpec>,
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

/// A public service, as it is written.
#[derive(Clone, Copy)]
pub(super) struct PublicService<'w> {
    pub(super) resource: &'w Arc<Resource>,
    pub(super) spec: &'w PublicServiceSpec,
}

impl<'w> Known<'w> {
    /// Takes facts that were judged.
    pub(super) fn take(&mut self, facts: impl IntoIterator<Item = (impl AsRef<str>, &'w Fact)>, rejected: &Rejected) {
        for (key, fact) in facts {
            match fact {
                Fact::Resource(resource) if rejected.is_sound(key.as_ref()) => self.take_resource(resource),
                Fact::Resource(resource) => self.take_unserved(resource),
                Fact::Remote(remote) => self.remote_services.push(remote),
                Fact::Gateways(gateways) => drop(self.gateways.insert(&gateways.cluster, gateways)),
                Fact::Trust(trust) => drop(self.trust.insert(&trust.global_namespace, trust)),
                Fact::Mesh(_) => {} // the control plane's; the top-level CA vouches for nobody here
                Fact::HostCertificate(certificate) => {
                    let of = (&certificate.global_namespace, &certificate.public_service);
                    self.host_certificates.insert(of, certificate);
                }
            }
        }
    }

    /// A GNS that cannot be served as it is written still keeps what is its own: nothing of it falls to another.
    fn take_unserved(&mut self, resource: &'w Resource) {
        if let (ResourceId::GlobalNamespace(name), Spec::GlobalNamespace(spec)) = (&resource.id, &resource.spec) {
            self.global_namespaces.insert(name, spec);
            self.unserved.insert(name);
        }
    }

    fn take_resource(&mut self, resource: &'w Arc<Resource>) {
        match (&resource.id, &resource.spec) {
            (ResourceId::Cluster(name), Spec::Cluster(spec)) => drop(self.clusters.insert(name, spec)),
            (ResourceId::GlobalNamespace(name), Spec::GlobalNamespace(spec)) => {
                self.global_namespaces.insert(name, spec);
            }
            (ResourceId::PublicService { global_namespace, name }, Spec::PublicService(spec)) => {
                self.public_services.insert((global_namespace, name), PublicService { resource, spec });
            }
            (ResourceId::Certificate { global_namespace, name }, Spec::Certificate(spec)) => {
                self.certificates.insert((global_namespace, name), spec);
            }
            (ResourceId::AccessPolicy { global_namespace, name }, Spec::AccessPolicy(spec)) => {
                self.access_policies.insert((global_namespace, name), spec);
            }
            (ResourceId::Service { cluster, namespace, name }, Spec::Service(spec)) => {
                self.services.push(LocalService { id: &resource.id, cluster, namespace, name, spec });
            }
            // Nodes say nothing to a data plane; what is of two kinds at once isn't sound.
            _ => {}
        }
    }
}

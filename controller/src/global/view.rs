//! All that the controller knows at one moment, as an immutable value that is cheap to clone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::compile::membership::Membership;
use config::resource::{
    CertificateSource, CertificateSpec, GlobalNamespaceSpec, Name, PublicServiceSpec, Resource, ResourceId, SecretRef,
    Spec,
};
use config::wire::Secret;
use config::world::{Fact, GlobalNamespaceTrust, HostCertificate, MeshTrust, World};
use time::OffsetDateTime;

use super::observed::Observation;
use crate::ca::{Authorities, Revocation, RootStatus, Wanted, WantedGns, lifetimes};
use crate::store::{Desired, Stored};
use crate::vault::VaultError;

/// All that is known.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) desired: Arc<Desired>,
    pub(crate) made: Arc<Made>,
    pub(crate) observed: BTreeMap<Name, Arc<Observation>>,
}

/// What the controller made for the desired state.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) trust: BTreeMap<Name, Arc<GlobalNamespaceTrust>>,
    pub(crate) host_certificates: BTreeMap<(Name, Name), Arc<HostCertificate>>,
    /// The keys of all hosts' certificates.
    pub(crate) secrets: BTreeMap<SecretRef, Secret>,
    /// What the agent of each cluster is told of the control plane.
    pub(crate) mesh: BTreeMap<Name, Arc<MeshTrust>>,
    /// The clusters of which nobody is believed.
    pub(crate) revoked_clusters: BTreeSet<Name>,
    /// Who is believed no longer, for people.
    pub(crate) revocations: Vec<Revocation>,
    /// The top-level CA; nothing only in tests.
    pub(crate) top_level: Option<RootStatus>,
    /// The CA of each GNS.
    pub(crate) gns_roots: BTreeMap<Name, RootStatus>,
    /// When the next of the hosts' certificates is to be renewed.
    pub(crate) hosts_due: Option<OffsetDateTime>,
    /// Why something could not be made; it is tried again.
    pub(crate) fault: Option<String>,
}

impl View {
    /// The clusters of the mesh, enrolled or only declared.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Name> {
        clusters(&self.desired)
    }

    /// Which namespaces belong to which GNS.
    pub(crate) fn membership(&self) -> Membership<'_> {
        Membership::of(global_namespaces(&self.desired))
    }

    /// The clusters that have a part in a GNS.
    pub(crate) fn members(&self, gns: &Name) -> BTreeSet<&Name> {
        let membership = self.membership();
        self.clusters().filter(|cluster| membership.has_member(gns, cluster)).collect()
    }

    /// What the agents of clusters that are still in the mesh see.
    pub(crate) fn observations(&self) -> impl Iterator<Item = (&Name, &Arc<Observation>)> {
        self.observed
            .iter()
            .filter(|(name, _)| self.desired.resources.contains_key(&ResourceId::Cluster((*name).clone())))
    }

    /// Those of them that are believed.
    pub(crate) fn believed(&self) -> impl Iterator<Item = (&Name, &Arc<Observation>)> {
        self.observations().filter(|(cluster, _)| !self.made.revoked_clusters.contains(*cluster))
    }

    /// Everything as one world, for checks that look across resources.
    pub(crate) fn world(&self) -> World {
        let mut world = world(self.desired.resources.values().map(|stored| &stored.resource));
        for (_, observation) in self.observations() {
            world.facts.extend(
                observation.resources().map(|resource| (resource.id.to_string(), Fact::Resource(resource.clone()))),
            );
        }
        world
    }
}

/// A world of these resources.
pub(crate) fn world<'r>(resources: impl Iterator<Item = &'r Arc<Resource>>) -> World {
    let facts = resources.map(|resource| (resource.id.to_string(), Fact::Resource(Arc::clone(resource))));
    World { facts: facts.collect(), ..World::default() }
}

fn specs(desired: &Desired) -> impl Iterator<Item = &Resource> {
    desired.resources.values().map(|Stored { resource, .. }| &**resource)
}

pub(crate) fn clusters(desired: &Desired) -> impl Iterator<Item = &Name> {
    desired.resources.keys().filter_map(|id| match id {
        ResourceId::Cluster(name) => Some(name),
        _ => None,
    })
}

pub(crate) fn global_namespaces(desired: &Desired) -> impl Iterator<Item = (&Name, &GlobalNamespaceSpec)> {
    specs(desired).filter_map(|resource| match &resource.spec {
        Spec::GlobalNamespace(spec) => Some((resource.id.name(), spec)),
        _ => None,
    })
}

pub(crate) fn public_services(desired: &Desired) -> impl Iterator<Item = (&ResourceId, &PublicServiceSpec)> {
    specs(desired).filter_map(|resource| match &resource.spec {
        Spec::PublicService(spec) => Some((&resource.id, spec)),
        _ => None,
    })
}

pub(crate) fn certificates(desired: &Desired) -> impl Iterator<Item = (&ResourceId, &CertificateSpec)> {
    specs(desired).filter_map(|resource| match &resource.spec {
        Spec::Certificate(spec) => Some((&resource.id, spec)),
        _ => None,
    })
}

/// What there should be certificates for.
pub(crate) fn wanted(desired: &Desired) -> Wanted {
    let membership = Membership::of(global_namespaces(desired));
    let gns = |(name, spec): (&Name, &GlobalNamespaceSpec)| {
        let members = clusters(desired).filter(|cluster| membership.has_member(name, cluster)).cloned().collect();
        let lifetimes = lifetimes(&spec.certificates).unwrap_or_default(); // others are refused when they are applied
        (name.clone(), WantedGns { domain: spec.domain.clone(), lifetimes, members })
    };
    let self_signed = public_services(desired).filter(|(_, spec)| is_self_signed(spec));
    let hosts = self_signed.map(|(id, spec)| {
        let hosts = spec.hosts.iter().map(|host| host.name.clone()).collect();
        ((spec.global_namespace.clone(), id.name().clone()), hosts)
    });
    Wanted { hosts: hosts.collect(), global_namespaces: global_namespaces(desired).map(gns).collect() }
}

/// Whether the controller makes the service's certificate.
pub(crate) fn is_self_signed(spec: &PublicServiceSpec) -> bool {
    spec.tls.certificate == Some(CertificateSource::SelfSigned)
}

impl Made {
    /// What the authorities have for the desired state, on top of what there was `before`: a key is unsealed only once.
    /// A key that the vault doesn't give is named in `fault`.
    pub(crate) fn of(desired: &Desired, authorities: &Authorities, before: &Made, fault: Option<String>) -> Made {
        let mut made = Made { fault, ..Made::default() };
        for (gns, _) in global_namespaces(desired) {
            made.trust.extend(authorities.trust(gns).map(|trust| (gns.clone(), Arc::new(trust))));
            made.gns_roots.extend(authorities.gns_root(gns).map(|root| (gns.clone(), root)));
        }
        made.revoked_clusters = authorities.revoked_clusters();
        made.revocations = authorities.revocations();
        made.top_level = Some(authorities.mesh_root());
        made.hosts_due = authorities.hosts_due();
        made.mesh =
            clusters(desired).map(|cluster| (cluster.clone(), Arc::new(authorities.mesh_trust(cluster)))).collect();
        for (id, spec) in public_services(desired).filter(|(_, spec)| is_self_signed(spec)) {
            let certificate = authorities.host_certificate(&spec.global_namespace, id.name());
            made.host_certificates
                .extend(certificate.map(|made| ((spec.global_namespace.clone(), id.name().clone()), Arc::new(made))));
        }
        for reference in made.needed_keys(desired) {
            let known = before.secrets.get(&reference).cloned();
            let secret = |key| Secret::new(reference.clone(), key);
            match known.map_or_else(|| Ok(authorities.key(&reference)?.map(secret)), |known| Ok(Some(known))) {
                Ok(Some(secret)) => drop(made.secrets.insert(reference, secret)),
                Ok(None) => made.fault = Some(format!("the vault has no key {}", reference.key_sha256)),
                Err::<_, VaultError>(error) => made.fault = Some(error.to_string()),
            }
        }
        made
    }

    /// Every root: the top-level CA, then that of each GNS.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (Option<&Name>, &RootStatus)> {
        let namespaces = self.gns_roots.iter().map(|(gns, root)| (Some(gns), root));
        self.top_level.iter().map(|root| (None, root)).chain(namespaces)
    }

    /// The references of all keys that certificates of hosts need.
    pub(crate) fn needed_keys(&self, desired: &Desired) -> BTreeSet<SecretRef> {
        let uploaded = certificates(desired).filter_map(|(_, spec)| spec.secret_ref.clone());
        uploaded.chain(self.host_certificates.values().map(|made| made.secret_ref.clone())).collect()
    }
}

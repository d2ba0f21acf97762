//! The global namespaces of which a cluster is a member.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::resource::{GlobalNamespaceSpec, Name};
use crate::snapshot::{Namespace, Service, Snapshot};
use crate::world::GlobalNamespaceTrust;

use super::access::Access;
use super::known::Known;
use super::rejected::Rejected;
use super::{Frame, shared};

pub(super) type Services = BTreeMap<Name, Arc<Service>>;

pub(super) fn compile(
    Frame { known, access, .. }: &Frame<'_>,
    mut services: BTreeMap<Name, Services>,
    previous: Option<&Snapshot>,
    rejected: &mut Rejected,
) -> BTreeMap<Name, Arc<Namespace>> {
    let sound = with_own_domain(known, rejected);
    let reached = sound.into_iter().filter(|(name, _)| access.is_here(name) || access.is_visited(name));
    reached
        .map(|(name, spec)| {
            let services = services.remove(name).unwrap_or_default();
            let trust = known.trust.get(name).copied();
            let old = previous.and_then(|previous| previous.namespaces.get(name));
            (name.clone(), shared(namespace((name, spec), access, trust, services), old))
        })
        .collect()
}

/// A domain belongs to the first GNS, by name, that claims it or a domain above or below it. A GNS without its domain is
/// served nowhere, but what belongs to it falls to no other.
fn with_own_domain<'w>(known: &Known<'w>, rejected: &mut Rejected) -> BTreeMap<&'w Name, &'w GlobalNamespaceSpec> {
    let mut sound: BTreeMap<&Name, &GlobalNamespaceSpec> = BTreeMap::new();
    for (name, spec) in &known.global_namespaces {
        let holder = sound.iter().find(|(_, other)| other.domain.overlaps(&spec.domain));
        match holder {
            Some((holder, other)) => rejected.of_domain(
                name,
                format!("its domain {} overlaps {} of GlobalNamespace/{holder}", spec.domain, other.domain),
            ),
            None => {
                sound.insert(name, spec);
            }
        }
    }
    sound.retain(|name, _| !known.unserved.contains(name));
    sound
}

fn namespace(
    (name, spec): (&Name, &GlobalNamespaceSpec),
    access: &Access<'_>,
    trust: Option<&GlobalNamespaceTrust>,
    services: Services,
) -> Namespace {
    Namespace {
        name: name.clone(),
        domain: spec.domain.clone(),
        visited: access.is_visited(name),
        trust_domain: trust.map(|trust| trust.trust_domain.clone()).unwrap_or_default(),
        roots: trust.map(|trust| trust.roots.clone()).unwrap_or_default(),
        labels: trust.map(|trust| trust.labels.clone()).unwrap_or_default(),
        order: trust.map(|trust| trust.order(access.cluster())).unwrap_or_default(),
        revoked: trust.map(|trust| trust.revoked.clone()).unwrap_or_default(),
        mtls: spec.mtls,
        leaf_lifetime: spec.certificates.leaf_lifetime,
        services,
    }
}

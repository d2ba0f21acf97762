//! Who may call across the boundary of a global namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::access_policy::{AccessPolicySpec, AccessSource};
use crate::resource::{MtlsMode, Name};
use crate::snapshot::{Allowed, Foreign, Namespace, Place, Snapshot};
use crate::world::GlobalNamespaceTrust;

use super::known::Known;
use super::membership::Membership;
use super::shared;

/// The policies that count, by the GNS that they open. Between two global namespaces every hop is mutual TLS, so neither
/// may have turned it off; and of one that nobody knows here, nobody can prove to be.
pub(super) struct Access<'w> {
    policies: BTreeMap<&'w Name, Vec<(&'w AccessPolicySpec, &'w AccessSource)>>,
    /// The GNSs of which the place's cluster is a member.
    here: BTreeSet<&'w Name>,
    cluster: &'w Name,
}

impl<'w> Access<'w> {
    pub(super) fn of(known: &Known<'w>, place: &'w Place, membership: &Membership<'w>) -> Self {
        let speaks_tls = |gns: &Name| known.global_namespaces.get(gns).is_none_or(|spec| spec.mtls != MtlsMode::Off);
        let mut policies: BTreeMap<&Name, Vec<_>> = BTreeMap::new();
        for spec in known.access_policies.values().filter(|spec| speaks_tls(&spec.global_namespace)) {
            let sources = spec.from.iter().filter(|source| {
                known.trust.contains_key(&source.global_namespace) && speaks_tls(&source.global_namespace)
            });
            let of = policies.entry(&spec.global_namespace).or_default();
            of.extend(sources.map(|source| (*spec, source)));
        }
        let all = known.global_namespaces.keys().copied();
        let here = all.filter(|gns| membership.has_member(gns, &place.cluster)).collect();
        Access { policies, here, cluster: &place.cluster }
    }

    /// The place's cluster.
    pub(super) fn cluster(&self) -> &Name {
        self.cluster
    }

    /// Whether the cluster is a member of the GNS.
    pub(super) fn is_here(&self, gns: &Name) -> bool {
        self.here.contains(gns)
    }

    /// Whether workloads of the cluster may call something in the GNS, though the cluster is no member.
    pub(super) fn is_visited(&self, gns: &Name) -> bool {
        !self.is_here(gns) && self.rules(gns).any(|(_, source)| self.is_here(&source.global_namespace))
    }

    /// Who of other GNSs may call the service; in a GNS that is visited, only those of this cluster's own count.
    pub(super) fn allowed(&self, gns: &Name, service: &Name) -> Vec<Allowed> {
        let here = self.is_here(gns);
        let rules = self
            .rules(gns)
            .filter(|(spec, source)| spec.opens(service) && (here || self.is_here(&source.global_namespace)));
        let allowed: BTreeSet<_> = rules.map(|(_, source)| allowed(source)).collect();
        allowed.into_iter().collect()
    }

    fn rules(&self, gns: &Name) -> impl Iterator<Item = &(&'w AccessPolicySpec, &'w AccessSource)> {
        self.policies.get(gns).into_iter().flatten()
    }
}

fn allowed(source: &AccessSource) -> Allowed {
    Allowed { global_namespace: source.global_namespace.clone(), service: source.service.clone() }
}

/// Whom to believe in the GNSs that are allowed in somewhere and are not served here themselves.
pub(super) fn foreign(
    known: &Known<'_>,
    namespaces: &BTreeMap<Name, Arc<Namespace>>,
    previous: Option<&Snapshot>,
) -> BTreeMap<Name, Arc<Foreign>> {
    let services = namespaces.values().filter(|gns| !gns.visited).flat_map(|gns| gns.services.values());
    let callers: BTreeSet<&Name> =
        services.flat_map(|service| service.allowed.iter().map(|allowed| &allowed.global_namespace)).collect();
    let callers = callers.into_iter().filter(|gns| !namespaces.contains_key(*gns));
    let foreign = |gns: &Name| {
        let old = previous.and_then(|previous| previous.foreign.get(gns));
        Some((gns.clone(), shared(trusted(known.trust.get(gns)?), old)))
    };
    callers.filter_map(foreign).collect()
}

fn trusted(trust: &GlobalNamespaceTrust) -> Foreign {
    Foreign {
        trust_domain: trust.trust_domain.clone(),
        roots: trust.roots.clone(),
        members: trust.labels.keys().cloned().collect(),
        revoked: trust.revoked.clone(),
    }
}

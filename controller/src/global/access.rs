//! What access policies let clusters know of global namespaces of which they are no members: of one that their workloads
//! may call, that it is there, what may be called and whom to believe; of one that is allowed in, whom to believe.

use config::compile::membership::Membership;
use config::resource::access_policy::{AccessPolicySpec, AccessSource};
use config::resource::{Name, Spec};

use crate::store::Desired;

/// The policies, and who is a member of what.
pub(crate) struct Access<'v> {
    membership: &'v Membership<'v>,
    rules: Vec<(&'v AccessPolicySpec, &'v AccessSource)>,
}

impl<'v> Access<'v> {
    pub(crate) fn of(desired: &'v Desired, membership: &'v Membership<'v>) -> Self {
        let policies = desired.resources.values().filter_map(|stored| match &stored.resource.spec {
            Spec::AccessPolicy(spec) => Some(spec),
            _ => None,
        });
        let rules = policies.flat_map(|spec| spec.from.iter().map(move |source| (spec, source)));
        Access { membership, rules: rules.collect() }
    }

    /// Whether the cluster is a member of the GNS.
    pub(crate) fn is_member(&self, cluster: &Name, gns: &Name) -> bool {
        self.membership.has_member(gns, cluster)
    }

    /// Whether the cluster must know the GNS: as a member, or since its workloads may call something in it.
    pub(crate) fn reaches(&self, cluster: &Name, gns: &Name) -> bool {
        self.membership.has_member(gns, cluster) || self.visits(cluster, gns).next().is_some()
    }

    /// Whether the cluster must know that service of the GNS.
    pub(crate) fn reaches_service(&self, cluster: &Name, gns: &Name, service: &Name) -> bool {
        self.membership.has_member(gns, cluster) || self.visits(cluster, gns).any(|spec| spec.opens(service))
    }

    /// Whether the cluster must know whom to believe in the GNS.
    pub(crate) fn believes(&self, cluster: &Name, gns: &Name) -> bool {
        let lets_in = |(spec, source): &(&AccessPolicySpec, &AccessSource)| {
            source.global_namespace == *gns && self.membership.has_member(&spec.global_namespace, cluster)
        };
        self.reaches(cluster, gns) || self.rules.iter().any(lets_in)
    }

    /// The policies by which workloads of the cluster may call something in the GNS.
    fn visits(&self, cluster: &'v Name, gns: &'v Name) -> impl Iterator<Item = &'v AccessPolicySpec> {
        let of = self.rules.iter().filter(move |(spec, source)| {
            spec.global_namespace == *gns && self.membership.has_member(&source.global_namespace, cluster)
        });
        of.map(|(spec, _)| *spec)
    }
}

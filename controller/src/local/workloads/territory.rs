//! Which namespaces of the cluster belong to which GNS, and whom to believe there: what the controller's world says.

use std::collections::BTreeMap;

use config::compile::membership::Membership;
use config::resource::{GlobalNamespaceSpec, Name, Spec};
use config::world::{Fact, World};

/// The part of the world that decides which names the cluster's workloads may bear.
#[derive(Debug, Default, PartialEq)]
pub(in crate::local) struct Territory {
    global_namespaces: Vec<(Name, GlobalNamespaceSpec)>,
    /// The roots by GNS, in PEM.
    roots: BTreeMap<Name, Vec<String>>,
}

impl Territory {
    pub(in crate::local) fn of(world: &World) -> Self {
        let specs = world.resources().filter_map(|resource| match &resource.spec {
            Spec::GlobalNamespace(spec) => Some((resource.id.name().clone(), spec.clone())),
            _ => None,
        });
        let roots = world.facts.values().filter_map(|fact| match fact {
            Fact::Trust(trust) => Some((trust.global_namespace.clone(), trust.roots.clone())),
            _ => None,
        });
        Territory { global_namespaces: specs.collect(), roots: roots.collect() }
    }

    /// The GNS of a namespace.
    pub(super) fn owner(&self, cluster: &Name, namespace: &Name) -> Option<&Name> {
        let specs = self.global_namespaces.iter().map(|(name, spec)| (name, spec));
        Membership::of(specs).owner(cluster, namespace)
    }

    /// The roots of a GNS, in PEM.
    pub(super) fn roots(&self, gns: &Name) -> &[String] {
        self.roots.get(gns).map_or(&[], Vec::as_slice)
    }
}

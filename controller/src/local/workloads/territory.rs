//! Which namespaces of the cluster belong to which GNS, and whom to believe there: what the controller's world says.

use std::collections::{BTreeMap, BTreeSet};

use config::compile::membership::Membership;
use config::resource::access_policy::AccessSource;
use config::resource::{GlobalNamespaceSpec, Name, Spec};
use config::world::{Fact, World};
use identity::TrustDomain;

/// The roots of a GNS.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Roots {
    /// Its trust domain.
    pub(super) domain: String,
    /// In PEM.
    pub(super) certificates: Vec<String>,
}

/// The roots of GNSs.
pub(super) type RootsByGns = BTreeMap<Name, Roots>;

/// The part of the world that decides which names the cluster's workloads may bear.
#[derive(Debug, Default, PartialEq)]
pub(in crate::local) struct Territory {
    global_namespaces: Vec<(Name, GlobalNamespaceSpec)>,
    roots: RootsByGns,
    /// Who may call something in which GNS.
    callers: Vec<(AccessSource, Name)>,
}

impl Territory {
    pub(in crate::local) fn of(world: &World) -> Self {
        let mut territory = Territory::default();
        for resource in world.resources() {
            match &resource.spec {
                Spec::GlobalNamespace(spec) => {
                    territory.global_namespaces.push((resource.id.name().clone(), spec.clone()));
                }
                Spec::AccessPolicy(spec) => {
                    let from = spec.from.iter().map(|source| (source.clone(), spec.global_namespace.clone()));
                    territory.callers.extend(from);
                }
                _ => {}
            }
        }
        let roots = world.facts.values().filter_map(|fact| match fact {
            Fact::Trust(trust) => {
                let (domain, certificates) = (trust.trust_domain.clone(), trust.roots.clone());
                Some((trust.global_namespace.clone(), Roots { domain, certificates }))
            }
            _ => None,
        });
        territory.roots = roots.collect();
        territory
    }

    /// The GNS of a namespace.
    pub(super) fn owner(&self, cluster: &Name, namespace: &Name) -> Option<&Name> {
        let specs = self.global_namespaces.iter().map(|(name, spec)| (name, spec));
        Membership::of(specs).owner(cluster, namespace)
    }

    /// The roots of a GNS, in PEM.
    pub(super) fn roots(&self, gns: &Name) -> &[String] {
        self.roots.get(gns).map_or(&[], |roots| &roots.certificates)
    }

    /// The roots of the other GNSs in which a workload of this GNS and service may call something: where its gateway is a
    /// member of one of those, it answers in that one's name.
    pub(super) fn federated(&self, gns: &Name, service: &Name) -> RootsByGns {
        let calls = |source: &AccessSource| {
            source.global_namespace == *gns && source.service.as_ref().is_none_or(|only| only == service)
        };
        let called: BTreeSet<&Name> =
            self.callers.iter().filter(|(source, _)| calls(source)).map(|(_, to)| to).collect();
        let others = self.roots.iter().filter(|(other, roots)| {
            // The domain becomes a file's name.
            let usable = !roots.certificates.is_empty() && roots.domain.parse::<TrustDomain>().is_ok();
            *other != gns && called.contains(other) && usable
        });
        others.map(|(other, roots)| (other.clone(), roots.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_workload_is_given_the_roots_of_where_it_may_call_and_of_no_other() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let roots = |domain: &str| Roots { domain: domain.into(), certificates: vec![format!("root of {domain}")] };
        let from =
            |gns: &str, service: Option<&str>| AccessSource { global_namespace: name(gns), service: service.map(name) };
        let territory = Territory {
            roots: ["shop", "bank", "vault"].map(|gns| (name(gns), roots(&format!("{gns}.mesh")))).into(),
            callers: vec![
                (from("shop", Some("till")), name("bank")),
                (from("bank", None), name("vault")),
                (from("shop", None), name("nowhere")),
                (from("shop", None), name("shop")),
            ],
            ..Territory::default()
        };
        assert_eq!(territory.federated(&name("shop"), &name("till")), [(name("bank"), roots("bank.mesh"))].into());
        assert!(territory.federated(&name("shop"), &name("cart")).is_empty(), "another service");
        assert_eq!(territory.federated(&name("bank"), &name("any")), [(name("vault"), roots("vault.mesh"))].into());
    }
}

//! What a step touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::keyed::Keyed;
use crate::resource::{Name, Resource, ResourceId};
use crate::world::{Fact, World};

/// A GNS, and something of it.
pub(super) type Scoped<'w> = (&'w Name, &'w Name);

/// A resource as it was and as it is.
type Change<'w> = (Option<&'w Arc<Resource>>, Option<&'w Arc<Resource>>);

/// Facts that came, went or are others now. All of them are of a kind of which there are many.
#[derive(Default)]
pub(super) struct Touched<'w> {
    /// Every one by its key, as it is now.
    pub(super) facts: Vec<(&'w str, Option<&'w Fact>)>,
    /// Of services: cluster, namespace, name.
    pub(super) parts: BTreeSet<(&'w Name, &'w Name, &'w Name)>,
    /// Public services, as they were and are.
    pub(super) public_services: BTreeMap<Scoped<'w>, Change<'w>>,
    /// Public services that got another certificate.
    pub(super) certified: BTreeSet<Scoped<'w>>,
}

impl<'w> Touched<'w> {
    /// What differs; nothing when something does that may concern everything.
    pub(super) fn of(before: &'w World, now: &'w World) -> Option<Self> {
        let mut touched = Touched::default();
        for (key, before, now) in Keyed::differences(&before.facts, &now.facts, same) {
            touched.facts.push((key, now));
            touched.take(before, now)?;
        }
        Some(touched)
    }

    fn take(&mut self, before: Option<&'w Fact>, now: Option<&'w Fact>) -> Option<()> {
        // Facts of one key are of one kind.
        match before.or(now)? {
            Fact::Remote(remote) => drop(self.parts.insert((&remote.cluster, &remote.namespace, &remote.name))),
            Fact::HostCertificate(made) => {
                self.certified.insert((&made.global_namespace, &made.public_service));
            }
            Fact::Mesh(_) => {}
            Fact::Gateways(_) | Fact::Trust(_) => return None,
            Fact::Resource(resource) => match &resource.id {
                ResourceId::Node { .. } => {}
                ResourceId::Service { cluster, namespace, name } => drop(self.parts.insert((cluster, namespace, name))),
                ResourceId::PublicService { global_namespace, name } => {
                    let change = (before.and_then(resource_of), now.and_then(resource_of));
                    self.public_services.insert((global_namespace, name), change);
                }
                ResourceId::Cluster(_)
                | ResourceId::GlobalNamespace(_)
                | ResourceId::Certificate { .. }
                | ResourceId::AccessPolicy { .. } => return None,
            },
        }
        Some(())
    }
}

fn resource_of(fact: &Fact) -> Option<&Arc<Resource>> {
    match fact {
        Fact::Resource(resource) => Some(resource),
        _ => None,
    }
}

/// Whether both are the same in memory: whoever reads a world step by step reads again only what may be another.
fn same(one: &Fact, other: &Fact) -> bool {
    match (one, other) {
        (Fact::Resource(one), Fact::Resource(other)) => Arc::ptr_eq(one, other),
        (Fact::Remote(one), Fact::Remote(other)) => Arc::ptr_eq(one, other),
        (Fact::Gateways(one), Fact::Gateways(other)) => Arc::ptr_eq(one, other),
        (Fact::Trust(one), Fact::Trust(other)) => Arc::ptr_eq(one, other),
        (Fact::Mesh(one), Fact::Mesh(other)) => Arc::ptr_eq(one, other),
        (Fact::HostCertificate(one), Fact::HostCertificate(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn world(facts: &[Value]) -> World {
        let facts = facts.iter().map(|fact| serde_json::from_value::<Fact>(fact.clone()).unwrap());
        World { facts: facts.map(|fact| (fact.key().to_string(), fact)).collect(), ..World::default() }
    }

    /// How many facts a step touches, from a world to one with a fact more and back; nothing if it may touch everything.
    fn touched(fact: Value) -> [Option<usize>; 2] {
        let node = json!({"resource": {"id": "Node/north/n1", "spec": {"Node": {}}}});
        let without = world(&[node]);
        let mut with = without.clone();
        with.facts.extend(world(&[fact]).facts.iter().map(|(key, fact)| (key, fact.clone())));
        let count = |before, now| Touched::of(before, now).map(|touched| touched.facts.len());
        [count(&without, &with), count(&with, &without)]
    }

    #[test]
    fn what_there_is_much_of_touches_little_and_what_there_is_little_of_may_touch_all() {
        let resource = |id: &str, spec: Value| json!({"resource": {"id": id, "spec": spec}});
        let service = resource("Service/north/shop/cart", json!({"Service": {"ports": []}}));
        let public = json!({"PublicService": {"globalNamespace": "shop", "service": "cart", "port": 80, "hosts": []}});
        let remote =
            json!({"remote": {"cluster": "south", "namespace": "shop", "name": "cart", "ports": [], "versions": {}}});
        for many in [service, resource("PublicService/shop/web", public), remote] {
            assert_eq!(touched(many.clone()), [Some(1), Some(1)], "{many}");
        }
        let gateways = json!({"gateways": {"cluster": "south", "gateways": []}});
        for few in [gateways, resource("Cluster/south", json!({"Cluster": {}}))] {
            assert_eq!(touched(few.clone()), [None, None], "{few}");
        }
    }
}

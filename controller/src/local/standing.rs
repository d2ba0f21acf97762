//! The GNSs of which the cluster is a member, and what its gateways may be certified for in each.

use std::collections::BTreeMap;

use config::resource::{CertificateLifetimes, Host, Name, ResourceId, Span};
use config::resource::{GlobalNamespaceSpec, Spec};
use config::wire::Order;
use config::world::{Fact, GlobalNamespaceTrust, World};
use identity::ca::Lifetimes;
use identity::fingerprint;
use identity::pem::decode_certificates;

use crate::member::holdings::{Need, Needs};

/// The cluster's standing in one GNS.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    /// The issuing CA that it needs there.
    pub(super) need: Need,
    /// SHA-256 of the GNS's roots.
    pub(super) roots: Vec<String>,
    /// The certificates that its gateways are to hold.
    pub(super) order: Order,
    /// The opaque name that its gateways bear.
    pub(super) label: Host,
    /// How long certificates live.
    pub(super) lifetimes: Lifetimes,
}

/// By GNS.
pub(super) type Standings = BTreeMap<Name, Standing>;

/// What the controller's world says of the cluster.
pub(super) fn standings(world: &World, cluster: &Name) -> Standings {
    let trusts = world.facts.values().filter_map(|fact| match fact {
        Fact::Trust(trust) => Some(trust),
        _ => None,
    });
    let standing = |trust: &GlobalNamespaceTrust| {
        let need = Need::of_trust(trust, cluster)?;
        let label = trust.labels.get(cluster)?.clone();
        let (roots, order) = (fingerprints(&trust.roots), trust.order(cluster));
        let lifetimes = lifetimes(world, &trust.global_namespace);
        Some((trust.global_namespace.clone(), Standing { need, roots, order, label, lifetimes }))
    };
    trusts.filter_map(|trust| standing(trust)).collect()
}

/// The issuing CAs that are needed.
pub(super) fn needs(standings: &Standings) -> Needs {
    standings.iter().map(|(gns, standing)| (gns.clone(), standing.need.clone())).collect()
}

/// Of certificates in PEM; what is none has none.
fn fingerprints(roots: &[String]) -> Vec<String> {
    let certificates = roots.iter().filter_map(|root| decode_certificates(root).ok()).flatten();
    certificates.map(|certificate| fingerprint(&certificate)).collect()
}

/// As the GNS says; the defaults where it says nothing, or something that the controller would have refused.
fn lifetimes(world: &World, gns: &Name) -> Lifetimes {
    match world.resource(&ResourceId::GlobalNamespace(gns.clone())).map(|resource| &resource.spec) {
        Some(Spec::GlobalNamespace(GlobalNamespaceSpec { certificates, .. })) => checked(certificates),
        _ => Lifetimes::default(),
    }
}

fn checked(written: &CertificateLifetimes) -> Lifetimes {
    let life = |span: Span| time::Duration::try_from(span.duration()).unwrap_or(time::Duration::MAX);
    let CertificateLifetimes { leaf_lifetime, issuing_lifetime, ca_lifetime } = *written;
    Lifetimes::new(life(leaf_lifetime), life(issuing_lifetime), life(ca_lifetime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    #[test]
    fn only_members_have_a_standing() {
        let trust = GlobalNamespaceTrust {
            global_namespace: "shop".parse().unwrap(),
            trust_domain: "shop.mesh".into(),
            roots: vec!["root".into()],
            labels: BTreeMap::from([("north".parse().unwrap(), "l1.mesh".parse().unwrap())]),
            orders: BTreeMap::new(),
        };
        let mut world = World::default();
        world.facts.insert("trust/shop".into(), Fact::Trust(Arc::new(trust.clone())));
        let north = standings(&world, &"north".parse().unwrap());
        assert_eq!(north.values().next().unwrap().label.as_str(), "l1.mesh");
        assert!(standings(&world, &"south".parse().unwrap()).is_empty());
        let rootless = GlobalNamespaceTrust { roots: vec![], ..trust };
        world.facts.insert("trust/shop".into(), Fact::Trust(Arc::new(rootless)));
        assert!(standings(&world, &"north".parse().unwrap()).is_empty());
    }
}

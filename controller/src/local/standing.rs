//! The GNSs of which the cluster is a member, and what its gateways may be certified for in each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::{CertificateLifetimes, Host, Name, ResourceId, Span};
use config::resource::{GlobalNamespaceSpec, Spec};
use config::revoked::Revoked;
use config::wire::Order;
use config::world::{Fact, GlobalNamespaceTrust, World};
use identity::ca::{IssuingCa, Lifetimes};
use identity::fingerprint;
use identity::pem::decode_certificates;

use crate::member::holdings::{Held, Holding, Need, Needs};

/// The cluster's standing in one GNS.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    /// The issuing CA that it needs there.
    pub(super) need: Need,
    /// SHA-256 of the GNS's roots.
    pub(super) roots: Vec<String>,
    /// The certificates that its gateways are to hold.
    pub(super) order: Order,
    /// Its gateways and workloads that nobody believes any more.
    pub(super) revoked: BTreeSet<Revoked>,
    /// The opaque name that its gateways bear.
    pub(super) label: Host,
    /// Services answer below it, which stands in gateways' certificates for callers that verify host names.
    pub(super) domain: Option<Host>,
    /// How long certificates live.
    pub(super) lifetimes: Lifetimes,
}

impl Standing {
    /// Who signs in this GNS. While a new issuing CA is on its way the old one goes on signing, but not below a root that
    /// nobody believes any more.
    pub(super) fn issuer(&self, gns: &Name, held: &Held<IssuingCa>) -> Result<Arc<Holding<IssuingCa>>, NoIssuer> {
        let held = held.get(gns).filter(|held| self.roots.contains(&held.order.root));
        held.cloned().ok_or_else(|| NoIssuer::NotYet(gns.clone()))
    }

    /// The names in the certificates of its gateways.
    pub(super) fn gateway_names(&self) -> Vec<String> {
        let services = self.domain.as_ref().map(|domain| format!("*.{domain}"));
        [self.label.to_string()].into_iter().chain(services).collect()
    }
}

/// By GNS.
pub(super) type Standings = BTreeMap<Name, Standing>;

/// Why nothing is signed in a GNS.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoIssuer {
    #[error("cluster {1} is not a member of GNS {0}, as far as its agent knows")]
    NoStanding(Name, Name),
    #[error("the agent waits for its issuing CA in GNS {0}, or for the one that is ordered now: ask again")]
    NotYet(Name),
}

/// The standing of the cluster in a GNS.
pub(super) fn standing_in<'s>(standings: &'s Standings, gns: &Name, cluster: &Name) -> Result<&'s Standing, NoIssuer> {
    standings.get(gns).ok_or_else(|| NoIssuer::NoStanding(gns.clone(), cluster.clone()))
}

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
        let revoked = trust.revoked.iter().filter(|revoked| revoked.cluster() == cluster).cloned().collect();
        let spec = spec(world, &trust.global_namespace);
        let (domain, lifetimes) = (spec.map(|spec| spec.domain.clone()), lifetimes(spec));
        Some((trust.global_namespace.clone(), Standing { need, roots, order, revoked, label, domain, lifetimes }))
    };
    trusts.filter_map(|trust| standing(trust)).collect()
}

/// SHA-256 of the roots of the GNSs of which the cluster is no member, but whose members its gateways may meet.
pub(super) type Visited = BTreeMap<Name, Vec<String>>;

/// Those of which the controller's world tells.
pub(super) fn visited(world: &World, standings: &Standings) -> Visited {
    let others = world.facts.values().filter_map(|fact| match fact {
        Fact::Trust(trust) if !standings.contains_key(&trust.global_namespace) => Some(trust),
        _ => None,
    });
    others.map(|trust| (trust.global_namespace.clone(), fingerprints(&trust.roots))).collect()
}

/// The gateways of the cluster that are revoked: none of them is a member any more.
pub(super) fn revoked_gateways(standings: &Standings) -> BTreeSet<Name> {
    let revoked = standings.values().flat_map(|standing| &standing.revoked);
    let gateways = revoked.filter_map(|revoked| match revoked {
        Revoked::Gateway { name, .. } => Some(name.clone()),
        _ => None,
    });
    gateways.collect()
}

/// The issuing CAs that are needed.
pub(super) fn needs(standings: &Standings) -> Needs {
    standings.iter().map(|(gns, standing)| (gns.clone(), standing.need.clone())).collect()
}

/// Of certificates in PEM; what is none has none.
pub(super) fn fingerprints(roots: &[String]) -> Vec<String> {
    let certificates = roots.iter().filter_map(|root| decode_certificates(root).ok()).flatten();
    certificates.map(|certificate| fingerprint(&certificate)).collect()
}

/// As the GNS says; the defaults where it says nothing, or something that the controller would have refused.
fn lifetimes(spec: Option<&GlobalNamespaceSpec>) -> Lifetimes {
    spec.map(|spec| checked(&spec.certificates)).unwrap_or_default()
}

fn spec<'w>(world: &'w World, gns: &Name) -> Option<&'w GlobalNamespaceSpec> {
    match &world.resource(&ResourceId::GlobalNamespace(gns.clone()))?.spec {
        Spec::GlobalNamespace(spec) => Some(spec),
        _ => None,
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

    #[test]
    fn only_members_have_a_standing() {
        let trust = GlobalNamespaceTrust {
            global_namespace: "shop".parse().unwrap(),
            trust_domain: "shop.mesh".into(),
            roots: vec!["root".into()],
            labels: BTreeMap::from([("north".parse().unwrap(), "l1.mesh".parse().unwrap())]),
            orders: BTreeMap::new(),
            revoked: [].into(),
        };
        let mut world = World::default();
        world.facts.insert("trust/shop", Fact::Trust(Arc::new(trust.clone())));
        let north = standings(&world, &"north".parse().unwrap());
        assert_eq!(north.values().next().unwrap().label.as_str(), "l1.mesh");
        assert!(visited(&world, &north).is_empty());
        let south = standings(&world, &"south".parse().unwrap());
        assert!(south.is_empty() && visited(&world, &south).contains_key("shop"));
        let rootless = GlobalNamespaceTrust { roots: vec![], ..trust };
        world.facts.insert("trust/shop", Fact::Trust(Arc::new(rootless)));
        assert!(standings(&world, &"north".parse().unwrap()).is_empty());
    }
}

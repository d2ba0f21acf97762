//! What one cluster is told: all that it needs to serve, and nothing of where other clusters' instances are.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::compile::membership::Membership;
use config::resource::{MtlsMode, Name, Resource, ResourceId, Spec};
use config::wire::{AgentSequence, Entries, RevisionPair};
use config::world::{Fact, RemoteService};

use super::access::Access;
use super::observed::Observation;
use super::telling::Telling;
use super::view::View;
use crate::sync::Published;

/// The world of one cluster. Purely a function of what is known, so that it may be made anew at any time; `telling` only
/// saves work.
pub(crate) fn project(view: &View, cluster: &Name, telling: &mut Telling) -> Published {
    let membership = view.membership();
    let access = Access::of(&view.desired, &membership);
    let mut entries = Entries::new();
    let facts = desired(view, &access, cluster).chain(made(view, (&membership, &access), cluster));
    let remote = remote(view, (&membership, &access), cluster);
    entries.extend(facts.chain(remote).filter_map(|fact| telling.tell(fact)));
    // To a cluster that nobody believes nobody needs the way; it itself is told nothing any more.
    let believed = view.observations().filter(|(cluster, _)| !view.made.revoked_clusters.contains(*cluster));
    entries.extend(believed.filter_map(|(_, observation)| observation.gateways()));
    Published {
        revision: RevisionPair { global: view.desired.head, agent: AgentSequence::default() },
        entries: Arc::new(entries),
        secrets: Arc::new(secrets(view, &membership, cluster)),
    }
}

/// The desired resources that concern the cluster: every cluster, what is in its global namespaces, and those that its
/// workloads may call something in.
fn desired<'v>(view: &'v View, access: &'v Access<'_>, cluster: &'v Name) -> impl Iterator<Item = Fact> + 'v {
    let resources = view.desired.resources.values().map(|stored| &stored.resource);
    resources.filter(move |resource| concerns(resource, access, cluster)).cloned().map(Fact::Resource)
}

fn concerns(resource: &Resource, access: &Access<'_>, cluster: &Name) -> bool {
    match (&resource.id, &resource.spec, global_namespace(resource)) {
        (ResourceId::Cluster(_), ..) => true,
        (_, Spec::GlobalNamespace(_) | Spec::AccessPolicy(_), Some(gns)) => access.reaches(cluster, gns),
        (.., Some(gns)) => access.is_member(cluster, gns),
        _ => false,
    }
}

/// The GNS to which a resource belongs, or which it is.
pub(crate) fn global_namespace(resource: &Resource) -> Option<&Name> {
    match &resource.spec {
        Spec::GlobalNamespace(_) => Some(resource.id.name()),
        Spec::PublicService(spec) => Some(&spec.global_namespace),
        Spec::Certificate(spec) => Some(&spec.global_namespace),
        Spec::AccessPolicy(spec) => Some(&spec.global_namespace),
        Spec::Cluster(_) | Spec::Node(_) | Spec::Service(_) => None,
    }
}

fn made<'v>(
    view: &'v View,
    (membership, access): (&'v Membership<'_>, &'v Access<'_>),
    cluster: &'v Name,
) -> impl Iterator<Item = Fact> + 'v {
    let trust = view.made.trust.iter().filter(|(gns, _)| access.believes(cluster, gns));
    let hosts = view.made.host_certificates.iter().filter(|((gns, _), _)| membership.has_member(gns, cluster));
    let trust = trust.map(|(_, trust)| Fact::Trust(Arc::clone(trust)));
    let mesh = view.made.mesh.get(cluster).map(|mesh| Fact::Mesh(Arc::clone(mesh)));
    mesh.into_iter().chain(trust).chain(hosts.map(|(_, certificate)| Fact::HostCertificate(Arc::clone(certificate))))
}

/// Summaries of the services of other clusters with which this one shares a GNS, or that its workloads may call.
fn remote<'v>(
    view: &'v View,
    (membership, access): (&'v Membership<'_>, &'v Access<'_>),
    cluster: &'v Name,
) -> impl Iterator<Item = Fact> + 'v {
    let others = view.observations();
    let others = others.filter(move |(other, _)| *other != cluster && !view.made.revoked_clusters.contains(*other));
    others.flat_map(move |(_, seen)| summaries((view, seen), (membership, access), cluster))
}

fn summaries<'v>(
    (view, seen): (&'v View, &'v Observation),
    (membership, access): (&'v Membership<'_>, &'v Access<'_>),
    cluster: &'v Name,
) -> impl Iterator<Item = Fact> + 'v {
    seen.resources().filter_map(move |resource| {
        let ResourceId::Service { cluster: of, namespace, name } = &resource.id else { return None };
        let gns = membership.owner(of, namespace).filter(|gns| access.reaches_service(cluster, gns, name))?;
        Some(Fact::Remote(Arc::new(summary(resource, mode(view, gns))?)))
    })
}

fn mode(view: &View, gns: &Name) -> MtlsMode {
    let stored = view.desired.resources.get(&ResourceId::GlobalNamespace(gns.clone()));
    match stored.map(|stored| &stored.resource.spec) {
        Some(Spec::GlobalNamespace(spec)) => spec.mtls,
        _ => MtlsMode::default(),
    }
}

/// Of instances only those count that are endpoints in the mode of their GNS.
fn summary(resource: &Resource, mode: MtlsMode) -> Option<RemoteService> {
    let (ResourceId::Service { cluster, namespace, name }, Spec::Service(spec)) = (&resource.id, &resource.spec) else {
        return None;
    };
    let count = |instances: usize| u32::try_from(instances).unwrap_or(u32::MAX);
    let served = spec.versions.iter().filter(|version| mode.serves(version.tls));
    Some(RemoteService {
        cluster: cluster.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
        ports: spec.ports.clone(),
        versions: served.map(|v| (v.name.clone(), count(v.instances.len()))).collect(),
    })
}

/// The keys of the certificates that the cluster serves with.
fn secrets(
    view: &View,
    membership: &Membership<'_>,
    cluster: &Name,
) -> BTreeMap<config::resource::SecretRef, config::wire::Secret> {
    let uploaded = super::view::certificates(&view.desired)
        .filter(|(_, spec)| membership.has_member(&spec.global_namespace, cluster))
        .filter_map(|(_, spec)| spec.secret_ref.as_ref());
    let made = view.made.host_certificates.values();
    let made = made.filter(|made| membership.has_member(&made.global_namespace, cluster)).map(|made| &made.secret_ref);
    let secret = |reference| view.made.secrets.get_key_value(reference);
    uploaded.chain(made).filter_map(secret).map(|(reference, secret)| (reference.clone(), secret.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use config::resource::SecretRef;
    use config::wire::{Entry, Observed, Secret};
    use config::world::HostCertificate;
    use serde_json::{Value, json};
    use zeroize::Zeroizing;

    use super::super::view::Made;
    use super::*;
    use crate::store::{Desired, Owner, Revision};

    fn project_anew(view: &View, cluster: &Name) -> Published {
        project(view, cluster, &mut Telling::default())
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn desired_state(resources: &[(&str, Value)]) -> Arc<Desired> {
        let resource = |(id, spec): &(&str, Value)| {
            let kind = id.split('/').next().unwrap();
            Arc::new(serde_json::from_value(json!({"id": id, "spec": {kind: spec}})).unwrap())
        };
        let upserts = resources.iter().map(resource).collect();
        let mut desired = Desired::default();
        desired.apply(&Revision { upserts, ..Revision::new(0, Owner::Api, "ada", "apply") });
        Arc::new(desired)
    }

    fn observed(cluster: &str, namespaces: &[&str]) -> (Name, Arc<Observation>) {
        let service = |namespace: &&str| {
            let id = format!("Service/{cluster}/{namespace}/cart");
            let spec = json!({"ports": [{"name": "http", "port": 80}],
                "versions": [{"name": "v1", "instances": [{"address": "192.0.2.77"}, {"address": "192.0.2.78"}]}]});
            let value = json!({"resource": {"id": id, "spec": {"Service": spec}}});
            Entry { key: id, value: Some(value.into()) }
        };
        let mut entries: Vec<Entry> = namespaces.iter().map(service).collect();
        let gateways = json!({"gateways": {"cluster": cluster, "gateways": [], "newer": 1}});
        entries.push(Entry { key: format!("gateways/{cluster}"), value: Some(gateways.into()) });
        let mut observation = Observation::new(name(cluster));
        observation.apply(Observed { at: AgentSequence::default(), reset: true, last: true, entries }).unwrap();
        (name(cluster), Arc::new(observation))
    }

    fn tree(entry: &config::wire::Json) -> Value {
        entry.read().unwrap()
    }

    fn gns(domain: &str, clusters: &[&str], namespace: &str) -> Value {
        let rows = clusters.iter().map(|c| json!({"cluster": {"exact": c}, "namespace": {"exact": namespace}}));
        json!({"domain": domain, "members": rows.collect::<Vec<_>>()})
    }

    fn view() -> View {
        let public = json!({"globalNamespace": "bank", "service": "cart", "port": 80, "hosts": [{"name": "b.example"}],
            "tls": {"certificate": "selfSigned"}});
        let reference = SecretRef { key_sha256: "ab".into() };
        let certificate = HostCertificate {
            global_namespace: name("bank"),
            public_service: name("web"),
            chain: "chain".into(),
            secret_ref: reference.clone(),
        };
        let made = Made {
            host_certificates: [((name("bank"), name("web")), Arc::new(certificate))].into(),
            secrets: [(reference.clone(), Secret::new(reference, Zeroizing::new("key".into())))].into(),
            ..Made::default()
        };
        View {
            desired: desired_state(&[
                ("Cluster/north", json!({})),
                ("Cluster/south", json!({})),
                ("Cluster/west", json!({})),
                ("GlobalNamespace/shop", gns("shop.internal", &["north", "south"], "shop")),
                ("GlobalNamespace/bank", gns("bank.internal", &["south", "west"], "bank")),
                ("PublicService/bank/web", public),
            ]),
            made: Arc::new(made),
            observed: [
                observed("north", &["shop", "private"]),
                observed("south", &["shop", "bank"]),
                observed("gone", &["shop"]),
            ]
            .into(),
        }
    }

    fn keys(published: &Published) -> Vec<&str> {
        published.entries.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_cluster_is_told_of_its_own_global_namespaces_only() {
        let view = view();
        let north = project_anew(&view, &name("north"));
        assert_eq!(
            keys(&north),
            [
                "Cluster/north",
                "Cluster/south",
                "Cluster/west",
                "GlobalNamespace/shop",
                "gateways/north",
                "gateways/south",
                "remote/south/shop/cart"
            ]
        );
        assert!(north.secrets.is_empty());
        let west = project_anew(&view, &name("west"));
        assert!(keys(&west).contains(&"PublicService/bank/web") && keys(&west).contains(&"hostCertificate/bank/web"));
        assert!(keys(&west).contains(&"remote/south/bank/cart") && !keys(&west).contains(&"remote/south/shop/cart"));
        assert_eq!(west.secrets.len(), 1);
    }

    #[test]
    fn a_policy_tells_each_side_what_it_must_know_of_the_other_and_no_more() {
        let mut view = view();
        let trust = |gns: &str| {
            let trust = json!({"globalNamespace": gns, "trustDomain": gns, "roots": [], "labels": {}});
            (name(gns), Arc::new(serde_json::from_value(trust).unwrap()))
        };
        let made = Arc::get_mut(&mut view.made).unwrap();
        made.trust = [trust("shop"), trust("bank")].into();
        let policy =
            json!({"globalNamespace": "bank", "from": [{"globalNamespace": "shop"}], "to": [{"service": "cart"}]});
        view.desired = desired_state(&[
            ("Cluster/north", json!({})),
            ("Cluster/south", json!({})),
            ("GlobalNamespace/shop", gns("shop.internal", &["north"], "shop")),
            ("GlobalNamespace/bank", gns("bank.internal", &["south"], "bank")),
            ("PublicService/bank/web", json!({"globalNamespace": "bank", "service": "cart", "port": 80, "hosts": []})),
            ("AccessPolicy/bank/in", policy),
        ]);
        let (north, south) = (project_anew(&view, &name("north")), project_anew(&view, &name("south")));
        for told in
            ["AccessPolicy/bank/in", "GlobalNamespace/bank", "trust/bank", "trust/shop", "remote/south/bank/cart"]
        {
            assert!(keys(&north).contains(&told), "{told}");
        }
        assert!(!keys(&north).contains(&"PublicService/bank/web") && north.secrets.is_empty());
        assert!(keys(&south).contains(&"trust/shop") && keys(&south).contains(&"AccessPolicy/bank/in"));
        for untold in ["GlobalNamespace/shop", "remote/north/shop/cart"] {
            assert!(!keys(&south).contains(&untold), "{untold}");
        }
        let closed = serde_json::from_value(json!({"globalNamespace": "bank", "from": [{"globalNamespace": "shop"}],
            "to": [{"service": "other"}]}));
        let spec = Spec::AccessPolicy(closed.unwrap());
        let id = ResourceId::AccessPolicy { global_namespace: name("bank"), name: name("in") };
        let desired = Arc::get_mut(&mut view.desired).unwrap();
        let stored = desired.resources.get_mut(&id).unwrap();
        stored.resource = Arc::new(Resource { id, labels: BTreeMap::new(), spec });
        assert!(!keys(&project_anew(&view, &name("north"))).contains(&"remote/south/bank/cart"));
    }

    #[test]
    fn of_other_clusters_only_endpoints_are_counted() {
        let mut view = view();
        let strict = json!({"domain": "shop.internal", "mtls": "strict",
            "members": [{"cluster": {"prefix": ""}, "namespace": {"exact": "shop"}}]});
        view.desired = desired_state(&[
            ("Cluster/north", json!({})),
            ("Cluster/south", json!({})),
            ("GlobalNamespace/shop", strict),
        ]);
        let south = project_anew(&view, &name("south"));
        assert_eq!(tree(&south.entries["remote/north/shop/cart"])["remote"]["versions"], json!({}));
    }

    #[test]
    fn no_instance_leaves_its_cluster() {
        let view = view();
        for cluster in ["north", "south", "west"] {
            let told = serde_json::to_string(&*project_anew(&view, &name(cluster)).entries).unwrap();
            assert!(!told.contains("192.0.2."), "{cluster} is told of an instance: {told}");
        }
        let south = project_anew(&view, &name("south"));
        assert_eq!(tree(&south.entries["remote/north/shop/cart"])["remote"]["versions"], json!({"v1": 2}));
    }

    #[test]
    fn what_a_newer_agent_says_of_its_gateways_is_passed_on_unread() {
        assert_eq!(
            tree(&project_anew(&view(), &name("north")).entries["gateways/south"])["gateways"]["newer"],
            json!(1)
        );
    }
}

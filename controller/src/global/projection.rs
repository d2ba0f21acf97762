//! What one cluster is told: all that it needs to serve, and nothing of where other clusters' instances are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::keyed::Folder;
use config::resource::{Name, Resource, SecretRef, Spec};
use config::wire::{AgentSequence, Entries, Json, RevisionPair, Secret};
use config::world::MeshTrust;

use super::access::Access;
use super::telling::{FolderScope, Scope, Telling};
use super::view::{View, certificates, global_namespaces};
use crate::sync::Published;

/// The worlds of these clusters, one after another. Purely a function of what is known, so that they may be made anew at
/// any time; `telling` only saves work.
pub(crate) fn project<'c>(
    view: &View,
    clusters: impl IntoIterator<Item = &'c Name>,
    telling: &mut Telling,
    mut give: impl FnMut(&'c Name, Published),
) {
    let membership = view.membership();
    telling.take(view, &membership);
    let access = Access::of(&view.desired, &membership);
    for cluster in clusters {
        let global_namespaces = global_namespaces(&view.desired).map(|(name, _)| name);
        let member_of = global_namespaces.filter(|gns| access.is_member(cluster, gns)).cloned().collect();
        let reach = Reach { cluster, access: &access, member_of };
        let secrets = telling.secrets.entry(reach.member_of.clone());
        let secrets = secrets.or_insert_with(|| Arc::new(secrets_of(view, &reach.member_of))).clone();
        let revision = RevisionPair { global: view.desired.head, agent: AgentSequence::default() };
        let entries = Arc::new(reach.entries(view, telling));
        give(cluster, Published { revision, entries, secrets, ..Published::default() });
    }
}

/// What a cluster has to know.
struct Reach<'v> {
    cluster: &'v Name,
    access: &'v Access<'v>,
    member_of: BTreeSet<Name>,
}

impl Reach<'_> {
    fn entries(&self, view: &View, telling: &mut Telling) -> Entries {
        if !telling.common.contains_key(&self.member_of) {
            let common = self.common(telling);
            telling.common.insert(self.member_of.clone(), common);
        }
        let mut entries = telling.common.get(&self.member_of).cloned().unwrap_or_default();
        let own = telling.summaries.get(self.cluster).into_iter().flat_map(|summaries| summaries.folders());
        own.for_each(|(name, ..)| drop(entries.remove_folder(name)));
        let mesh = view.made.mesh.get(self.cluster).and_then(|mesh| telling.mesh(mesh));
        entries.extend(mesh.map(|told| (MeshTrust::KEY, told)));
        entries
    }

    /// What all clusters are told that are members of the same, with what they see themselves.
    fn common(&self, telling: &Telling) -> Entries {
        // To a cluster that nobody believes nobody needs the way; it itself is told nothing any more.
        let mut entries = telling.gateways.clone();
        for (name, folder) in telling.wanted.folders() {
            let told = match telling.scopes.get(name) {
                Some(FolderScope::Whole(scope)) => self.includes(scope).then(|| Arc::clone(folder)),
                Some(FolderScope::Each(scopes)) => {
                    Some(part(folder, |key| scopes.get(key).is_some_and(|scope| self.includes(scope))))
                }
                None => None,
            };
            told.into_iter().for_each(|told| entries.put_folder(Arc::clone(name), told));
        }
        for (name, folder, gns) in telling.summaries.values().flat_map(|summaries| summaries.folders()) {
            entries.put_folder(Arc::clone(name), self.services(folder, gns));
        }
        entries
    }

    fn includes(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Everyone => true,
            Scope::Members(gns) => self.member_of.contains(gns),
            Scope::Reaching(gns) => self.member_of.contains(gns) || self.access.reaches(self.cluster, gns),
            Scope::Believing(gns) => self.member_of.contains(gns) || self.access.believes(self.cluster, gns),
            Scope::Nobody => false,
        }
    }

    /// Of services of a GNS those with which this cluster shares it, or that its workloads may call.
    fn services(&self, folder: &Arc<Folder<Json>>, gns: &Name) -> Arc<Folder<Json>> {
        if self.member_of.contains(gns) {
            return Arc::clone(folder);
        }
        part(folder, |key| {
            let name = key.rsplit('/').next().and_then(|name| name.parse().ok());
            name.is_some_and(|name| self.access.reaches_service(self.cluster, gns, &name))
        })
    }
}

/// The folder with these keys only; the same one, if that is all of them.
fn part(folder: &Arc<Folder<Json>>, wanted: impl Fn(&str) -> bool) -> Arc<Folder<Json>> {
    match folder.iter().all(|(key, _)| wanted(key)) {
        true => Arc::clone(folder),
        false => {
            let items = folder.iter().filter(|(key, _)| wanted(key));
            Arc::new(items.map(|(key, value)| (Arc::clone(key), value.clone())).collect())
        }
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

/// The keys of the certificates that members of these GNSs serve with.
fn secrets_of(view: &View, member_of: &BTreeSet<Name>) -> BTreeMap<SecretRef, Secret> {
    let uploaded = certificates(&view.desired)
        .filter(|(_, spec)| member_of.contains(&spec.global_namespace))
        .filter_map(|(_, spec)| spec.secret_ref.as_ref());
    let made = view.made.host_certificates.values();
    let made = made.filter(|made| member_of.contains(&made.global_namespace)).map(|made| &made.secret_ref);
    let secret = |reference| view.made.secrets.get_key_value(reference);
    uploaded.chain(made).filter_map(secret).map(|(reference, secret)| (reference.clone(), secret.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use config::resource::ResourceId;
    use config::wire::{Entry, Observed, Order};
    use config::world::HostCertificate;
    use serde_json::{Value, json};
    use zeroize::Zeroizing;

    use super::super::observed::Observation;
    use super::super::view::Made;
    use super::*;
    use crate::store::{Desired, Owner, Revision};

    fn project_anew(view: &View, cluster: &Name) -> Published {
        let mut told = Published::default();
        project(view, [cluster], &mut Telling::default(), |_, world| told = world);
        told
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
        observation
            .apply(Observed { at: AgentSequence::default(), reset: true, replaces: vec![], last: true, entries })
            .unwrap();
        (name(cluster), Arc::new(observation))
    }

    fn tree(world: &Published, key: &str) -> Value {
        world.entries.get(key).unwrap().read().unwrap()
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
        published.entries.keys().collect()
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
        assert_eq!(tree(&south, "remote/north/shop/cart")["remote"]["versions"], json!({}));
    }

    #[test]
    fn no_instance_leaves_its_cluster() {
        let view = view();
        for cluster in ["north", "south", "west"] {
            let told = serde_json::to_string(&*project_anew(&view, &name(cluster)).entries).unwrap();
            assert!(!told.contains("192.0.2."), "{cluster} is told of an instance: {told}");
        }
        let south = project_anew(&view, &name("south"));
        assert_eq!(tree(&south, "remote/north/shop/cart")["remote"]["versions"], json!({"v1": 2}));
    }

    #[test]
    fn what_a_newer_agent_says_of_its_gateways_is_passed_on_unread() {
        let north = project_anew(&view(), &name("north"));
        assert_eq!(tree(&north, "gateways/south")["gateways"]["newer"], json!(1));
    }

    #[test]
    fn what_is_told_step_by_step_is_what_is_told_at_once() {
        let strict = json!({"domain": "shop.internal", "mtls": "strict",
            "members": [{"cluster": {"prefix": ""}, "namespace": {"exact": "shop"}}]});
        let first = view();
        let (mut fewer, mut other, mut strictly) = (view(), view(), view());
        fewer.observed.remove(&name("south"));
        other.observed.extend([observed("south", &["shop"]), observed("west", &["bank", "shop"])]);
        strictly.desired = desired_state(&[
            ("Cluster/north", json!({})),
            ("Cluster/south", json!({})),
            ("GlobalNamespace/shop", strict),
        ]);
        let mut telling = Telling::default();
        for view in [&first, &fewer, &other, &first, &strictly, &View::default(), &first] {
            for cluster in ["north", "south", "west"].map(name) {
                let mut told = Published::default();
                project(view, [&cluster], &mut telling, |_, world| told = world);
                let anew = project_anew(view, &cluster);
                assert_eq!((&told.entries, told.secrets.len()), (&anew.entries, anew.secrets.len()));
            }
        }
    }

    #[test]
    fn members_of_the_same_are_told_the_same_but_for_what_is_their_own() {
        let mut view = view();
        let mesh = |leaf: u64| MeshTrust { roots: vec!["root".into()], order: Order { leaf, ..Order::default() } };
        let orders = [("north", 1), ("south", 2), ("west", 2)];
        let all = json!([{"cluster": {"prefix": ""}, "namespace": {"prefix": ""}}]);
        view.desired = desired_state(&[
            ("Cluster/north", json!({})),
            ("Cluster/south", json!({})),
            ("Cluster/west", json!({})),
            ("GlobalNamespace/shop", json!({"domain": "shop.internal", "members": all})),
        ]);
        view.made = Arc::new(Made {
            mesh: orders.map(|(cluster, leaf)| (name(cluster), Arc::new(mesh(leaf)))).into(),
            ..Made::default()
        });
        let (clusters, mut telling, mut worlds) =
            (orders.map(|(cluster, _)| name(cluster)), Telling::default(), vec![]);
        project(&view, &clusters, &mut telling, |_, world| worlds.push(world));
        let of = |key: &str| worlds.iter().map(|world| world.entries.contains_key(key)).collect::<Vec<_>>();
        assert_eq!(of("remote/north/shop/cart"), [false, true, true]);
        assert_eq!(of("remote/south/bank/cart"), [true, false, true]);
        let orders = worlds.iter().map(|world| tree(world, "mesh")["mesh"]["order"]["leaf"].clone());
        assert_eq!(orders.collect::<Vec<_>>(), [1, 2, 2]);
        assert_eq!(telling.common.len(), 1, "it is put together once");
    }

    #[test]
    fn clusters_share_in_memory_what_they_are_told_and_a_change_leaves_the_rest_alone() {
        let (mut view, mut telling, mut worlds) = (view(), Telling::default(), vec![]);
        for _ in 0..2 {
            project(&view, [&name("south"), &name("gone")], &mut telling, |_, world| worlds.push(world));
            project(&view, [&name("west")], &mut telling, |_, world| worlds.push(world));
            view.observed.extend([observed("north", &["shop"])]);
        }
        let folder = |world: usize, name: &str| worlds[world].entries.folder(name).unwrap();
        assert!(Arc::ptr_eq(folder(0, "PublicService/bank"), folder(2, "PublicService/bank")));
        assert!(Arc::ptr_eq(folder(0, "Cluster"), folder(1, "Cluster")));
        assert!(Arc::ptr_eq(folder(0, "Cluster"), folder(3, "Cluster")), "in the next round, too");
        assert!(
            Arc::ptr_eq(folder(0, "remote/north/shop"), folder(3, "remote/north/shop")),
            "as nothing in it changed"
        );
    }
}

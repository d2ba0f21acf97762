//! Compiling worlds into snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::sync::Arc;

use config::compile::compile;
use config::resource::{Name, Resource, ResourceId, Spec};
use config::snapshot::{Accept, Place, Snapshot};
use config::world::{Fact, World};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::facts::{any_fact, fact};
use support::{assert_golden, resources, text, world};

fn place(cluster: &str) -> Place {
    Place { cluster: cluster.parse().unwrap() }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn golden_world() -> World {
    let facts: Vec<Fact> = serde_saphyr::from_str(&text("golden/facts.yaml")).unwrap();
    world(resources(&text("golden/resources.yaml")).into_iter().map(Fact::Resource).chain(facts))
}

fn as_text(snapshot: &Snapshot) -> String {
    let mut value = serde_json::to_value(snapshot).unwrap();
    value.sort_all_objects();
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

#[test]
fn golden_snapshots() {
    for cluster in ["north", "south", "stranger"] {
        let snapshot = compile(&golden_world(), &place(cluster), None);
        assert_golden(&format!("golden/{cluster}.json"), &as_text(&snapshot));
    }
}

#[test]
fn what_a_change_left_alone_is_shared() {
    let mut world = golden_world();
    let old = compile(&world, &place("north"), None);
    let id: ResourceId = "Service/north/shop/cart".parse().unwrap();
    let mut cart = Resource::clone(world.resource(&id).unwrap());
    let Spec::Service(spec) = &mut cart.spec else { panic!() };
    spec.versions[0].instances.clear();
    world.facts.insert(id.to_string(), Fact::Resource(Arc::new(cart)));
    let new = compile(&world, &place("north"), Some(&old));

    let shared = |gns: &str| Arc::ptr_eq(&old.namespaces[gns], &new.namespaces[gns]);
    assert!(!shared("kiosk") && shared("shop"), "cart of north belongs to kiosk");
    let service = |of: &Snapshot, service: &str| of.namespaces["kiosk"].services[service].clone();
    assert!(Arc::ptr_eq(&service(&old, "menu"), &service(&new, "menu")));
    assert!(!Arc::ptr_eq(&service(&old, "cart"), &service(&new, "cart")));
    assert!(old.public_hosts.iter().all(|(host, public)| Arc::ptr_eq(public, &new.public_hosts[host])));
    assert!(old.gateways.iter().all(|(cluster, gateways)| Arc::ptr_eq(gateways, &new.gateways[cluster])));
}

#[test]
fn the_closest_range_says_who_a_caller_is() {
    let snapshot = compile(&golden_world(), &place("north"), None);
    let gns = |ip: &str| snapshot.caller(ip.parse().unwrap()).map(|caller| caller.global_namespace.to_string());
    assert_eq!(gns("10.1.2.3").as_deref(), Some("kiosk"), "north/shop belongs to kiosk, whose row names the cluster");
    assert_eq!(gns("10.9.1.1").as_deref(), Some("kiosk"));
    assert_eq!(gns("10.9.9.1"), None, "a namespace of no GNS inside a range of one");
    assert_eq!(gns("192.0.2.1"), None);
}

#[test]
fn checks_come_from_the_service_then_the_public_service_then_nobody() {
    let snapshot = compile(&golden_world(), &place("south"), None);
    let web = &snapshot.namespaces["shop"].services["web"].health_check;
    assert_eq!((web.path.as_str(), web.accept), ("/healthz", Accept::Success));
    let snapshot = compile(&golden_world(), &place("north"), None);
    let cart = &snapshot.namespaces["kiosk"].services["cart"].health_check;
    assert_eq!((cart.path.as_str(), cart.accept), ("/", Accept::BelowServerError));
}

#[test]
fn a_gns_that_cannot_be_served_keeps_its_namespaces_from_others() {
    let gns = |name: &str, namespace: Value, domain: &str| {
        fact(json!({"resource": {"id": format!("GlobalNamespace/{name}"), "spec": {"GlobalNamespace": {
            "domain": domain,
            "members": [{"cluster": {"prefix": ""}, "namespace": namespace}],
        }}}}))
    };
    let service = fact(json!({"resource": {"id": "Service/north/vault/keys", "spec": {"Service": {
        "ports": [{"name": "http", "port": 80}],
    }}}}));
    let open = gns("open", json!({"prefix": ""}), "open.internal");
    let closed = gns("closed", json!({"exact": "vault"}), "alone");
    let snapshot = compile(&world([open, closed, service]), &place("north"), None);
    assert_eq!(snapshot.namespaces.keys().collect::<Vec<_>>(), [&name("open")]);
    assert!(snapshot.namespaces["open"].services.is_empty());
    assert_eq!(snapshot.rejected[0].key, "GlobalNamespace/closed");
}

#[test]
fn a_spec_of_another_kind_than_its_identity_is_rejected() {
    let odd = fact(json!({"resource": {"id": "Cluster/north", "spec": {"Node": {}}}}));
    let snapshot = compile(&world([odd]), &place("north"), None);
    assert_eq!(snapshot.rejected.len(), 1);
}

proptest! {
    #[test]
    fn the_previous_snapshot_changes_nothing_but_what_is_shared(
        before in vec(any_fact(), 0..20),
        after in vec(any_fact(), 0..20),
    ) {
        let previous = compile(&world(before), &place("a"), None);
        let world = world(after);
        let fresh = compile(&world, &place("a"), None);
        prop_assert_eq!(&compile(&world, &place("a"), Some(&previous)), &fresh);
        let again = compile(&world, &place("a"), Some(&fresh));
        let shared = again.namespaces.iter().all(|(name, gns)| Arc::ptr_eq(gns, &fresh.namespaces[name]));
        prop_assert!(shared && again == fresh);
    }

    #[test]
    fn every_instance_counts_once_and_every_route_ends(facts in vec(any_fact(), 0..30)) {
        let snapshot = compile(&world(facts), &place("a"), None);
        for version in snapshot.namespaces.values().flat_map(|gns| gns.services.values()).flat_map(|s| s.versions.values()) {
            let mut sockets: Vec<_> = version.instances.iter().map(|i| (i.address, i.port)).collect();
            sockets.sort();
            sockets.dedup();
            prop_assert_eq!(sockets.len(), version.instances.len());
        }
        for host in snapshot.public_hosts.values() {
            prop_assert!(snapshot.namespaces.contains_key(&host.global_namespace));
            prop_assert_eq!(&host.routes.last().unwrap().path, &config::resource::RoutePath::PathPrefix("/".into()));
        }
    }
}

/// A GNS whose rows name a cluster and a namespace of its own name, with its trust.
fn application(name: &str, cluster: &str, mtls: &str) -> [Fact; 2] {
    let gns = json!({"resource": {"id": format!("GlobalNamespace/{name}"), "spec": {"GlobalNamespace": {
        "domain": format!("{name}.internal"), "mtls": mtls,
        "members": [{"cluster": {"exact": cluster}, "namespace": {"exact": name}}]}}}});
    let trust = json!({"trust": {"globalNamespace": name, "trustDomain": format!("{name}.mesh"), "roots": ["root"],
        "labels": {cluster: format!("{name}.t.invalid")}}});
    [fact(gns), fact(trust)]
}

fn policy(spec: Value) -> Fact {
    fact(json!({"resource": {"id": "AccessPolicy/bank/in", "spec": {"AccessPolicy": spec}}}))
}

fn running(cluster: &str, namespace: &str, name: &str, tls: &str) -> Fact {
    fact(json!({"resource": {"id": format!("Service/{cluster}/{namespace}/{name}"), "spec": {"Service": {
        "ports": [{"name": "http", "port": 80}],
        "versions": [{"name": "v1", "tls": tls, "instances": [{"address": "10.0.0.1"}]}]}}}}))
}

#[test]
fn a_mode_leaves_out_whoever_does_not_speak_it_and_names_them() {
    for (mode, sealed, bare) in [("permissive", 1, 1), ("strict", 1, 0), ("off", 0, 1)] {
        let services = [running("north", "shop", "sealed", "mesh"), running("north", "shop", "bare", "none")];
        let world = world(application("shop", "north", mode).into_iter().chain(services));
        let snapshot = compile(&world, &place("north"), None);
        let instances = |service: &str| &snapshot.namespaces["shop"].services[service].versions["v1"].instances;
        assert_eq!((instances("sealed").len(), instances("bare").len()), (sealed, bare), "{mode}");
        let of = instances("sealed").first().and_then(|endpoint| endpoint.tls.clone());
        assert_eq!(of, (sealed == 1).then(|| name("shop")), "the namespace is a part of the identity");
        let rejected: Vec<_> = snapshot.rejected.iter().map(|rejection| rejection.key.as_str()).collect();
        let expected: &[&str] = match mode {
            "strict" => &["Service/north/shop/bare"],
            "off" => &["Service/north/shop/sealed"],
            _ => &[],
        };
        assert_eq!(rejected, expected);
    }
}

#[test]
fn what_is_left_out_is_told_of_the_service_that_it_is_a_part_of() {
    let namespaces = ["shop", "bank"].map(|name| application(name, "north", "strict"));
    let services = [
        running("north", "shop", "cart", "mesh"),
        running("north", "bank", "cart", "none"),
        running("north", "shop", "pay", "mesh"),
    ];
    let snapshot = compile(&world(namespaces.into_iter().flatten().chain(services)), &place("north"), None);
    let left_out = |gns: &str, service: &str| -> Vec<String> {
        let left_out = &snapshot.namespaces[gns].services[service].left_out;
        left_out.iter().map(|rejection| rejection.key.clone()).collect()
    };
    assert_eq!(left_out("bank", "cart"), ["Service/north/bank/cart"]);
    assert_eq!(
        (left_out("shop", "cart"), left_out("shop", "pay")),
        (vec![], vec![]),
        "that of the other is none of theirs"
    );
}

#[test]
fn a_policy_opens_what_it_names_to_whom_it_names_where_they_meet() {
    let both = || application("shop", "north", "permissive").into_iter().chain(application("bank", "south", "strict"));
    let remote = |name: &str| {
        fact(json!({"remote": {"cluster": "south", "namespace": "bank", "name": name,
            "ports": [{"name": "http", "port": 80}], "versions": {"v1": 1}}}))
    };
    let spec = json!({"globalNamespace": "bank", "from": [{"globalNamespace": "shop", "service": "cart"}],
        "to": [{"service": "ledger"}]});
    let all = both().chain([policy(spec.clone()), remote("ledger"), remote("vault")]);
    let north = compile(&world(all), &place("north"), None);
    let bank = &north.namespaces["bank"];
    assert!(bank.visited && bank.services.keys().eq([&name("ledger")]), "no more of it is known there");
    assert_eq!(bank.services["ledger"].allowed[0].service, Some(name("cart")));
    let running = [running("south", "bank", "ledger", "mesh"), running("south", "bank", "vault", "mesh")];
    let south = compile(&world(both().chain([policy(spec.clone())]).chain(running.clone())), &place("south"), None);
    let allowed = |service: &str| south.namespaces["bank"].services[service].allowed.len();
    assert_eq!((allowed("ledger"), allowed("vault")), (1, 0));
    assert!(south.foreign["shop"].members.contains("north") && !south.namespaces.contains_key("shop"));
    assert!(south.is_of(&name("shop"), "shop.mesh", "north") && !south.is_of(&name("shop"), "shop.mesh", "south"));
    // Neither without the policy, nor where one of the two has turned mutual TLS off.
    let closed = compile(&world(both().chain(running.clone())), &place("south"), None);
    assert!(closed.foreign.is_empty() && closed.namespaces["bank"].services["ledger"].allowed.is_empty());
    let off = application("shop", "north", "off").into_iter().chain(application("bank", "south", "strict"));
    let off = compile(&world(off.chain([policy(spec)]).chain(running)), &place("south"), None);
    assert!(off.foreign.is_empty() && off.namespaces["bank"].services["ledger"].allowed.is_empty());
}

#[test]
fn conditions_say_what_a_mode_leaves_out_and_what_a_policy_lacks() {
    let spec = json!({"globalNamespace": "bank", "from": [{"globalNamespace": "shop", "service": "cart"}, {"globalNamespace": "none"}]});
    let facts = application("shop", "north", "off").into_iter().chain(application("bank", "north", "strict"));
    let world = world(facts.chain([policy(spec), running("north", "bank", "bare", "none")]));
    let said = |id: &str| {
        let conditions = config::conditions::conditions(&world, &id.parse().unwrap());
        conditions
            .into_iter()
            .map(|it| format!("{} {:?} {} {}", it.kind, it.status, it.reason, it.message))
            .collect::<String>()
    };
    let policy = said("AccessPolicy/bank/in");
    for word in ["ResolvedRefs False", "no GlobalNamespace/none", "mtls: off", "service cart"] {
        assert!(policy.contains(word), "{word}: {policy}");
    }
    let service = said("Service/north/bank/bare");
    assert!(service.contains("Endpoints False MtlsMode Instances of v1 speak plain text"), "{service}");
    assert!(said("GlobalNamespace/bank").contains("LeftOut True MtlsMode 1 services"));
    assert!(!said("GlobalNamespace/shop").contains("LeftOut"));
}

//! Compiling step by step: nobody can tell from a snapshot which way it came.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use config::compile::{Compiler, compile};
use config::snapshot::{Place, Snapshot};
use config::world::{Fact, World};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use support::facts::{fact, frequent, rare};
use support::world;

fn place() -> Place {
    Place { cluster: "a".parse().unwrap() }
}

/// A fact that comes, or whatever is known by its key goes.
fn change() -> impl Strategy<Value = (Fact, bool)> {
    let fact = prop_oneof![12 => frequent(), 1 => rare()];
    (fact, prop::bool::weighted(0.7))
}

fn apply(world: &mut World, changes: &[(Fact, bool)]) {
    world.revision.global += 1;
    for (fact, comes) in changes {
        let key = fact.key().to_string();
        match comes {
            true => drop(world.facts.insert(key, fact.clone())),
            false => drop(world.facts.remove(&key)),
        }
    }
}

/// Every part that two snapshots could share, by its name and where it is in memory.
fn parts(snapshot: &Snapshot) -> BTreeMap<String, *const ()> {
    fn at<T: ?Sized>(part: &Arc<T>) -> *const () {
        Arc::as_ptr(part).cast()
    }
    let mut parts = BTreeMap::from([("hosts".to_owned(), at(&snapshot.public_hosts))]);
    parts.extend(snapshot.public_hosts.iter().map(|(name, host)| (format!("host {name}"), at(host))));
    parts.extend(snapshot.foreign.iter().map(|(name, foreign)| (format!("foreign {name}"), at(foreign))));
    parts.extend(snapshot.gateways.iter().map(|(name, gateways)| (format!("gateways {name}"), at(gateways))));
    for (gns, namespace) in &snapshot.namespaces {
        parts.insert(format!("gns {gns}"), at(namespace));
        for (name, service) in &namespace.services {
            parts.insert(format!("service {gns} {name}"), at(service));
            let versions = service.versions.iter();
            parts.extend(versions.map(|(version, it)| (format!("version {gns} {name} {version}"), at(it))));
        }
    }
    parts
}

/// The names of the parts that are the same in both.
fn kept(one: &Snapshot, other: &Snapshot) -> Vec<String> {
    let other = parts(other);
    parts(one).into_iter().filter(|(name, at)| other.get(name) == Some(at)).map(|(name, _)| name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn step_by_step_and_as_a_whole_are_the_same(
        few in vec(rare(), 1..12),
        first in vec(frequent(), 0..20),
        steps in vec(vec(change(), 0..4), 1..10),
    ) {
        let mut world = world(few.into_iter().chain(first));
        let mut compiler = Compiler::new(place());
        let mut previous = compiler.compile(&world);
        prop_assert_eq!(&previous, &compile(&world, &place(), None));
        for step in steps {
            apply(&mut world, &step);
            let (newest, whole) = (compiler.compile(&world), compile(&world, &place(), Some(&previous)));
            prop_assert_eq!(&newest, &whole);
            prop_assert_eq!(kept(&newest, &previous), kept(&whole, &previous));
            previous = newest;
        }
    }
}

#[test]
fn who_is_let_in_follows_the_services_that_let_them_in() {
    let gns = |name: &str, cluster: &str| {
        fact(json!({"resource": {"id": format!("GlobalNamespace/{name}"), "spec": {"GlobalNamespace": {
            "domain": format!("{name}.internal"),
            "members": [{"cluster": {"exact": cluster}, "namespace": {"exact": name}}]}}}}))
    };
    let trust = fact(json!({"trust": {"globalNamespace": "shop", "trustDomain": "shop.mesh", "roots": ["root"],
        "labels": {"b": "shop.t.invalid"}}}));
    let policy = fact(json!({"resource": {"id": "AccessPolicy/bank/in", "spec": {"AccessPolicy": {
        "globalNamespace": "bank", "from": [{"globalNamespace": "shop"}]}}}}));
    let service = |port: u16| {
        fact(json!({"resource": {"id": "Service/a/bank/pay", "spec": {"Service": {
            "ports": [{"name": "http", "port": port}]}}}}))
    };
    let mut world = world([gns("bank", "a"), gns("shop", "b"), trust, policy]);
    let mut compiler = Compiler::new(place());
    let mut lets_in = |world: &World| compiler.compile(world).foreign.contains_key("shop");
    assert!(!lets_in(&world));
    let mut step = |comes: &[(Fact, bool)]| {
        apply(&mut world, comes);
        lets_in(&world)
    };
    assert!(step(&[(service(80), true)]));
    assert!(step(&[(service(81), true)]));
    assert!(!step(&[(service(81), false)]));
}

//! What is made of an identity is made anew with it, and only that.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::*;
use crate::health::Target;
use crate::upstream::secure::Security;

/// Two services, one of which speaks mutual TLS, in a GNS with this root.
fn snapshot(root: &str, previous: Option<&Snapshot>) -> Arc<Snapshot> {
    let service = |(name, tls): (&str, &str)| {
        json!({"resource": {"id": format!("Service/north/shop/{name}"), "spec": {"Service": {
            "ports": [{"name": "http", "port": 80}],
            "versions": [{"name": "v1", "tls": tls, "instances": [{"address": "10.0.0.1"}]}]}}}})
    };
    let trust = json!({"trust": {"globalNamespace": "shop", "trustDomain": "shop.mesh", "roots": [root],
        "labels": {"north": "n.internal"}}});
    let facts = [service(("sealed", "mesh")), service(("bare", "none")), trust];
    let facts = facts.map(|fact: Value| serde_json::from_value::<Fact>(fact).unwrap());
    let mut world = world(&[]);
    world.facts.extend(facts.into_iter().map(|fact| (fact.key().to_string(), fact)));
    Arc::new(compile(&world, &Place { cluster: "north".parse().unwrap() }, previous))
}

fn target(plan: &Plan, service: &str) -> Arc<Target> {
    plan.service(&"shop".parse().unwrap(), service).unwrap().instances()[0].clone()
}

#[test]
fn no_connection_outlives_the_identity_or_the_roots_that_it_was_opened_with_and_health_does() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (_inside, fed) = (runtime.enter(), Fed::new());
    let shop: Name = "shop".parse().unwrap();
    let ((first, root), (second, other_root)) = (gateway_identity(), gateway_identity());
    let be = |identity: &Arc<identity::Identity>| {
        fed.identities.publish(Arc::new(Identities::from([(shop.clone(), identity.clone())])));
    };
    let snapshot_of = |root: &str| snapshot(root, Some(&fed.planner.publisher.current().snapshot));

    let nobody = fed.plan(&snapshot_of(&root));
    let before = target(&nobody, "sealed");
    assert!(matches!(before.connections.security, Security::Missing) && !before.health.is_checked());
    assert!(nobody.callers.is_empty());

    be(&first);
    let known = fed.plan(&snapshot_of(&root));
    let sealed = target(&known, "sealed");
    assert!(matches!(sealed.connections.security, Security::Mutual(_)) && sealed.health.is_checked());
    assert!(Arc::ptr_eq(&sealed.health, &before.health) && known.callers.contains_key(&shop));
    let again = fed.plan(&snapshot_of(&root));
    assert!(Arc::ptr_eq(&target(&again, "sealed"), &sealed), "the same identity");

    be(&second);
    let renewed = target(&fed.plan(&snapshot_of(&root)), "sealed");
    let rerooted = fed.plan(&snapshot_of(&other_root));
    let numbers = [&sealed, &renewed, &target(&rerooted, "sealed")].map(|target| target.connections.security.number());
    assert!(numbers[0] < numbers[1] && numbers[1] < numbers[2], "{numbers:?}");
    assert!(Arc::ptr_eq(&renewed.health, &sealed.health));
    assert!(!Arc::ptr_eq(&known.callers[&shop], &rerooted.callers[&shop]));
    assert!(Arc::ptr_eq(&target(&nobody, "bare"), &target(&rerooted, "bare")), "plain text knows no identity");
    assert!(fed.told.load(Ordering::Relaxed) > 0);
}

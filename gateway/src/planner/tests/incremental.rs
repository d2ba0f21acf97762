//! What a change leaves alone stays the same, and what comes of it is the same as if it had been made from nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use config::compile::Compiler;
use config::resource::{Protocol, RoutePath};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::health::Target;

/// Its tasks never run: no instance is really checked.
fn idle_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn snapshot(services: &[(&str, Value)], previous: Option<&Snapshot>) -> Arc<Snapshot> {
    let fact = |(name, spec): &(&str, Value)| json!({"resource": {"id": format!("Service/north/shop/{name}"), "spec": {"Service": spec}}});
    let public = |name| {
        json!({"resource": {"id": format!("PublicService/shop/{name}"), "spec": {"PublicService": {
            "globalNamespace": "shop", "service": name, "port": 80, "tls": {"mode": "http"},
            "hosts": [{"name": format!("{name}.example.com")}]}}}})
    };
    let mut world = world(&[]);
    let facts = services.iter().map(fact).chain(["a", "b", "c"].map(public));
    let facts = facts.map(|fact| serde_json::from_value::<Fact>(fact).unwrap());
    world.facts.extend(facts.map(|fact| (fact.key().to_string(), fact)));
    Arc::new(compile(&world, &Place { cluster: "north".parse().unwrap() }, previous))
}

fn instances(last: &[u8]) -> Value {
    json!(last.iter().map(|last| json!({"address": format!("10.0.0.{last}")})).collect::<Vec<_>>())
}

fn service(last: &[u8]) -> Value {
    json!({"ports": [{"name": "http", "port": 80}], "versions": [{"name": "v1", "instances": instances(last)}]})
}

/// The instances of a service, by the last byte of their addresses.
fn targets(plan: &Plan, name: &str) -> BTreeMap<u8, Arc<Target>> {
    let last = |target: &Arc<Target>| match target.connections.address {
        SocketAddr::V4(at) => at.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    };
    let service = plan.service(&"shop".parse().unwrap(), name).unwrap();
    service.instances().iter().map(|target| (last(target), target.clone())).collect()
}

fn same<K: Ord, T>(before: &BTreeMap<K, Arc<T>>, after: &BTreeMap<K, Arc<T>>, key: K) -> bool {
    Arc::ptr_eq(&before[&key], &after[&key])
}

#[test]
fn a_change_makes_only_what_changed() {
    let (runtime, fed) = (idle_runtime(), Fed::new());
    let _inside = runtime.enter();
    let old = snapshot(&[("a", service(&[1, 2, 3])), ("b", service(&[9]))], None);
    let before = fed.plan(&old);
    let after = fed.plan(&snapshot(&[("a", service(&[3, 1, 4])), ("b", service(&[9]))], Some(&old)));
    let (old_targets, new_targets) = (targets(&before, "a"), targets(&after, "a"));
    assert_eq!(new_targets.keys().collect::<Vec<_>>(), [&1, &3, &4]);
    assert!(same(&old_targets, &new_targets, 1) && same(&old_targets, &new_targets, 3), "wherever they stand now");
    let shop = "shop".parse::<Name>().unwrap();
    let services = |name| same(&before.services[&shop], &after.services[&shop], Name::clone(&name));
    assert!(!services("a".parse().unwrap()) && services("b".parse().unwrap()));
    let host = |name: &str| name.parse::<Host>().unwrap();
    let hosts = |name| Arc::ptr_eq(&before.hosts[&host(name)], &after.hosts[&host(name)]);
    assert!(!hosts("a.example.com") && hosts("b.example.com") && hosts("c.example.com"));
}

#[test]
fn peers_are_told_at_once_of_other_instances_and_of_nothing_else() {
    let (runtime, fed) = (idle_runtime(), Fed::new());
    let _inside = runtime.enter();
    let told = |services: &[(&str, Value)], previous: &Snapshot| {
        let snapshot = snapshot(services, Some(previous));
        fed.plan(&snapshot);
        (fed.told.swap(0, Ordering::Relaxed), snapshot)
    };
    let (first, snapshot) = told(&[("a", service(&[1, 2]))], &publishing(None));
    let (again, snapshot) = told(&[("a", service(&[1, 2]))], &snapshot);
    let (fewer, snapshot) = told(&[("a", service(&[1]))], &snapshot);
    let (none, _) = told(&[], &snapshot);
    assert_eq!([first, again, fewer, none], [1, 0, 1, 1]);
}

#[test]
fn an_instance_is_checked_until_nobody_has_it() {
    let (runtime, fed) = (idle_runtime(), Fed::new());
    let _inside = runtime.enter();
    let old = snapshot(&[("a", service(&[1, 2]))], None);
    let gone = targets(&fed.plan(&old), "a").remove(&2).unwrap();
    let health = Arc::downgrade(&gone.health);
    fed.plan(&snapshot(&[("a", service(&[1]))], Some(&old)));
    assert_eq!(health.strong_count(), 1, "its checks don't hold it");
    assert!(gone.health.is_checked(), "a request may still wait on it");
    drop(gone);
    assert_eq!(health.strong_count(), 0);
}

#[test]
fn another_check_is_a_new_beginning_and_another_port_is_not() {
    let (runtime, fed) = (idle_runtime(), Fed::new());
    let _inside = runtime.enter();
    let plan = |port: u16, path: &str, previous| {
        let spec = json!({"ports": [{"name": "http", "port": 80, "targetPort": port}],
            "versions": [{"name": "v1", "instances": instances(&[1])}], "healthCheck": {"path": path}});
        let snapshot = snapshot(&[("a", spec)], previous);
        (targets(&fed.plan(&snapshot), "a").remove(&1).unwrap(), snapshot)
    };
    let (first, snapshot) = plan(8080, "/", None);
    let (moved, snapshot) = plan(8081, "/", Some(&snapshot));
    assert!(!Arc::ptr_eq(&first, &moved) && Arc::ptr_eq(&first.health, &moved.health));
    assert_eq!(moved.connections.address.port(), 8081);
    let (checked, _) = plan(8081, "/healthz", Some(&snapshot));
    assert!(!Arc::ptr_eq(&moved.health, &checked.health));
}

/// What an instance speaks, where, and its name.
type SaidOfInstance = (Protocol, SocketAddr, String);

/// What a plan says, as far as two plans can be compared.
#[derive(Debug, PartialEq)]
struct Said {
    services: BTreeMap<(Name, u16), Vec<SaidOfInstance>>,
    versions: BTreeMap<(Name, u16, Name), Vec<SocketAddr>>,
    hosts: BTreeMap<Host, Vec<(RoutePath, Option<Name>)>>,
    /// Each port with the service to which a stream goes.
    mesh: BTreeMap<u16, Option<Name>>,
    rejected: Vec<Rejection>,
}

fn said(plan: &Plan) -> Said {
    let ports = || {
        let ports = plan.all_services().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
        ports.map(|(service, (number, port))| ((service.service.name.clone(), *number), port))
    };
    let target = |target: &Arc<Target>| {
        let served_by = target.served_by.to_str().unwrap().to_owned();
        assert!(target.health.is_checked());
        (target.protocol, target.connections.address, served_by)
    };
    let versions = ports().flat_map(|((name, number), port)| {
        let sockets = |targets: &[Arc<Target>]| targets.iter().map(|target| target.connections.address).collect();
        let pools = port.versions.iter();
        pools.map(move |(version, pool)| ((name.clone(), number, version.clone()), sockets(&pool.targets)))
    });
    let current = |service: &Arc<PlannedService>| {
        let now = plan.service(&service.service.global_namespace, service.service.name.as_str()).unwrap();
        assert!(Arc::ptr_eq(service, now), "no request sees half a change");
        service.service.name.clone()
    };
    let stream_to = |port: &MeshPort| match port {
        MeshPort::Http => None,
        MeshPort::Stream(service) => Some(current(service)),
    };
    let routes = |host: &PlannedHost| {
        let route = |route: &crate::plan::PlannedRoute| (route.path.clone(), route.service.as_ref().map(current));
        host.routes.iter().map(route).collect()
    };
    Said {
        versions: versions.collect(),
        services: ports().map(|(key, port)| (key, port.all.targets.iter().map(target).collect())).collect(),
        hosts: plan.hosts.iter().map(|(name, host)| (name.clone(), routes(host))).collect(),
        mesh: plan.mesh.iter().map(|(number, port)| (*number, stream_to(port))).collect(),
        rejected: plan.rejected.clone(),
    }
}

fn any_service() -> impl Strategy<Value = Value> {
    let ports = prop::sample::select(vec![
        json!([{"name": "a", "port": 80}]),
        json!([{"name": "a", "port": 80, "targetPort": 8080}]),
        json!([{"name": "a", "port": 80}, {"name": "b", "port": 90, "protocol": "grpc"}]),
        json!([{"name": "a", "port": 90, "protocol": "tcp"}]),
    ]);
    let check = prop::sample::select(vec![json!({"path": "/"}), json!({"path": "/healthz"}), json!({"port": 7})]);
    let versions = vec(vec(1u8..7, 0..5), 0..3);
    (ports, check, versions).prop_map(|(ports, check, versions)| {
        let mut seen = BTreeSet::new();
        let versions = versions.into_iter().enumerate().map(|(at, last)| {
            let last: Vec<u8> = last.into_iter().filter(|last| seen.insert(*last)).collect();
            json!({"name": format!("v{at}"), "instances": instances(&last)})
        });
        json!({"versions": versions.collect::<Vec<_>>(), "ports": ports, "healthCheck": check})
    })
}

/// Which services there are, and which hosts, each with the service to which it leads and another for a path of it.
type Known = (Vec<(&'static str, Value)>, Vec<(&'static str, &'static str, &'static str)>);

fn any_known() -> impl Strategy<Value = Known> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    (vec((name(), any_service()), 0..4), vec((name(), name(), name()), 0..4))
}

fn snapshot_with_hosts((services, hosts): &Known, compiler: &mut Compiler) -> Arc<Snapshot> {
    let service = |(name, spec): &(&str, Value)| json!({"resource": {"id": format!("Service/north/shop/{name}"), "spec": {"Service": spec}}});
    let public = |(name, leads_to, path_to): &(&str, &str, &str)| {
        json!({"resource": {"id": format!("PublicService/shop/{name}"), "spec": {"PublicService": {
            "globalNamespace": "shop", "service": leads_to, "port": 80, "tls": {"mode": "http"},
            "routes": [{"path": "/it", "service": path_to, "port": 80}],
            "hosts": [{"name": format!("{name}.example.com")}]}}}})
    };
    let mut world = world(&[]);
    let facts = services.iter().map(service).chain(hosts.iter().map(public));
    let facts = facts.map(|fact| serde_json::from_value::<Fact>(fact).unwrap());
    world.facts.extend(facts.map(|fact| (fact.key().to_string(), fact)));
    Arc::new(compiler.compile(&world))
}

fn compiler() -> Compiler {
    Compiler::new(Place { cluster: "north".parse().unwrap() })
}

proptest! {
    #[test]
    fn whatever_went_before_a_plan_says_the_same(worlds in vec(any_known(), 1..6)) {
        let (runtime, fed, mut following) = (idle_runtime(), Fed::new(), compiler());
        let _inside = runtime.enter();
        for known in worlds {
            let incremental = said(&fed.plan(&snapshot_with_hosts(&known, &mut following)));
            prop_assert_eq!(&incremental, &said(&Fed::new().plan(&snapshot_with_hosts(&known, &mut compiler()))));
        }
    }
}

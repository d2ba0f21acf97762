//! A small world for tests: three clusters, seen from `north`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::resource::{
    GatewayAddresses, HealthProtocol, Host, MtlsMode, Name, ResourceId, RoutePath, Scheme, Span, TlsMode,
};
use config::snapshot::{Accept, Check, HostRoute, Namespace, Place, PublicHost, Service, Snapshot, Version};

use crate::health::{GatewayState, Health};

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn names<'t, V>(pairs: impl IntoIterator<Item = (&'t str, V)>) -> BTreeMap<Name, V> {
    pairs.into_iter().map(|(key, value)| (name(key), value)).collect()
}

pub(crate) fn gateway(text: &str, public: &str, mesh: &str) -> GatewayAddresses {
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    GatewayAddresses { name: name(text), east_west: None, public: ip(public), mesh: ip(mesh) }
}

/// `versions` run here, `remote` elsewhere.
fn service(text: &str, versions: &[&str], remote: &[(&str, &str)]) -> (Name, Arc<Service>) {
    let health_check = Check {
        protocol: HealthProtocol::Http,
        path: "/".into(),
        port: None,
        interval: Span::from_millis(1_000),
        timeout: Span::from_millis(500),
        unhealthy_threshold: 2,
        healthy_threshold: 2,
        accept: Accept::BelowServerError,
        prior_knowledge: false,
    };
    let version = |text: &&str| (name(text), Arc::new(Version { name: name(text), instances: Vec::new() }));
    let service = Service {
        global_namespace: name("shop"),
        name: name(text),
        ports: Vec::new(),
        health_check,
        versions: versions.iter().map(version).collect(),
        remote: remote.iter().map(|(cluster, version)| (name(cluster), names([(*version, 1)]))).collect(),
        allowed: Vec::new(),
        left_out: Vec::new(),
    };
    (name(text), Arc::new(service))
}

pub(crate) fn publish(snapshot: &mut Snapshot, text: &str, scheme: Scheme) {
    let route = HostRoute { path: RoutePath::PathPrefix("/".into()), service: name("cart"), port: 80 };
    let published = PublicHost {
        host: host(text),
        global_namespace: name("shop"),
        public_service: ResourceId::PublicService { global_namespace: name("shop"), name: name("web") },
        mode: TlsMode::Http,
        certificate: None,
        scheme,
        ttl: Span::from_millis(10_000),
        routes: vec![route],
        service_info: false,
    };
    Arc::make_mut(&mut snapshot.public_hosts).insert(host(text), Arc::new(published));
}

/// `cart` runs in `north` and `south`, `pay` only in `west`.
pub(crate) fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::empty(Place { cluster: name("north") });
    (snapshot.revision.global, snapshot.revision.agent.sequence) = (7, 3);
    let north = [
        gateway("gw-1", "203.0.113.1", "10.1.0.1"),
        gateway("gw-2", "203.0.113.2", "10.1.0.2"),
        gateway("gw-6", "2001:db8::1", "fd00::1"),
    ];
    let south = [gateway("gw-1", "203.0.113.11", "10.2.0.1"), gateway("gw-2", "203.0.113.12", "10.2.0.2")];
    let west = [gateway("gw-1", "203.0.113.21", "10.3.0.1")];
    snapshot.gateways = names([("north", north.into()), ("south", south.into()), ("west", west.into())]);
    let services =
        [service("cart", &["v1"], &[("south", "v2")]), service("pay", &[], &[("west", "v3")])].into_iter().collect();
    let namespace = Namespace {
        name: name("shop"),
        domain: host("shop.internal"),
        visited: false,
        trust_domain: "shop.mesh".into(),
        roots: Vec::new(),
        labels: BTreeMap::new(),
        order: Default::default(),
        revoked: [].into(),
        mtls: MtlsMode::Permissive,
        leaf_lifetime: Span::from_millis(86_400_000),
        services,
    };
    snapshot.namespaces = names([("shop", Arc::new(namespace))]);
    publish(&mut snapshot, "shop.example.com", Scheme::RoundRobin);
    publish(&mut snapshot, "a.b.shop.example.com", Scheme::RoundRobin);
    publish(&mut snapshot, "weighted.example.com", Scheme::Weighted(names([("north", 1), ("south", 3), ("west", 0)])));
    publish(&mut snapshot, "active.example.com", Scheme::ActivePassive(vec![name("south"), name("west")]));
    snapshot
}

/// Changes the one GNS.
pub(crate) fn with_namespace(snapshot: &mut Snapshot, change: impl FnOnce(&mut Namespace)) {
    change(Arc::make_mut(snapshot.namespaces.get_mut("shop").unwrap()));
}

pub(crate) const DEAD: GatewayState = GatewayState { live: false, draining: false };
pub(crate) const DRAINING: GatewayState = GatewayState { live: true, draining: true };

pub(crate) fn health(gateways: &[(&str, &str, GatewayState)], cart: &[(&str, bool)]) -> Health {
    let mut health = Health::default();
    for (cluster, gateway, state) in gateways {
        health.gateways.entry(name(cluster)).or_default().insert(name(gateway), *state);
    }
    let serving = (!cart.is_empty()).then(|| Arc::new(names(cart.iter().copied())));
    health.set_service(&name("shop"), &name("cart"), serving);
    health
}

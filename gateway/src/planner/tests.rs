#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod incremental;
mod renewal;
mod thread;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use config::compile::compile;
use config::live;
use config::resource::{Host, Name, ResourceId, Scheme, SecretRef, TlsMode};
use config::snapshot::{HostTls, Place, PublicHost};
use config::wire::Secret;
use config::world::{Fact, World};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::tls::{belief, believed, tunnel_tls};
use super::*;
use crate::plan::{MeshPort, PlannedHost, PlannedService, TunnelSource, TunnelTls};
use config::snapshot::Namespace;

const HOST: &str = "shop.example";

/// A certificate with its key.
fn certificate(name: &str) -> (Arc<HostTls>, Secret) {
    let pem = identity::PrivateKey::generate().unwrap().to_pem();
    let params = rcgen::CertificateParams::new([HOST.to_owned()]).unwrap();
    let chain = params.self_signed(&rcgen::KeyPair::from_pem(&pem).unwrap()).unwrap().pem();
    let secret_ref = SecretRef { key_sha256: name.into() };
    (Arc::new(HostTls { chain: chain.into(), secret_ref: secret_ref.clone() }), Secret::new(secret_ref, pem))
}

/// A planner, and the ends by which it is fed.
struct Fed {
    planner: Planner,
    snapshot: Publisher<Snapshot>,
    secrets: Publisher<Secrets>,
    /// How often it was told that there are other instances.
    told: Arc<AtomicUsize>,
    identities: Publisher<Identities>,
}

impl Fed {
    fn new() -> Self {
        let (snapshot, snapshots) = live::channel(Arc::new(publishing(None)));
        let (secrets, secrets_read) = live::channel(Arc::default());
        let (own, identities) = live::channel(Arc::default());
        let inputs = Inputs { snapshot: snapshots.clone(), secrets: secrets_read, identities };
        let (publisher, _) = live::channel(Arc::new(Plan::empty(snapshots.get())));
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let changed = Arc::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
        let checker = Arc::new(Checker::new(changed, Arc::default(), CancellationToken::new()));
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        Fed { planner: Planner::new(inputs, publisher, checker, metrics), snapshot, secrets, told, identities: own }
    }

    /// The plan of this snapshot.
    fn plan(&self, snapshot: &Arc<Snapshot>) -> Arc<Plan> {
        self.snapshot.publish(snapshot.clone());
        self.planner.plan();
        self.planner.publisher.current()
    }

    /// What the host is served with once these are known.
    fn served(&self, certificate: &Arc<HostTls>, secrets: &[&Secret]) -> (Option<Arc<HostTls>>, usize) {
        self.snapshot.publish(Arc::new(publishing(Some(certificate.clone()))));
        let secrets = secrets.iter().map(|secret| (secret.reference().clone(), (*secret).clone()));
        self.secrets.publish(Arc::new(secrets.collect()));
        self.planner.plan();
        let plan = self.planner.publisher.current();
        (plan.hosts[&HOST.parse::<Host>().unwrap()].tls.as_ref().map(|tls| tls.source.clone()), plan.rejected.len())
    }
}

/// A world of one GNS in one cluster, with services of these names, each with one port of a protocol.
fn world(services: &[(&str, u16, &str)]) -> World {
    let gns = serde_json::json!({"resource": {"id": "GlobalNamespace/shop", "spec": {"GlobalNamespace": {
        "domain": "shop.internal", "members": [{"cluster": {"prefix": ""}, "namespace": {"exact": "shop"}}]}}}});
    let services = services.iter().map(|(name, port, protocol)| {
        serde_json::json!({"resource": {"id": format!("Service/north/shop/{name}"), "spec": {"Service": {
            "ports": [{"name": "it", "port": port, "protocol": protocol}]}}}})
    });
    let facts = [gns].into_iter().chain(services).map(|fact| serde_json::from_value::<Fact>(fact).unwrap());
    let mut world = World::default();
    world.facts.extend(facts.map(|fact| (fact.key().to_string(), fact)));
    world
}

fn mesh(services: &[(&str, u16, &str)]) -> (Vec<String>, Vec<Rejection>) {
    let fed = Fed::new();
    let place = Place { cluster: "north".parse().unwrap() };
    fed.snapshot.publish(Arc::new(compile(&world(services), &place, None)));
    fed.planner.plan();
    let plan = fed.planner.publisher.current();
    let who = |port: &MeshPort| match port {
        MeshPort::Http => "http".to_owned(),
        MeshPort::Stream(service) => service.service.name.to_string(),
    };
    (plan.mesh.iter().map(|(number, port)| format!("{number} {}", who(port))).collect(), plan.rejected.clone())
}

#[test]
fn a_port_of_the_mesh_address_is_that_of_one_stream_or_of_http_and_whoever_loses_it_is_named() {
    let apart = [("cart", 80, "http"), ("web", 80, "grpc"), ("db", 5432, "tcp"), ("vault", 443, "tls")];
    assert_eq!(mesh(&apart), (vec!["80 http".into(), "443 vault".into(), "5432 db".into()], vec![]));
    let (ports, rejected) = mesh(&[("b", 5432, "tcp"), ("a", 5432, "tls"), ("c", 80, "tcp"), ("web", 80, "http")]);
    assert_eq!(ports, ["80 http", "5432 a"]);
    let keys: Vec<_> = rejected.iter().map(|rejection| rejection.key.as_str()).collect();
    assert_eq!(keys, ["service/shop/b", "service/shop/c"]);
    assert!(rejected[0].reason.contains("port 5432, which is that of service shop/a"), "{rejected:?}");
    assert!(rejected[1].reason.contains("port 80, which is that of HTTP services"), "{rejected:?}");
}

fn publishing(certificate: Option<Arc<HostTls>>) -> Snapshot {
    let [shop, web, north] = ["shop", "web", "north"].map(|name| name.parse::<Name>().unwrap());
    let host = PublicHost {
        host: HOST.parse().unwrap(),
        global_namespace: shop.clone(),
        public_service: ResourceId::PublicService { global_namespace: shop, name: web },
        mode: TlsMode::Https,
        certificate,
        scheme: Scheme::RoundRobin,
        ttl: "10s".parse().unwrap(),
        routes: Vec::new(),
        service_info: false,
    };
    let empty = compile(&World::default(), &Place { cluster: north }, None);
    Snapshot { public_hosts: Arc::new(HashMap::from([(host.host.clone(), Arc::new(host))])), ..empty }
}

#[test]
fn the_old_certificate_serves_until_the_new_key_is_here() {
    let (fed, (old, old_key), (new, new_key)) = (Fed::new(), certificate("old"), certificate("new"));
    assert_eq!(fed.served(&old, &[]), (None, 0));
    assert_eq!(fed.served(&old, &[&old_key]), (Some(old.clone()), 0));
    assert_eq!(fed.served(&new, &[&old_key]), (Some(old.clone()), 0));
    assert_eq!(fed.served(&new, &[&old_key]), (Some(old), 0));
    assert_eq!(fed.served(&new, &[&new_key]), (Some(new), 0));
}

#[test]
fn a_certificate_that_cannot_be_used_is_rejected_and_the_old_one_kept() {
    let (fed, (old, old_key), (new, _)) = (Fed::new(), certificate("old"), certificate("new"));
    fed.served(&old, &[&old_key]);
    let foreign = Secret::new(new.secret_ref.clone(), identity::PrivateKey::generate().unwrap().to_pem());
    assert_eq!(fed.served(&new, &[&foreign]), (Some(old), 1));
}

/// A GNS whose member clusters bear these labels.
fn namespace(root: &str, labels: &[(&str, &str)]) -> Arc<Namespace> {
    let labels = labels.iter().map(|(cluster, label)| (cluster.parse().unwrap(), label.parse().unwrap()));
    Arc::new(Namespace {
        name: "shop".parse().unwrap(),
        domain: "shop.internal".parse().unwrap(),
        visited: false,
        trust_domain: "shop.mesh".to_owned(),
        roots: vec![root.to_owned()],
        labels: labels.collect(),
        order: Default::default(),
        revoked: [].into(),
        mtls: Default::default(),
        leaf_lifetime: "1h".parse().unwrap(),
        services: BTreeMap::new(),
    })
}

/// A gateway's, and the certificate itself, which may be a root too.
fn gateway_identity() -> (Arc<identity::Identity>, String) {
    let key = identity::PrivateKey::generate().unwrap().to_pem();
    let mut params = rcgen::CertificateParams::default();
    let id = "spiffe://shop.mesh/cluster/north/gateway/gw".try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(id)];
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let chain = params.self_signed(&rcgen::KeyPair::from_pem(&key).unwrap()).unwrap().pem();
    let keyed = KeyedCertificate::from_pem(&chain, &key).unwrap();
    (Arc::new(identity::Identity::new(keyed).unwrap()), chain)
}

#[test]
fn a_cluster_that_joins_changes_nothing_for_those_that_are_there() {
    let own: Name = "north".parse().unwrap();
    let (identity, root) = gateway_identity();
    let made = |labels: &[_], identity: &Arc<_>, before| {
        let namespace = namespace(&root, labels);
        let belief = Arc::new(belief(believed(&namespace)).unwrap());
        let source = TunnelSource { identity: Arc::clone(identity), namespace, admitted: BTreeMap::new() };
        tunnel_tls(source, &belief, &own, before).unwrap()
    };
    let kept = |a: &TunnelTls, b: &TunnelTls, cluster: &str| {
        let name: Name = cluster.parse().unwrap();
        Arc::ptr_eq(&a.clients[&name].requests, &b.clients[&name].requests)
    };
    let two = [("north", "n.internal"), ("south", "s.internal")];
    let first = made(&two, &identity, None);
    let joined = made(&[two[0], two[1], ("west", "w.internal")], &identity, Some(&first));
    assert!(kept(&first, &joined, "south"));
    let relabelled = made(&[two[0], ("south", "other.internal"), ("west", "w.internal")], &identity, Some(&joined));
    assert!(!kept(&joined, &relabelled, "south") && kept(&joined, &relabelled, "west"));
    let renewed = made(&two, &gateway_identity().0, Some(&first));
    assert!(!kept(&first, &renewed, "south"));
}

//! Faults between clusters: everything that may stand where a peer gateway should.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use identity::ca::Lifetimes;
use identity::{Identity, KeyedCertificate, PrivateKey, Role, SigningRequest, SpiffeId};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Asking, Expected, args, failed};
use crate::support::demo::{CLUSTERS, Demo, EAST_WEST, SERVICE};
use crate::support::holds;
use crate::support::http::{Outcome, Protocol, plain};
use crate::support::identities::Held;
use crate::support::moody::{Mood, Moody};
use crate::support::process::{Process, arguments, signal};
use crate::support::upstream::register;
use crate::support::workload::Member;

const REMOTE: &str = "remote.shop.internal";

/// The process names of south's gateways.
const GATEWAYS: [&str; 2] = ["south_gw_a", "south_gw_b"];

/// A service of south, with one instance.
async fn remote(demo: &Demo) -> Moody {
    let at = SocketAddr::new(demo.address(1, 1, 41), 9080);
    register(&demo.state.join("south/services"), 1, "remote", at);
    Moody::start(at).await
}

async fn call(demo: &Demo) -> Outcome<()> {
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let answer = plain(demo.workload(0), at, REMOTE, Protocol::Http1).await?.get("/").await?;
    holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
}

/// Which north's workloads call.
fn asked(demo: &Demo) -> Vec<String> {
    args(&["--from", &format!("north/{}", demo.workload(0)), "GET", &format!("http://{REMOTE}:{SERVICE}/")])
}

fn to_gateways(demo: &Demo, name: &str) {
    signal(name, &GATEWAYS.map(|gateway| demo.pids(gateway)).concat());
}

/// Kills south's gateways; returns how they were started.
fn kill(demo: &Demo) -> Vec<Vec<String>> {
    let started = GATEWAYS.iter().flat_map(|gateway| demo.pids(gateway)).map(arguments).collect();
    to_gateways(demo, "KILL");
    started
}

fn start(demo: &Demo, arguments: &[Vec<String>]) -> Vec<Process> {
    let started = arguments.iter().enumerate();
    started.map(|(at, line)| Process::start(line, &demo.state.join(format!("again-{at}.log")))).collect()
}

/// What stands in for a gateway.
#[derive(Clone)]
enum StandIn {
    /// It says this, and nothing else.
    Says(&'static [u8]),
    /// It shows this certificate to whoever comes.
    Shows(Arc<ServerConfig>),
}

/// Takes the place of both of south's gateways, until the result is dropped.
async fn replace(demo: &Demo, stand_in: StandIn) -> JoinSet<()> {
    let mut standing = JoinSet::new();
    for gateway in [0, 1] {
        let listener = TcpListener::bind((demo.gateway(1, gateway), EAST_WEST)).await.unwrap();
        standing.spawn(stand(listener, stand_in.clone()));
    }
    standing
}

async fn stand(listener: TcpListener, stand_in: StandIn) {
    let mut met = JoinSet::new();
    while let Ok((mut tcp, _)) = listener.accept().await {
        let stand_in = stand_in.clone();
        met.spawn(async move {
            match stand_in {
                StandIn::Says(words) => {
                    _ = tcp.write_all(words).await;
                    _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
                }
                StandIn::Shows(config) => drop(TlsAcceptor::from(config).accept(tcp).await),
            }
        });
    }
}

/// With the certificate of a gateway of this cluster and GNS, made at this time to last so long.
fn impostor(member: &Member, label: &str, (at, lifetimes): (SystemTime, Lifetimes)) -> StandIn {
    let role = Role::Gateway { cluster: member.cluster.to_owned(), name: "gw-a".to_owned() };
    let (id, key) = (SpiffeId::new(member.domain.clone(), role).unwrap(), PrivateKey::generate().unwrap());
    let request = SigningRequest::check(&SigningRequest::make(&id, &key).unwrap(), &id).unwrap();
    let chain = member.ca().issue_gateway(&request, [label], &lifetimes, at.into()).unwrap();
    let identity = Identity::new(KeyedCertificate::new(chain, &key).unwrap()).unwrap();
    let shown = Arc::new(rustls::sign::SingleCertAndKey::from(identity.keyed().certified_key()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec()];
    StandIn::Shows(Arc::new(config))
}

fn tunnel(hop: &'static str, words: [&'static str; 2]) -> Expected {
    failed(hop, "Cluster/south", words)
}

#[tokio::test]
async fn whatever_stands_where_a_peer_should_is_named() {
    let demo = &Demo::own().await;
    let moody = remote(demo).await;
    demo.cli(|cli| {
        cli.make_ready(
            "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {name: rival}\n\
             spec: {domain: rival.internal, members: [{cluster: {prefix: ''}, namespace: {exact: rival}}]}\n",
        );
    });
    let asking = Asking { demo, args: asked(demo), truth: async || call(demo).await };
    let expected = failed("endpoint", "Service/south/shop/remote", ["refused", "start the instance"]);
    let mend = async || moody.set(Mood::Well).await;
    asking.prove("an instance that is down elsewhere", expected, async || moody.set(Mood::Refuse).await, mend).await;

    let (south, west) = (Member::of(demo, 1, "shop").await, Member::of(demo, 2, "shop").await);
    assert_eq!((south.cluster, west.cluster), (CLUSTERS[1], CLUSTERS[2]));
    let rival = Member::of(demo, 1, "rival").await;
    let label = Held::of(demo, "south/gw-a", "shop").unwrap().label();
    let (now, day) = (SystemTime::now(), Lifetimes::default());
    // The issuing CA's own life began in the past, and a leaf's first minute of it is over.
    let begun: SystemTime = south.ca().facts().not_before.into();
    let minute = time::Duration::minutes(1);
    let short = Lifetimes::new(minute, 3 * minute, 9 * minute).unwrap();
    let later = now + Duration::from_secs(3600);
    let stand_ins = [
        ("a peer that hangs", StandIn::Says(b""), tunnel("tunnel", ["does not answer within", "firewalls"])),
        (
            "a peer that speaks something else",
            StandIn::Says(b"SSH-2.0-OpenSSH\r\n"),
            tunnel("tls", ["does not speak TLS", "spec.gateways"]),
        ),
        (
            "an expired certificate",
            impostor(&south, &label, (begun, short)),
            tunnel("tls", ["s ago: it was not renewed", "renews its gateways"]),
        ),
        (
            "a certificate of tomorrow",
            impostor(&south, &label, (later, day)),
            tunnel("tls", ["this machine's clock is behind", "set the clocks"]),
        ),
        (
            "a certificate of another GNS",
            impostor(&rival, &label, (now, day)),
            tunnel("tls", ["trust domain", "spec.gateways"]),
        ),
        (
            "a certificate of another cluster",
            impostor(&west, &label, (now, day)),
            tunnel("tls", ["is not of cluster", "spec.gateways"]),
        ),
        (
            "a certificate for another name",
            impostor(&south, "other.shop.internal", (now, day)),
            tunnel("tls", ["is not for", "spec.gateways"]),
        ),
    ];
    let gateways = kill(demo);
    for (fault, stand_in, expected) in stand_ins {
        let mut standing = replace(demo, stand_in).await;
        asking.until_named(fault, expected).await;
        standing.shutdown().await;
    }
    let expected = tunnel("tunnel", ["refuses connections", "start the gateway"]);
    asking.until_named("gateways that are killed", expected).await;
    let _started = start(demo, &gateways);
    asking.until_healthy("once they are started again").await;
}

#[tokio::test]
async fn a_cluster_that_is_revoked_or_stopped_is_never_healthy() {
    let demo = &Demo::own().await;
    let _moody = remote(demo).await;
    let asking = Asking { demo, args: asked(demo), truth: async || call(demo).await };
    let certs = |verb: &str| drop(demo.cli(|cli| cli.run(&["certs", verb, "--cluster", "south"])).success());
    let expected =
        failed("dns", None, ["Service/south/shop/remote is in a cluster that is revoked", "start the service"]);
    asking.prove("a cluster that is revoked", expected, async || certs("revoke"), async || certs("reinstate")).await;
    let expected = tunnel("tunnel", ["does not answer within", "whether the gateway of cluster south runs"]);
    let (stop, go_on) = (async || to_gateways(demo, "STOP"), async || to_gateways(demo, "CONT"));
    asking.prove("gateways that are stopped", expected, stop, go_on).await;
}

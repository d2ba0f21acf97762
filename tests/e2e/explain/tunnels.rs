//! Faults between clusters: everything that may stand where a peer gateway should.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use identity::ca::Lifetimes;
use identity::{Identity, KeyedCertificate, PrivateKey, Role, SigningRequest, SpiffeId};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Asking, Expected, args, failed};
use crate::support::demo::{Demo, EAST_WEST, SERVICE};
use crate::support::holds;
use crate::support::http::{Outcome, Protocol, plain};
use crate::support::identities::Held;
use crate::support::moody::{Mood, Moody};
use crate::support::process::signal;
use crate::support::upstream::register;
use crate::support::workload::Member;

const REMOTE: &str = "remote.shop.internal";

async fn call(demo: &Demo) -> Outcome<()> {
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let answer = plain(demo.workload(0), at, REMOTE, Protocol::Http1).await?.get("/").await?;
    holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
}

/// What is written of south: where its gateways are; what they announce counts when nothing is.
fn south(demo: &Demo, gateways: &[String]) -> String {
    let each = |(name, at): (&str, &String)| {
        let own = demo.gateway(1, if name == "gw-a" { 0 } else { 1 });
        format!("{{name: {name}, eastWest: '{at}', public: {own}, mesh: {own}}}")
    };
    let gateways: Vec<_> = ["gw-a", "gw-b"].into_iter().zip(gateways).map(each).collect();
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: south}}\n\
         spec: {{workloads: [{{cidr: {}/24, namespace: shop}}], gateways: [{}]}}\n",
        demo.address(1, 2, 0),
        gateways.join(", ")
    )
}

fn lead(demo: &Demo, to: &[String]) {
    demo.cli(|cli| cli.apply(&south(demo, to))).success();
}

/// One address stands for both gateways.
fn astray(demo: &Demo, at: SocketAddr) {
    lead(demo, &[at.to_string(), at.to_string()]);
}

/// South's gateways certified at another time.
fn certified(member: &Member, label: &str, at: SystemTime) -> Identity {
    let role = Role::Gateway { cluster: "south".to_owned(), name: "gw-a".to_owned() };
    let (id, key) = (SpiffeId::new(member.domain.clone(), role).unwrap(), PrivateKey::generate().unwrap());
    let request = SigningRequest::check(&SigningRequest::make(&id, &key).unwrap(), &id).unwrap();
    let chain = member.ca().issue_gateway(&request, [label], &Lifetimes::default(), at.into()).unwrap();
    Identity::new(KeyedCertificate::new(chain, &key).unwrap()).unwrap()
}

/// Somebody who shows this certificate to whoever comes.
async fn impostor(at: SocketAddr, identity: &Identity) {
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(identity.keyed().certified_key()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (listener, acceptor) = (TcpListener::bind(at).await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(tcp).await.map(drop) });
        }
    });
}

/// Somebody who says this and nothing else, or nothing at all.
async fn stranger(at: SocketAddr, says: &'static [u8]) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                _ = tcp.write_all(says).await;
                _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
            });
        }
    });
}

fn tunnel(hop: &'static str, words: [&'static str; 2]) -> Expected {
    failed(hop, "Cluster/south", words)
}

#[tokio::test]
async fn whatever_stands_where_a_peer_should_is_named() {
    let demo = &Demo::own().await;
    let at = SocketAddr::new(demo.address(1, 1, 41), 9080);
    let moody = Moody::start(at).await;
    register(&demo.state.join("south/services"), 1, "remote", at);
    let url = format!("http://{REMOTE}:{SERVICE}/");
    let from = format!("north/{}", demo.workload(0));
    let asking = Asking { demo, args: args(&["--from", &from, "GET", &url]), truth: async || call(demo).await };
    let expected = failed("endpoint", "Service/south/shop/remote", ["refused", "start the instance"]);
    let mend = async || moody.set(Mood::Well).await;
    asking.prove("an instance that is down elsewhere", expected, async || moody.set(Mood::Refuse).await, mend).await;

    let stand = |host: u8| SocketAddr::new(demo.address(1, 0, host), EAST_WEST);
    let home = async || lead(demo, &[]);
    let expected = tunnel("tunnel", ["refuses connections", "start the gateway"]);
    asking.prove("a peer whose port is closed", expected, async || astray(demo, stand(81)), home).await;
    stranger(stand(82), b"").await;
    let expected = tunnel("tunnel", ["does not answer within", "firewalls"]);
    asking.prove("a peer that hangs", expected, async || astray(demo, stand(82)), home).await;
    stranger(stand(83), b"SSH-2.0-OpenSSH\r\n").await;
    let expected = tunnel("tls", ["does not speak TLS", "spec.gateways"]);
    asking.prove("a peer that speaks something else", expected, async || astray(demo, stand(83)), home).await;
    let expected = tunnel("dns", ["cannot be looked up", "spec.gateways"]);
    let nowhere = format!("gateway.south.invalid:{EAST_WEST}");
    let seed = async || lead(demo, &[nowhere.clone(), nowhere.clone()]);
    asking.prove("a peer whose name means nothing", expected, seed, home).await;
    let expected = tunnel("tls", ["does not know the name", "spec.gateways"]);
    let west = SocketAddr::new(demo.gateway(2, 0), EAST_WEST);
    asking.prove("a gateway of another cluster", expected, async || astray(demo, west), home).await;
}

#[tokio::test]
async fn whoever_shows_another_certificate_than_a_peers_is_named() {
    let demo = &Demo::own().await;
    let at = SocketAddr::new(demo.address(1, 1, 41), 9080);
    let _moody = Moody::start(at).await;
    register(&demo.state.join("south/services"), 1, "remote", at);
    demo.cli(|cli| {
        cli.make_ready(
            "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {name: rival}\n\
             spec: {domain: rival.internal, members: [{cluster: {prefix: ''}, namespace: {exact: rival}}]}\n",
        );
    });
    let (member, rival) = (Member::of(demo, 1, "shop").await, Member::of(demo, 1, "rival").await);
    let label = Held::of(demo, "south/gw-a", "shop").unwrap().label();
    let now = SystemTime::now();
    let url = format!("http://{REMOTE}:{SERVICE}/");
    let from = format!("north/{}", demo.workload(0));
    let asking = Asking { demo, args: args(&["--from", &from, "GET", &url]), truth: async || call(demo).await };
    let home = async || lead(demo, &[]);
    let issuing = member.ca();
    let begun: SystemTime = issuing.facts().not_before.into();
    let other = "l0000000000000000.shop.internal";
    let impostors = [
        ("an expired certificate", certified(&member, &label, begun), ["s ago", "renews its gateways"]),
        (
            "a certificate of tomorrow",
            certified(&member, &label, now + Duration::from_secs(3600)),
            ["begins", "set the clocks"],
        ),
        ("a certificate of another GNS", certified(&rival, &label, now), ["trust domain", "spec.gateways"]),
        ("a certificate for another name", certified(&member, other, now), ["is not for", "spec.gateways"]),
    ];
    for ((fault, identity, words), host) in impostors.into_iter().zip(84..) {
        let stand: SocketAddr = (demo.address(1, 0, host), EAST_WEST).into();
        impostor(stand, &identity).await;
        asking.prove(fault, tunnel("tls", words), async || astray(demo, stand), home).await;
    }
}

#[tokio::test]
async fn a_cluster_that_is_stopped_killed_or_revoked_is_never_healthy() {
    let demo = &Demo::own().await;
    let at = SocketAddr::new(demo.address(1, 1, 41), 9080);
    let _moody = Moody::start(at).await;
    register(&demo.state.join("south/services"), 1, "remote", at);
    let url = format!("http://{REMOTE}:{SERVICE}/");
    let from: IpAddr = demo.workload(0);
    let asked = args(&["--from", &format!("north/{from}"), "GET", &url]);
    let asking = Asking { demo, args: asked, truth: async || call(demo).await };
    let gateways: Vec<u32> = ["south_gw_a", "south_gw_b"].into_iter().flat_map(|name| demo.pids(name)).collect();
    let expected = tunnel("tunnel", ["does not answer within", "whether the gateway of cluster south runs"]);
    let (stop, go_on) = (async || signal("STOP", &gateways), async || signal("CONT", &gateways));
    asking.prove("gateways that are stopped", expected, stop, go_on).await;
    asking.until_healthy("before they are killed").await;
    signal("KILL", &gateways);
    let expected = tunnel("tunnel", ["refuses connections", "start the gateway"]);
    asking.until_named("gateways that are killed", expected).await;
}

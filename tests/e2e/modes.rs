//! What callers and instances speak, as the mTLS mode of their global namespace has it; and calls from one global
//! namespace to another.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use identity::Identity;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;

use crate::support::demo::{ADMIN, CLUSTERS, Demo, SERVICE};
use crate::support::dns::{self, A, NXDOMAIN, Over};
use crate::support::http::{Answer, Client, Connection, Outcome, Protocol, by_and_by, connect, full, plain};
use crate::support::streams;
use crate::support::workload::{self, Caller, Inside, Member, register, service};
use crate::support::{eventually, holds};

/// The port of HTTP/2 instances.
const HTTP2: u16 = 8090;
/// The ports of streams: each belongs to one service.
const STRICT_BYTES: u16 = 15_201;
const OPEN_BYTES: u16 = 15_202;
/// Two of them.
const CROSSING_BYTES: u16 = 15_203;

/// The namespaces, each of one GNS of its name; workloads of the first stand in the third network of a cluster, and so on.
const NAMESPACES: [&str; 5] = ["safe", "open", "clear", "far", "turn"];

/// A demo with a GNS of each mode, in north and south; and `far`, in the west alone.
async fn mesh() -> &'static Demo {
    static MESH: OnceCell<Demo> = OnceCell::const_new();
    MESH.get_or_init(async || {
        let demo = Demo::with(&["--quiet", "--no-restart"]).await;
        demo.cli(|cli| cli.make_ready(&manifests(&demo)));
        demo
    })
    .await
}

fn manifests(demo: &Demo) -> String {
    let modes = ["strict", "permissive", "off", "permissive", "permissive"];
    let gns = NAMESPACES.into_iter().zip(modes).map(|(name, mode)| gns(name, mode));
    let clusters = (0..3).map(|cluster| {
        let row = |(third, namespace): (u8, &str)| {
            let IpAddr::V4(network) = demo.address(cluster, third, 0) else { unreachable!() };
            format!("{{cidr: {network}/24, namespace: {namespace}}}")
        };
        let rows = [(2, "shop")].into_iter().chain((3..).zip(NAMESPACES));
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {}}}\nspec: {{workloads: [{}]}}\n",
            CLUSTERS[usize::from(cluster)],
            rows.map(row).collect::<Vec<_>>().join(", ")
        )
    });
    gns.chain(clusters).collect::<Vec<_>>().join("---\n")
}

fn gns(name: &str, mode: &str) -> String {
    let clusters: &[&str] = if name == "far" { &["west"] } else { &["north", "south"] };
    let row = |cluster: &&str| format!("{{cluster: {{exact: {cluster}}}, namespace: {{exact: {name}}}}}");
    let members: Vec<_> = clusters.iter().map(row).collect();
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: {name}}}\n\
         spec: {{domain: {name}.internal, mtls: {mode}, members: [{}]}}\n",
        members.join(", ")
    )
}

/// A workload's address in a cluster.
fn address(demo: &Demo, cluster: u8, namespace: &str) -> IpAddr {
    let third = 3 + NAMESPACES.iter().position(|name| *name == namespace).unwrap() as u8;
    demo.address(cluster, third, 1)
}

fn gateway(demo: &Demo, cluster: u8, port: u16) -> SocketAddr {
    SocketAddr::new(demo.gateway(cluster, 0), port)
}

/// A service of a namespace with one instance that speaks mutual TLS.
async fn secure(demo: &Demo, cluster: u8, namespace: &str, name: &'static str, host: u8, inside: Inside, port: &str) {
    let member = Member::of(demo, cluster, namespace).await;
    let at = SocketAddr::new(demo.address(cluster, 1, host), 9443);
    workload::serve(at, &member, &member.workload(namespace, name), inside, name).await;
    let manifest = service(member.cluster, namespace, name, port, "mesh", &[at]);
    register(demo, cluster, &format!("{namespace}-{name}"), &[manifest]);
}

/// One whose instance speaks plain text.
async fn clear(demo: &Demo, cluster: u8, namespace: &str, name: &'static str, host: u8) {
    let at = SocketAddr::new(demo.address(cluster, 1, host), 9080);
    workload::serve_plain(at, name).await;
    let cluster_name = CLUSTERS[usize::from(cluster)];
    let manifest = service(cluster_name, namespace, name, &http(), "none", &[at]);
    register(demo, cluster, &format!("{namespace}-{name}"), &[manifest]);
}

fn http() -> String {
    format!("port: {SERVICE}, protocol: http")
}

/// A workload of a GNS with its certificate.
async fn caller(demo: &Demo, cluster: u8, namespace: &str, name: &str) -> (Member, Identity, Caller) {
    let member = Member::of(demo, cluster, namespace).await;
    let identity = member.workload(namespace, name);
    let caller = Caller::new(identity.clone(), address(demo, cluster, namespace));
    (member, identity, caller)
}

/// Who answers a call by mutual TLS.
async fn call(demo: &Demo, cluster: u8, host: &str, who: &(Member, Identity, Caller)) -> Outcome<Answer> {
    let mut connection = who.2.http(gateway(demo, cluster, SERVICE), host, &who.0, Protocol::Http1).await?;
    connection.get("/").await
}

fn is_from(answer: &Answer, name: &str) -> Outcome<()> {
    holds(answer.status == StatusCode::OK && answer.body == name, || format!("{answer:?}"))
}

/// Whether it was answered so.
fn has_status(answer: &Answer, status: u16) -> Outcome<()> {
    holds(answer.status == status, || format!("{answer:?}"))
}

async fn plain_call(demo: &Demo, cluster: u8, namespace: &str, host: &str) -> Outcome<Answer> {
    let at = gateway(demo, cluster, SERVICE);
    plain(address(demo, cluster, namespace), at, host, Protocol::Http1).await?.get("/").await
}

/// The first line of a gateway's access log that fits.
fn logged(demo: &Demo, gateway: &str, fits: impl Fn(&Value) -> bool) -> Outcome<Value> {
    let log = std::fs::read_to_string(demo.state.join(format!("logs/{gateway}.access.log"))).unwrap();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| fits(line)).ok_or_else(|| log.lines().last().unwrap_or_default().to_owned())
}

/// What a gateway's metric counts, its labels containing this text.
async fn counted(demo: &Demo, name: &str, label: &str) -> f64 {
    let at = gateway(demo, 0, ADMIN);
    let text = plain([127, 0, 0, 1].into(), at, "admin", Protocol::Http1).await.unwrap().get("/metrics").await.unwrap();
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    let series = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_serves_who_proves_itself_and_refuses_the_others_here_and_across_clusters() {
    let demo = mesh().await;
    secure(demo, 0, "safe", "near", 51, Inside::Http1, &http()).await;
    secure(demo, 1, "safe", "away", 51, Inside::Http1, &http()).await;
    secure(demo, 1, "safe", "two", 52, Inside::Http2, &format!("port: {HTTP2}, protocol: http2")).await;
    let who = caller(demo, 0, "safe", "shopper").await;
    for name in ["near", "away"] {
        let host = format!("{name}.safe.internal");
        eventually(&format!("{name} answers"), async || is_from(&call(demo, 0, &host, &who).await?, name)).await;
        let refusal = plain_call(demo, 0, "safe", &host).await.unwrap();
        has_status(&refusal, 403).unwrap();
        assert!(String::from_utf8_lossy(&refusal.body).contains("must prove who it is"), "{refusal:?}");
    }
    let two = async || {
        let (at, host) = (gateway(demo, 0, HTTP2), "two.safe.internal");
        is_from(&who.2.http(at, host, &who.0, Protocol::Http2).await?.get("/").await?, "two")
    };
    eventually("the instance of HTTP/2 answers", two).await;
    assert!(counted(demo, "tombolo_refusals_total", "identity_required").await >= 2.0);
    let id = who.1.id().to_string();
    for gateway in ["north-gw-a", "south-gw-a", "south-gw-b"] {
        let fits = |line: &Value| line["source"] == id.as_str() && line["service"] == "away" && line["status"] == 200;
        if gateway == "north-gw-a" {
            eventually("the origin logs who called", async || logged(demo, gateway, fits)).await;
        }
    }
    let destination = async || {
        let fits = |line: &Value| line["source"] == id.as_str() && line["door"] == "tunnel";
        logged(demo, "south-gw-a", fits).or_else(|_| logged(demo, "south-gw-b", fits))
    };
    eventually("the destination logs who called", destination).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_speak_as_the_mode_wants_is_no_endpoint_and_describe_says_so() {
    let demo = mesh().await;
    clear(demo, 0, "safe", "bare", 53).await;
    secure(demo, 0, "clear", "armoured", 53, Inside::Http1, &http()).await;
    let who = caller(demo, 0, "safe", "shopper").await;
    let bare = async || has_status(&call(demo, 0, "bare.safe.internal", &who).await?, 503);
    // Known, with nobody to serve it; until then it would be unknown, which is 503, too.
    for (id, word) in [("Service/north/safe/bare", "strict"), ("Service/north/clear/armoured", "off")] {
        let said = async || {
            let described = demo.cli(|cli| cli.run(&["describe", id]));
            let fits = described.ok && described.stdout.contains("Endpoints") && described.stdout.contains(word);
            holds(fits, || format!("{described:?}"))
        };
        eventually(&format!("{id} is described"), said).await;
    }
    eventually("no instance", bare).await;
    has_status(&plain_call(demo, 0, "clear", "armoured.clear.internal").await.unwrap(), 503).unwrap();
    let gns = demo.cli(|cli| cli.run(&["describe", "GlobalNamespace/safe"])).success();
    assert!(gns.contains("LeftOut") && gns.contains("Service/north/safe/bare"), "{gns}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissive_serves_both_on_one_port_and_speaks_with_each_instance_as_it_wants() {
    let demo = mesh().await;
    secure(demo, 0, "open", "sealed", 54, Inside::Http1, &http()).await;
    clear(demo, 1, "open", "bare", 54).await;
    let who = caller(demo, 0, "open", "shopper").await;
    for name in ["sealed", "bare"] {
        let host = format!("{name}.open.internal");
        eventually(&format!("{name} answers"), async || is_from(&call(demo, 0, &host, &who).await?, name)).await;
        is_from(&plain_call(demo, 0, "open", &host).await.unwrap(), name).unwrap();
    }
    // A connection was opened for one GNS: it is no way into another.
    let mut connection = kept(demo, "sealed.open.internal", &who).await;
    connection.authority = format!("web.shop.internal:{SERVICE}");
    has_status(&connection.get("/").await.unwrap(), 421).unwrap();
    for stranger in ["nobody.example.com", "sealed.clear.internal"] {
        let error = who.2.http(gateway(demo, 0, SERVICE), stranger, &who.0, Protocol::Http1).await;
        assert!(error.is_err_and(|error| error.contains("alert")), "{stranger}");
    }
}

async fn kept(demo: &Demo, host: &str, who: &(Member, Identity, Caller)) -> Connection {
    who.2.http(gateway(demo, 0, SERVICE), host, &who.0, Protocol::Http1).await.unwrap()
}

/// With what `tombolo certs issue` gives, and a client that knows of host names only.
#[tokio::test]
async fn who_verifies_host_names_calls_with_a_certificate_by_command() {
    let demo = Demo::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let (agent, out) = (demo.state.join("north/agent/member.token"), folder.path().join("cart"));
    let (agent, out_flag) = (format!("--agent={}", agent.display()), format!("--out={}", out.display()));
    let args = ["certs", "issue", "--gns=shop", "--service=shop/cart", &agent, &out_flag];
    demo.cli(|cli| cli.run(&args)).success();
    let [chain, key, bundle] =
        ["cert.pem", "key.pem", "bundle.pem"].map(|file| std::fs::read_to_string(out.join(file)).unwrap());
    let client = Client::trusting(&bundle).with_identity(&chain, &key);
    for (host, protocol) in [("cart.shop.internal", Protocol::Http1), ("web.shop.internal", Protocol::Http2)] {
        let stream = connect(demo.workload(0), gateway(demo, 0, SERVICE)).await.unwrap();
        let mut connection = client.https_over(stream, host, protocol).await.unwrap();
        assert_eq!(connection.get("/").await.unwrap().status, StatusCode::OK);
    }
    let stream = connect(demo.workload(0), gateway(demo, 0, SERVICE)).await.unwrap();
    let stranger = client.https_over(stream, "v1.cart.shop.internal", Protocol::Http1).await;
    assert!(stranger.is_err(), "no certificate bears names of two labels");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_speaks_plain_text_and_refuses_tls() {
    let demo = mesh().await;
    clear(demo, 1, "clear", "bare", 55).await;
    let host = "bare.clear.internal";
    let answers = async || is_from(&plain_call(demo, 0, "clear", host).await?, "bare");
    eventually("the instance answers", answers).await;
    let who = caller(demo, 0, "clear", "shopper").await;
    let error = call(demo, 0, host, &who).await.unwrap_err();
    assert!(error.contains("alert"), "{error}");
    let fits = |line: &Value| line["refusal"] == "plain_text_only";
    eventually("the log says why", async || logged(demo, "north-gw-a", fits)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mode_that_changes_counts_on_connections_that_are_open() {
    let demo = mesh().await;
    secure(demo, 0, "turn", "coat", 65, Inside::Http1, &http()).await;
    let (who, host) = (caller(demo, 0, "turn", "shopper").await, "coat.turn.internal");
    eventually("the instance answers", async || is_from(&call(demo, 0, host, &who).await?, "coat")).await;
    let mut proven = kept(demo, host, &who).await;
    let at = gateway(demo, 0, SERVICE);
    let mut bare = plain(address(demo, 0, "turn"), at, host, Protocol::Http1).await.unwrap();
    for (mode, to_proven, to_bare) in [("permissive", 200, 200), ("strict", 200, 403), ("off", 403, 503)] {
        demo.cli(|cli| cli.apply(&gns("turn", mode)).success());
        let turned = async || {
            has_status(&proven.get("/").await?, to_proven)?;
            has_status(&bare.get("/").await?, to_bare)
        };
        eventually(mode, turned).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_not_who_it_should_be_gets_no_request() {
    let demo = mesh().await;
    let member = Member::of(demo, 0, "open").await;
    let at = SocketAddr::new(demo.address(0, 1, 56), 9443);
    // It is of the right GNS and cluster, and another service.
    workload::serve(at, &member, &member.workload("open", "impostor"), Inside::Http1, "impostor").await;
    register(demo, 0, "open-victim", &[service("north", "open", "victim", &http(), "mesh", &[at])]);
    secure(demo, 0, "open", "witness", 57, Inside::Http1, &http()).await;
    let who = caller(demo, 0, "open", "shopper").await;
    let witness = async || is_from(&call(demo, 0, "witness.open.internal", &who).await?, "witness");
    eventually("another service answers", witness).await;
    let why = |line: &Value| line["failures"].to_string().contains("is expected");
    let told = async || {
        has_status(&call(demo, 0, "victim.open.internal", &who).await?, 503)?;
        logged(demo, "north-gw-a", |line| line["service"] == "victim" && why(line))
    };
    eventually("the log says who answered", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_megabytes_flow_both_ways_at_once_by_mutual_tls_on_every_hop() {
    let demo = mesh().await;
    secure(demo, 0, "safe", "echo-1", 63, Inside::Http1, &http()).await;
    secure(demo, 1, "safe", "echo-2", 63, Inside::Http2, &format!("port: {HTTP2}, protocol: http2")).await;
    let who = caller(demo, 0, "safe", "shopper").await;
    let sent: Bytes = (0..3_u32 << 18).flat_map(u32::to_be_bytes).collect();
    for (name, port, protocol) in [("echo-1", SERVICE, Protocol::Http2), ("echo-2", HTTP2, Protocol::Http1)] {
        let host = format!("{name}.safe.internal");
        let connected = async || {
            let mut connection = who.2.http(gateway(demo, 0, port), &host, &who.0, protocol).await?;
            is_from(&connection.get("/").await?, name).map(|()| connection)
        };
        let mut connection = eventually(&format!("{name} answers"), connected).await;
        for _ in 0..3 {
            let echoed = connection.send(Method::POST, "/", HeaderMap::new(), full(sent.clone())).await.unwrap();
            assert!(echoed.status == StatusCode::OK && echoed.body == sent, "{name}: {}", echoed.status);
        }
        // What is sent is there before the request ends, and comes back before the answer does.
        let (parts, body) = by_and_by();
        parts.send(Bytes::from_static(b"ping")).await.unwrap();
        let mut answer = connection.open(Method::POST, "/", HeaderMap::new(), body).await.unwrap().into_body();
        for _ in 0..3 {
            assert_eq!(&answer.frame().await.unwrap().unwrap().into_data().unwrap()[..], b"ping", "{name}");
            parts.send(Bytes::from_static(b"ping")).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_the_mesh_are_told_from_those_of_applications() {
    let demo = mesh().await;
    let port = |port: u16| format!("port: {port}, protocol: tcp");
    secure(demo, 1, "safe", "bytes", 58, Inside::Bytes, &port(STRICT_BYTES)).await;
    secure(demo, 1, "open", "bytes", 59, Inside::Bytes, &port(OPEN_BYTES)).await;
    for (namespace, port) in [("safe", STRICT_BYTES), ("open", OPEN_BYTES)] {
        let who = caller(demo, 0, namespace, "shopper").await;
        let talks = async || {
            let stream = who.2.tls(gateway(demo, 0, port), "bytes", &who.0, b"tombolo/1").await?;
            let mut stream = streams::Caller::over(stream);
            holds(stream.greeting().await? == "bytes", || "another".to_owned())?;
            stream.echoes(b"hello").await?;
            stream.ends().await
        };
        eventually(&format!("{namespace} talks"), talks).await;
    }
    // The service speaks first, so the caller is silent: it gets in where plain text does.
    let mut silent = streams::Caller::connect(address(demo, 0, "open"), gateway(demo, 0, OPEN_BYTES)).await.unwrap();
    assert_eq!(silent.greeting().await.unwrap(), "bytes");
    silent.echoes(&[22, 9, 9]).await.unwrap();
    // And an application's own TLS is the application's: here it is echoed, which is no TLS.
    let who = caller(demo, 0, "open", "shopper").await;
    let error = who.2.tls(gateway(demo, 0, OPEN_BYTES), "bytes", &who.0, b"h2").await.unwrap_err();
    assert!(!error.contains("alert"), "{error}");
    // Strict lets in neither.
    let who = caller(demo, 0, "safe", "shopper").await;
    let error = who.2.tls(gateway(demo, 0, STRICT_BYTES), "bytes", &who.0, b"h2").await.unwrap_err();
    assert!(error.contains("alert"), "{error}");
    let mut bare = connect(address(demo, 0, "safe"), gateway(demo, 0, STRICT_BYTES)).await.unwrap();
    bare.write_all(b"hello, whoever you are").await.unwrap();
    let read = bare.read(&mut [0; 64]).await;
    assert!(read.is_err(), "{read:?}");
    assert!(counted(demo, "tombolo_refusals_total", "identity_required").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_crosses_where_a_policy_lets_it_here_and_across_clusters() {
    let demo = mesh().await;
    for (cluster, name, port) in [(0, "tape", CROSSING_BYTES), (1, "disk", CROSSING_BYTES + 1)] {
        secure(demo, cluster, "safe", name, 64, Inside::Bytes, &format!("port: {port}, protocol: tcp")).await;
    }
    known(demo, "open", "reader").await;
    for id in ["Service/north/safe/tape", "Service/south/safe/disk"] {
        seen(demo, id).await;
    }
    let (safe, open) = (Member::of(demo, 0, "safe").await, Member::of(demo, 0, "open").await);
    let reader = Caller::new(open.workload("open", "reader"), address(demo, 0, "open"));
    let insider = caller(demo, 0, "safe", "clerk").await;
    let greeted = async |who: &Caller, port: u16| {
        let stream = who.tls(gateway(demo, 0, port), "bytes", &safe, b"tombolo/1").await?;
        let mut stream = streams::Caller::over(stream);
        let name = stream.greeting().await?;
        stream.echoes(b"hello").await.map(|()| name)
    };
    for port in [CROSSING_BYTES, CROSSING_BYTES + 1] {
        eventually("its own GNS is greeted", async || greeted(&insider.2, port).await).await;
        assert!(greeted(&reader, port).await.is_err());
    }
    let from = "{globalNamespace: open, service: reader}";
    for name in ["tape", "disk"] {
        demo.cli(|cli| cli.make_ready(&policy(&format!("readers-{name}"), from, &format!("safe/{name}"))));
    }
    for (name, port) in [("tape", CROSSING_BYTES), ("disk", CROSSING_BYTES + 1)] {
        let crosses = async || {
            let greeting = greeted(&reader, port).await?;
            holds(greeting == name, || greeting)
        };
        eventually(&format!("{name} greets the reader"), crosses).await;
    }
}

/// A service of a namespace in the north that only calls, once the controller knows it.
async fn known(demo: &Demo, namespace: &str, name: &str) {
    let manifest = service("north", namespace, name, &http(), "none", &[]);
    register(demo, 0, &format!("{namespace}-{name}"), &[manifest]);
    seen(demo, &format!("Service/north/{namespace}/{name}")).await;
}

/// Once the controller knows the service.
async fn seen(demo: &Demo, id: &str) {
    let seen = async || {
        let said = demo.cli(|cli| cli.run(&["get", id]));
        holds(said.ok, || said.stderr)
    };
    eventually(&format!("{id} is seen"), seen).await;
}

fn policy(name: &str, from: &str, to: &str) -> String {
    let (gns, to) = to.split_once('/').unwrap();
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{globalNamespace: {gns}, from: [{from}], to: [{{service: {to}}}]}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_crosses_between_global_namespaces_until_a_policy_lets_it() {
    let demo = mesh().await;
    secure(demo, 0, "safe", "ledger", 60, Inside::Http1, &http()).await;
    secure(demo, 1, "safe", "books", 60, Inside::Http1, &http()).await;
    let insider = caller(demo, 0, "safe", "clerk").await;
    for name in ["ledger", "books"] {
        let host = format!("{name}.safe.internal");
        eventually(&format!("{name} answers"), async || is_from(&call(demo, 0, &host, &insider).await?, name)).await;
    }
    let (safe, open) = (Member::of(demo, 0, "safe").await, Member::of(demo, 0, "open").await);
    let stranger = |name: &str| {
        let identity = open.workload("open", name);
        (identity.clone(), Caller::new(identity, address(demo, 0, "open")))
    };
    let (cart, other) = (stranger("cart"), stranger("other"));
    // It calls a gateway of the other GNS, and each believes in the other's CA.
    let ask = async |who: &(Identity, Caller), name: &str| {
        let (at, host) = (gateway(demo, 0, SERVICE), format!("{name}.safe.internal"));
        who.1.http(at, &host, &safe, Protocol::Http1).await?.get("/").await
    };
    for name in ["ledger", "books", "nobody"] {
        has_status(&ask(&cart, name).await.unwrap(), 403).unwrap();
        has_status(&plain_call(demo, 0, "open", &format!("{name}.safe.internal")).await.unwrap(), 403).unwrap();
    }
    known(demo, "open", "cart").await;
    let from = "{globalNamespace: open, service: cart}";
    demo.cli(|cli| {
        cli.make_ready(&policy("carts-pay", from, "safe/ledger"));
        cli.make_ready(&policy("carts-read", from, "safe/books"));
    });
    for name in ["ledger", "books"] {
        eventually(&format!("{name} answers the cart"), async || is_from(&ask(&cart, name).await?, name)).await;
        has_status(&ask(&other, name).await.unwrap(), 403).unwrap();
        let unproven = plain_call(demo, 0, "open", &format!("{name}.safe.internal")).await.unwrap();
        has_status(&unproven, 403).unwrap();
        assert!(String::from_utf8_lossy(&unproven.body).contains("must prove"), "{unproven:?}");
    }
    has_status(&ask(&cart, "near").await.unwrap(), 403).unwrap();
    let peers = demo.cli(|cli| cli.run(&["peers"])).success();
    assert!(peers.contains("open>safe"), "{peers}");
    // The other way round nothing was let in.
    let clerk = Caller::new(insider.1.clone(), address(demo, 0, "safe"));
    let mut back = clerk.http(gateway(demo, 0, SERVICE), "sealed.open.internal", &open, Protocol::Http1).await.unwrap();
    has_status(&back.get("/").await.unwrap(), 403).unwrap();
    // On a connection that is open, too, a policy counts no longer than it is there.
    let mut open_still =
        cart.1.http(gateway(demo, 0, SERVICE), "books.safe.internal", &safe, Protocol::Http1).await.unwrap();
    is_from(&open_still.get("/").await.unwrap(), "books").unwrap();
    demo.cli(|cli| cli.run(&["delete", "AccessPolicy/safe/carts-read"]).success());
    eventually("the policy is gone", async || has_status(&open_still.get("/").await?, 403)).await;
    is_from(&ask(&cart, "ledger").await.unwrap(), "ledger").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_no_member_reaches_what_it_is_let_into_and_nothing_else() {
    let demo = mesh().await;
    secure(demo, 2, "far", "tower", 61, Inside::Http1, &http()).await;
    secure(demo, 2, "far", "cellar", 62, Inside::Http1, &http()).await;
    known(demo, "open", "pilot").await;
    seen(demo, "Service/west/far/tower").await;
    let who = caller(demo, 0, "open", "pilot").await;
    // Where the gateway's cluster is no member, the gateway is that of the caller's GNS.
    let ask = async |name: &str| call(demo, 0, &format!("{name}.far.internal"), &who).await;
    let error = ask("tower").await.unwrap_err();
    assert!(error.contains("alert"), "{error}");
    demo.cli(|cli| cli.make_ready(&policy("pilots-land", "{globalNamespace: open, service: pilot}", "far/tower")));
    eventually("the tower answers", async || is_from(&ask("tower").await?, "tower")).await;
    has_status(&ask("cellar").await.unwrap(), 403).unwrap();
    let means = async |name: &str| dns::ask(demo.dns(0), Over::Udp, name, A).await.unwrap();
    let gateways: BTreeSet<_> = means("tower.far.internal").await.addresses.into_iter().collect();
    assert_eq!(gateways, [demo.gateway(0, 0), demo.gateway(0, 1)].into(), "the name means the caller's own gateways");
    assert_eq!(means("cellar.far.internal").await.code, NXDOMAIN);
    // What is told goes no further than it must; gateways keep it on disk a moment after they have it.
    for (member, told, untold) in
        [("north/gw-a", "remote/west/far/tower", "cellar"), ("west/gw-a", "trust/open", "trust/safe")]
    {
        let knows = async || {
            let world = std::fs::read_to_string(demo.state.join(member).join("world.json")).unwrap();
            assert!(!world.contains(untold), "{member} knows {untold}");
            holds(world.contains(told), || format!("{member} does not know {told}"))
        };
        eventually("it is kept", knows).await;
    }
}

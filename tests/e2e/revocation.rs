//! Whoever is revoked gets in nowhere any more, and is cut where it is in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::demo::{Demo, EAST_WEST, HOST, HTTPS, SERVICE};
use crate::support::http::{Client, Outcome, Protocol, plain};
use crate::support::identities::Held;
use crate::support::load::Load;
use crate::support::process::{Process, arguments, signal};
use crate::support::workload::{self, Caller, Inside, Member};
use crate::support::{DEADLINE, eventually, holds};

/// Whoever is revoked is out everywhere within this time.
const OUT: Duration = Duration::from_secs(5);

fn certs(demo: &Demo, args: &[&str]) -> crate::support::cli::Said {
    demo.cli(|cli| cli.run(&[&["certs"], args].concat()))
}

/// A tunnel into south, in the name of a gateway: what a thief of its key would open.
async fn tunnel(demo: &Demo, thief: &Client, label: &str) -> Outcome<TlsStream<TcpStream>> {
    let mut stream = thief.tls(SocketAddr::new(demo.gateway(1, 0), EAST_WEST), label, b"h2").await?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.map_err(|error| error.to_string())?;
    // In TLS 1.3 a refused client certificate shows only in the first read.
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
    Ok(stream)
}

/// When the far end of a connection has closed it.
async fn closed(stream: &mut TlsStream<TcpStream>) -> Instant {
    let mut sink = [0; 1024];
    let read = async { while stream.read(&mut sink).await.is_ok_and(|bytes| bytes > 0) {} };
    timeout(2 * OUT, read).await.expect("the connection goes on");
    Instant::now()
}

/// How many tunnels the gateways of a cluster have to a gateway.
fn tunnels_to(demo: &Demo, from: &str, cluster: &str, gateway: &str) -> usize {
    let peers = demo.cli(|cli| cli.json(&["peers"]));
    let rows = peers.as_array().or_else(|| peers["items"].as_array()).unwrap().clone();
    let is_one = |row: &Value| row["fromCluster"] == from && row["cluster"] == cluster && row["gateway"] == gateway;
    rows.iter().filter(|row| is_one(row)).map(|row| row["tunnels"].as_u64().unwrap_or_default() as usize).sum()
}

async fn load(demo: &Demo) -> Load {
    let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
    let public = demo.client().https(at, HOST, Protocol::Http2).await.unwrap();
    let at = SocketAddr::new(demo.gateway(0, 1), SERVICE);
    let mesh = plain(demo.workload(0), at, "cart.shop.internal", Protocol::Http1).await.unwrap();
    let load = Load::start(vec![public, mesh]);
    load.until_served_by("all nine serve", |served| served.len() == 9).await;
    load
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_gateway_is_cut_and_gets_in_nowhere_and_the_others_serve_on() {
    let demo = Demo::with(&["--quiet"]).await; // its controller is started again
    let load = load(&demo).await;
    let (stolen, south) =
        (Held::of(&demo, "west/gw-b", "shop").unwrap(), Held::of(&demo, "south/gw-a", "shop").unwrap());
    let thief = south.trusting().with_identity(&stolen.chain(), &stolen.key());
    let label = south.label();
    let mut open = tunnel(&demo, &thief, &label).await.unwrap();

    let began = Instant::now();
    certs(&demo, &["revoke", "--cluster=west", "--gateway=gw-b"]).success();
    assert!(closed(&mut open).await - began < OUT);
    let refused = tunnel(&demo, &thief, &label).await.map(drop).unwrap_err();
    assert!(refused.contains("alert"), "{refused}");
    assert!(began.elapsed() < OUT, "{:?}", began.elapsed());
    eventually("nobody has a tunnel to it", || async {
        let left = ["north", "south"].map(|from| tunnels_to(&demo, from, "west", "gw-b"));
        holds(left == [0, 0], || format!("{left:?}"))
    })
    .await;
    load.until_served_by("all nine serve, through the other gateway", |served| served.len() == 9).await;
    let status = certs(&demo, &[]).success();
    assert!(status.contains("gateway west/gw-b"), "{status}");
    let again = certs(&demo, &["revoke", "--cluster=west", "--gateway=gw-b"]).failure();
    assert!(again.contains("revoked already"), "{again}");
    load.end_without_failure().await;

    signal("KILL", &demo.pids("controller"));
    eventually("the controller knows it in its next life", || async {
        let said = certs(&demo, &[]);
        holds(said.ok && said.stdout.contains("gateway west/gw-b"), || format!("{said:?}"))
    })
    .await;
    assert!(tunnel(&demo, &thief, &label).await.is_err());

    certs(&demo, &["reinstate", "--cluster=west", "--gateway=gw-b"]).success();
    eventually("it comes in again", || async { tunnel(&demo, &thief, &label).await.map(drop) }).await;
    let again = certs(&demo, &["reinstate", "--cluster=west", "--gateway=gw-b"]).failure();
    assert!(again.contains("is not revoked"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_revoked_cluster_nobody_is_believed_and_its_agent_is_told_nothing() {
    let demo = Demo::own().await;
    let stolen = Held::of(&demo, "west/gw-a", "shop").unwrap();
    let south = Held::of(&demo, "south/gw-a", "shop").unwrap();
    let thief = south.trusting().with_identity(&stolen.chain(), &stolen.key());
    let mut open = tunnel(&demo, &thief, &south.label()).await.unwrap();
    let unknown = certs(&demo, &["revoke", "--cluster=east"]).failure();
    assert!(unknown.contains("east"), "{unknown}");

    let began = Instant::now();
    certs(&demo, &["revoke", "--cluster=west"]).success();
    assert!(closed(&mut open).await - began < OUT);
    assert!(tunnel(&demo, &thief, &south.label()).await.is_err() && began.elapsed() < OUT);
    eventually("the others serve without it", || async {
        let mut connection =
            demo.client().https(SocketAddr::new(demo.gateway(0, 0), HTTPS), HOST, Protocol::Http2).await?;
        let mut served = Vec::new();
        for _ in 0..12 {
            served.push(connection.get("/").await?.cluster());
        }
        holds(!served.contains(&"west".to_owned()), || format!("{served:?}"))
    })
    .await;
    let status = demo.cli(|cli| cli.json(&["status"]));
    let west = status["clusters"].as_array().unwrap().iter().find(|cluster| cluster["name"] == "west").unwrap();
    assert_eq!(west["connected"], false, "{west}");
    rotates(&demo);
    let said = replace_west(&demo).0;
    assert!(said.contains("west is revoked") && said.contains("tombolo certs reinstate"), "{said}");

    certs(&demo, &["reinstate", "--cluster=west"]).success();
    eventually("it serves again", || async {
        let mut connection =
            demo.client().https(SocketAddr::new(demo.gateway(0, 0), HTTPS), HOST, Protocol::Http2).await?;
        for _ in 0..12 {
            if connection.get("/").await?.cluster() == "west" {
                return Ok(());
            }
        }
        Err("not yet".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_workload_is_cut_and_called_by_nobody() {
    let demo = Demo::own().await;
    let member = Member::of(&demo, 0, "shop").await;
    let caller = Caller::new(member.workload("shop", "thief"), demo.workload(0));
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let open = || caller.http(at, "cart.shop.internal", &member, Protocol::Http1);
    let mut connection = open().await.unwrap();
    assert_eq!(connection.get("/").await.unwrap().status, 200);

    certs(&demo, &["revoke", "--cluster=north", "--workload=shop/thief"]).success();
    let cut = async {
        while connection.is_open().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(OUT, cut).await.expect("its connection goes on");
    let refused = async { open().await?.get("/").await };
    assert!(refused.await.is_err());
    let other = Caller::new(member.workload("shop", "honest"), demo.workload(0));
    let mut connection = other.http(at, "cart.shop.internal", &member, Protocol::Http1).await.unwrap();
    assert_eq!(connection.get("/").await.unwrap().status, 200);
}

/// A new root takes the place of the old one, and nobody is waited for.
fn rotates(demo: &Demo) {
    let said = certs(demo, &["rotate", "--level=gns", "--gns=shop", "--wait", "--timeout=60"]);
    assert!(said.ok, "{said:?}");
}

/// Another agent joins in the place of west's; what it says, once it has ended or has joined.
fn replace_west(demo: &Demo) -> (String, Option<Process>) {
    let state = demo.state.join("west-again");
    let args = [
        "agent".to_owned(),
        format!("--state={}", state.display()),
        format!("--listen={}:7444", demo.address(2, 0, 9)),
        format!("--join={}", demo.token("west")),
        "--replace".to_owned(),
    ];
    let mut agent = Process::start(&args, &demo.state.join("west-again.log"));
    let began = Instant::now();
    while agent.ended().is_none() && !state.join("member.token").exists() {
        assert!(began.elapsed() < DEADLINE, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    match state.join("member.token").exists() {
        true => (String::new(), Some(agent)),
        false => (agent.log(), None),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_gateway_does_not_enrol_again_and_no_rotation_waits_for_it() {
    let demo = Demo::own().await;
    load(&demo).await.end_without_failure().await; // all are there, with identities
    certs(&demo, &["revoke", "--cluster=west", "--gateway=gw-b"]).success();
    let pids = demo.pids("west_gw_b");
    let args = arguments(pids[0]);
    signal("KILL", &pids);
    rotates(&demo);
    std::fs::remove_file(demo.state.join("west/gw-b/member.pem")).unwrap();
    let again = Process::start(&args, &demo.state.join("again.log"));
    eventually("it is told why it cannot enrol", || async {
        let log = again.log();
        holds(log.contains("gw-b is revoked") && log.contains("tombolo certs reinstate"), || log)
    })
    .await;
    rotates(&demo);
    assert!(!demo.state.join("west/gw-b/member.pem").exists());
    certs(&demo, &["reinstate", "--cluster=west", "--gateway=gw-b"]).success();
    eventually("it serves again", || demo.get_public(demo.gateway(2, 1))).await;
    eventually("it is in", || async { holds(demo.state.join("west/gw-b/member.pem").exists(), || again.log()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_agents_key_was_stolen_comes_back_with_another_agent() {
    let demo = Demo::own().await;
    Member::of(&demo, 2, "shop").await;
    certs(&demo, &["revoke", "--cluster=west"]).success();
    certs(&demo, &["reinstate", "--cluster=west"]).success();
    let (said, agent) = replace_west(&demo);
    assert!(agent.is_some(), "{said}");
    eventually("the old agent is shut out, and the new one is heard", || async {
        let log = demo.log_of("west-agent");
        let status = demo.cli(|cli| cli.json(&["status"]));
        let west = status["clusters"].as_array().unwrap().iter().find(|cluster| cluster["name"] == "west").unwrap();
        // The new one has no members yet.
        let new = west["connected"] == true && west["members"].as_array().is_none_or(Vec::is_empty);
        holds(new && log.contains("not following"), || format!("{west}: {log}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_instances_of_a_revoked_workload_get_no_request_not_even_on_connections_that_are_open() {
    let demo = Demo::own().await;
    let member = Member::of(&demo, 0, "shop").await;
    let instance = SocketAddr::new(demo.address(0, 1, 77), 9443);
    workload::serve(instance, &member, &member.workload("shop", "vault"), Inside::Http1, "vault").await;
    let port = format!("port: {SERVICE}, protocol: http");
    let manifest = workload::service("north", "shop", "vault", &port, "mesh", &[instance]);
    workload::register(&demo, 0, "vault", &[manifest]);
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let call = async || {
        let mut connection = plain(demo.workload(0), at, "vault.shop.internal", Protocol::Http1).await?;
        connection.get("/").await
    };
    let answers = async || {
        let answer = call().await?;
        holds(answer.status == 200 && answer.body == "vault", || format!("{answer:?}"))
    };
    eventually("it answers", answers).await;
    // Its connection is kept for the next request, and is used.
    answers().await.unwrap();
    let began = Instant::now();
    certs(&demo, &["revoke", "--cluster=north", "--workload=shop/vault"]).success();
    eventually("it gets no request", async || {
        let answer = call().await?;
        holds(answer.status == 503, || format!("{answer:?}"))
    })
    .await;
    assert!(began.elapsed() < OUT, "{:?}", began.elapsed());
    for _ in 0..20 {
        assert_eq!(call().await.unwrap().status, 503);
    }
    certs(&demo, &["reinstate", "--cluster=north", "--workload=shop/vault"]).success();
    eventually("it answers again", answers).await;
}

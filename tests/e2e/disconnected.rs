//! Whoever of the control plane is away, a cluster goes on, and when they are back all agree again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;

use crate::failover::{all_nine, load, without};
use crate::support::away::Away;
use crate::support::demo::{ADMIN, Demo, HOST};
use crate::support::dns::{A, Over, ask};
use crate::support::http::{Outcome, Protocol, plain};
use crate::support::process::{Process, arguments, signal, with_flags};
use crate::support::{eventually, holds};

const AGENTS: [&str; 3] = ["north_agent", "south_agent", "west_agent"];

/// What a gateway knows of another, by its admin port.
async fn sees(demo: &Demo, gateway: IpAddr, cluster: &str, peer: &str) -> Outcome<bool> {
    let at = SocketAddr::new(gateway, ADMIN);
    let view = plain(demo.workload(0), at, "admin", Protocol::Http1).await?.get("/v1/health").await?.json();
    Ok(view["gateways"][cluster][peer] == true)
}

/// A further gateway of west, with the flags of one that runs.
fn third_gateway_of_west(demo: &Demo, drain_wait: u32) -> (Process, IpAddr) {
    let address = demo.address(2, 0, 13);
    let (state, log) = (demo.state.join("west/gw-c"), demo.state.join("gw-c.access.log"));
    let flags = [
        "--name=gw-c".to_owned(),
        format!("--state={}", state.display()),
        format!("--address={address}"),
        format!("--access-log={}", log.display()),
        format!("--drain-wait={drain_wait}"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let arguments = with_flags(&arguments(demo.pids("west_gw_a")[0]), &flags);
    (Process::start(arguments, &demo.state.join("gw-c.log")), address)
}

/// The agent's manifest of a service of west, with or without its first instance.
struct Cart {
    path: PathBuf,
    whole: String,
}

impl Cart {
    fn of_west(demo: &Demo) -> Cart {
        let path = demo.state.join("west/services/cart.json");
        Cart { whole: std::fs::read_to_string(&path).unwrap(), path }
    }

    fn write(&self, first: bool) {
        let mut manifest: Value = serde_json::from_str(&self.whole).unwrap();
        if !first {
            manifest["spec"]["versions"][0]["instances"].as_array_mut().unwrap().remove(0);
        }
        let half = self.path.with_extension("half");
        std::fs::write(&half, manifest.to_string()).unwrap();
        std::fs::rename(&half, &self.path).unwrap();
    }
}

/// How many instances of west's cart a gateway counts as healthy.
async fn healthy_carts(demo: &Demo, gateway: IpAddr) -> Outcome<Value> {
    let at = SocketAddr::new(gateway, ADMIN);
    let view = plain(demo.workload(0), at, "admin", Protocol::Http1).await?.get("/v1/health").await?.json();
    Ok(view["services"]["shop"]["cart"]["west"].clone())
}

async fn carts_are(demo: &Demo, expected: u32) {
    for gateway in demo.gateways() {
        let counted = || async {
            let count = healthy_carts(demo, gateway).await?;
            holds(count == expected, || format!("{gateway} counts {count} of west"))
        };
        eventually("every gateway counts west's carts right", counted).await;
    }
}

/// Every agent, gateway and DNS server is connected, acts on the newest revision, and is of the same mind as its agent.
async fn all_agree(demo: &Demo) {
    let agree = || async {
        let said = demo.cli(|cli| cli.run(&["status", "-o", "json"]));
        holds(said.ok, || said.stderr.clone())?;
        let status: Value = serde_json::from_str(&said.stdout).unwrap();
        let clusters = status["clusters"].as_array().unwrap();
        let members = clusters.iter().flat_map(|cluster| cluster["members"].as_array().unwrap());
        let behind = clusters
            .iter()
            .chain(members.clone())
            .filter(|one| one["connected"] != true || one["lag"] != 0 || one["localLag"].as_u64().unwrap_or(0) > 0);
        holds(members.count() >= 12 && behind.count() == 0, || status.to_string())
    };
    eventually("all are back and agree", agree).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_its_agent_admits_while_the_controller_is_away_serves_everybody() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    let controller = Away::kill(&demo, &["controller"]);
    let (mut gateway, address) = third_gateway_of_west(&demo, 0);
    for other in [demo.gateway(0, 0), demo.gateway(0, 1), demo.gateway(1, 0), demo.gateway(1, 1)] {
        let seen = || async { holds(sees(&demo, other, "west", "gw-c").await?, || format!("{other} doesn't see it")) };
        eventually("the other clusters' gateways have tunnels to it", seen).await;
    }
    eventually("it serves the public", || demo.get_public(address)).await;
    let named = || async {
        let reply = ask(demo.dns(2), Over::Udp, "cart.shop.internal", A).await?;
        holds(reply.addresses.contains(&address), || format!("{reply:?}"))
    };
    eventually("its cluster's DNS servers name it", named).await;

    // Now west is reached through nothing else.
    signal("KILL", &[demo.pids("west_gw_a"), demo.pids("west_gw_b")].concat());
    for _ in 0..3 {
        load.until_served_by("all nine serve through the new gateway", all_nine).await;
    }
    let _controller = controller.back();
    let known = || async {
        let said = demo.cli(|cli| cli.run(&["status"]));
        let row = |line: &str| line.split_whitespace().take(4).eq(["west", "gw-c", "gateway", "connected"]);
        holds(said.stdout.lines().any(row), || format!("{said:?}"))
    };
    eventually("the controller knows it", known).await;
    load.until_served_by("all nine still serve", all_nine).await;
    load.end_without_failure().await;
    gateway.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_controller_a_cluster_heeds_its_own_changes_and_on_return_all_agree() {
    let demo = Demo::own().await;
    let (load, cart) = (load(&demo).await, Cart::of_west(&demo));
    let controller = Away::kill(&demo, &["controller"]);
    cart.write(false);
    carts_are(&demo, 2).await;
    cart.write(true);
    carts_are(&demo, 3).await;
    signal("KILL", &demo.pids("west_i2"));
    load.until_served_by("a killed instance leaves", |served| without(served, demo.address(2, 1, 2))).await;
    cart.write(false);

    let _controller = controller.back();
    all_agree(&demo).await;
    carts_are(&demo, 1).await;
    let service = demo.cli(|cli| cli.json(&["get", "Service/west/shop/cart"]));
    let versions = service["spec"]["versions"].as_array().unwrap();
    let instances = versions.iter().map(|version| version["instances"].as_array().unwrap().len()).sum::<usize>();
    assert_eq!(instances, 2, "the controller has no stale instance: {service}");
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_agents_gateways_restart_and_what_changed_meanwhile_counts_when_they_return() {
    let demo = Demo::own().await;
    let (load, cart) = (load(&demo).await, Cart::of_west(&demo));
    demo.kept("west/gw-a").await;
    let agents = Away::kill(&demo, &AGENTS);
    cart.write(false);
    let gateway = Away::kill(&demo, &["west_gw_a"]);
    load.until_served_by("all nine serve through the other gateway", all_nine).await;
    let _gateway = gateway.back();
    eventually("the restarted gateway serves", || demo.get_public(demo.gateway(2, 0))).await;
    signal("KILL", &demo.pids("south_i1"));
    load.until_served_by("a killed instance leaves", |served| without(served, demo.address(1, 1, 1))).await;

    let _agents = agents.back();
    carts_are(&demo, 2).await;
    all_agree(&demo).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_controller_and_agents_gateways_restart_names_follow_health_and_on_return_all_agree() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    demo.kept("west/gw-a").await;
    let away = Away::kill(&demo, &[&["controller"][..], &AGENTS].concat());
    let gateway = Away::kill(&demo, &["west_gw_a"]);
    let names = async |expected: &[IpAddr]| {
        let told = || async {
            let reply = ask(demo.dns(2), Over::Udp, "cart.shop.internal", A).await?;
            let told: BTreeSet<_> = reply.addresses.iter().copied().collect();
            holds(told == expected.iter().copied().collect(), || format!("{reply:?}"))
        };
        eventually("the service's name means the living gateways", told).await;
    };
    names(&[demo.gateway(2, 1)]).await;
    let _gateway = gateway.back();
    eventually("the restarted gateway serves", || demo.get_public(demo.gateway(2, 0))).await;
    names(&[demo.gateway(2, 0), demo.gateway(2, 1)]).await;
    assert!(!ask(demo.dns(0), Over::Udp, HOST, A).await.unwrap().addresses.is_empty());
    signal("KILL", &demo.pids("west_i1"));
    load.until_served_by("a killed instance leaves", |served| without(served, demo.address(2, 1, 1))).await;

    let _away = away.back();
    all_agree(&demo).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_gateway_says_so_to_peers_dns_servers_and_its_agent() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    let (mut gateway, address) = third_gateway_of_west(&demo, 600);
    let others = [demo.gateway(0, 0), demo.gateway(0, 1), demo.gateway(1, 0), demo.gateway(1, 1)];
    let are = async |live: bool| {
        for other in others {
            let seen = || async { holds(sees(&demo, other, "west", "gw-c").await? == live, || other.to_string()) };
            eventually("the other clusters' gateways know whether it takes requests", seen).await;
        }
        let named = || async {
            let reply = ask(demo.dns(2), Over::Udp, "cart.shop.internal", A).await?;
            holds(reply.addresses.contains(&address) == live, || format!("{reply:?}"))
        };
        eventually("its cluster's DNS servers know it, too", named).await;
    };
    are(true).await;
    signal("TERM", &[gateway.pid()]);
    are(false).await;
    let told = || async {
        let (status, peers) = demo.cli(|cli| (cli.run(&["status"]), cli.run(&["peers"])));
        let row = |line: &str| line.split_whitespace().take(4).eq(["west", "gw-c", "gateway", "draining"]);
        holds(status.stdout.lines().any(row), || status.stdout.clone())?;
        let drains = |line: &str| line.contains(" west/gw-c ") && line.ends_with("it drains");
        holds(peers.stdout.lines().filter(|line| drains(line)).count() >= 4, || peers.stdout.clone())
    };
    eventually("people are told", told).await;
    demo.get_public(address).await.unwrap();
    load.until_served_by("all nine serve", all_nine).await;
    load.end_without_failure().await;
    gateway.kill();
}

/// Where a peer is dialled, and by how many tunnels, as the gateways of another cluster tell.
fn dialled(demo: &Demo, gateway: &str) -> BTreeMap<String, u64> {
    let peers = demo.cli(|cli| cli.json(&["peers"]));
    let rows = peers["items"].as_array().unwrap().iter();
    let rows =
        rows.filter(|row| row["fromCluster"] == "north" && row["cluster"] == "west" && row["gateway"] == gateway);
    rows.map(|row| (row["address"].as_str().unwrap().to_owned(), row["tunnels"].as_u64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_dialled_by_name_and_followed_to_another_address() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    for _ in 0..2 {
        let relays = [Relay::to(demo.gateway(2, 0)).await, Relay::to(demo.gateway(2, 1)).await];
        let gateway = |name: &str, relay: &Relay, address: IpAddr| serde_json::json!({"name": name, "eastWest": relay.name(), "public": address, "mesh": address});
        let mut west = demo.cli(|cli| cli.json(&["get", "Cluster/west"]));
        west["spec"]["gateways"] = serde_json::json!([
            gateway("gw-a", &relays[0], demo.gateway(2, 0)),
            gateway("gw-b", &relays[1], demo.gateway(2, 1)),
        ]);
        demo.cli(|cli| cli.make_ready(&west.to_string()));
        let by_name = || async {
            let seen = [dialled(&demo, "gw-a"), dialled(&demo, "gw-b")];
            let there = relays.iter().zip(&seen).all(|(relay, seen)| seen.get(&relay.name()) == Some(&2));
            holds(there, || format!("{seen:?}"))
        };
        eventually("west is dialled by name", by_name).await;
        load.until_served_by("all nine serve", all_nine).await;
    }
    load.end_without_failure().await;
}

/// Passes connections on to a gateway's tunnels' port.
struct Relay(u16);

impl Relay {
    async fn to(gateway: IpAddr) -> Relay {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect((gateway, crate::support::demo::EAST_WEST)).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Relay(port)
    }

    fn name(&self) -> String {
        format!("localhost:{}", self.0)
    }
}

//! What dies or hangs costs no request of those that go through living gateways, and gets none until it is back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::support::demo::{Demo, HOST, HTTPS, SERVICE};
use crate::support::http::{Protocol, plain};
use crate::support::load::Load;
use crate::support::process::signal;

/// Public requests and calls of workloads, through the gateways of north and south; west is where things die.
pub async fn load(demo: &Demo) -> Load {
    let mut connections = Vec::new();
    for (cluster, gateway) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let at = demo.gateway(cluster, gateway);
        let public = demo.client().https(SocketAddr::new(at, HTTPS), HOST, Protocol::Http2).await;
        connections.push(public.unwrap());
        let at = SocketAddr::new(at, SERVICE);
        connections.push(plain(demo.workload(cluster), at, "cart.shop.internal", Protocol::Http1).await.unwrap());
    }
    let load = Load::start(connections);
    load.until_served_by("all nine serve", |served| served.len() == 9).await;
    load
}

pub fn without(served: &BTreeMap<String, usize>, instance: IpAddr) -> bool {
    served.len() == 8 && !served.keys().any(|by| by.contains(&format!("/{instance}:")))
}

fn without_west(served: &BTreeMap<String, usize>) -> bool {
    served.len() == 6 && !served.keys().any(|by| by.starts_with("west/"))
}

pub fn all_nine(served: &BTreeMap<String, usize>) -> bool {
    served.len() == 9
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_instances_here_and_there_cost_no_request() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    signal("KILL", &demo.pids("west_i1"));
    load.until_served_by("the killed instance gets no request", |served| without(served, demo.address(2, 1, 1))).await;
    signal("KILL", &demo.pids("north_i3"));
    let seven = |served: &BTreeMap<String, usize>| served.len() == 7;
    load.until_served_by("the other killed instance gets no request", seven).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_instance_costs_no_request_and_comes_back() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    let instance = demo.pids("west_i2");
    signal("STOP", &instance);
    load.until_served_by("the hung instance gets no request", |served| without(served, demo.address(2, 1, 2))).await;
    signal("CONT", &instance);
    load.until_served_by("it is back", all_nine).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_of_another_cluster_costs_no_request() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    signal("KILL", &demo.pids("west_gw_a"));
    for _ in 0..3 {
        load.until_served_by("all nine serve through the other gateway", all_nine).await;
    }
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_cluster_costs_no_request() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    signal("KILL", &demo.pids("west"));
    load.until_served_by("the dead cluster gets no request", without_west).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_cluster_costs_no_request_and_comes_back() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    let west = demo.pids("west");
    signal("STOP", &west);
    load.until_served_by("the hung cluster gets no request", without_west).await;
    signal("CONT", &west);
    load.until_served_by("it is back", all_nine).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_instances_and_hosts_cost_no_request() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    let services = demo.state.join("west/services");
    let (path, half) = (services.join("cart.json"), services.join(".cart.json.new"));
    let whole = std::fs::read_to_string(&path).unwrap();
    let leaving = format!("/{}:", demo.address(2, 1, 1));
    for round in 0..10 {
        let mut manifest: Value = serde_json::from_str(&whole).unwrap();
        if round % 2 == 0 {
            manifest["spec"]["versions"][0]["instances"].as_array_mut().unwrap().remove(0);
        }
        std::fs::write(&half, manifest.to_string()).unwrap();
        std::fs::rename(&half, &path).unwrap();
        let host = format!("round-{round}.example.com");
        demo.cli(|cli| cli.make_ready(&published(&host)));
        let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
        demo.client().https(at, &host, Protocol::Http2).await.unwrap();
    }
    // Of the two services only one has lost that instance, in every other round.
    load.until_served_by("all nine serve", all_nine).await;
    assert!(load.window().await.keys().any(|by| by.contains(&leaving)));
    load.end_without_failure().await;
}

/// Another public service, under another host in each round.
fn published(host: &str) -> String {
    let manifest = json!({
        "apiVersion": "tombolo.dev/v1alpha1", "kind": "PublicService", "metadata": { "name": "other" },
        "spec": {
            "globalNamespace": "shop", "service": "cart", "port": SERVICE, "hosts": [{ "name": host }],
            "tls": { "certificate": "selfSigned" },
        },
    });
    manifest.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_controller_and_agents_everything_goes_on_and_failover_too() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    for name in ["controller", "north_agent", "west_agent"] {
        signal("KILL", &demo.pids(name));
    }
    for _ in 0..3 {
        load.until_served_by("all nine serve", all_nine).await;
    }
    signal("KILL", &demo.pids("west_i1"));
    load.until_served_by("a killed instance leaves all the same", |served| without(served, demo.address(2, 1, 1)))
        .await;
    load.end_without_failure().await;
}

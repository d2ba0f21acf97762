//! What a request costs the gateway: its allocations are counted, and held to [`figures`].
//!
//! Each gateway runs alone on a thread of its own, with everything on that a gateway does for a request, and only that
//! thread is counted. One request follows another on one connection, so that the count is the same on every machine and
//! under any load.
//!
//! The figures are those of the dev profile: other ones lay out and spare other allocations.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

extern crate tombolo_gateway as gateway;

mod client;
mod counted;
mod figures;
mod instance;
mod trust;
mod world;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use allocation_counter::AllocationInfo;
use serde_json::json;

use client::{Client, Http1, Http2};
use counted::Counted;
use figures::Cost;
use trust::Trust;
use world::{MESH_HOST, PUBLIC_HOST, Site};

/// Requests before the first count: connections are open then, and tables have grown.
const WARM_UP: u32 = 300;
/// Requests to a lap.
const REQUESTS: u32 = 1_000;
/// The cheapest lap counts: what timers did in another isn't the requests'.
const LAPS: u32 = 3;

#[test]
fn http1_get() {
    let instance = instance::start();
    let mut site = Site::new("north", instance);
    site.publish_http(instance.port());
    let gateway = Counted::start(site, |settings| settings.http = Some(ANY));
    check(&mut Http1::new(gateway.address(), PUBLIC_HOST, b""), &[("http1 get", &gateway)]);
}

#[test]
fn http1_post() {
    let instance = instance::start();
    let mut site = Site::new("north", instance);
    site.publish_http(instance.port());
    let gateway = Counted::start(site, |settings| settings.http = Some(ANY));
    check(&mut Http1::new(gateway.address(), PUBLIC_HOST, &[b'x'; 1_024]), &[("http1 post", &gateway)]);
}

#[test]
fn https_http2_get() {
    let instance = instance::start();
    let mut site = Site::new("north", instance);
    let certificate = site.publish_https(instance.port());
    let gateway = Counted::start(site, |settings| settings.https = Some(ANY));
    check(&mut Http2::new(gateway.address(), PUBLIC_HOST, certificate), &[("https http2 get", &gateway)]);
}

#[test]
fn mesh_get() {
    let gateway = Counted::start(Site::new("north", instance::start()), |settings| settings.mesh = Some(MESH));
    let host = format!("{MESH_HOST}:{}", gateway.address().port());
    check(&mut Http1::new(gateway.address(), &host, b""), &[("mesh get", &gateway)]);
}

/// From a public client of the north to an instance in the south.
#[test]
fn tunnel_get() {
    let (trust, instance) = (Trust::new(), instance::start());
    let mut south = Site::new("south", instance);
    south.add(trust.fact());
    south.identify(trust.gateway("south"));
    let destination = Counted::start(south, |settings| settings.east_west = Some(ANY));

    let mut north = Site::without_instances("north");
    north.publish_http(instance.port());
    north.add(trust.fact());
    north.identify(trust.gateway("north"));
    north.add(json!({"gateways": {
        "cluster": "south", "gateways": [{"name": "gw", "eastWest": destination.address()}]}}));
    north.add(json!({"remote": {
        "cluster": "south", "namespace": "shop", "name": "web",
        "ports": [{"name": "http", "port": instance.port(), "protocol": "http"}], "versions": {"v1": 1}}}));
    let origin = Counted::start(north, |settings| settings.http = Some(ANY));

    let mut client = Http1::new(origin.address(), PUBLIC_HOST, b"");
    check(&mut client, &[("tunnel get, origin", &origin), ("tunnel get, destination", &destination)]);
}

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Where workloads reach services: not the instance's own address, since its port is the service's, too.
const MESH: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Counts what the client's requests cost each gateway, and holds it to the figures.
fn check(client: &mut impl Client, gateways: &[(&str, &Counted)]) {
    ask(client, WARM_UP);
    let laps: Vec<Vec<Cost>> = (0..LAPS).map(|_| lap(client, gateways)).collect();
    let mut faults = Vec::new();
    for (at, (scenario, _)) in gateways.iter().enumerate() {
        let cheapest = laps.iter().map(|lap| lap[at]).reduce(Cost::min).unwrap();
        println!("{scenario}: {cheapest}, the least of {LAPS} laps of {REQUESTS} requests after {WARM_UP}");
        faults.extend(figures::hold(scenario, cheapest).err());
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// What each gateway spent on each of the lap's requests.
fn lap(client: &mut impl Client, gateways: &[(&str, &Counted)]) -> Vec<Cost> {
    for (_, gateway) in gateways {
        gateway.lap();
    }
    ask(client, REQUESTS);
    gateways.iter().map(|(_, gateway)| each(&gateway.lap())).collect()
}

fn ask(client: &mut impl Client, requests: u32) {
    (0..requests).for_each(|_| client.ask());
}

fn each(lap: &AllocationInfo) -> Cost {
    let each = |total: u64| total as f64 / f64::from(REQUESTS);
    Cost { allocations: each(lap.count_total), bytes: each(lap.bytes_total) }
}

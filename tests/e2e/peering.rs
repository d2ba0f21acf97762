//! The way between clusters, step by step; and members that do not come back.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::support::cli::{Cli, Said};
use crate::support::demo::{Demo, EAST_WEST, SERVICE};
use crate::support::far::Way;
use crate::support::http::{Protocol, plain};
use crate::support::process::signal;
use crate::support::{eventually, holds};

fn check(demo: &Demo, from: &str, to: &str) -> Said {
    demo.cli(|cli| cli.run(&["check", "peering", from, to]))
}

#[tokio::test]
async fn each_step_between_clusters_is_tested_and_told() {
    let demo = Demo::shared().await;
    let well = || async {
        let said = check(demo, "north", "west");
        holds(said.ok, || format!("{said:?}"))?;
        for (gateway, peer) in [("gw-a", "gw-a"), ("gw-a", "gw-b"), ("gw-b", "gw-a"), ("gw-b", "gw-b")] {
            let row =
                |line: &str| line.starts_with(&format!("north/{gateway} ")) && line.contains(&format!("west/{peer} "));
            let steps = said.stdout.lines().filter(|line| row(line));
            let well = steps.clone().all(|line| line.split_whitespace().nth(2) == Some("ok"));
            holds(well && steps.count() >= 3, || said.stdout.clone())?;
        }
        Ok::<_, String>(())
    };
    eventually("every step is well", well).await;
    let json: Value = demo.cli(|cli| cli.json(&["check", "peering", "west", "south"]));
    assert_eq!(json["verdict"], "ok", "{json}");
}

#[tokio::test]
async fn a_step_that_fails_is_named_with_what_to_do_and_who_cannot_be_asked_is_unknown() {
    let demo = Demo::own().await;
    signal("KILL", &demo.pids("west_gw_a"));
    let failed = || async {
        let said = check(&demo, "north", "west");
        let row = |line: &str| line.contains(" failed ") && line.contains("west/gw-a") && line.contains("refuses");
        holds(said.code == Some(1) && said.stdout.lines().any(row), || format!("{said:?}"))?;
        holds(said.stderr.contains("Cluster/west: start the gateway"), || said.stderr.clone())
    };
    eventually("the closed port is named", failed).await;
    signal("KILL", &demo.pids("north_agent"));
    let unknown = || async {
        let said = check(&demo, "north", "south");
        let row = |line: &str| line.contains(" unknown ") && line.contains("north/gw-a could not be asked");
        holds(said.code == Some(4) && said.stdout.lines().any(row), || format!("{said:?}"))
    };
    eventually("without their agent nobody can ask the gateways", unknown).await;
    let nowhere = check(&demo, "nowhere", "north");
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
    signal("KILL", &demo.pids("controller"));
    let nobody = check(&demo, "north", "west");
    assert_eq!((nobody.code, nobody.stdout.as_str()), (Some(2), ""), "{nobody:?}");
    assert!(nobody.stderr.starts_with("tombolo: "), "{nobody:?}");
}

#[tokio::test]
async fn a_dead_member_is_forgotten_by_order_and_holds_up_nothing_then() {
    let demo = Demo::own().await;
    let forget = |member: &str| demo.cli(|cli| cli.run(&["forget", member]));
    let alive = forget("west/gw-a").failure();
    assert!(alive.contains("west/gw-a is connected") && alive.contains("certs revoke"), "{alive}");
    let nobody = forget("west/gw-x").failure();
    assert!(nobody.contains("no member gw-x"), "{nobody}");
    signal("KILL", &demo.pids("west_gw_a"));
    let ready = |status: &'static str, words: &'static str| {
        let demo = &demo;
        async move || {
            let gns = demo.cli(|cli| cli.json(&["get", "GlobalNamespace/shop"]));
            let ready = &gns["status"]["conditions"][0];
            let said = ready["message"].as_str().unwrap_or_default();
            holds(ready["status"] == status && said.contains(words), || ready.to_string())
        }
    };
    eventually("it is waited for", ready("Unknown", "west/gw-a")).await;
    forget("west/gw-a").success();
    eventually("it is waited for no more", ready("True", "act on it")).await;
    let status = demo.cli(|cli| cli.run(&["status"])).success();
    assert!(!status.lines().any(|line| line.split_whitespace().take(2).eq(["west", "gw-a"])), "{status}");
    let audit = demo.cli(|cli| cli.run(&["audit"])).success();
    assert!(audit.contains("member.forget") && audit.contains("west/gw-a"), "{audit}");
    assert_eq!(demo.get_public(demo.gateway(2, 1)).await.map(|()| StatusCode::OK), Ok(StatusCode::OK));
}

/// Where west's gateways are said to be dialled.
fn west(demo: &Demo, east_west: [SocketAddr; 2]) -> String {
    let gateway = |(number, east_west): (u8, SocketAddr)| {
        let (name, at) = (["gw-a", "gw-b"][usize::from(number)], demo.gateway(2, number));
        format!("{{name: {name}, eastWest: '{east_west}', public: {at}, mesh: {at}}}")
    };
    let gateways: Vec<_> = (0..).zip(east_west).map(gateway).collect();
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: west}}\n\
         spec: {{workloads: [{{cidr: {}/24, namespace: shop}}], gateways: [{}]}}\n",
        demo.address(2, 2, 0),
        gateways.join(", ")
    )
}

#[tokio::test]
async fn a_gateway_that_answers_in_the_place_of_another_is_named_and_serves_all_the_same() {
    let demo = Demo::own().await;
    let [at_a, at_b] = [0, 1].map(|gateway| SocketAddr::new(demo.gateway(2, gateway), EAST_WEST));
    let call = async || {
        let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
        let answer = plain(demo.workload(0), at, "west.cart.shop.internal", Protocol::Http1).await?.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    eventually("calls to west get through", call).await;
    demo.cli(|cli| cli.apply(&west(&demo, [at_b, at_b]))).success();
    let named = async || {
        call().await?;
        let said = check(&demo, "north", "west");
        let row = format!("west/gw-a in shop: another gateway answers at {at_b}: west/gw-b");
        let told = said.stdout.lines().any(|line| line.contains(" failed ") && line.contains(&row));
        let sound = said.stdout.lines().any(|line| line.contains(" ok ") && line.contains("west/gw-b in shop is who"));
        holds(said.code == Some(1) && told && sound, || format!("{said:?}"))?;
        let remedy = "Cluster/west: correct the address of gw-a in spec.gateways";
        holds(said.stderr.contains(remedy), || said.stderr.clone())?;
        let peers = demo.cli(|cli| cli.run(&["peers"])).success();
        let both =
            peers.lines().filter(|line| line.contains("west/gw-a") && line.contains("west/gw-b answers in its place"));
        holds(both.count() == 4, || peers.clone())?;
        let west = demo.cli(|cli| cli.json(&["get", "Cluster/west"]));
        let conditions = west["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == "GatewaysFound");
        holds(found.is_some_and(|found| found["status"] == "False"), || west.to_string())
    };
    eventually("who answers is named, and calls get through", named).await;
    let url = format!("http://west.cart.shop.internal:{SERVICE}/");
    let from = format!("--from=north/{}", demo.workload(0));
    let explained = demo.cli(|cli| cli.json(&["explain", &from, "GET", &url]));
    assert_eq!(explained["verdict"], "impaired", "{explained:#}");
    let text = explained.to_string();
    assert!(text.contains("are up, but lead to gw-b") && !text.contains("\"by\":\"west/gw-a\""), "{explained:#}");
    let gateway = ["--cluster", "west", "--gateway", "gw-b"];
    demo.cli(|cli| cli.run(&[&["certs", "revoke"], &gateway[..]].concat())).success();
    let cut_off = async || {
        let refused = call().await;
        let peers = demo.cli(|cli| cli.run(&["peers"])).success();
        let north = peers.lines().filter(|line| line.starts_with("north/") && line.contains(" west/"));
        let tunnels: Vec<_> = north.filter_map(|line| line.split_whitespace().nth(4)).collect();
        holds(refused.is_err() && tunnels == ["0", "0"], || format!("{refused:?}: {peers}"))
    };
    eventually("whoever is revoked is cut off in the place of another, too", cut_off).await;
    demo.cli(|cli| cli.run(&[&["certs", "reinstate"], &gateway[..]].concat())).success();
    demo.cli(|cli| cli.apply(&west(&demo, [at_a, at_b]))).success();
    let mended = async || {
        call().await?;
        let said = check(&demo, "north", "west");
        holds(said.code == Some(0), || format!("{said:?}"))
    };
    eventually("all is well at the right addresses", mended).await;
}

#[tokio::test]
async fn a_long_way_is_no_broken_one() {
    let demo = Demo::own().await;
    let mut ways = Vec::new();
    let far = [0, 1].map(|gateway| SocketAddr::new(demo.address(2, 0, 71 + gateway), EAST_WEST));
    for (gateway, at) in (0..).zip(far) {
        let to = SocketAddr::new(demo.gateway(2, gateway), EAST_WEST);
        ways.push(Way::open(at, to, Duration::from_millis(300)).await);
    }
    demo.cli(|cli| cli.apply(&west(&demo, far))).success();
    let sound = async || {
        // The ways are this test's own: it must not wait for the command.
        let context = demo.context();
        let said = spawn_blocking(move || Cli { context: &context }.run(&["check", "peering", "north", "west"]));
        let said = said.await.unwrap();
        let over_it = far.iter().all(|at| said.stdout.contains(&format!("{at} takes tunnels")));
        holds(said.code == Some(0) && over_it, || format!("{said:?}"))?;
        holds(said.stderr.contains("the gateways of north test each step to those of west: at most 5s"), || {
            format!("it does not say for what it waits: {}", said.stderr)
        })
    };
    eventually("each step over a way of 600 ms there and back is well", sound).await;
}

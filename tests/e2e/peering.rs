//! The way between clusters, step by step; and members that do not come back.

use http::StatusCode;
use serde_json::Value;

use crate::support::cli::Said;
use crate::support::demo::Demo;
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
        holds(!said.ok && said.stdout.lines().any(row), || format!("{said:?}"))?;
        holds(said.stderr.contains("Cluster/west: start the gateway"), || said.stderr.clone())
    };
    eventually("the closed port is named", failed).await;
    signal("KILL", &demo.pids("north_agent"));
    let unknown = || async {
        let said = check(&demo, "north", "south");
        let row = |line: &str| line.contains(" unknown ") && line.contains("north/gw-a could not be asked");
        holds(!said.ok && said.stdout.lines().any(row), || format!("{said:?}"))
    };
    eventually("without their agent nobody can ask the gateways", unknown).await;
    let nowhere = check(&demo, "north", "nowhere");
    assert!(!nowhere.ok, "{nowhere:?}");
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

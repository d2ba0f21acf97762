//! What a process takes up again when it starts: its state on disk, and its ports.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::StatusCode;

use crate::support::demo::{Demo, SERVICE};
use crate::support::http::{Protocol, plain};
use crate::support::process::{Process, arguments, signal};
use crate::support::{eventually, holds};

#[tokio::test]
async fn a_gateway_restarted_without_controller_and_agent_serves_from_disk() {
    let demo = Demo::own().await;
    demo.kept("west/gw-a").await;

    let gateway = demo.pids("west_gw_a");
    let args = arguments(gateway[0]);
    for victims in [demo.pids("controller"), demo.pids("west_agent"), gateway] {
        signal("KILL", &victims);
    }
    let log = demo.state.join("restarted.log");
    let _restarted = Process::start(args, &log);
    eventually("it serves the public host", || demo.get_public(demo.gateway(2, 0))).await;
    let at = SocketAddr::new(demo.gateway(2, 0), SERVICE);
    let calls = || async {
        let mut connection = plain(demo.workload(2), at, "cart.shop.internal", Protocol::Http1).await?;
        let mut clusters = BTreeSet::new();
        for _ in 0..30 {
            let answer = connection.get("/").await?;
            holds(answer.status == StatusCode::OK, || format!("{answer:?}"))?;
            clusters.insert(answer.cluster());
        }
        holds(clusters.len() == 3, || format!("only {clusters:?}"))
    };
    eventually("its workloads reach all clusters again", calls).await;
}

#[tokio::test]
async fn a_damaged_cache_is_set_aside_and_named_and_the_process_starts() {
    let demo = Demo::own().await;
    demo.kept("west/gw-b").await;
    let gateway = demo.pids("west_gw_b");
    let args = arguments(gateway[0]);
    signal("KILL", &gateway);
    let world = demo.state.join("west/gw-b/world.json");
    let mut bytes = std::fs::read(&world).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&world, &bytes).unwrap();

    let restarted = Process::start(args, &demo.state.join("restarted.log"));
    eventually("it serves again", || demo.get_public(demo.gateway(2, 1))).await;
    assert_eq!(
        std::fs::read(world.with_extension("json.damaged")).unwrap(),
        bytes,
        "what was damaged can be looked at"
    );
    assert!(restarted.log().contains(world.to_str().unwrap()), "the log names the file: {}", restarted.log());
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_the_address() {
    let demo = Demo::own().await;
    let state = tempfile::tempdir().unwrap();
    // Each role again, with a state of its own, on the addresses of one that runs.
    for name in ["controller", "west_agent", "west_gw_a", "west_dns_a", "west_i1"] {
        let running = arguments(demo.pids(name)[0]);
        let own = format!("--state={}", state.path().join(name).display());
        let args = running.iter().map(|arg| if arg.starts_with("--state=") { &own } else { arg }).cloned();
        let mut args: Vec<String> =
            args.map(|arg| arg.replace("--name=gw-a", "--name=gw-x").replace("--name=dns-a", "--name=dns-x")).collect();
        if name == "west_agent" {
            args.push(format!("--join={}", demo.token("paris")));
        }
        let mut second = Process::start(&args, &state.path().join(format!("{name}.log")));
        assert!(!second.wait().success(), "{name}");
        let said = second.log();
        assert!(said.contains("127.") && said.contains("in use") && !said.contains("panicked"), "{name}: {said}");
    }
}

//! The demo itself: what it prints works when pasted, and it leaves nothing behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::cli::{Said, said};
use crate::support::demo::{Demo, HOST, HTTPS};
use crate::support::http::Protocol;
use crate::support::load::Load;
use crate::support::process::{TOMBOLO, runs, signal};
use crate::support::{eventually, holds};

/// The commands that the demo printed, by their program.
fn printed(demo: &Demo, program: &str) -> Vec<String> {
    let begin = format!("  {program} ");
    let log = demo.log();
    log.lines().filter(|line| line.starts_with(&begin)).map(|line| line.trim().to_owned()).collect()
}

/// Runs a command as if pasted into a terminal.
fn paste(demo: &Demo, command: &str) -> Said {
    let own = Path::new(TOMBOLO).parent().unwrap().display().to_string();
    let path = format!("{own}:{}", std::env::var("PATH").unwrap());
    let exports = printed(demo, "export").join("\n");
    said(Command::new("sh").arg("-c").arg(format!("{exports}\n{command}")).env("PATH", path).stdin(Stdio::null()))
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[tokio::test]
async fn every_command_that_it_prints_works_when_pasted() {
    let demo = Demo::with(&["--no-restart"]).await;
    let mut pasted = 0;
    for program in ["curl", "dig", "tombolo"] {
        let commands = printed(&demo, program);
        assert!(commands.len() >= 2, "{program}: {}", demo.log());
        if !is_installed(program) && program != "tombolo" {
            eprintln!("not tried, as there is no {program} here: {commands:?}");
            continue;
        }
        for command in commands {
            let said = paste(&demo, &command);
            assert!(said.ok && !said.stdout.trim().is_empty(), "{command}: {said:?}");
            assert!(program != "curl" || said.stdout.contains("\"cluster\""), "{command}: {said:?}");
            pasted += 1;
        }
    }
    assert!(pasted >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_kill_command_kills_comes_back_and_costs_no_request() {
    let demo = Demo::with(&["--quiet"]).await;
    let mut connections = Vec::new();
    for gateway in &demo.gateways()[..4] {
        let at = SocketAddr::new(*gateway, HTTPS);
        connections.push(demo.client().https(at, HOST, Protocol::Http2).await.unwrap());
    }
    let load = Load::start(connections);
    let in_west = |by: &&String| by.starts_with("west/");
    let six = move |served: &BTreeMap<String, usize>| served.len() == 6 && !served.keys().any(|by| in_west(&by));
    let nine = |served: &BTreeMap<String, usize>| served.len() == 9;
    load.until_served_by("all nine serve", nine).await;
    let kill = printed(&demo, "kill");
    assert_eq!(kill.len(), 1, "{}", demo.log());
    assert!(paste(&demo, &kill[0]).ok);
    load.until_served_by("west is out", six).await;
    load.until_served_by("west is back", nine).await;
    load.end_without_failure().await;
}

#[tokio::test]
async fn an_interrupt_ends_it_cleanly() {
    let mut demo = Demo::own().await;
    let pids = demo.all_pids();
    assert_eq!(pids.iter().collect::<std::collections::BTreeSet<_>>().len(), 1 + 1 + 3 * (1 + 2 + 2 + 3));
    signal("INT", &[demo.process().pid()]);
    let status = demo.process().wait();
    assert!(status.success(), "{status}: {}", demo.log());
    let left: Vec<u32> = pids.into_iter().filter(|pid| runs(*pid)).collect();
    assert!(left.is_empty(), "still running: {left:?}");
    assert!(!demo.state.join("env").exists());
}

#[tokio::test]
async fn a_demo_that_is_killed_leaves_no_process_behind() {
    let mut demo = Demo::own().await;
    let pids = demo.all_pids();
    demo.process().kill();
    let gone = || {
        let left: Vec<u32> = pids.iter().copied().filter(|pid| runs(*pid)).collect();
        std::future::ready(holds(left.is_empty(), || format!("{left:?}")))
    };
    eventually("all its processes end", gone).await;
}

#[tokio::test]
async fn a_second_demo_in_the_same_place_is_refused() {
    let demo = Demo::shared().await;
    let state = format!("--state={}", demo.state.display());
    let second = said(Command::new(TOMBOLO).args(["demo", &state, "--net=190"]).stdin(Stdio::null())).failure();
    assert!(second.contains("runs here already") && second.contains("--state"), "{second}");
}

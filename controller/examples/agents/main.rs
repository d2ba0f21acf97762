//! A mesh of simulated agents at a real controller: each enrolled, on its own mutual TLS, with services and members.
//! Measures how long worlds and changes take to reach all of them, and the controller's memory and CPU. Prints figures,
//! for people:
//!
//! ```text
//! cargo build --release --example agents -p tombolo-controller
//! TOMBOLO=target/release/tombolo target/release/examples/agents CLUSTERS SERVICES INSTANCES [joins N] [real] [churn SECONDS] [stuck N] [peers N]
//! ```
//!
//! Each of so many clusters has a part of each of so many services, with so many instances. All are of one GNS, and each
//! gateway sees those of all clusters, or of `peers`. The last `joins` of the clusters join one after another while the
//! others follow, and follow themselves at once. `real` adds a cluster with a real agent and gateway, and says what that
//! gateway takes. `stuck` further agents say that they live and take nothing. In the end the controller is killed, and all
//! agents come back at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

extern crate tombolo_controller as controller;

mod agent;
mod process;
mod real;
mod usage;

use std::time::{Duration, Instant};

use agent::{Agent, Mesh};
use controller::http::client::Client;
use process::Process;
use real::Cluster;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

/// Instance changes a second, of all clusters together.
const CHURN: usize = 1_000;
/// How often the clusters change what they see.
const TICK: Duration = Duration::from_millis(50);
/// No step takes longer, in a mesh that works.
const PATIENCE: Duration = Duration::from_secs(600);

fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "tombolo.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn shop() -> Value {
    let rows = json!([{"cluster": {"prefix": ""}, "namespace": {"exact": "shop"}}]);
    manifest("GlobalNamespace", "shop", json!({"domain": "shop.internal", "members": rows}))
}

/// The number behind a word among the arguments.
fn option(word: &str) -> Option<usize> {
    let at = std::env::args().position(|argument| argument == word)?;
    std::env::args().nth(at + 1)?.parse().ok()
}

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let sizes: Vec<usize> = std::env::args().skip(1).map_while(|argument| argument.parse().ok()).collect();
    let [clusters, services, instances] = sizes[..] else { panic!("usage: agents CLUSTERS SERVICES INSTANCES …") };
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path()).await;
    let peers = option("peers").unwrap_or(clusters);
    let mesh = Mesh { clusters, services, instances, peers };
    let (began, admin) = (Instant::now(), process.admin());
    let apply = json!({"manifests": [shop()]});
    let _: Value = admin.post("/v1alpha1/apply", &apply).await.unwrap();
    let mut identities = Vec::new();
    let at_first = clusters - option("joins").unwrap_or(0).min(clusters);
    for at in 0..at_first {
        identities.push(agent::join(at, &admin).await);
    }
    println!("{at_first} clusters joined in {:?}", began.elapsed());
    let follow = |(at, identity): (usize, &_)| Agent::follow(&mesh, at, identity, &process);
    let mut agents: Vec<_> = identities.iter().enumerate().map(follow).collect();
    for agent in &mut agents {
        timeout(PATIENCE, agent.news()).await.expect("an agent is not served");
    }
    agents.extend(join_later(at_first, &mesh, &admin, &process).await);
    all_know(&mut agents, &mesh).await;
    process.print(&format!("{clusters} clusters, {services} services, {} instances", clusters * services * instances));
    sleep(Duration::from_secs(10)).await;
    process.print("10 s later");
    probe(&mut agents, 20, "idle").await;
    process.print("after idle changes");
    let real = match std::env::args().any(|argument| argument == "real") {
        true => Some(Cluster::start(&mesh, &admin, directory.path()).await),
        false => None,
    };
    if let Some(real) = &real {
        rest(real).await;
    }
    if let Some(seconds) = option("churn") {
        churn(&mut agents, seconds, &process, real.as_ref()).await;
    }
    for at in 0..option("stuck").unwrap_or(0) {
        agent::join_stuck(at, &admin, &process).await;
    }
    if option("stuck").is_some() {
        probe(&mut agents, 20, "while some take nothing").await;
        process.print("while some take nothing");
    }
    restart(&mut agents, &mut process, directory.path()).await;
    all_know(&mut agents, &mesh).await;
    probe(&mut agents, 20, "after the return").await;
}

/// The other clusters join one after another, while those that have joined follow.
async fn join_later(at_first: usize, mesh: &Mesh, admin: &Client, process: &Process) -> Vec<Agent> {
    let (mut joined, mut took) = (Vec::new(), Vec::new());
    for at in at_first..mesh.clusters {
        let began = Instant::now();
        let identity = agent::join(at, admin).await;
        took.push(began.elapsed());
        joined.push(Agent::follow(mesh, at, &identity, process));
    }
    if !took.is_empty() {
        println!("{} further clusters joined in {:?}", took.len(), took.iter().sum::<Duration>());
        print_times("a join while the others follow", took);
        process.print("after the further joins");
    }
    joined
}

async fn all_know(agents: &mut [Agent], mesh: &Mesh) {
    let began = Instant::now();
    for agent in agents.iter_mut() {
        timeout(PATIENCE, agent.knows_all(mesh)).await.expect("an agent has not the whole world");
    }
    println!("after {:?} more all of them know all", began.elapsed());
}

/// How long one changed service of the first cluster takes to all others.
async fn probe(agents: &mut [Agent], times: usize, when: &str) {
    let mut took = Vec::new();
    let (first, others) = agents.split_first_mut().unwrap();
    for _ in 0..times {
        sleep(Duration::from_millis(50 + fastrand::u64(..150))).await;
        let mark = format!("v{}", fastrand::u32(..));
        let began = Instant::now();
        first.mark(&mark);
        for other in others.iter_mut() {
            timeout(PATIENCE, other.knows_mark(&mark)).await.expect("a change did not come");
        }
        took.push(began.elapsed());
    }
    print_times(&format!("a change reaches all others, {when}"), took);
}

fn print_times(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    println!("{what}: p50 {:?}, p99 {:?}, longest {:?} of {}", at(50), at(99), at(100), took.len());
}

/// What the real gateway takes while nothing changes.
async fn rest(real: &Cluster) {
    let (before, began) = (real.cpu(), Instant::now());
    sleep(Duration::from_secs(10)).await;
    println!("the gateway takes {:.3} of a core while nothing changes", share(real.cpu() - before, began));
    real.print("idle");
}

fn share(spent: Duration, began: Instant) -> f64 {
    spent.as_secs_f64() / began.elapsed().as_secs_f64()
}

async fn churn(agents: &mut [Agent], seconds: usize, process: &Process, real: Option<&Cluster>) {
    let (before, began) = (process.cpu(), Instant::now());
    let of_real = real.map(Cluster::cpu);
    let each = (CHURN * usize::try_from(TICK.as_millis()).unwrap() / 1000).div_ceil(agents.len());
    let churning: Vec<_> = agents.iter().map(|agent| tokio::spawn(agent.churn(each, TICK))).collect();
    let rounds = seconds * 5;
    let _ = timeout(Duration::from_secs(seconds as u64), probe(agents, rounds, "while all churn")).await;
    churning.iter().for_each(tokio::task::JoinHandle::abort);
    let changes = each * agents.len() * 20;
    println!(
        "churn of {changes} changes/s: the controller takes {:.2} of a core",
        share(process.cpu() - before, began)
    );
    process.print("after the churn");
    if let Some((real, before)) = real.zip(of_real) {
        println!("the gateway takes {:.2} of a core meanwhile", share(real.cpu() - before, began));
        real.print("after the churn");
        sleep(Duration::from_secs(20)).await;
        real.print("20 s later");
    }
}

async fn restart(agents: &mut [Agent], process: &mut Process, directory: &std::path::Path) {
    agents.iter_mut().for_each(Agent::forget_news);
    process.kill();
    sleep(Duration::from_secs(3)).await; // all are dialling again, at their slowest
    let began = Instant::now();
    *process = Process::start(directory).await;
    println!("the controller answers after {:?}", began.elapsed());
    let news = agents.iter_mut().map(|agent| async {
        timeout(PATIENCE, agent.news()).await.expect("an agent is not served again");
        began.elapsed()
    });
    let took = futures_util::future::join_all(news).await;
    print_times("all come back at once; served after", took);
    process.print("all are back");
}

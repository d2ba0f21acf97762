//! Connections stay with the thread to which they were dealt, with all that their requests need.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support::demo::{Demo, HTTP};
use crate::support::http::{Connection, Outcome, Protocol, plain};
use crate::support::process::{Process, arguments, signal, with_flags};
use crate::support::router::{self, Router};
use crate::support::{eventually, holds, streams, upstream};

const PORT: u16 = 15_080;

/// The names of a process's threads.
fn threads(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    tasks.filter_map(|task| Some(std::fs::read_to_string(task.join("comm")).ok()?.trim().to_owned())).collect()
}

/// How many of the clients had their answer by each connection to the instance; one asks after the other.
async fn by_connection(clients: &mut [Connection]) -> Outcome<Vec<usize>> {
    let mut asked = BTreeMap::<Vec<u8>, usize>::new();
    for client in clients {
        *asked.entry(client.get("/port").await?.body.to_vec()).or_default() += 1;
    }
    Ok(asked.into_values().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_worker_has_as_many_clients_and_a_connection_of_its_own_to_the_instance() {
    let [home, instance] = [1, 2].map(|host| router::address(9, host));
    let at = SocketAddr::new(instance, 9000);
    upstream::serve(at).await;
    let manifests = router::shop(&format!("{home}/32"))
        + &streams::service("local", "web", &format!("port: {PORT}"), &[at])
        + "---\n"
        + &router::public("clear", "web", PORT, "{mode: http}");
    let router = Router::start(home, &manifests, &["--workers=3"]);
    let connect = async || plain(home, router.at(HTTP), "clear.example.com", Protocol::Http1).await;
    eventually("it serves", async || {
        let answer = connect().await?.get("/port").await?;
        holds(answer.status == 200, || format!("{answer:?}"))
    })
    .await;
    let names = threads(router.process.pid());
    let workers = |number| names.iter().filter(|name| **name == format!("worker-{number}")).count();
    assert_eq!([0, 1, 2, 3].map(workers), [1, 1, 1, 0], "{names:?}");

    // Where connections end while others begin, numbers differ for a moment.
    eventually("three clients share each of three connections", async || {
        let mut clients = Vec::new();
        for _ in 0..9 {
            clients.push(connect().await?);
        }
        by_connection(&mut clients).await?;
        let asked = by_connection(&mut clients).await?;
        holds(asked == [3, 3, 3], || format!("{asked:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_worker_has_a_tunnel_to_each_peer() {
    let demo = Demo::own().await;
    let pids = demo.pids("north_gw_a");
    let arguments = with_flags(&arguments(pids[0]), &["--workers=3"]);
    signal("KILL", &pids);
    let _gateway = Process::start(&arguments, &demo.state.join("three.log"));
    let tunnels = async || {
        let peers = demo.cli(|cli| cli.json(&["peers"]));
        let rows = peers["items"].as_array().unwrap().iter();
        let rows = rows.filter(|row| row["fromCluster"] == "north" && row["fromGateway"] == "gw-a");
        let tunnels: Vec<_> = rows.map(|row| row["tunnels"].as_u64().unwrap()).collect();
        holds(tunnels == [3, 3, 3, 3], || peers.to_string())
    };
    eventually("three lead to each gateway of the two other clusters", tunnels).await;
}

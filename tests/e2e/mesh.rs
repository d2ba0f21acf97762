//! Calls of workloads, by the names that a service has everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;

use crate::support::demo::{CLUSTERS, Demo, SERVICE};
use crate::support::http::{Answer, Connection, Outcome, Protocol, by_and_by, empty, full, plain};
use crate::support::{eventually, holds, upstream};

const CART: &str = "cart.shop.internal";

/// A workload of a cluster, connected to one of its gateways.
async fn workload(demo: &Demo, cluster: u8, host: &str) -> Connection {
    let at = SocketAddr::new(demo.gateway(cluster, 0), SERVICE);
    plain(demo.workload(cluster), at, host, Protocol::Http1).await.unwrap()
}

#[tokio::test]
async fn a_workload_of_any_cluster_reaches_the_instances_of_all_clusters_over_one_connection() {
    let demo = Demo::shared().await;
    for cluster in 0..3 {
        let mut connection = workload(demo, cluster, CART).await;
        let mut served: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..90 {
            let answer = connection.get("/").await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            *served.entry(answer.served_by()).or_default() += 1;
        }
        assert_eq!(served.len(), 9, "from {}: {served:#?}", CLUSTERS[cluster as usize]);
    }
}

async fn answers(connection: &mut Connection, count: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..count {
        let answer = connection.get("/").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answers.push(answer);
    }
    answers
}

#[tokio::test]
async fn a_caller_that_belongs_to_no_namespace_is_refused() {
    let demo = Demo::shared().await;
    for stranger in [demo.address(0, 3, 1), "127.0.0.1".parse().unwrap()] {
        let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
        let mut connection = plain(stranger, at, CART, Protocol::Http1).await.unwrap();
        assert_eq!(connection.get("/").await.unwrap().status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn a_versions_name_reaches_that_version_and_a_clusters_name_that_cluster() {
    let demo = Demo::shared().await;
    let mut version = workload(demo, 0, &format!("v2.{CART}")).await;
    let answers_of_v2 = answers(&mut version, 30).await;
    assert!(answers_of_v2.iter().all(|answer| answer.json()["version"] == "v2"));
    assert_eq!(answers_of_v2.iter().map(Answer::cluster).collect::<BTreeSet<_>>().len(), 3);
    for cluster in CLUSTERS {
        let mut only = workload(demo, 0, &format!("{cluster}.{CART}")).await;
        assert!(answers(&mut only, 12).await.iter().all(|answer| answer.cluster() == cluster));
    }
}

#[tokio::test]
async fn an_unknown_service_is_refused_and_the_connection_lives() {
    let demo = Demo::shared().await;
    let mut connection = workload(demo, 0, "nobody.shop.internal").await;
    let refused = connection.get("/").await.unwrap();
    assert!(refused.status.is_client_error() || refused.status == StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    connection.authority = format!("{CART}:{SERVICE}");
    assert_eq!(connection.get("/").await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_head_has_a_get_s_headers_and_no_body() {
    let demo = Demo::shared().await;
    let mut connection = workload(demo, 1, CART).await;
    for _ in 0..6 {
        let answer = connection.send(Method::HEAD, "/", HeaderMap::new(), empty()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body.is_empty() && answer.header("content-length").parse::<u32>().unwrap() > 50, "{answer:?}");
    }
}

#[tokio::test]
async fn three_megabytes_arrive_whole_in_this_cluster_and_in_another() {
    let demo = Demo::shared().await;
    for caller in [0, 2] {
        let mut connection = own_service(demo, 0, caller, &format!("count-{caller}"), 21 + caller).await;
        for _ in 0..3 {
            let sent =
                connection.send(Method::POST, "/count", HeaderMap::new(), full(three_megabytes())).await.unwrap();
            assert_eq!((sent.status, &sent.body[..]), (StatusCode::OK, &b"3145728"[..]), "from cluster {caller}");
        }
    }
}

#[tokio::test]
async fn three_megabytes_flow_both_ways_at_once_in_this_cluster_and_across_two() {
    let demo = Demo::shared().await;
    for caller in [0, 2] {
        let mut connection = own_service(demo, 0, caller, &format!("flow-{caller}"), 24 + caller).await;
        let echoed = connection.send(Method::POST, "/echo", HeaderMap::new(), full(three_megabytes())).await.unwrap();
        assert_eq!((echoed.status, echoed.body.len()), (StatusCode::OK, 3 << 20), "from cluster {caller}");
        assert!(echoed.body == three_megabytes());
    }
}

/// No two stretches of it look alike.
fn three_megabytes() -> Bytes {
    (0..3_u32 << 18).flat_map(u32::to_be_bytes).collect()
}

#[tokio::test]
async fn a_stream_arrives_as_it_is_sent_and_not_at_its_end() {
    let demo = Demo::shared().await;
    let mut connection = own_service(demo, 0, 1, "stream", 31).await;
    let answer = connection.open(Method::GET, "/drip", HeaderMap::new(), empty()).await.unwrap();
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&first[..], b"one\n", "the first line comes alone");
    assert_eq!(&body.collect().await.unwrap().to_bytes()[..], b"two\nthree\n");
}

#[tokio::test]
async fn what_is_echoed_comes_back_before_the_request_ends() {
    let demo = Demo::shared().await;
    let mut connection = own_service(demo, 0, 2, "echo", 32).await;
    let (sender, body) = by_and_by();
    sender.send(Bytes::from_static(b"ping")).await.unwrap();
    let talk = async {
        let answer = connection.open(Method::POST, "/echo", HeaderMap::new(), body).await.unwrap();
        let mut body = answer.into_body();
        for word in ["ping", "pong"] {
            assert_eq!(&body.frame().await.unwrap().unwrap().into_data().unwrap()[..], word.as_bytes());
            sender.send(Bytes::from_static(b"pong")).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), talk).await.expect("no echo while the request was under way");
}

/// A service with one instance of the test's own in a cluster, and a workload (of another, perhaps) that reaches it.
async fn own_service(demo: &Demo, cluster: u8, caller: u8, name: &str, host: u8) -> Connection {
    let at = SocketAddr::new(demo.address(cluster, 1, host), 9000);
    upstream::serve(at).await;
    let services = demo.state.join(CLUSTERS[cluster as usize]).join("services");
    upstream::register(&services, cluster.into(), name, at);
    let mut connection = workload(demo, caller, &format!("{name}.shop.internal")).await;
    eventually("the new service answers", async || reached(&mut connection).await).await;
    connection
}

async fn reached(connection: &mut Connection) -> Outcome<()> {
    let answer = connection.get("/").await?;
    holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
}

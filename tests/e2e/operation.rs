//! What those who run it see: health, metrics, the access log, and a clean end.

use std::net::SocketAddr;

use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::support::demo::{ADMIN, Demo, HOST, HTTPS, SERVICE};
use crate::support::http::{Answer, Protocol, empty, plain};
use crate::support::process::{runs, signal};
use crate::support::{eventually, holds, upstream};

async fn ask(demo: &Demo, cluster: u8, fourth: u8, path: &str) -> Answer {
    let at = SocketAddr::new(demo.address(cluster, 0, fourth), ADMIN);
    let mut connection = plain([127, 0, 0, 1].into(), at, "admin", Protocol::Http1).await.unwrap();
    connection.get(path).await.unwrap()
}

#[tokio::test]
async fn every_process_tells_its_health_and_its_metrics() {
    let demo = Demo::shared().await;
    let controller = [(0, 1)];
    let others = (0..3).flat_map(|cluster| [4, 11, 12, 53, 54].map(|fourth| (cluster, fourth)));
    for (cluster, fourth) in controller.into_iter().chain(others) {
        for path in ["/healthz", "/readyz", "/metrics"] {
            let answer = ask(demo, cluster, fourth, path).await;
            assert_eq!(answer.status, StatusCode::OK, "{cluster} {fourth} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_gateways_metrics_count_its_requests_and_its_refusals() {
    let demo = Demo::shared().await;
    let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
    let mut connection = demo.client().https(at, HOST, Protocol::Http2).await.unwrap();
    connection.get("/").await.unwrap();
    connection.authority = "nobody.example.com".to_owned();
    connection.get("/").await.unwrap();
    let counted = || async {
        let text = String::from_utf8(ask(demo, 0, 11, "/metrics").await.body.to_vec()).unwrap();
        let counts = |word: &str| text.lines().any(|line| line.starts_with("tombolo_") && line.contains(word));
        holds(counts("request") && counts("misdirected"), || text.clone())
    };
    eventually("both are counted", counted).await;
}

#[tokio::test]
async fn the_access_log_has_one_line_of_json_for_each_request() {
    let demo = Demo::shared().await;
    let at = SocketAddr::new(demo.gateway(1, 1), HTTPS);
    let mut connection = demo.client().https(at, HOST, Protocol::Http2).await.unwrap();
    let served_by = connection.get("/find-me?item=1").await.unwrap().served_by();
    let logged = || async {
        let log = std::fs::read_to_string(demo.state.join("logs/south-gw-b.access.log")).unwrap();
        let lines = log.lines().filter(|line| line.contains("/find-me"));
        let records: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        holds(records.len() == 1, || format!("{records:?}")).map(|()| records[0].clone())
    };
    let record = eventually("the request is logged", logged).await;
    assert_eq!(record["status"], 200);
    assert_eq!(record["served_by"], served_by);
    assert_eq!(record["path"], "/find-me?item=1");
}

#[tokio::test]
async fn a_gateway_that_is_asked_to_stop_ends_what_it_began_and_then_itself() {
    let demo = Demo::own().await;
    let at = SocketAddr::new(demo.address(0, 1, 30), 9000);
    upstream::serve(at).await;
    upstream::register(&demo.state.join("north/services"), 0, "slow", at);
    let gateway = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let connect = || plain(demo.workload(0), gateway, "slow.shop.internal", Protocol::Http1);
    let found = || async { holds(connect().await?.get("/").await?.status == StatusCode::OK, || "not yet".to_owned()) };
    eventually("the slow service is found", found).await;

    let mut connection = connect().await.unwrap();
    let answer = connection.open(Method::GET, "/drip", HeaderMap::new(), empty()).await.unwrap();
    let pid = demo.pids("north_gw_a")[0];
    signal("TERM", &[pid]);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], b"one\ntwo\nthree\n", "what was under way is not cut");
    let ended = || std::future::ready(holds(!runs(pid), || "it runs".to_owned()));
    eventually("it ends", ended).await;
    assert!(connect().await.is_err(), "nobody listens any more");
}

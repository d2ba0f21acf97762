//! What instances may do with their connections without a client's noticing it.

use std::net::SocketAddr;

use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;

use super::{WAYS, Way, instance, services, until_found};
use crate::support::demo::{Demo, SERVICE};
use crate::support::fickle::Fickle;
use crate::support::http::{Connection, Protocol, empty, full, plain};
use crate::support::leaver::{self, Leaver};
use crate::support::upstream;

async fn connect(demo: &Demo, service: &str, protocol: Protocol) -> Connection {
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    plain(demo.workload(0), at, &format!("{service}.shop.internal"), protocol).await.unwrap()
}

/// A service of which the instance closes each connection when the second request has come.
async fn tired(demo: &Demo, way: Way, number: u8) -> (Fickle, Connection) {
    let (service, at) = (format!("tired-{number}"), instance(demo, way, number));
    let fickle = Fickle::serve(at).await;
    upstream::register(&services(demo, way), way.cluster(), &service, at);
    until_found(demo, &service).await;
    (fickle, connect(demo, &service, Protocol::Http1).await)
}

#[tokio::test]
async fn no_get_fails_because_its_connection_was_old() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([156, 157]) {
        let (_, mut connection) = tired(demo, way, number).await;
        for turn in 0..100 {
            let answer = connection.get("/tired").await.unwrap();
            assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"ok"[..]), "{way:?} {turn}");
        }
    }
}

#[tokio::test]
async fn a_post_is_sent_once_even_if_its_connection_was_old() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([158, 159]) {
        let (fickle, mut connection) = tired(demo, way, number).await;
        for turn in 0..20 {
            assert_eq!(connection.get("/tired").await.unwrap().status, StatusCode::OK, "{way:?} {turn}");
            let path = format!("/order/{turn}");
            // It has been read, and what came of it nobody knows; in another gateway the connection may be new.
            let answer = connection.send(Method::POST, &path, HeaderMap::new(), full("")).await.unwrap();
            assert!([StatusCode::OK, StatusCode::BAD_GATEWAY].contains(&answer.status), "{way:?} {turn}: {answer:?}");
            assert_eq!(fickle.count(&format!("POST {path} ")), 1, "{way:?} {turn}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn after_goaway_requests_take_a_new_connection_while_old_ones_go_on() {
    let demo = Demo::shared().await;
    let (way, at) = (Way::OneGateway, instance(demo, Way::OneGateway, 160));
    let leaver = Leaver::serve(at).await;
    upstream::register_as("http2", &services(demo, way), way.cluster(), "leaver", at);
    until_found(demo, "leaver").await;
    let mut long = connect(demo, "leaver", Protocol::Http2).await;
    let held = long.open(Method::GET, "/held", HeaderMap::new(), empty()).await.unwrap();
    let before = leaver.connections(); // one, or one for each worker

    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = connect(demo, "leaver", protocol).await;
        for path in ["/leave", "/1", "/2", "/leave", "/3", "/4"] {
            assert_eq!(connection.get(path).await.unwrap().status, StatusCode::OK, "{protocol:?} {path}");
        }
    }
    assert!(leaver.connections() > before);

    leaver.go_on();
    assert_eq!(&held.into_body().collect().await.unwrap().to_bytes()[..], b"held");
}

/// Whatever the method: it was not seen (RFC 9113 section 6.8).
#[tokio::test]
async fn what_an_instance_has_not_seen_before_its_goaway_goes_to_it_again() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([170, 171]) {
        let (service, at) = (format!("hasty-{number}"), instance(demo, way, number));
        leaver::hasty(at).await;
        upstream::register_as("http2", &services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        let mut connection = connect(demo, &service, Protocol::Http1).await;
        for turn in 0..20 {
            for method in [Method::GET, Method::POST] {
                let answer = connection.send(method.clone(), "/", HeaderMap::new(), empty()).await.unwrap();
                assert_eq!(answer.status, StatusCode::OK, "{way:?} {turn} {method}: {answer:?}");
            }
        }
    }
}

//! Bodies of requests: of those that have none as a rule, and those that nobody takes.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::{Method, Request, StatusCode};

use super::{WAYS, Way, instance, logged, services, until_found, workload};
use crate::support::capture::{Arrived, Capture};
use crate::support::demo::{ADMIN, Demo, SERVICE};
use crate::support::fickle::Fickle;
use crate::support::http::{Outcome, Protocol, plain};
use crate::support::http2::Http2;
use crate::support::raw::Raw;
use crate::support::{eventually, holds, upstream};

/// A body that goes unread for so long is blocked.
const STILL: Duration = Duration::from_secs(1);

async fn captured(demo: &Demo, way: Way, service: &str, number: u8) -> Capture {
    let at = instance(demo, way, number);
    let capture = Capture::serve(at).await;
    upstream::register(&services(demo, way), way.cluster(), service, at);
    until_found(demo, service).await;
    capture
}

/// What came for a path, once.
fn arrived(capture: &Capture, path: &str) -> Arrived {
    let mut arrived = capture.requests().into_iter().filter(|request| request.target == path);
    let (Some(first), None) = (arrived.next(), arrived.next()) else { panic!("not once: {:?}", capture.requests()) };
    first
}

#[tokio::test]
async fn the_chunked_body_of_a_get_arrives_whole() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([151, 152]) {
        let service = format!("chunked-get-{number}");
        let capture = captured(demo, way, &service, number).await;
        let mut connection = Raw::over(workload(demo, SERVICE).await);
        let head = format!("GET /chunked HTTP/1.1\r\nHost: {service}.shop.internal:{SERVICE}\r\n");
        connection.send(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").await;
        assert_eq!(connection.answer().await.status, StatusCode::OK, "{way:?}");
        assert_whole(&arrived(&capture, "/chunked"), way);
    }
}

#[tokio::test]
async fn the_body_of_a_get_on_http2_arrives_whole_without_a_length() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([153, 154]) {
        let service = format!("data-get-{number}");
        let capture = captured(demo, way, &service, number).await;
        let origin = format!("http://{service}.shop.internal:{SERVICE}");
        let mut connection = Http2::over(workload(demo, SERVICE).await, &origin).await.unwrap();
        let mut request = Request::new(());
        *request.uri_mut() = connection.uri("/data");
        let mut stream = connection.open(request).await.unwrap();
        stream.send("hello").unwrap();
        stream.send(" world").unwrap();
        stream.finish().unwrap();
        assert_eq!(stream.answer().await.unwrap().0.status(), StatusCode::OK, "{way:?}");
        assert_whole(&arrived(&capture, "/data"), way);
    }
}

fn assert_whole(arrived: &Arrived, way: Way) {
    assert_eq!((&arrived.method[..], &arrived.body[..]), ("GET", &b"hello world"[..]), "{way:?}");
    assert_eq!(arrived.header("transfer-encoding"), Some("chunked"), "{way:?}: {arrived:?}");
}

/// Sends until nothing moves.
async fn fill(sender: &mut SendStream<Bytes>) {
    sender.reserve_capacity(16 << 10);
    while let Ok(room) = tokio::time::timeout(STILL, poll_fn(|context| sender.poll_capacity(context))).await {
        let room = room.expect("it is still asked for").unwrap();
        sender.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
        sender.reserve_capacity(16 << 10);
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_body_is_blocked_is_noticed() {
    const SERVES: &str = "blocked-body";
    let demo = Demo::shared().await;
    let (way, at) = (Way::OneGateway, instance(demo, Way::OneGateway, 155));
    let fickle = Fickle::serve(at).await;
    upstream::register(&services(demo, way), way.cluster(), SERVES, at);
    until_found(demo, SERVES).await;

    let origin = format!("http://{SERVES}.shop.internal:{SERVICE}");
    let mut connection = Http2::over(workload(demo, SERVICE).await, &origin).await.unwrap();
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = connection.uri("/blocked");
    let mut sender = connection.open(request).await.unwrap().into_sender();
    fill(&mut sender).await;
    assert_eq!(fickle.count("POST /blocked "), 1);
    assert_eq!(in_flight(demo, SERVES).await, Ok(1));
    sender.send_reset(h2::Reason::CANCEL);

    let ends = || async { holds(in_flight(demo, SERVES).await? == 0, || "it is still under way".to_owned()) };
    eventually("the request has ended", ends).await;
    let line = logged(demo, "/blocked").await;
    assert_eq!(line["refusal"], "client_gone", "{line}");
    // And not only when there was nobody to tell that the instance is too slow.
    assert!(line["failures"][0].as_str().unwrap().ends_with("the client broke off"), "{line}");
}

/// How many requests to a service are under way in the first gateway.
async fn in_flight(demo: &Demo, service: &str) -> Outcome<u64> {
    let at = SocketAddr::new(demo.gateway(0, 0), ADMIN);
    let text = plain([127, 0, 0, 1].into(), at, "admin", Protocol::Http1).await?.get("/metrics").await?.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    let ours =
        |line: &&str| line.starts_with("tombolo_requests_in_flight{") && line.contains(&format!("\"{service}\""));
    let line = text.lines().find(ours).ok_or("no such series")?;
    line.rsplit(' ').next().unwrap().parse().map_err(|error| format!("{line}: {error}"))
}

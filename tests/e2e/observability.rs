//! What a gateway tells of each request, and of each connection that brought none.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::demo::{Demo, HOST, HTTP, HTTPS};
use crate::support::http::{Protocol, empty};
use crate::support::moody::Moody;
use crate::support::router::address;
use crate::support::shop::{CLEAR, RIVAL, SECURE, Shop, lines};
use crate::support::{eventually, holds};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    pairs.iter().map(pair).collect()
}

async fn router(network: u8) -> (Shop, Moody) {
    let instance = Moody::start(SocketAddr::new(address(network, 11), 9000)).await;
    (Shop::start(network, &[instance.at]).await, instance)
}

/// The line of the access log for which the condition holds.
async fn line(log: impl Fn() -> Vec<Value>, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = || std::future::ready(log().into_iter().find(&wanted).ok_or("no such line"));
    eventually(what, found).await
}

#[tokio::test]
async fn a_trace_is_continued_and_a_name_kept_from_the_client_to_the_instance_and_back() {
    let (router, instance) = router(150).await;
    instance.asked();
    let mut connection = router.connect().await.unwrap();
    let parent = format!("00-{TRACE}-b7ad6b7169203331-00");
    let sent = headers(&[
        ("traceparent", &parent),
        ("tracestate", "congo=t61"),
        ("x-request-id", "order-17"),
        ("user-agent", "tester/1"),
    ]);
    let answer = connection.send(Method::GET, "/traced", sent, empty()).await.unwrap();
    assert_eq!(answer.header("x-request-id"), "order-17");
    let asked = instance.asked().remove(0).headers;
    let line = line(|| router.access_log(), "the request's line", |line| line["path"] == "/traced").await;
    let span = line["span_id"].as_str().unwrap();
    assert_eq!(asked["traceparent"], format!("00-{TRACE}-{span}-00"));
    assert_ne!(span, "b7ad6b7169203331");
    assert_eq!(
        (&asked["tracestate"], &asked["x-request-id"]),
        (&"congo=t61".parse().unwrap(), &"order-17".parse().unwrap())
    );
    for (field, value) in [
        ("trace_id", TRACE),
        ("request_id", "order-17"),
        ("user_agent", "tester/1"),
        ("protocol", "HTTP/1.1"),
        ("door", "http"),
        ("host", &format!("{CLEAR}:{HTTP}")),
        ("service", "web"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(line["head_us"].as_u64() <= line["duration_us"].as_u64() && line["head_us"].is_u64(), "{line}");
}

#[tokio::test]
async fn without_a_fit_trace_or_name_the_gateway_makes_its_own() {
    let (router, instance) = router(151).await;
    instance.asked();
    let mut connection = router.connect().await.unwrap();
    let unfit = [
        headers(&[]),
        headers(&[("traceparent", "00-zz"), ("tracestate", "congo=t61"), ("x-request-id", "two words")]),
        headers(&[("traceparent", &format!("00-{TRACE}-0000000000000000-01")), ("x-request-id", &"x".repeat(129))]),
    ];
    let mut made = BTreeSet::new();
    for unfit in unfit {
        let answer = connection.send(Method::GET, "/", unfit, empty()).await.unwrap();
        let asked = instance.asked().remove(0).headers;
        let (parent, name) = (asked["traceparent"].to_str().unwrap(), asked["x-request-id"].to_str().unwrap());
        assert!(parent.starts_with("00-") && parent.ends_with("-03") && !parent.contains(TRACE), "{parent}");
        assert!(name.len() == 32 && name == answer.header("x-request-id"), "{name}");
        assert!(!asked.contains_key("tracestate"), "it belongs to no trace");
        made.insert(parent.to_owned());
        made.insert(name.to_owned());
    }
    assert_eq!(made.len(), 6, "each is new: {made:?}");
}

#[tokio::test]
async fn one_trace_goes_through_two_gateways_with_a_span_at_each() {
    let demo = Demo::shared().await;
    let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
    let mut connection = demo.client().https(at, HOST, Protocol::Http2).await.unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    // Until one of them was served elsewhere, which the third is at the latest.
    let there = async || {
        let sent = headers(&[("traceparent", &parent), ("x-request-id", "through-both")]);
        let answer = connection.send(Method::GET, "/", sent, empty()).await?;
        assert_eq!(answer.header("x-request-id"), "through-both");
        holds(answer.cluster() == "south", || format!("{answer:?}"))
    };
    eventually("south serves", there).await;
    let log = |gateways: &'static [&'static str]| {
        let read = |gateway: &&str| {
            lines(&std::fs::read_to_string(demo.state.join(format!("logs/{gateway}.access.log"))).unwrap())
        };
        move || gateways.iter().flat_map(read).collect::<Vec<_>>()
    };
    let destination = line(log(&["south-gw-a", "south-gw-b"]), "the destination's line", |line| {
        line["trace_id"] == trace && line["door"] == "tunnel"
    });
    let destination = destination.await;
    let origin = line(log(&["north-gw-a"]), "the origin's line", |line| {
        line["trace_id"] == trace && line["served_by"] == destination["served_by"]
    });
    let origin = origin.await;
    assert_eq!((&origin["request_id"], &destination["request_id"]), (&"through-both".into(), &"through-both".into()));
    assert_ne!(origin["span_id"], destination["span_id"]);
}

#[tokio::test]
async fn each_refused_request_has_a_line_with_its_reason_and_its_name() {
    let (router, _instance) = router(152).await;
    let clear = router.at(HTTP);
    let cases = [
        ("unknown_host", "GET /unknown_host HTTP/1.1\r\nhost: nobody.example.com\r\n", 404),
        ("look_alike", &format!("GET /look_alike HTTP/1.1\r\nhost: {CLEAR}\r\ntransfer_encoding: x\r\n"), 400),
        ("target", &format!("GET /target%zz HTTP/1.1\r\nhost: {CLEAR}\r\n"), 400),
        (
            "two_framings",
            &format!(
                "POST /two_framings HTTP/1.1\r\nhost: {CLEAR}\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n"
            ),
            400,
        ),
    ];
    for (reason, head, status) in cases {
        let name = format!("refused-{reason}");
        let answer = exchange(clear, &format!("{head}x-request-id: {name}\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{reason}: {answer}");
        assert!(answer.to_lowercase().contains(&format!("x-request-id: {name}\r\n")), "{reason}: {answer}");
        let line = line(|| router.access_log(), reason, |line| line["request_id"] == *name).await;
        assert_eq!((&line["refusal"], &line["status"]), (&reason.into(), &status.into()), "{line}");
        assert!(line.get("cut").is_none() && line["trace_id"].as_str().is_some_and(|id| id.len() == 32), "{line}");
    }
}

#[tokio::test]
async fn a_request_for_a_host_of_another_tenant_is_refused_with_the_name_that_the_connection_is_for() {
    let (router, _instance) = router(153).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = router.client().https(router.at(HTTPS), SECURE, protocol).await.unwrap();
        connection.authority = RIVAL.to_owned();
        let path = format!("/{protocol:?}");
        assert_eq!(connection.get(&path).await.unwrap().status, StatusCode::MISDIRECTED_REQUEST);
        let line = line(|| router.access_log(), "its line", |line| line["path"] == *path).await;
        assert_eq!([&line["refusal"], &line["sni"], &line["host"]], ["misdirected", SECURE, RIVAL], "{line}");
    }
}

/// What comes back until the end, or until nothing more comes.
async fn exchange(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") && stream.read_buf(&mut answer).await.unwrap_or(0) > 0
    {
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn each_refused_connection_has_a_line_and_is_counted() {
    let (router, _instance) = router(154).await;
    let client = router.client();
    client.tls(router.at(HTTPS), "nobody.example.com", b"h2").await.unwrap_err();
    let stranger = crate::support::http::Client::trusting(&crate::support::certs::Authority::new("stranger").pem());
    stranger.tls(router.at(HTTPS), SECURE, b"h2").await.unwrap_err();
    drop(TcpStream::connect(router.at(HTTPS)).await.unwrap());
    for reason in ["unknown_name", "handshake_failed", "handshake_abandoned"] {
        let line = line(|| router.access_log(), reason, |line| line["refusal"] == reason).await;
        assert_eq!((&line["door"], &line["client"]), (&"https".into(), &"127.0.0.1".into()), "{line}");
        assert!(line.get("method").is_none() && line["cause"].is_string(), "{line}");
        let count = router.metric("tombolo_refused_connections_total", &format!("\"{reason}\"")).await.unwrap();
        assert!(count >= 1.0, "{reason}: {count}");
    }
    let failed = router.metric("tombolo_handshakes_total", "\"unknown_name\"").await.unwrap();
    assert!(failed >= 1.0);
}

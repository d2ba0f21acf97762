//! HTTP/1 byte by byte, as no well-behaved client library would send it.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::demo::{Demo, HOST, HTTPS};
use crate::support::eventually;

/// All that a gateway answers in text, until it closes.
async fn converse(demo: &Demo, gateway: IpAddr, text: &str) -> String {
    String::from_utf8(exchange(demo, gateway, text.as_bytes()).await).unwrap()
}

async fn exchange(demo: &Demo, gateway: IpAddr, bytes: &[u8]) -> Vec<u8> {
    let at = SocketAddr::new(gateway, HTTPS);
    let mut stream = demo.client().tls(at, HOST, b"http/1.1").await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).await.unwrap();
    answers
}

fn request(line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {HOST}:{HTTPS}\r\n{more}")
}

/// Where each of these is, one behind the other.
fn in_order(text: &str, parts: &[&str]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| rest.split_once(part).map(|(_, after)| rest = after).is_some())
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_whoever_serves_them() {
    let demo = Demo::shared().await;
    let text = [
        request("GET /1", "\r\n"),
        request("POST /echo", "Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n"),
        request("POST /count", "Content-Length: 4\r\n\r\nGET "),
        request("HEAD /3", "\r\n"),
        request("GET /4", "Connection: close\r\n\r\n"),
    ];
    let answers = converse(demo, demo.gateway(0, 0), &text.concat()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 5, "{answers}");
    let order =
        ["\"/1\"", "hello\r\n0\r\n\r\n", "\r\n\r\n4HTTP/1.1", "\r\n\r\nHTTP/1.1", "connection: close", "\"/4\""];
    assert!(in_order(&answers, &order), "{answers}");
}

/// What the origin gateway says of a request besides must not make it too large for the next one.
#[tokio::test]
async fn as_many_fields_as_may_be_pass_through_tunnels_too() {
    let demo = Demo::shared().await;
    let many = |last: &str| request("GET /", &("X: y\r\n".repeat(92) + last + "\r\n\r\n"));
    let answers = converse(demo, demo.gateway(0, 1), &(many("X: y").repeat(17) + &many("Connection: close"))).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 18, "{answers}");
    for cluster in ["north", "south", "west"] {
        assert!(answers.contains(&format!("tombolo-served-by: {cluster}/")), "{answers}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_hears_no_chunks() {
    let demo = Demo::shared().await;
    let text = format!("GET /trailers HTTP/1.0\r\nHost: {HOST}:{HTTPS}\r\n\r\n");
    let answer = converse(demo, demo.gateway(1, 0), &text).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("transfer-encoding"), "{answer}");
    assert_eq!(body, "what follows this is a trailer\n");
}

#[tokio::test]
async fn trailers_reach_whoever_asks_for_them() {
    let demo = Demo::shared().await;
    let text = request("GET /trailers", "TE: trailers\r\nConnection: te, close\r\n\r\n");
    let answer = converse(demo, demo.gateway(2, 0), &text).await;
    assert!(answer.ends_with("\r\n0\r\nx-end: reached\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn what_no_two_servers_would_read_alike_is_refused_and_logged() {
    let demo = Demo::shared().await;
    let cases = [
        (format!("GET /lf-{HTTPS} HTTP/1.1\nHost: {HOST}\n\n"), "400", "line_end"),
        (request("GET /fold", "X: a\r\n b\r\n\r\n"), "400", "folded_field"),
        (request("GET /space", "Content-Length : 3\r\n\r\nabc"), "400", "field_name"),
        (request("GET /nul", "X: a\0b\r\n\r\n"), "400", "control_byte"),
        (request("GET /a#b", "\r\n"), "400", "target"),
        (request("GET  /two-spaces", "\r\n"), "400", "request_line"),
        (
            format!("GET / HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "400",
            "transfer_encoding",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "400", "http2_preface"),
        (request("GET /many", &("X: y\r\n".repeat(101) + "\r\n")), "431", "header_count"),
        (request(&format!("GET /{}", "x".repeat(9000)), "\r\n"), "414", "target_too_long"),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), "505", "version_unsupported"),
    ];
    for (text, status, _) in &cases {
        let answer = converse(demo, demo.gateway(2, 1), &(text.clone() + &request("GET /smuggled", "\r\n"))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text:?}: {answer}");
        assert!(answer.contains("connection: close\r\n") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    }
    let log = demo.state.join("logs/west-gw-b.access.log");
    eventually("a line for each", async || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        let missing = |code: &str| !lines.contains(&format!("\"refusal\":\"{code}\""));
        match cases.iter().find(|(_, _, code)| missing(code)) {
            Some((_, _, code)) => Err(format!("no {code} in {lines}")),
            None => Ok(()),
        }
    })
    .await;
    assert!(!std::fs::read_to_string(&log).unwrap().contains("/smuggled"));
}

#[tokio::test]
async fn a_websocket_is_opened_to_instances_of_every_cluster() {
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    let demo = Demo::shared().await;
    let fields = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    // A text and a close, masked with zeros (RFC 6455 section 5.2); early, so that they must be kept until the switch.
    let frames = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0];
    let bytes = [request("GET /ws", &fields).as_bytes(), &frames].concat();
    for _ in 0..9 {
        let answer = exchange(demo, demo.gateway(0, 1), &bytes).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
        assert!(text.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
        assert!(answer.ends_with(&[0x81, 2, b'h', b'i', 0x88, 0]), "{answer:?}");
    }
}

//! WebSocket: opened by an upgrade, or on a stream of HTTP/2.

use super::{ECHO, WAYS, public, workload};
use crate::support::demo::{Demo, HTTPS, SERVICE};
use crate::support::http::{Protocol, empty};
use crate::support::http2::Http2;
use crate::support::websocket::{BINARY, CLOSE, PING, PONG, TEXT, WebSocket};

/// Talks, and ends as the standard says: a close is answered by a close, and then the connection ends.
async fn talks(mut socket: WebSocket, of: &str) {
    let long = vec![9; 100_000];
    for (opcode, payload) in [(TEXT, &b"hello"[..]), (BINARY, &long), (TEXT, b"again")] {
        socket.send(opcode, payload).await;
        let (echoed, back) = socket.next().await;
        assert!(echoed == opcode && back == payload, "{of}: {echoed} {}", back.len());
    }
    socket.send(PING, b"are you there").await;
    assert_eq!(socket.next().await, (PONG, b"are you there"[..].into()), "{of}");
    let normal = 1000_u16.to_be_bytes();
    socket.send(CLOSE, &normal).await;
    assert_eq!(socket.next().await, (CLOSE, bytes::Bytes::copy_from_slice(&normal)), "{of}");
    assert!(socket.has_ended().await, "{of}");
}

#[tokio::test]
async fn a_workload_opens_one_by_an_upgrade() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let host = format!("{}:{SERVICE}", way.host("echo"));
        let socket = WebSocket::upgrade(workload(demo, SERVICE).await, &host, "/ws").await;
        talks(socket.unwrap_or_else(|error| panic!("{way:?}: {error}")), &format!("{way:?}")).await;
    }
}

#[tokio::test]
async fn a_workload_opens_one_on_a_stream_of_http2() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let origin = format!("http://{}:{SERVICE}", way.host("echo"));
        let mut connection = Http2::over(workload(demo, SERVICE).await, &origin).await.unwrap();
        let socket = WebSocket::connect(&mut connection, "/ws").await;
        talks(socket.unwrap_or_else(|error| panic!("{way:?}: {error}")), &format!("{way:?}")).await;
    }
}

#[tokio::test]
async fn a_public_client_opens_one_by_an_upgrade() {
    let demo = Demo::shared().await;
    for _ in 0..3 {
        let host = format!("{ECHO}:{HTTPS}");
        let socket = WebSocket::upgrade(public(demo, b"http/1.1").await, &host, "/ws").await.unwrap();
        talks(socket, "public").await;
    }
}

#[tokio::test]
async fn a_public_client_opens_several_on_streams_of_one_connection() {
    let demo = Demo::shared().await;
    let mut connection = Http2::over(public(demo, b"h2").await, &format!("https://{ECHO}:{HTTPS}")).await.unwrap();
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(WebSocket::connect(&mut connection, "/ws").await.unwrap());
    }
    for socket in sockets {
        talks(socket, "public").await;
    }
}

#[tokio::test]
async fn what_an_instance_answers_instead_comes_back_as_it_is() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let host = format!("{}:{SERVICE}", way.host("echo"));
        let error = WebSocket::upgrade(workload(demo, SERVICE).await, &host, "/status/418").await.err().unwrap();
        assert!(error.starts_with("HTTP/1.1 418 "), "{way:?}: {error}");
        let mut connection = super::echo(demo, way, Protocol::Http1).await;
        let plain = connection.send(http::Method::GET, "/ws", http::HeaderMap::new(), empty()).await.unwrap();
        assert_eq!(plain.status, http::StatusCode::UPGRADE_REQUIRED, "{way:?}");
    }
}

//! WebSocket: opened by an upgrade, or on a stream of HTTP/2.

use super::{ECHO, WAYS, Way, instance, logged, public, services, until_found, workload};
use crate::support::capture::Capture;
use crate::support::demo::{Demo, GRPC, HTTPS, SERVICE};
use crate::support::http::{Protocol, empty, plain};
use crate::support::http2::Http2;
use crate::support::leaver::Leaver;
use crate::support::upstream;
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

#[tokio::test]
async fn an_instance_of_http2_takes_one_from_a_client_of_http1() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let host = format!("{}:{GRPC}", way.host("echo"));
        let socket = WebSocket::upgrade(workload(demo, GRPC).await, &host, "/ws").await;
        talks(socket.unwrap_or_else(|error| panic!("{way:?}: {error}")), &format!("{way:?}")).await;
    }
}

/// What an instance takes is known when its settings have come (RFC 8441 section 3), and then only.
#[tokio::test]
async fn one_may_be_the_first_request_on_a_connection_to_an_instance_of_http2() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([167, 168]) {
        let (service, at) = (format!("first-{number}"), instance(demo, way, number));
        Leaver::serve(at).await;
        upstream::register_as("http2", &services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        let gateway = std::net::SocketAddr::new(demo.gateway(0, 0), SERVICE);
        let host = format!("{service}.shop.internal");
        for turn in 0..5 {
            // No request takes that connection after this.
            let mut connection = plain(demo.workload(0), gateway, &host, Protocol::Http1).await.unwrap();
            assert_eq!(connection.get("/leave").await.unwrap().status, http::StatusCode::OK, "{way:?} {turn}");
            let socket = WebSocket::upgrade(workload(demo, SERVICE).await, &format!("{host}:{SERVICE}"), "/ws").await;
            let mut socket = socket.unwrap_or_else(|error| panic!("{way:?} {turn}: {error}"));
            assert_eq!(socket.next().await, (TEXT, b"hello"[..].into()), "{way:?} {turn}");
        }
    }
}

/// An instance that doesn't switch would take what follows for the next request.
#[tokio::test]
async fn one_that_says_how_long_it_is_reaches_no_instance() {
    let demo = Demo::shared().await;
    let (way, at) = (Way::OneGateway, instance(demo, Way::OneGateway, 169));
    let capture = Capture::serve(at).await;
    upstream::register(&services(demo, way), way.cluster(), "lengthy", at);
    until_found(demo, "lengthy").await;
    let origin = format!("http://lengthy.shop.internal:{SERVICE}");
    let mut connection = Http2::over(workload(demo, SERVICE).await, &origin).await.unwrap();
    let mut request = WebSocket::request(&connection, "/lengthy").await;
    request.headers_mut().insert("content-length", "5".parse().unwrap());
    let mut stream = connection.open(request).await.unwrap();
    stream.send("GET /").unwrap();
    assert_eq!(stream.answer().await.unwrap().0.status(), http::StatusCode::BAD_REQUEST);
    assert_eq!(logged(demo, "/lengthy").await["refusal"], "bad_upgrade");

    // What was handed over before has arrived by then.
    until_found(demo, "lengthy").await;
    assert!(capture.requests().iter().all(|request| request.target == "/"), "{:?}", capture.requests());
}

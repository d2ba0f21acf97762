//! What a gateway does at its bounds: of descriptors, of connections, of their age; and at its end.

use std::convert::Infallible;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::support::demo::{ADMIN, Demo, HOST, HTTP, HTTPS};
use crate::support::http::{Body, Connection, Outcome, Protocol, empty, never_left, plain};
use crate::support::process::{Process, TOMBOLO, arguments, signal, with_flags};
use crate::support::{eventually, holds, upstream};

/// The first gateway of a demo, started again with more flags, and no more than so many descriptors.
async fn restarted(demo: &Demo, flags: &[&str], descriptors: usize) -> Process {
    let pids = demo.pids("north_gw_a");
    let arguments = arguments(pids[0]);
    signal("KILL", &pids);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")).arg(TOMBOLO);
    command.args(with_flags(&arguments, flags));
    let process = Process::spawn(command, &demo.state.join("restarted.log"));
    eventually("it serves", || demo.get_public(demo.gateway(0, 0))).await;
    process
}

async fn ask(demo: &Demo, path: &str) -> Outcome<(StatusCode, String)> {
    let at = SocketAddr::new(demo.gateway(0, 0), ADMIN);
    let answer = plain([127, 0, 0, 1].into(), at, "admin", Protocol::Http1).await?.get(path).await?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

async fn public(demo: &Demo, host: &str, protocol: Protocol) -> Outcome<Connection> {
    demo.client().https(SocketAddr::new(demo.gateway(0, 0), HTTPS), host, protocol).await
}

/// How many of these the gateway has closed.
fn closed(connections: &mut [TcpStream]) -> usize {
    let is_closed = |connection: &mut &mut TcpStream| match connection.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    connections.iter_mut().filter_map(|mut connection| is_closed(&mut connection).then_some(())).count()
}

fn connect(at: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(at).unwrap();
    connection.set_nonblocking(true).unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_descriptors_are_closed_at_once_and_the_gateway_goes_on() {
    let demo = Demo::own().await;
    let mut gateway = restarted(&demo, &[], 256).await;
    let at = SocketAddr::new(demo.gateway(0, 0), HTTP);
    let mut idle: Vec<TcpStream> = (0..600).map(|_| connect(at)).collect();
    let shed = || {
        let closed = closed(&mut idle);
        std::future::ready(holds(closed > 300, || format!("{closed} of 600 are closed")))
    };
    eventually("those that are too many are closed", shed).await;
    assert_eq!(ask(&demo, "/readyz").await.unwrap().0, StatusCode::OK);
    let (_, metrics) = ask(&demo, "/metrics").await.unwrap();
    let counted = metrics.lines().find(|line| line.starts_with("tombolo_connections_shed_total{limit=\"total\"}"));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    drop(idle);
    eventually("it serves again", || demo.get_public(demo.gateway(0, 0))).await;
    assert!(gateway.ended().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_runs_out_of_descriptors_closes_what_it_cannot_take_and_recovers() {
    let demo = Demo::own().await;
    let mut gateway = restarted(&demo, &["--max-connections=10000"], 128).await;
    let at = SocketAddr::new(demo.gateway(0, 0), HTTP);
    let mut idle: Vec<TcpStream> = (0..200).map(|_| connect(at)).collect();
    let shed = || {
        let closed = closed(&mut idle);
        std::future::ready(holds(closed > 100, || format!("{closed} of 200 are closed")))
    };
    eventually("those for which there is no descriptor are closed", shed).await;
    drop(idle);
    eventually("it serves again", || demo.get_public(demo.gateway(0, 0))).await;
    let counted = || async {
        let (_, metrics) = ask(&demo, "/metrics").await?;
        let line = "tombolo_connections_shed_total{limit=\"descriptors\"}";
        let line = metrics.lines().find(|said| said.starts_with(line));
        holds(line.is_some_and(|line| !line.ends_with(" 0")), || metrics.clone())
    };
    eventually("they are counted", counted).await;
    assert!(gateway.ended().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_its_share_of_connections_and_they_grow_no_older_than_they_may() {
    let demo = Demo::own().await;
    let flags = ["--max-connection-age=1", "--max-connections-per-client=10", "--connection-limit-exempt=127.0.0.0/24"];
    let _gateway = restarted(&demo, &flags, 1024).await;

    // The tests' own clients come from 127.0.0.1, and are exempt; this one is not.
    let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
    let mut open = Vec::new();
    let from = demo.workload(0);
    for _ in 0..10 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        open.push(socket.connect(at).await.unwrap());
    }
    let turned_away = || async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).map_err(|error| error.to_string())?;
        let connection = socket.connect(at).await.map_err(|error| error.to_string())?;
        let read = tokio::time::timeout(Duration::from_millis(200), connection.readable()).await;
        holds(read.is_ok(), || "it stays".to_owned())
    };
    eventually("the eleventh is closed", turned_away).await;
    drop(open);

    // HTTP/1: an answer says that it is the last. HTTP/2: GOAWAY, and no request is lost.
    let mut http1 = public(&demo, HOST, Protocol::Http1).await.unwrap();
    let last = async || {
        let answer = http1.get("/").await.expect("no request is lost");
        let closes = answer.headers.get("connection").is_some_and(|value| value == "close");
        holds(closes, || format!("{answer:?}"))
    };
    eventually("an old connection is closed", last).await;
    let mut http2 = public(&demo, HOST, Protocol::Http2).await.unwrap();
    let away = async || {
        let open = http2.is_open().await;
        if open && let Err(error) = http2.get("/").await {
            assert!(never_left(&error), "{error}");
        }
        holds(!open, || "it is open".to_owned())
    };
    eventually("an old connection goes away", away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_open_for_long_keep_nobody_out() {
    let demo = Demo::own().await;
    let echo = SocketAddr::new(demo.address(0, 1, 31), 9000);
    upstream::serve(echo).await;
    upstream::register(&demo.state.join("north/services"), 0, "idle", echo);
    let manifest = "apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {name: idle}\n\
                    spec: {globalNamespace: shop, service: idle, port: 8080, hosts: [{name: idle.example.com}], \
                    tls: {certificate: selfSigned}}\n";
    demo.cli(|cli| cli.apply(manifest)).success();
    let most = 4;
    let _gateway = restarted(&demo, &[&format!("--max-requests={most}")], 1024).await;
    let host = "idle.example.com";
    let found = || async {
        let answer = public(&demo, host, Protocol::Http2).await?.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    eventually("the host is found", found).await;
    let mut open = Vec::new();
    for _ in 0..2 * most {
        let mut connection = public(&demo, host, Protocol::Http2).await.unwrap();
        let answer = connection.open(Method::POST, "/echo", HeaderMap::new(), endless()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        open.push((connection, answer));
    }
    demo.get_public(demo.gateway(0, 0)).await.unwrap();
}

/// A body that never brings anything.
fn endless() -> Body {
    StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>()).boxed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_says_so_first_then_goes_away_and_finishes_what_it_began() {
    let demo = Demo::own().await;
    let slow = SocketAddr::new(demo.address(0, 1, 30), 9000);
    upstream::serve(slow).await;
    upstream::register(&demo.state.join("north/services"), 0, "slow", slow);
    let manifest = "apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {name: slow}\n\
                    spec: {globalNamespace: shop, service: slow, port: 8080, hosts: [{name: slow.example.com}], \
                    tls: {certificate: selfSigned}}\n";
    demo.cli(|cli| cli.apply(manifest)).success();
    let mut gateway = restarted(&demo, &["--drain-wait=3", "--drain-timeout=4"], 1024).await;
    let host = "slow.example.com";
    let found = || async {
        let answer = public(&demo, host, Protocol::Http2).await?.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    eventually("the slow host is found", found).await;

    let mut before = public(&demo, host, Protocol::Http2).await.unwrap();
    before.get("/").await.unwrap();
    // What never ends must not keep the gateway from ending.
    let mut endless = public(&demo, host, Protocol::Http2).await.unwrap();
    let endless =
        tokio::spawn(async move { endless.open(Method::POST, "/count", HeaderMap::new(), self::endless()).await });
    signal("TERM", &[gateway.pid()]);
    let unready = || async {
        let (status, text) = ask(&demo, "/readyz").await?;
        holds(status == StatusCode::SERVICE_UNAVAILABLE, || text)
    };
    eventually("it says that it is not ready", unready).await;
    demo.get_public(demo.gateway(0, 0)).await.expect("it still takes new connections");

    // A stream is always under way, up to the last that the gateway lets begin.
    let mut streams = 0;
    while before.is_open().await {
        let drip = before.open(Method::GET, "/drip", HeaderMap::new(), empty()).await;
        let Ok(answer) = drip else { break };
        let body = answer.into_body().collect().await.expect("a stream that began finishes").to_bytes();
        assert_eq!(&body[..], b"one\ntwo\nthree\n");
        streams += 1;
    }
    assert!(streams > 0);
    assert!(gateway.wait().success());
    assert!(endless.await.unwrap().is_err(), "what would never end is cut");
    let refused = public(&demo, host, Protocol::Http2).await.err().expect("nobody listens any more");
    assert!(refused.contains("refused"), "{refused}");
    // Who goes elsewhere is served.
    demo.get_public(demo.gateway(0, 1)).await.unwrap();
}

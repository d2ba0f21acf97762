#![allow(clippy::unwrap_used)]
//! Calls to an instance that does just what a test says.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::health::Changes;
use crate::health::fixtures::target;
use crate::upstream::Switch;

/// Where an instance listens, and the gateway's view of it.
struct Instance {
    listener: TcpListener,
    target: Arc<Target>,
}

impl Instance {
    async fn new() -> Instance {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = Arc::new(target(listener.local_addr().unwrap(), &Changes::default()));
        Instance { listener, target }
    }

    async fn accept(&self) -> Peer {
        Peer(self.listener.accept().await.unwrap().0)
    }

    async fn call(&self, request: &Outgoing) -> (Option<Sending>, Receiving) {
        start(self.target.clone(), request).await.unwrap()
    }
}

/// The instance's end of a connection.
struct Peer(TcpStream);

impl Peer {
    async fn hear(&mut self, text: &str) {
        let mut heard = vec![0; text.len()];
        self.0.read_exact(&mut heard).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), text);
    }

    async fn hear_head(&mut self) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            heard.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(heard).unwrap()
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }
}

fn request(body: Body, fields: &[(&'static str, &'static str)]) -> Outgoing {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    let method = if body == Body::None { Method::GET } else { Method::POST };
    let authority = HeaderValue::from_static("shop.example");
    Outgoing { method, target: "/".into(), authority, headers, body, switch: None, interim: true }
}

fn get() -> Outgoing {
    request(Body::None, &[])
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The rest of an answer, as text; trailers behind it.
async fn rest(receiving: &mut Receiving) -> Result<String, CallError> {
    let mut text = String::new();
    loop {
        match receiving.next().await? {
            Event::Body(part) => text += str::from_utf8(&part).unwrap(),
            Event::Trailers(trailers) => return Ok(text + &format!("{trailers:?}")),
            Event::End => return Ok(text),
        }
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let instance = Instance::new().await;
    let mut peer = None;
    for _ in 0..3 {
        let (_, mut receiving) = instance.call(&get()).await;
        let answering = async {
            let peer = match &mut peer {
                Some(peer) => peer,
                none => none.insert(instance.accept().await),
            };
            peer.hear_head().await;
            peer.say(OK).await;
        };
        let (head, ()) = tokio::join!(receiving.head(), answering);
        assert_eq!(head.unwrap().status, 200);
        assert_eq!(rest(&mut receiving).await.unwrap(), "ok");
        receiving.finish();
    }
}

/// A connection that has served one request, and what the instance sent with the answer.
async fn used(instance: &Instance, answer: &str) -> Peer {
    let (_, mut receiving) = instance.call(&get()).await;
    let answering = async {
        let mut peer = instance.accept().await;
        peer.hear_head().await;
        peer.say(answer).await;
        peer
    };
    let (head, peer) = tokio::join!(receiving.head(), answering);
    head.unwrap();
    rest(&mut receiving).await.unwrap();
    receiving.finish();
    peer
}

#[tokio::test]
async fn what_an_instance_may_close_is_told_from_what_it_broke() {
    let instance = Instance::new().await;
    let mut peer = used(&instance, OK).await;
    let (_, mut receiving) = instance.call(&get()).await;
    let closing = async {
        peer.hear_head().await;
        drop(peer);
    };
    let (head, ()) = tokio::join!(receiving.head(), closing);
    assert!(matches!(head, Err(CallError::Stale(_))), "it had been used");

    let (_, mut receiving) = instance.call(&get()).await;
    let closing = async { instance.accept().await.hear_head().await };
    let (head, _) = tokio::join!(receiving.head(), closing);
    assert!(matches!(head, Err(CallError::Broken(_))), "it was new");

    let mut peer = used(&instance, OK).await;
    let (_, mut receiving) = instance.call(&get()).await;
    let closing = async {
        peer.hear_head().await;
        peer.say("HTTP/1.1 200 OK\r\n").await;
        drop(peer);
    };
    let (head, ()) = tokio::join!(receiving.head(), closing);
    assert!(matches!(head, Err(CallError::Broken(_))), "an answer had begun");
}

#[tokio::test]
async fn a_connection_that_says_too_much_or_is_closed_serves_no_more() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let instance = Instance::new().await;
        let _peer = used(&instance, answer).await;
        let _call = instance.call(&get()).await;
        let another = tokio::time::timeout(Duration::from_secs(10), instance.accept()).await;
        assert!(another.is_ok(), "it was used again: {answer}");
    }
    let instance = Instance::new().await;
    drop(used(&instance, OK).await);
    // The end of the connection is known once the driver has seen it.
    let pool = &instance.target.connections.http1;
    let noticed = async {
        while let Some(line) = pool.take_idle() {
            pool.give_back(line);
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), noticed).await.is_ok(), "a closed one is kept");
}

#[tokio::test]
async fn heads_before_the_last_are_hints_where_they_are_wanted() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nlink: a\r\n\r\nHTTP/1.1 103 x\r\nlink: b\r\n\r\n";
    for interim in [true, false] {
        let instance = Instance::new().await;
        let (_, mut receiving) = instance.call(&Outgoing { interim, ..get() }).await;
        let answering = async {
            let mut peer = instance.accept().await;
            peer.hear_head().await;
            peer.say(&(answer.to_owned() + OK)).await;
            peer
        };
        let (first, _peer) = tokio::join!(receiving.head(), answering);
        let mut statuses = vec![first.unwrap().status.as_u16()];
        while statuses.last() != Some(&200) {
            statuses.push(receiving.head().await.unwrap().status.as_u16());
        }
        assert_eq!(statuses, if interim { vec![103, 103, 200] } else { vec![200] });
    }
}

#[tokio::test]
async fn a_body_ends_as_its_head_says() {
    for (answer, expected) in [
        ("transfer-encoding: chunked\r\n\r\n2\r\nok\r\n3  \r\nfoo\r\n0\r\nx: y\r\n\r\n", Some("okfoo{\"x\": \"y\"}")),
        ("transfer-encoding: chunked\r\n\r\n2\r\nok\r\n", None),
        ("content-length: 3\r\n\r\nok", None),
        ("\r\nuntil the end", Some("until the end")),
        ("transfer-encoding: chunked\r\n\r\nzz\r\nok", None),
    ] {
        let instance = Instance::new().await;
        let (_, mut receiving) = instance.call(&get()).await;
        let answering = async {
            let mut peer = instance.accept().await;
            peer.hear_head().await;
            peer.say(&format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        };
        let (head, ()) = tokio::join!(receiving.head(), answering);
        head.unwrap();
        assert_eq!(rest(&mut receiving).await.ok().as_deref(), expected, "{answer}");
    }
}

#[tokio::test]
async fn a_body_goes_out_framed_with_its_head() {
    let instance = Instance::new().await;
    let (sending, _receiving) = instance.call(&request(Body::Open, &[("trailer", "x")])).await;
    let (mut sending, mut peer) = (sending.unwrap(), instance.accept().await);
    let mut part = Bytes::from_static(b"hello");
    assert!(!sending.send(&mut part, false).await.unwrap() && part.is_empty());
    let mut trailers = Some(HeaderMap::from_iter([("x".parse().unwrap(), HeaderValue::from_static("y"))]));
    sending.end(&mut trailers).await.unwrap();
    assert!(peer.hear_head().await.ends_with("\r\ntrailer: x\r\ntransfer-encoding: chunked\r\n\r\n"));
    peer.hear("5\r\nhello\r\n0\r\nx: y\r\n\r\n").await;

    let (sending, _receiving) = instance.call(&request(Body::Open, &[])).await;
    let (mut sending, mut peer) = (sending.unwrap(), instance.accept().await);
    assert!(sending.send(&mut Bytes::from_static(b"last"), true).await.unwrap());
    peer.hear_head().await;
    peer.hear("4\r\nlast\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_body_is_as_long_as_it_said() {
    let instance = Instance::new().await;
    let (sending, _receiving) = instance.call(&request(Body::Length, &[("content-length", "5")])).await;
    let (mut sending, mut peer) = (sending.unwrap(), instance.accept().await);
    assert!(!sending.send(&mut Bytes::from_static(b"he"), false).await.unwrap());
    assert!(sending.end(&mut None).await.is_err(), "too short");
    assert!(sending.send(&mut Bytes::from_static(b"llo!"), true).await.is_err(), "too long");
    assert!(sending.send(&mut Bytes::from_static(b"llo"), true).await.unwrap());
    peer.hear_head().await;
    peer.hear("hello").await;
}

#[tokio::test]
async fn a_chunk_that_is_stopped_halfway_again_and_again_comes_out_whole() {
    let instance = Instance::new().await;
    let (sending, _receiving) = instance.call(&request(Body::Open, &[])).await;
    let (mut sending, mut peer) = (sending.unwrap(), instance.accept().await);
    let long = "x".repeat(8 << 20);
    let mut part = Bytes::from(long.clone());
    let sends = async {
        // Each try is given up as soon as it would have to wait.
        while !tokio::select! {
            biased;
            ended = sending.send(&mut part, true) => ended.unwrap(),
            () = tokio::task::yield_now() => false,
        } {}
    };
    let hears = async {
        peer.hear_head().await;
        peer.hear(&format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len())).await;
    };
    tokio::join!(sends, hears);
}

#[tokio::test]
async fn after_a_switch_both_halves_are_the_connections() {
    let instance = Instance::new().await;
    let (none, mut receiving) = instance.call(&Outgoing { switch: Some(Switch::WebSocket), ..get() }).await;
    assert!(none.is_none());
    let answering = async {
        let mut peer = instance.accept().await;
        peer.hear_head().await;
        peer.say("HTTP/1.1 101 Switching Protocols\r\n\r\nearly").await;
        peer
    };
    let (head, mut peer) = tokio::join!(receiving.head(), answering);
    assert_eq!(head.unwrap().status, 101);
    let mut sending = receiving.switched().unwrap();
    assert!(!sending.send(&mut Bytes::from_static(b"0\r\n\r\n"), false).await.unwrap());
    sending.end(&mut None).await.unwrap();
    let mut heard = String::new();
    peer.0.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "0\r\n\r\n");
    peer.say(" late").await;
    drop(peer);
    assert_eq!(rest(&mut receiving).await.unwrap(), "early late");
}

//! Whole connections, in memory and on a clock that runs by itself.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::exchange::{Door, Gone};

/// Does what the request's path says, and keeps what it saw.
#[derive(Default)]
struct Script(Mutex<Vec<String>>);

impl Script {
    fn saw(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
}

impl Handler for Script {
    async fn serve<E: Exchange>(&self, exchange: &mut E) {
        let path = String::from_utf8(exchange.head().raw_path().to_vec()).unwrap();
        self.saw(format!("{} {path}", exchange.head().method));
        if play(exchange, &path, self).await.is_err() {
            self.saw("gone");
            exchange.close();
        }
    }

    async fn refuse<E: Exchange>(&self, exchange: &mut E, refusal: Refusal) {
        self.saw(format!("{} {}", exchange.head().method, refusal.code()));
        answer(exchange, refusal.status().as_u16(), refusal.code()).await.unwrap();
    }
}

fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Box<ResponseHeader> {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    Box::new(head)
}

async fn answer<E: Exchange>(exchange: &mut E, status: u16, body: &str) -> Result<(), Gone> {
    let mut head = head(status, &[]);
    head.insert_header("content-length", body.len()).unwrap();
    exchange.respond(head, false).await?;
    exchange.write(Bytes::from(body.to_owned()), true).await
}

async fn play<E: Exchange>(exchange: &mut E, path: &str, script: &Script) -> Result<(), Gone> {
    match path {
        "/echo" => echo(exchange).await,
        "/refused" => answer(exchange, 403, "no").await,
        "/whole" => exchange.respond(head(200, &[]), true).await,
        "/short" | "/long" => {
            exchange.respond(head(200, &[("content-length", "5")]), false).await?;
            exchange.write(Bytes::from(if path == "/short" { "123" } else { "123456" }), true).await
        }
        "/hints" => {
            exchange.inform(head(103, &[("link", "</x>")])).await?;
            answer(exchange, 200, path).await
        }
        "/events" => {
            exchange.respond(head(200, &[]), false).await?;
            exchange.gone().await;
            Err(Gone)
        }
        "/huge" => {
            exchange.respond(head(200, &[]), false).await?;
            while exchange.write(Bytes::from_static(&[b'x'; 65536]), false).await.is_ok() {}
            Err(Gone)
        }
        "/switch" => {
            exchange.respond(head(101, &[("upgrade", "websocket")]), false).await?;
            while let Some(part) = exchange.read_body().await? {
                exchange.write(part, false).await?;
            }
            script.saw("the client ended");
            exchange.write(Bytes::from_static(b"bye"), true).await
        }
        _ => {
            while exchange.read_body().await?.is_some() {}
            answer(exchange, 200, path).await
        }
    }
}

async fn echo<E: Exchange>(exchange: &mut E) -> Result<(), Gone> {
    let mut parts = Vec::new();
    while let Some(part) = exchange.read_body().await? {
        parts.push(part);
    }
    exchange.respond(head(200, &[]), false).await?;
    for part in parts {
        exchange.write(part, false).await?;
    }
    let trailers = exchange.request_trailers().await?.unwrap_or_else(HeaderMap::new);
    exchange.trailers(trailers).await
}

/// A client's end of a connection, and the gateway's.
struct Talk {
    client: DuplexStream,
    serving: JoinHandle<()>,
    script: &'static Script,
    stop: watch::Sender<bool>,
}

fn connect(room: usize) -> Talk {
    let (client, server) = duplex(room);
    let script: &'static Script = Box::leak(Box::default());
    let (stop, stopping) = watch::channel(false);
    let entry = Entry::new(Door::mesh(), Ipv4Addr::LOCALHOST.into(), 80);
    let serving = tokio::spawn(async move { serve(script, server, &entry, &Limits::default(), stopping).await });
    Talk { client, serving, script, stop }
}

impl Talk {
    async fn say(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// Waits for this text and no more.
    async fn hear(&mut self, text: &str) {
        let mut heard = vec![0; text.len()];
        self.client.read_exact(&mut heard).await.unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), text);
    }

    /// All that comes until the gateway closes, without dates.
    async fn hear_all(&mut self) -> String {
        let mut heard = Vec::new();
        self.client.read_to_end(&mut heard).await.unwrap();
        let text = String::from_utf8(heard).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
    }

    fn seen(&self) -> Vec<String> {
        self.script.0.lock().unwrap().clone()
    }
}

/// What a client hears who says this and waits for the end.
async fn hear(text: &str) -> String {
    let mut talk = connect(1 << 20);
    talk.say(text).await;
    talk.hear_all().await
}

fn ok(body: &str, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
}

const CLOSE: &str = "connection: close\r\n";

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let text = "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
                POST /3 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n\
                \r\nGET /4 HTTP/1.1\r\nConnection: close\r\n\r\nGET /5 HTTP/1.1\r\n\r\n";
    let expected = [ok("/1", ""), ok("/2", ""), ok("/3", ""), ok("/4", CLOSE)].concat();
    assert_eq!(hear(text).await, expected);
    for at in 1..text.len() {
        let mut talk = connect(1 << 20);
        let (one, two) = text.split_at(at);
        talk.say(one).await;
        sleep(Duration::from_millis(1)).await;
        talk.say(two).await;
        assert_eq!(talk.hear_all().await, expected, "{at}");
        assert_eq!(talk.seen(), ["GET /1", "POST /2", "POST /3", "GET /4"], "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_both_ways() {
    let body = "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n";
    let told = hear(&format!("POST /echo HTTP/1.1\r\nTE: trailers\r\n{body}")).await;
    let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{CLOSE}\r\n");
    assert_eq!(told, format!("{head}2\r\nab\r\n0\r\nx-sum: 7\r\n\r\n"));
    let untold = hear(&format!("POST /echo HTTP/1.1\r\n{body}")).await;
    assert_eq!(untold, format!("{head}2\r\nab\r\n0\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn http_1_0_gets_lengths_or_the_end() {
    assert_eq!(hear("GET /1 HTTP/1.0\r\n\r\n").await, ok("/1", CLOSE));
    let text = "GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n";
    assert_eq!(hear(text).await, [ok("/1", "connection: keep-alive\r\n"), ok("/2", CLOSE)].concat());
    let text = "POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab";
    assert_eq!(hear(text).await, format!("HTTP/1.1 200 OK\r\n{CLOSE}\r\nab"));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_body_gets_none() {
    let text = "HEAD /1 HTTP/1.1\r\n\r\nGET /whole HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(hear(text).await, format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", ok("", CLOSE)));
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_go_on_when_its_body_is_wanted() {
    let head = |path| format!("POST {path} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let mut talk = connect(1 << 10);
    talk.say(&head("/1")).await;
    talk.hear("HTTP/1.1 100 Continue\r\n\r\n").await;
    talk.say("ab").await;
    talk.say(&(head("/2") + "cd")).await;
    talk.say(&head("/refused")).await;
    let refused = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n{CLOSE}\r\nno");
    assert_eq!(talk.hear_all().await, [ok("/1", ""), ok("/2", ""), refused].concat());
}

#[tokio::test(start_paused = true)]
async fn a_refused_body_is_taken_if_it_is_small() {
    let post =
        |length: usize| format!("POST /refused HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    assert_eq!(hear(&(post(100_000) + "GET /1 HTTP/1.1\r\n\r\n")).await, refused.to_owned() + &ok("/1", ""));
    assert_eq!(hear(&(post(500_000) + "GET /1 HTTP/1.1\r\n\r\n")).await, refused);
}

#[tokio::test(start_paused = true)]
async fn hints_are_for_http_1_1() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let text = |version| format!("GET /hints HTTP/{version}\r\nConnection: close\r\n\r\n");
    assert_eq!(hear(&text("1.1")).await, hints.to_owned() + &ok("/hints", CLOSE));
    assert_eq!(hear(&text("1.0")).await, ok("/hints", CLOSE));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_its_length_breaks_the_connection() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    for path in ["/short", "/long"] {
        assert_eq!(hear(&format!("GET {path} HTTP/1.1\r\n\r\nGET /1 HTTP/1.1\r\n\r\n")).await, head, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_goes_out_before_its_body_is_there() {
    let mut talk = connect(1 << 10);
    talk.say("GET /events HTTP/1.1\r\n\r\n").await;
    talk.hear("HTTP/1.1 200 OK\r\ndate: ").await;
    drop(talk.client);
    talk.serving.await.unwrap();
    assert_eq!(talk.script.0.lock().unwrap().as_slice(), ["GET /events", "gone"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_switch_bytes_are_only_bytes() {
    let mut talk = connect(1 << 10);
    talk.say("GET /switch HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly\0").await;
    sleep(Duration::from_secs(1000)).await;
    talk.say("late\r\n").await;
    talk.client.shutdown().await.unwrap();
    let switched = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    assert_eq!(talk.hear_all().await, format!("{switched}early\0late\r\nbye"));
    assert_eq!(talk.seen(), ["GET /switch", "the client ended"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_refused_and_ends_the_connection() {
    let long = "x".repeat(9 << 10);
    let large = format!("GET / HTTP/1.1\r\n{}", format!("x: {long}\r\n").repeat(8));
    let many = format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(101));
    let cases = [
        ("GET / HTTP/1.1\nHost: a\n\n", "400 Bad Request", "- line_end"),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\nGET", "400 Bad Request", "GET field_name"),
        ("PUT /\0", "400 Bad Request", "- control_byte"),
        ("\u{16}\u{3}\u{1}", "400 Bad Request", "- control_byte"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 Bad Request", "- http2_preface"),
        ("GET / HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported", "- version_unsupported"),
        (&format!("GET /{long}"), "414 URI Too Long", "- target_too_long"),
        (&large, "431 Request Header Fields Too Large", "GET header_bytes"),
        (&many, "431 Request Header Fields Too Large", "GET header_count"),
    ];
    for (text, status, seen) in cases {
        let mut talk = connect(1 << 20);
        talk.say(text).await;
        let code = seen.split(' ').nth(1).unwrap();
        let expected = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{CLOSE}\r\n{code}", code.len());
        assert_eq!(talk.hear_all().await, expected);
        assert_eq!(talk.seen(), [seen]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_two_framings_is_never_read() {
    let text =
        "POST /1 HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
    let mut talk = connect(1 << 10);
    talk.say(text).await;
    assert_eq!(talk.hear_all().await, "");
    assert_eq!(talk.seen(), ["POST /1", "gone"]);
}

/// How long a client is borne that says this and no more, and what it hears.
async fn borne(text: &str) -> (u64, String) {
    let began = Instant::now();
    let heard = hear(text).await;
    (began.elapsed().as_secs(), heard)
}

#[tokio::test(start_paused = true)]
async fn silence_is_borne_so_long() {
    let slow = format!("HTTP/1.1 408 Request Timeout\r\ncontent-length: 12\r\n{CLOSE}\r\nhead_timeout");
    assert_eq!(borne("").await, (10, String::new()));
    assert_eq!(borne("G").await, (10, slow.clone()));
    assert_eq!(borne("\r\n").await, (10, String::new()));
    assert_eq!(borne("GET /1 HTTP/1.1\r\n\r\n").await, (75, ok("/1", "")));
    assert_eq!(borne("GET /1 HTTP/1.1\r\n\r\nG").await, (10, ok("/1", "") + &slow));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_has_no_longer() {
    let mut talk = connect(1 << 10);
    let began = Instant::now();
    for byte in "GET /a-long-path HTTP/1.1\r\n".split("").filter(|byte| !byte.is_empty()) {
        if talk.client.write_all(byte.as_bytes()).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(talk.hear_all().await.contains("head_timeout"));
    talk.serving.await.unwrap();
    assert!(talk.script.0.lock().unwrap().iter().eq(["- head_timeout"]));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_an_answer_is_gone() {
    let mut talk = connect(1 << 10);
    talk.say("GET /huge HTTP/1.1\r\n\r\n").await;
    let began = Instant::now();
    talk.serving.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(talk.script.0.lock().unwrap().as_slice(), ["GET /huge", "gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_gateway_lets_requests_that_are_on_their_way_in() {
    let mut talk = connect(1 << 10);
    talk.say("GET /1 HTTP/1.1\r\n\r\n").await;
    sleep(Duration::from_secs(1)).await;
    talk.stop.send_replace(true);
    advance(Duration::from_secs(1)).await;
    talk.say("GET /2 HTTP/1.1\r\n\r\n").await;
    assert_eq!(talk.hear_all().await, ok("/1", "") + &ok("/2", CLOSE));

    let mut idle = connect(1 << 10);
    let began = Instant::now();
    idle.stop.send_replace(true);
    assert_eq!(idle.hear_all().await, "");
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_small() {
    let (_client, server) = duplex(1);
    let script: &'static Script = Box::leak(Box::default());
    let (_stop, stopping) = watch::channel(false);
    let entry = Entry::new(Door::mesh(), Ipv4Addr::LOCALHOST.into(), 80);
    let limits = Limits::default();
    let serving = serve(script, server, &entry, &limits, stopping);
    assert!(size_of_val(&serving) < 2048, "{}", size_of_val(&serving));

    let (mut client, server) = duplex(64);
    let mut wire = Wire::new(server);
    client.write_all(b"GET").await.unwrap();
    wire.fill(head::ROOM).await.unwrap();
    assert!(timeout(IDLE, wire.fill(head::ROOM)).await.is_err() && &*wire.input == b"GET");
    wire.input.clear();
    assert!(timeout(IDLE, wire.fill(head::ROOM)).await.is_err() && wire.input.capacity() == 0);
}

//! Floods on HTTP/2: each closes the connection that sends it, costs little memory, and leaves others alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::demo::{ADMIN, Demo, HOST, HTTPS};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, block, frame, integer,
};
use crate::support::http::{Client, Outcome, Protocol};
use crate::support::{eventually, holds, upstream};

/// What a flood may cost, in KiB.
const COST: u64 = 16 * 1024;

/// Further frames than these are not sent: whoever bears so many bears all.
const MOST: usize = 50_000_000;

/// A request without a body, open or whole.
fn request(stream: u32, flags: u8, path: &str, more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let pseudo: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", HOST.as_bytes()), (b":path", path.as_bytes())];
    frame(HEADERS, flags, stream, &block(&[&pseudo, more].concat()))
}

/// The gateway that is flooded.
struct Victim<'d> {
    demo: &'d Demo,
    client: Client,
    at: SocketAddr,
    pid: u32,
}

impl Victim<'_> {
    fn new(demo: &Demo) -> Victim<'_> {
        let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
        Victim { demo, client: demo.client(), at, pid: demo.pids("north_gw_a")[0] }
    }

    /// The memory that it holds, in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How often connections were closed for this.
    async fn closed_for(&self, kind: &str) -> Outcome<u64> {
        let at = SocketAddr::new(self.demo.gateway(0, 0), ADMIN);
        let mut admin = crate::support::http::plain([127, 0, 0, 1].into(), at, "admin", Protocol::Http1).await?;
        let text = String::from_utf8(admin.get("/metrics").await?.body.to_vec()).unwrap();
        let line = format!("tombolo_http2_floods_total{{kind=\"{kind}\"}} ");
        let count = text.lines().find_map(|found| found.strip_prefix(&line)).unwrap_or("0");
        count.parse().map_err(|error| format!("{count}: {error}"))
    }

    /// Sends one thing again and again until the connection is closed. Panics if it isn't, or if that cost too much.
    async fn bears(&self, name: &str, first: &[u8], mut next: impl FnMut(u32) -> Vec<u8>) {
        let before = self.memory();
        let mut raw = Raw::open(&self.client, self.at, HOST, &[]).await;
        raw.stream.write_all(first).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(raw.stream);
        let closed = Arc::new(AtomicBool::new(false));
        let end = closed.clone();
        let reading = tokio::spawn(async move {
            let mut answers = vec![0; 64 * 1024];
            while reader.read(&mut answers).await.is_ok_and(|length| length > 0) {}
            end.store(true, Ordering::Relaxed);
        });
        let (mut sent, mut peak) = (0, before);
        for number in 0_u32.. {
            let bytes = next(number);
            sent += bytes.len();
            if writer.write_all(&bytes).await.is_err() || closed.load(Ordering::Relaxed) {
                break;
            }
            if number % 256 == 0 {
                peak = peak.max(self.memory());
                tokio::task::yield_now().await;
            }
            assert!(sent < MOST, "{name}: {sent} bytes were borne");
        }
        reading.await.unwrap();
        peak = peak.max(self.memory());
        assert!(peak - before <= COST, "{name}: {} KiB for {sent} bytes", peak - before);
    }
}

/// Resets streams only once they are answered: no queue of the library's can be full of them.
async fn resets_late(victim: &Victim<'_>) {
    let mut raw = Raw::open(&victim.client, victim.at, HOST, &[]).await;
    for number in 0..10_000 {
        let stream = 2 * number + 1;
        let asked = raw.stream.write_all(&request(stream, END_STREAM | END_HEADERS, "/", &[])).await;
        let answered = loop {
            match raw.next().await {
                Some((HEADERS, _, of, _)) if of == stream => break true,
                Some(_) => {}
                None => break false,
            }
        };
        let reset = raw.stream.write_all(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
        if !answered || asked.is_err() || reset.is_err() {
            return;
        }
    }
    panic!("all resets were borne");
}

/// Whoever floods the gateway is told that this is why its connection ends.
async fn says_why(victim: &Victim<'_>) {
    const ENHANCE_YOUR_CALM: [u8; 4] = 11_u32.to_be_bytes();
    let mut raw = Raw::open(&victim.client, victim.at, HOST, &[]).await;
    // More than the gateway takes of these, and less than would fill what it can't read any more.
    raw.stream.write_all(&frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(600)).await.unwrap();
    loop {
        let (kind, _, _, payload) = raw.next().await.expect("GOAWAY before the end");
        if kind == GOAWAY {
            return assert_eq!(payload[4..8], ENHANCE_YOUR_CALM, "{payload:?}");
        }
    }
}

/// A client that asks all the while, and must be served all the while.
struct Bystander {
    stop: Arc<AtomicBool>,
    served: tokio::task::JoinHandle<usize>,
}

impl Bystander {
    async fn start(victim: &Victim<'_>) -> Bystander {
        let mut connection = victim.client.https(victim.at, HOST, Protocol::Http2).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let served = tokio::spawn(async move {
            let mut served = 0;
            while !until.load(Ordering::Relaxed) {
                let answer = connection.get("/").await.expect("served beside a flood");
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                served += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            served
        });
        Bystander { stop, served }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.served.await.unwrap() > 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_close_whoever_sends_them_and_nobody_else() {
    let demo = Demo::own().await;
    let victim = Victim::new(&demo);
    eventually("it serves", || demo.get_public(demo.gateway(0, 0))).await;
    let bystander = Bystander::start(&victim).await;
    let stream = |number: u32| 2 * number + 1;
    let whole = END_STREAM | END_HEADERS;

    victim
        .bears("resets", &[], |n| {
            let reset = frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes());
            [request(stream(n), whole, "/", &[]), reset].concat()
        })
        .await;
    resets_late(&victim).await;
    says_why(&victim).await;
    victim.bears("settings", &[], |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])).await;
    victim.bears("acknowledgements", &[], |_| frame(SETTINGS, 1, 0, &[])).await;
    victim.bears("pings", &[], |_| frame(PING, 0, 0, b"anyone??")).await;
    victim.bears("priorities", &[], |n| frame(PRIORITY, 0, stream(n), &[0, 0, 0, 0, 1])).await;
    victim.bears("unknown frames", &[], |_| frame(0xEE, 0, 0, &[0; 1_000])).await;
    victim.bears("window updates", &[], |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())).await;
    let open = request(1, END_HEADERS, "/", &[]);
    victim.bears("empty data", &open, |_| frame(DATA, 0, 1, &[])).await;
    victim.bears("padding", &open, |_| frame(DATA, 8, 1, &[3, 0, 0, 0])).await;
    victim.bears("updates of a stream", &open, |_| frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await;
    let begun = request(1, END_STREAM, "/", &[]);
    victim.bears("empty continuations", &begun, |_| frame(CONTINUATION, 0, 1, &[])).await;
    let field = block(&[(b"x-more", &[b'a'; 1_000])]);
    victim.bears("continuations", &begun, |_| frame(CONTINUATION, 0, 1, &field)).await;
    victim.bears("a long frame", &[], |_| frame(DATA, 0, 1, &[0; 100_000])).await;
    let crumbs = vec![(&b"cookie"[..], &b"a=b"[..]); 500];
    victim.bears("cookie crumbs", &[], |n| request(stream(n), whole, "/", &crumbs)).await;
    let repeated = vec![(&b"x"[..], &b""[..]); 120];
    victim.bears("repeated fields", &[], |n| request(stream(n), whole, "/", &repeated)).await;
    victim.bears("bad heads", &[], |n| request(stream(n), whole, "/%2f", &[])).await;
    victim.bears("no heads", &[], |n| frame(HEADERS, whole, stream(n), &block(&[(b"x", b"y")]))).await;
    victim.bears("a header bomb", &[], |n| bomb(stream(n))).await;

    // Of empty frames and of bad requests the HTTP/2 library has bounds of its own: either may be the first to close.
    for kind in ["resets", "settings", "pings", "useless", "window_updates"] {
        let closed = victim.closed_for(kind).await.unwrap();
        assert!(closed > 0, "{kind} was not counted");
    }
    bystander.end().await;
}

/// A field of 4,000 bytes, kept in HPACK's table, and named again in a byte, thousands of times (RFC 7541 section 6.1).
fn bomb(stream: u32) -> Vec<u8> {
    let mut bomb =
        block(&[(b":method", b"GET"), (b":scheme", b"https"), (b":authority", HOST.as_bytes()), (b":path", b"/")]);
    bomb.push(0x40);
    integer(&mut bomb, 0, 7, 1);
    bomb.push(b'x');
    integer(&mut bomb, 0, 7, 4_000);
    bomb.extend([b'a'; 4_000]);
    bomb.extend([0x80 | 62; 10_000]);
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &bomb)
}

/// An answer of 4 MiB.
async fn serve_much(at: SocketAddr, asked: Arc<AtomicUsize>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let much = Bytes::from(vec![b'a'; 4 << 20]);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (much, asked) = (much.clone(), asked.clone());
            let answer = service_fn(move |_| {
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = Response::new(Full::new(much.clone()));
                async { Ok::<_, std::convert::Infallible>(answer) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_makes_room_for_wait_at_their_source() {
    const STREAMS: u32 = 100;
    let demo = Demo::own().await;
    let victim = Victim::new(&demo);
    let (asked, instance) = (Arc::<AtomicUsize>::default(), SocketAddr::new(demo.address(0, 1, 70), 9000));
    serve_much(instance, asked.clone()).await;
    upstream::register(&demo.state.join("north/services"), 0, "much", instance);
    let public = serde_json::json!({
        "apiVersion": "tombolo.dev/v1alpha1", "kind": "PublicService", "metadata": { "name": "much" },
        "spec": {
            "globalNamespace": "shop", "service": "much", "port": 8080, "hosts": [{ "name": "much.example.com" }],
            "tls": { "certificate": "selfSigned" },
        },
    });
    demo.cli(|cli| cli.apply(&public.to_string())).success();
    let reached = || async {
        let mut connection = victim.client.https(victim.at, "much.example.com", Protocol::Http2).await?;
        let answer = connection.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{}", answer.status))
    };
    eventually("it is served", reached).await;

    let bystander = Bystander::start(&victim).await;
    let (before, asked_before) = (victim.memory(), asked.load(Ordering::Relaxed));
    // SETTINGS_INITIAL_WINDOW_SIZE, 0 (RFC 9113 section 6.5.2).
    let mut raw = Raw::open(&victim.client, victim.at, "much.example.com", &[(4, 0)]).await;
    for number in 0..STREAMS {
        let head = block(&[
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"much.example.com"),
            (b":path", b"/"),
        ]);
        raw.stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &head)).await.unwrap();
    }
    let all = || {
        let asked = asked.load(Ordering::Relaxed) - asked_before;
        std::future::ready(holds(asked >= STREAMS as usize, || format!("{asked} asked")))
    };
    eventually("all are asked for", all).await;
    // Whatever is read ahead is read by then.
    let mut connection = victim.client.https(victim.at, HOST, Protocol::Http2).await.unwrap();
    for _ in 0..200 {
        connection.get("/").await.unwrap();
    }
    let cost = victim.memory().saturating_sub(before);
    assert!(cost <= COST, "{cost} KiB for {STREAMS} answers");
    bystander.end().await;
}

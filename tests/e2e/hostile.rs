//! Thousands of hostile requests, over real sockets to the real binary. None may reach an instance in a form that two
//! parsers could read differently; none may pass a rule about hosts or paths in disguise; and where one was sent, there
//! are never two.

mod disguises;
mod http1;
mod http2;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use self::http1::{Attack, Attacks, Fate};
use crate::support::capture::{Arrived, Capture};
use crate::support::demo::{Demo, HTTP, HTTPS};
use crate::support::frames::{Raw, Reply};
use crate::support::http::{Outcome, Protocol, plain};
use crate::support::{eventually, holds, upstream};

/// So many attacks are under way at once.
const AT_ONCE: usize = 48;

/// What the gateway understood is answered in this time; where it isn't, it waits for more.
const SILENCE: Duration = Duration::from_secs(2);

/// Once there cannot be more, it knows what to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// A published host that lets in `/open` and nothing else, and the instance behind it.
struct Target {
    demo: &'static Demo,
    capture: Capture,
    host: &'static str,
    at: SocketAddr,
}

impl Target {
    /// `mode` is that of the public service: `http` or `https`. `number` is the instance's address, of this test only.
    async fn publish(host: &'static str, mode: &str, number: u8) -> Target {
        let demo = Demo::shared().await;
        let name = host.split('.').next().unwrap();
        let instance = SocketAddr::new(demo.address(0, 1, number), 9000);
        let capture = Capture::serve(instance).await;
        upstream::register(&demo.state.join("north/services"), 0, name, instance);
        let tls = if mode == "http" { json!({ "mode": mode }) } else { json!({ "certificate": "selfSigned" }) };
        let public = json!({
            "apiVersion": "tombolo.dev/v1alpha1", "kind": "PublicService", "metadata": { "name": name },
            "spec": {
                "globalNamespace": "shop", "service": "nobody", "port": 8080, "hosts": [{ "name": host }], "tls": tls,
                "routes": [{ "pathPrefix": "/open", "service": name, "port": 8080 }],
            },
        });
        demo.cli(|cli| cli.apply(&public.to_string())).success();
        let at = SocketAddr::new(demo.gateway(0, 0), if mode == "http" { HTTP } else { HTTPS });
        let target = Target { demo, capture, host, at };
        eventually("it is served", || target.serves("/open/first")).await;
        target
    }

    /// An ordinary request.
    async fn serves(&self, path: &str) -> Outcome<()> {
        let mut connection = match self.at.port() {
            HTTP => plain([127, 0, 0, 1].into(), self.at, self.host, Protocol::Http1).await?,
            _ => self.demo.client().https(self.at, self.host, Protocol::Http1).await?,
        };
        let answer = connection.get(path).await?;
        holds(answer.status == 200, || format!("{answer:?}"))
    }

    /// What arrived.
    async fn arrived(&self) -> Vec<Arrived> {
        // What was handed over before has arrived by then.
        eventually("it still serves", || self.serves("/open/last")).await;
        self.capture.requests()
    }
}

/// What holds of everything that reaches an instance.
fn check(request: &Arrived, host: &str) -> Result<(), String> {
    let told = |why: &str| format!("{why}: {request:?}");
    holds(!request.target.contains("smuggled"), || told("a request in a request"))?;
    for separator in ["\\", "/"] {
        let path = request.target.split('?').next().unwrap().replace('\\', separator);
        holds(first_segment(&path) == "open", || told("beyond the rule"))?;
    }
    let named = request.header("host").unwrap();
    holds(named.split(':').next() == Some(host), || told("another host"))?;
    holds(request.header("x-forwarded-host") == Some(named), || told("another host"))?;
    holds(request.header("x-forwarded-for") == Some("127.0.0.1"), || told("another client"))?;
    holds(matches!(request.header("x-forwarded-proto"), Some("http" | "https")), || told("another protocol"))?;
    let claims = request.headers.iter().any(|(_, value)| value.contains("evil") || value.contains("6.6.6.6"));
    holds(!claims, || told("a claim of the client's"))?;
    let dropped = ["x-original-url", "x-rewrite-url", "upgrade", "trailer", "forwarded"];
    holds(dropped.iter().all(|name| request.header(name).is_none()), || told("a header that must not pass"))
}

/// Where a careless server ends up: percent-decoded, parameters dropped, dots resolved.
fn first_segment(path: &str) -> String {
    let bare = path.split('/').map(|segment| segment.split(';').next().unwrap());
    let mut kept: Vec<String> = Vec::new();
    for segment in bare.map(decoded).collect::<Vec<_>>().join("/").split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment.to_owned()),
        }
    }
    kept.first().cloned().unwrap_or_default()
}

fn decoded(segment: &str) -> String {
    let mut bytes = segment.bytes();
    let mut out = String::new();
    while let Some(byte) = bytes.next() {
        let rest = bytes.clone().take(2).collect::<Vec<_>>();
        let value = std::str::from_utf8(&rest).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value.filter(|_| byte == b'%') {
            Some(value) => {
                out.push(char::from(value));
                bytes.nth(1);
            }
            None => out.push(char::from(byte)),
        }
    }
    out
}

/// The status of the first answer; `None` when there was none before the connection's end, or in time.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, attack: &Attack) -> Option<u16> {
    // The gateway may have refused it before all of it was sent.
    _ = stream.write_all(&attack.bytes).await;
    let mut answer = Vec::new();
    if tokio::time::timeout(SILENCE, read_status(&mut stream, &mut answer)).await.is_err() {
        // It waits for more, which does not come.
        _ = stream.shutdown().await;
        _ = tokio::time::timeout(PATIENCE, read_status(&mut stream, &mut answer)).await;
    }
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

async fn read_status(stream: &mut (impl AsyncRead + Unpin), answer: &mut Vec<u8>) {
    while answer.len() < 12 && stream.read_buf(answer).await.is_ok_and(|length| length > 0) {}
}

/// What is wrong with how an attack ended, if anything is.
fn judge(attack: &Attack, status: Option<u16>, arrived: &[Arrived]) -> Result<(), String> {
    let refused = arrived.is_empty() && status.is_none_or(|status| status >= 400);
    match &attack.fate {
        Fate::Refused => holds(refused, || "not refused".to_owned()),
        Fate::Unambiguous => holds(arrived.len() <= 1, || "served twice".to_owned()),
        Fate::Served(target, body) => {
            let same = arrived.iter().all(|request| request.target == *target && request.body == *body);
            holds(status == Some(200) && arrived.len() == 1 && same, || format!("not served as {target}"))
        }
    }
}

/// Looks at how each attack ended, and at all that arrived; panics with everything that is wrong.
fn judge_all(target: &Target, attacks: &[Attack], ended: &[(usize, Option<u16>)], arrived: &[Arrived]) {
    let mut wrong: Vec<String> = arrived.iter().filter_map(|request| check(request, target.host).err()).collect();
    let mut by_number = BTreeMap::<usize, Vec<Arrived>>::new();
    for request in arrived {
        if let Some(number) = request.target.split(['/', '?', ';']).find_map(|segment| segment.parse().ok()) {
            by_number.entry(number).or_default().push(request.clone());
        }
    }
    for (number, status) in ended {
        let here = by_number.get(number).map(Vec::as_slice).unwrap_or_default();
        if let Err(why) = judge(&attacks[*number], *status, here) {
            let bytes: String = String::from_utf8_lossy(&attacks[*number].bytes).chars().take(300).collect();
            wrong.push(format!("{why} ({status:?}): {bytes:?} arrived as {here:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong of {}:\n{}", wrong.len(), ended.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hostile_request_reaches_an_instance_in_two_readings() {
    let target = Target::publish("hostile-plain.example.com", "http", 60).await;
    let attacks = Attacks::new(target.host).all;
    assert!(attacks.len() > 2_000, "{} attacks", attacks.len());
    let attempts = attacks.iter().enumerate().map(|(number, attack)| async move {
        (number, send(TcpStream::connect(target.at).await.unwrap(), attack).await)
    });
    let ended: Vec<_> = futures_util::stream::iter(attempts).buffer_unordered(AT_ONCE).collect().await;
    judge_all(&target, &attacks, &ended, &target.arrived().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_does_one_through_tls() {
    let target = Target::publish("hostile-tls.example.com", "https", 61).await;
    let attacks = Attacks::new(target.host).all;
    let (client, host, at) = (&target.demo.client(), target.host, target.at);
    // The parser is the same; some of each kind show that what stands around it is well.
    let attempts = attacks.iter().enumerate().step_by(9).map(|(number, attack)| async move {
        (number, send(client.tls(at, host, b"http/1.1").await.unwrap(), attack).await)
    });
    let ended: Vec<_> = futures_util::stream::iter(attempts).buffer_unordered(AT_ONCE).collect().await;
    judge_all(&target, &attacks, &ended, &target.arrived().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_does_one_in_http_2() {
    let target = Target::publish("hostile-two.example.com", "https", 62).await;
    let attacks: &'static [Attack] = http2::attacks(target.host).leak();
    let (client, host, at) = (&target.demo.client(), target.host, target.at);
    let ask = |attack: &'static Attack| async move {
        let mut raw = Raw::open(client, at, host, &[]).await;
        match raw.ask(&attack.bytes).await {
            Reply::Head(0x88) => Some(200),
            Reply::Head(_) => Some(400),
            Reply::Reset | Reply::Closed | Reply::Nothing => None,
        }
    };
    let attempts = attacks.iter().enumerate().map(|(number, attack)| async move {
        let mut status = ask(attack).await;
        // A request that is fine may meet a machine that is too busy to answer in time.
        if status.is_none() && matches!(attack.fate, Fate::Served(..)) {
            status = ask(attack).await;
        }
        (number, status)
    });
    let ended: Vec<_> = futures_util::stream::iter(attempts).buffer_unordered(AT_ONCE).collect().await;
    judge_all(&target, attacks, &ended, &target.arrived().await);
}

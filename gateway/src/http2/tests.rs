//! Whole connections, in memory and on a clock that runs by itself.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::net::Ipv4Addr;
use std::sync::Mutex;

use config::resource::Name;
use h2::SendStream;
use h2::client::{self, ResponseFuture, SendRequest};
use http::{HeaderMap, Response, StatusCode};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::exchange::{Exchange, Gone};
use crate::refusal::Refusal;

/// Does what the request's path says, and keeps what it saw.
#[derive(Default)]
struct Script(Mutex<Vec<String>>);

impl Script {
    fn saw(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Handler for Script {
    async fn serve<E: Exchange>(&self, exchange: &mut E) {
        let path = exchange.head().uri.path().to_owned();
        self.saw(format!("{} {path}", exchange.head().method));
        if play(exchange, &path, self).await.is_err() {
            self.saw("gone");
        }
    }

    async fn refuse<E: Exchange>(&self, _: &mut E, refusal: Refusal) {
        panic!("no head is read here: {}", refusal.code());
    }
}

impl Keeper for Script {
    fn flooded(&self, _: &Entry, flood: Flood) {
        self.saw(flood.kind());
    }
}

fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Box<ResponseHeader> {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    Box::new(head)
}

async fn play<E: Exchange>(exchange: &mut E, path: &str, script: &Script) -> Result<(), Gone> {
    match path {
        "/echo" => {
            exchange.respond(head(200, &[]), false).await?;
            while let Some(part) = exchange.read_body().await? {
                exchange.write(part, false).await?;
            }
            let trailers = exchange.request_trailers().await?.unwrap_or_default();
            exchange.trailers(trailers).await
        }
        "/hints" => {
            exchange.inform(head(103, &[("link", "</x>"), ("content-length", "9")])).await?;
            exchange.inform(head(100, &[])).await?;
            exchange.respond(head(200, &[("date", "then")]), true).await
        }
        "/silent" => Ok(()),
        "/broken" => {
            exchange.respond(head(200, &[]), false).await?;
            exchange.write(Bytes::from_static(b"begun"), false).await
        }
        "/events" => {
            exchange.respond(head(200, &[]), false).await?;
            Err(exchange.gone().await)
        }
        "/held" => Err(exchange.gone().await),
        "/huge" => {
            exchange.respond(head(200, &[]), false).await?;
            while exchange.write(Bytes::from_static(&[b'x'; 65536]), false).await.is_ok() {}
            Err(Gone)
        }
        "/offence" => {
            exchange.offend();
            exchange.respond(head(400, &[]), true).await
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
            let done = exchange.body_done();
            exchange.respond(head(200, &[]), false).await?;
            exchange.write(Bytes::from(format!("{path} {done}")), true).await
        }
    }
}

/// A gateway's end of a connection.
struct Served {
    script: Arc<Script>,
    entry: Entry,
    serving: JoinHandle<Result<(), Silent>>,
}

fn serve_on(door: Door, room: usize) -> (DuplexStream, Served) {
    let (client, server) = duplex(room);
    let (script, entry) = (Arc::<Script>::default(), Entry::new(door, Ipv4Addr::LOCALHOST.into(), 80));
    let (keeper, at, ending) = (script.clone(), entry.clone(), entry.lifetime.ending());
    let serving = tokio::spawn(async move { serve(keeper, server, at, &Limits::default(), ending).await });
    (client, Served { script, entry, serving })
}

/// A client, and what it speaks with.
async fn connect() -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>, Served) {
    let (client, served) = serve_on(Door::mesh(), 1 << 20);
    let (sender, connection) = client::handshake(client).await.unwrap();
    (sender, tokio::spawn(connection), served)
}

async fn ask(
    sender: &SendRequest<Bytes>,
    path: &str,
    fields: &[(&'static str, &'static str)],
    whole: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut request = Request::post(format!("http://shop{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    sender.clone().ready().await.unwrap().send_request(request.body(()).unwrap(), whole).unwrap()
}

/// The whole answer: its head, its body, its trailers.
async fn hear(answer: ResponseFuture) -> Result<(Response<()>, String, HeaderMap), h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let mut text = Vec::new();
    while let Some(part) = body.data().await {
        text.extend_from_slice(&part?);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((Response::from_parts(head, ()), String::from_utf8(text).unwrap(), trailers))
}

#[tokio::test(start_paused = true)]
async fn bodies_and_trailers_pass_both_ways() {
    let (sender, _driver, _served) = connect().await;
    let (answer, mut body) = ask(&sender, "/echo", &[], false).await;
    body.send_data(Bytes::new(), false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let trailers =
        [("x-sum", "7"), ("host", "evil")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    body.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
    let (_, text, trailers) = hear(answer).await.unwrap();
    assert_eq!((&*text, trailers.len(), &trailers["x-sum"]), ("hello", 1, &"7".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_none_is_done_before_it_is_read() {
    let (sender, _driver, _served) = connect().await;
    let length = |length| [("content-length", length)];
    let (whole, _) = ask(&sender, "/whole", &[], true).await;
    let (empty, _open) = ask(&sender, "/empty", &length("0"), false).await;
    let (some, _more) = ask(&sender, "/some", &length("1"), false).await;
    for (answer, expected) in [(whole, "/whole true"), (empty, "/empty true"), (some, "/some false")] {
        assert_eq!(hear(answer).await.unwrap().1, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn hints_come_first_and_dates_stay() {
    let (sender, _driver, _served) = connect().await;
    let (mut answer, _) = ask(&sender, "/hints", &[], true).await;
    let hints = poll_fn(|context| answer.poll_informational(context)).await.unwrap().unwrap();
    assert_eq!((hints.status(), &hints.headers()["link"]), (StatusCode::EARLY_HINTS, &"</x>".parse().unwrap()));
    assert_eq!(hints.headers().len(), 1);
    assert!(poll_fn(|context| answer.poll_informational(context)).await.is_none(), "100 is nobody's but the gateway's");
    assert_eq!(hear(answer).await.unwrap().0.headers()["date"], "then");
    let (answer, _) = ask(&sender, "/dateless", &[], true).await;
    let date = hear(answer).await.unwrap().0.headers()["date"].clone();
    assert!(httpdate::parse_http_date(date.to_str().unwrap()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_to_go_on_once() {
    let (sender, _driver, _served) = connect().await;
    let (mut answer, mut body) = ask(&sender, "/hints-not", &[("expect", "100-Continue")], false).await;
    assert!(poll_fn(|context| answer.poll_informational(context)).await.is_none(), "its body is not wanted");
    hear(answer).await.unwrap();
    _ = body.send_data(Bytes::new(), true);
    let (mut answer, mut body) = ask(&sender, "/switch", &[("expect", "100-continue")], false).await;
    assert!(poll_fn(|context| answer.poll_informational(context)).await.is_none(), "the answer was there before");
    body.send_data(Bytes::from_static(b"early "), false).unwrap();
    body.send_data(Bytes::from_static(b"late "), true).unwrap();
    let (head, text, _) = hear(answer).await.unwrap();
    assert_eq!((head.status(), head.headers().get("upgrade"), &*text), (StatusCode::OK, None, "early late bye"));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_whole_answer_is_reset() {
    let (sender, _driver, served) = connect().await;
    let (answer, _) = ask(&sender, "/silent", &[], true).await;
    assert_eq!(hear(answer).await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    let (answer, _) = ask(&sender, "/broken", &[], true).await;
    assert_eq!(hear(answer).await.unwrap_err().reason(), Some(Reason::CANCEL));
    let (answer, _) = ask(&sender, "/1", &[], true).await;
    assert_eq!(hear(answer).await.unwrap().1, "/1 true", "the others go on");
    assert_eq!(served.script.seen(), ["POST /silent", "POST /broken", "POST /1"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_seen_before_and_behind_the_head() {
    for path in ["/held", "/events"] {
        let (sender, driver, served) = connect().await;
        let (answer, mut body) = ask(&sender, path, &[], false).await;
        sleep(Duration::from_secs(1)).await;
        body.send_reset(Reason::CANCEL);
        drop(answer);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(served.script.seen(), [format!("POST {path}"), "gone".to_owned()]);
        let (_held, _body) = ask(&sender, path, &[], true).await;
        sleep(Duration::from_secs(1)).await;
        driver.abort();
        assert!(served.serving.await.unwrap().is_ok());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(served.script.seen().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_an_answer_is_gone_and_so_is_its_connection() {
    let (sender, driver, served) = connect().await;
    let (answer, _) = ask(&sender, "/huge", &[], true).await;
    let (_, _body) = answer.await.unwrap().into_parts();
    let began = Instant::now();
    served.entry.lifetime.ending().wait_for(|ending| *ending).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 60);
    driver.await.unwrap().unwrap();
    assert!(served.serving.await.unwrap().is_ok());
    assert_eq!(served.script.seen(), ["POST /huge", "gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_asked_to_end_serves_what_is_under_way() {
    let (sender, driver, served) = connect().await;
    let (answer, mut body) = ask(&sender, "/echo", &[], false).await;
    let (_, mut heard) = answer.await.unwrap().into_parts();
    served.entry.lifetime.end();
    sleep(Duration::from_secs(1)).await;
    assert!(sender.clone().ready().await.is_err(), "no more may be asked");
    body.send_data(Bytes::from_static(b"late"), true).unwrap();
    assert_eq!(heard.data().await.unwrap().unwrap(), "late");
    assert!(heard.data().await.is_none());
    drop(heard);
    driver.await.unwrap().unwrap();
    assert!(served.serving.await.unwrap().is_ok());
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const PRIORITY: [u8; 14] = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

/// Whether somebody who says this and no more is taken for silent after ten seconds.
async fn is_silent(door: Door, said: &[&[u8]]) -> bool {
    let (mut client, served) = serve_on(door, 1 << 10);
    client.write_all(&said.concat()).await.unwrap();
    let began = Instant::now();
    match timeout(Duration::from_secs(30), served.serving).await {
        Ok(ended) => ended.unwrap().is_err() && began.elapsed().as_secs() == 10,
        Err(_) => false,
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_borne_until_a_client_s_first_frame_and_a_peer_s_first_request() {
    let peer = "spiffe://shop.internal/cluster/north/gateway/a".parse();
    let tunnel = || Door::Tunnel {
        global_namespace: "shop".parse::<Name>().unwrap(),
        peer: Arc::new(peer.clone().unwrap_or_else(|error| panic!("{error:?}"))),
    };
    for said in [&[][..], &[&PREFACE[..3]], &[PREFACE]] {
        assert!(is_silent(Door::mesh(), said).await && is_silent(tunnel(), said).await, "{said:?}");
    }
    assert!(!is_silent(Door::mesh(), &[PREFACE, &SETTINGS]).await);
    assert!(is_silent(tunnel(), &[PREFACE, &SETTINGS]).await);
}

#[tokio::test(start_paused = true)]
async fn a_flood_ends_the_connection_and_says_why() {
    let (mut client, served) = serve_on(Door::mesh(), 1 << 20);
    client.write_all(&[PREFACE, &SETTINGS, &PRIORITY.repeat(10_000)].concat()).await.unwrap();
    assert!(served.serving.await.unwrap().is_ok());
    assert_eq!(served.script.seen(), ["useless"]);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    let goodbye = [&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &11_u32.to_be_bytes()].concat();
    assert!(heard.ends_with(&goodbye), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn bad_requests_are_a_flood_too() {
    let (sender, driver, served) = connect().await;
    for _ in 0..10_000 {
        if driver.is_finished() || sender.clone().ready().await.is_err() {
            break;
        }
        let (answer, _) = ask(&sender, "/offence", &[], true).await;
        _ = hear(answer).await;
    }
    assert_eq!(driver.await.unwrap().unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
    assert_eq!(served.script.seen().last().unwrap(), "bad_requests");
}

#[tokio::test(start_paused = true)]
async fn who_floods_and_reads_nothing_is_not_waited_for() {
    let (mut client, served) = serve_on(Door::mesh(), 64);
    // Nothing fits between that is not read: what the gateway says waits, and then the flood comes.
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[0; 8]].concat();
    let flood = [PREFACE, &SETTINGS, &ping.repeat(20), &PRIORITY.repeat(10_000)].concat();
    let sending = tokio::spawn(async move {
        _ = client.write_all(&flood).await;
        sleep(Duration::from_secs(60)).await;
    });
    let began = Instant::now();
    assert!(timeout(Duration::from_secs(30), served.serving).await.is_ok());
    assert!(began.elapsed() <= 2 * FAREWELL, "{:?}", began.elapsed());
    assert_eq!(served.script.seen(), ["useless"]);
    sending.abort();
}

#[test]
fn a_request_takes_little_room() {
    fn room<F>(_: impl Fn(Arc<Shared<Core>>, Request<RecvStream>, SendResponse<Bytes>) -> F) -> usize {
        size_of::<F>()
    }
    assert!(room(answer::<Core>) <= 8 << 10, "{}", room(answer::<Core>));
}

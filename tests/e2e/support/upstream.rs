//! Instances of the test's own, for what the demo's services don't do: drip, wait for a sign, speak HTTP/2 only, say
//! exactly these bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::demo::CLUSTERS;

type Echoed = BoxBody<Bytes, hyper::Error>;

/// Serves until the test's runtime ends:
/// - `/echo` sends the body back as it comes,
/// - `/count` says how long it was,
/// - `/caller` says for whom the gateway asks,
/// - `/port` says from which port it asks,
/// - `/drip` sends three lines, each long after the last,
/// - anything else gets an empty answer.
pub async fn serve(at: SocketAddr) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, from) = listener.accept().await.unwrap();
            let server = http1::Builder::new();
            let service = service_fn(move |request| answer(request, from.port()));
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
}

async fn answer(request: Request<Incoming>, port: u16) -> Result<Response<Echoed>, hyper::Error> {
    let body = match request.uri().path() {
        "/echo" => request.into_body().boxed(),
        "/count" => {
            let length = request.into_body().collect().await?.to_bytes().len();
            Full::from(length.to_string()).map_err(infallible).boxed()
        }
        "/caller" => {
            let caller = request.headers().get("x-forwarded-for").map(|caller| caller.as_bytes().to_vec());
            Full::from(caller.unwrap_or_default()).map_err(infallible).boxed()
        }
        "/port" => Full::from(port.to_string()).map_err(infallible).boxed(),
        "/drip" => drip(),
        _ => Empty::new().map_err(infallible).boxed(),
    };
    Ok(Response::new(body))
}

fn drip() -> Echoed {
    let lines = futures_util::stream::iter(["one\n", "two\n", "three\n"]).enumerate().then(|(i, line)| async move {
        tokio::time::sleep(Duration::from_millis(if i == 0 { 0 } else { 500 })).await;
        Ok(Frame::data(Bytes::from(line)))
    });
    BodyExt::boxed(StreamBody::new(lines))
}

fn infallible(never: Infallible) -> hyper::Error {
    match never {}
}

/// Serves one stream of server-sent events: each is sent when its data comes through the channel. Anything else gets an
/// empty answer.
pub async fn events(at: SocketAddr) -> mpsc::Sender<&'static str> {
    let (sender, receiver) = mpsc::channel::<&str>(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let receiver = receiver.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let receiver = (request.uri().path() == "/events").then(|| receiver.lock().unwrap().take()).flatten();
                std::future::ready(Ok::<_, Infallible>(receiver.map_or_else(Response::default, stream_of_events)))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    sender
}

fn stream_of_events(receiver: mpsc::Receiver<&'static str>) -> Response<Echoed> {
    let next = |mut receiver: mpsc::Receiver<&'static str>| async move { Some((receiver.recv().await?, receiver)) };
    let events = futures_util::stream::unfold(receiver, next);
    let frames = events.map(|data| Ok(Frame::data(Bytes::from(format!("data: {data}\n\n")))));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    response
}

/// Serves HTTP/2 by prior knowledge, as `serve` does, and no HTTP/1.1.
pub async fn serve_http2(at: SocketAddr) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, from) = listener.accept().await.unwrap();
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(
                server.serve_connection(TokioIo::new(stream), service_fn(move |request| answer(request, from.port()))),
            );
        }
    });
}

/// What came in at an instance, but for health checks: each request's head, to the byte.
pub type Heads = Arc<Mutex<Vec<String>>>;

/// Answers every head with exactly these bytes.
pub async fn say(at: SocketAddr, answer: &'static str) -> Heads {
    let heads = Heads::default();
    let (listener, seen) = (TcpListener::bind(at).await.unwrap(), heads.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(say_again(stream, answer, seen.clone()));
        }
    });
    heads
}

async fn say_again(mut stream: TcpStream, answer: &'static str, heads: Heads) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        if !head.contains("tombolo-health") {
            heads.lock().unwrap().push(head);
        }
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Writes a manifest where a cluster's agent finds it: a service on port 8080 with one instance.
pub fn register(services: &Path, cluster: usize, name: &str, at: SocketAddr) {
    write(services, name, &service(CLUSTERS[cluster], name, &[at]));
}

/// The same for an instance that speaks another protocol, of which only the port is checked.
pub fn register_as(protocol: &str, services: &Path, cluster: usize, name: &str, at: SocketAddr) {
    let manifest = service(CLUSTERS[cluster], name, &[at]);
    let manifest = manifest.replace("protocol: http}", &format!("protocol: {protocol}}}"));
    write(services, name, &(manifest + "  healthCheck: {protocol: tcp}\n"));
}

fn write(services: &Path, name: &str, manifest: &str) {
    std::fs::write(services.join(format!(".{name}.new")), manifest).unwrap();
    std::fs::rename(services.join(format!(".{name}.new")), services.join(format!("{name}.yaml"))).unwrap();
}

/// The manifest of a service on port 8080 in namespace `shop`.
pub fn service(cluster: &str, name: &str, instances: &[SocketAddr]) -> String {
    let instance = |at: &SocketAddr| format!("        - {{address: {}, port: {}}}\n", at.ip(), at.port());
    format!(
        "apiVersion: tombolo.dev/v1alpha1\n\
         kind: Service\n\
         metadata: {{name: {name}, namespace: shop, cluster: {cluster}}}\n\
         spec:\n  ports: [{{name: http, port: 8080, protocol: http}}]\n  versions:\n    - name: v1\n      instances:\n{}",
        instances.iter().map(instance).collect::<String>()
    )
}

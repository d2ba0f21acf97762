//! An instance of the test's own, for what the demo's services don't do: echo, count, and drip.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::demo::CLUSTERS;

type Echoed = BoxBody<Bytes, hyper::Error>;

/// Serves until the test's runtime ends:
/// - `/echo` sends the body back as it comes,
/// - `/count` says how long it was,
/// - `/caller` says for whom the gateway asks,
/// - `/drip` sends three lines, each long after the last,
/// - anything else gets an empty answer.
pub async fn serve(at: SocketAddr) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
}

async fn answer(request: Request<Incoming>) -> Result<Response<Echoed>, hyper::Error> {
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

/// Writes a manifest where a cluster's agent finds it: a service on port 8080 with one instance.
pub fn register(services: &Path, cluster: usize, name: &str, at: SocketAddr) {
    let manifest = service(CLUSTERS[cluster], name, &[at]);
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

//! Every protocol, end to end: through one gateway to an instance of its own cluster, and through two with a tunnel.

mod bodies;
mod grpc;
mod http1;
mod http2;
mod instances;
mod large;
mod streaming;
mod tcp;
mod trailers;
mod websocket;

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::demo::{CLUSTERS, Demo, HTTPS, SERVICE};
use crate::support::http::{Connection, Protocol, connect, plain};
use crate::support::raw::Raw;
use crate::support::shop::lines;
use crate::support::{eventually, holds};

/// The public host of the demo's echo.
const ECHO: &str = "echo.example.com";

/// How far a request goes from a gateway of the first cluster: no farther, or through a tunnel to one of the second.
/// The service's name tells.
#[derive(Debug, Clone, Copy)]
enum Way {
    OneGateway,
    Tunnel,
}

const WAYS: [Way; 2] = [Way::OneGateway, Way::Tunnel];

impl Way {
    /// The cluster in which the instances are, by its number.
    fn cluster(self) -> usize {
        match self {
            Way::OneGateway => 0,
            Way::Tunnel => 1,
        }
    }

    /// A service's name in that cluster only.
    fn host(self, service: &str) -> String {
        format!("{}.{service}.shop.internal", CLUSTERS[self.cluster()])
    }
}

/// A workload's TCP connection to a port of its gateway.
async fn workload(demo: &Demo, port: u16) -> TcpStream {
    connect(demo.workload(0), SocketAddr::new(demo.gateway(0, 0), port)).await.unwrap()
}

/// A workload's requests to the demo's echo.
async fn echo(demo: &Demo, way: Way, protocol: Protocol) -> Connection {
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    plain(demo.workload(0), at, &way.host("echo"), protocol).await.unwrap()
}

/// HTTP/1.1 by hand, for the demo's echo; the value of the Host field with it.
async fn raw(demo: &Demo, way: Way) -> (Raw, String) {
    (Raw::over(workload(demo, SERVICE).await), format!("{}:{SERVICE}", way.host("echo")))
}

/// A TLS connection for the public echo.
async fn public(demo: &Demo, alpn: &[u8]) -> TlsStream<TcpStream> {
    demo.client().tls(SocketAddr::new(demo.gateway(0, 0), HTTPS), ECHO, alpn).await.unwrap()
}

/// The address of an instance of the test's own, where the way leads.
fn instance(demo: &Demo, way: Way, number: u8) -> SocketAddr {
    SocketAddr::new(demo.address(way.cluster() as u8, 1, number), 9000)
}

/// The directory in which the agent at that end finds services.
fn services(demo: &Demo, way: Way) -> std::path::PathBuf {
    demo.state.join(CLUSTERS[way.cluster()]).join("services")
}

/// Waits until a service that was registered just now answers a workload.
async fn until_found(demo: &Demo, service: &str) {
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let host = format!("{service}.shop.internal");
    let found = || async {
        let answer = plain(demo.workload(0), at, &host, Protocol::Http1).await?.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    eventually("the new service answers", found).await;
}

/// The first gateway's line in its access log about the request for a path.
async fn logged(demo: &Demo, path: &str) -> Value {
    let line = || async {
        let log = lines(&demo.log_of("north-gw-a.access"));
        log.into_iter().find(|line| line["path"] == path).ok_or("it is not there")
    };
    eventually("the request's line in the access log", line).await
}

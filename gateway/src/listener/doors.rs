//! What each door does with a new connection: find out who it is, then hand it to its protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::resource::{Host, Name};
use decide::hygiene::Limits;
use identity::SpiffeId;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Ssl;
use pingora_core::protocols::tls::ALPN;
use pingora_core::server::ShutdownWatch;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::sockets::Listening;
use super::stream::Connection;
use super::tls::{self, HandshakeError};
use crate::connections::Opener;
use crate::exchange::{Door, Entry};
use crate::http1;
use crate::lifetime::Bounds;
use crate::listener;
use crate::metrics::Open;
use crate::proxy::HttpDoor;
use crate::runtime::{Core, Stopping};

/// From the end of an HTTP/2 connection's handshake to the end of its first request's head.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Requests from outside, in plain text.
    Http,
    /// Requests from outside, over TLS.
    Https,
    /// Tunnels from other clusters.
    EastWest,
    /// Requests of this cluster's workloads, in plain text, to services with this port.
    Mesh,
}

/// Accepts until told to stop. Each connection goes on until it ends, or the gateway cuts it.
pub async fn serve(core: Arc<Core>, listening: Listening, purpose: Purpose, stop: CancellationToken) {
    let port = listening.local_addr().map_or(0, |at| at.port());
    let opener = if purpose == Purpose::EastWest { Opener::Peer } else { Opener::Client };
    let shared = core.clone();
    let handle = move |stream, client| {
        let core = shared.clone();
        async move {
            let cut = core.cut.clone();
            cut.run_until_cancelled(enter(&core, purpose, port, stream, client)).await;
        }
    };
    listener::accept(core, listening, opener, stop, handle).await;
}

async fn enter(core: &Arc<Core>, purpose: Purpose, port: u16, stream: TcpStream, client: SocketAddr) {
    match purpose {
        Purpose::Http => plain(core, Door::PublicHttp, port, stream, client).await,
        Purpose::Https => https(core, port, stream, client).await,
        Purpose::EastWest => east_west(core, port, stream, client).await,
        Purpose::Mesh => plain(core, Door::Mesh, port, stream, client).await,
    }
}

/// A plain connection, to the public HTTP port or to a service's port.
async fn plain(core: &Arc<Core>, door: Door, port: u16, stream: TcpStream, client: SocketAddr) {
    converse(core, Connection::plain(stream), Entry::new(door, client.ip(), port)).await;
}

/// A connection to the public HTTPS port: the certificate is that of the host which the client asks for.
async fn https(core: &Arc<Core>, port: u16, stream: TcpStream, client: SocketAddr) {
    let plan = core.plan.get();
    let accepted = tls::accept(stream, |hello| {
        let sni: Host = hello.server_name()?.to_ascii_lowercase().parse().ok()?;
        let tls = plan.hosts.get(&sni)?.tls.as_ref()?.config.clone();
        Some((tls, sni))
    });
    let done = accepted.await;
    drop(plan);
    match done {
        Ok((stream, sni)) => {
            let entry = Entry::new(Door::PublicHttps { sni }, client.ip(), port);
            converse(core, Connection::tls(stream), entry).await;
        }
        Err(error) => failed(core, client, &error),
    }
}

/// A connection to the east-west port: mutual TLS in the identity of the GNS whose opaque name the peer asks for.
async fn east_west(core: &Arc<Core>, port: u16, stream: TcpStream, client: SocketAddr) {
    let plan = core.plan.get();
    let accepted = tls::accept(stream, |hello| {
        let (global_namespace, tls) = plan.tunnel_server(hello.server_name()?)?;
        Some((tls.server.clone(), global_namespace.clone()))
    });
    let done = accepted.await;
    drop(plan);
    let (stream, global_namespace) = match done {
        Ok(done) => done,
        Err(error) => return failed(core, client, &error),
    };
    let Some(peer) = peer(&stream) else { return };
    tracing::debug!(%global_namespace, %peer, "a tunnel came in");
    let entry = Entry::new(tunnel_door(global_namespace, peer), client.ip(), port);
    converse(core, Connection::tls(stream), entry).await;
}

fn tunnel_door(global_namespace: Name, peer: SpiffeId) -> Door {
    Door::Tunnel { global_namespace, peer: Arc::new(peer) }
}

/// Who the verified client certificate says that the peer is.
fn peer(stream: &tokio_rustls::server::TlsStream<TcpStream>) -> Option<SpiffeId> {
    let chain = stream.get_ref().1.peer_certificates()?;
    identity::peer_identity(chain).ok()
}

fn failed(core: &Core, client: SocketAddr, error: &HandshakeError) {
    core.metrics.handshake_failures.inc();
    tracing::debug!(%client, %error, "no TLS connection");
}

async fn converse(core: &Arc<Core>, connection: Connection, entry: Entry) {
    let lifetime = entry.lifetime.clone();
    let _open = (Open::new(&core.metrics), core.connections.register(&lifetime));
    let (bounds, stopping) = match entry.door {
        Door::Tunnel { .. } => (Bounds::of_tunnel(), core.stopping(Stopping::All)),
        _ => (Bounds::of_client(core.settings.max_age), core.stopping(Stopping::Clients)),
    };
    tokio::select! {
        () = talk(core, connection, entry) => {}
        () = lifetime.run(bounds, stopping) => tracing::debug!("a connection was asked to end, and was cut"),
    }
}

async fn talk(core: &Arc<Core>, connection: Connection, entry: Entry) {
    let ending = entry.lifetime.ending();
    match connection.selected_alpn_proto() {
        Some(ALPN::H2) => over_http2(core, connection, entry, ending).await,
        _ => http1::serve(&**core, connection, &entry, &Limits::default(), ending).await,
    }
}

async fn over_http2(core: &Arc<Core>, connection: Connection, entry: Entry, ending: ShutdownWatch) {
    let door = Arc::new(HttpDoor::new(core.clone(), entry));
    tokio::select! {
        _ = door.process_new(Box::new(connection), &ending) => {}
        () = unused(&door) => tracing::debug!("a new connection brought no request"),
    }
}

/// Comes back if no request begins in time. The session has no deadline of its own for that.
async fn unused(door: &HttpDoor) {
    if tokio::time::timeout(FIRST_REQUEST, door.began()).await.is_ok() {
        std::future::pending().await
    }
}

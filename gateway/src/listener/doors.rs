//! What each door does with a new connection: find out who it is and what it speaks, then hand it to its protocol, or
//! carry it on as a stream.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::resource::{Host, Name, TlsMode};
use decide::proxy_header::Addresses;
use identity::trust::TrustView;
use identity::{SpiffeId, Standing};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Accepted;
use super::opening::Inbound;
use super::sockets::Listening;
use super::stream::Connection;
use super::tls::{HandshakeError, Hello};
use super::workload;
use crate::connections::{Opener, Ticket};
use crate::exchange::{Door, Entry};
use crate::lifetime::Bounds;
use crate::metrics::Open;
use crate::plan::Plan;
use crate::planner::STREAM_ALPN;
use crate::refusal::Refusal;
use crate::runtime::{Core, Stopping};
use crate::standings::Peer;
use crate::{http1, http2, listener, stream};

/// What a connection begins with has come within this time: a PROXY header, the first bytes of HTTP.
pub(super) const OPENING: Duration = Duration::from_secs(10);

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Requests from outside, in plain text.
    Http,
    /// Requests from outside, over TLS.
    Https,
    /// Tunnels from other clusters.
    EastWest,
    /// Requests and streams of this cluster's workloads, to services with this port.
    Mesh,
}

/// Accepts until told to stop. Each connection goes on until it ends, or the gateway cuts it.
pub async fn serve(core: Arc<Core>, listening: Listening, purpose: Purpose, stop: CancellationToken) {
    let port = listening.local_addr().map_or(0, |at| at.port());
    let opener = if purpose == Purpose::EastWest { Opener::Peer } else { Opener::Client };
    let shared = core.clone();
    let handle = move |accepted: Accepted, client, ticket| {
        let core = shared.clone();
        // It counts from here on, before its task first runs: a stopping gateway waits a while for what it may still bring.
        let open = Open::new(&core.metrics);
        async move {
            let stream = match accepted.take() {
                Ok(stream) => stream,
                Err(error) => return tracing::warn!(%error, "a new connection could not be taken"),
            };
            let cut = core.cut.clone();
            // In a box, as below: each of those around it would otherwise have room for it twice.
            cut.run_until_cancelled(Box::pin(enter(&core, (purpose, port), stream, client, ticket))).await;
            drop(open);
        }
    };
    listener::accept(core, listening, opener, stop, handle).await;
}

async fn enter(
    core: &Arc<Core>,
    (purpose, port): (Purpose, u16),
    stream: TcpStream,
    client: SocketAddr,
    mut ticket: Ticket,
) {
    let mut io = Inbound::new(stream);
    let Some(between) = between(core, purpose, &mut io, client).await else { return };
    let client = between.source.ip().to_canonical();
    match purpose {
        Purpose::Http => plain(core, io, Entry::new(Door::PublicHttp, client, port)).await,
        Purpose::Https => https(core, port, io, between).await,
        Purpose::EastWest => east_west(core, port, io, client, &mut ticket).await,
        Purpose::Mesh => workload::enter(core, io, Entry::new(Door::mesh(), client, port), between).await,
    }
}

/// Between whom the connection was made: as a trusted proxy says, which must say it; else as the socket says. What
/// others say is never read as a PROXY header.
async fn between(core: &Core, purpose: Purpose, io: &mut Inbound, client: SocketAddr) -> Option<Addresses> {
    let of_socket = Addresses { source: client, destination: io.local_addr().ok()? };
    let public = matches!(purpose, Purpose::Http | Purpose::Https);
    let trusted = || core.settings.proxy_protocol_from.iter().any(|network| network.contains(client.ip()));
    if !public || !trusted() {
        return Some(of_socket);
    }
    let fault = match timeout(OPENING, io.take_proxy_header()).await {
        Ok(Ok(header)) => return Some(header.addresses.unwrap_or(of_socket)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing within {OPENING:?}"),
    };
    let door = if purpose == Purpose::Http { "http" } else { "https" };
    core.log.turned_away(door, client.ip().to_canonical(), Refusal::ProxyHeader.code(), &fault);
    None
}

/// A plain connection, to the public HTTP port or to a service's port: HTTP/1, or HTTP/2 by prior knowledge.
pub(super) async fn plain(core: &Arc<Core>, mut io: Inbound, entry: Entry) {
    match timeout(OPENING, io.speaks_http2()).await {
        Ok(Ok(http2)) => Box::pin(converse(core, Connection::Plain { io, http2 }, entry)).await,
        // It went away by itself, as those do that only look whether somebody listens.
        Ok(Err(error)) => tracing::debug!(client = %entry.client, %error, "a new connection brought no request"),
        Err(_) => no_request(core, &entry),
    }
}

/// A connection to the public HTTPS port: the host which the client asks for says whose the TLS is. If it is the
/// gateway's own, the certificate is that of the host.
async fn https(core: &Arc<Core>, port: u16, io: Inbound, between: Addresses) {
    let client = between.source.ip().to_canonical();
    let hello = match Hello::read(io).await {
        Ok(hello) => hello,
        Err(error) => return failed(core, "https", client, &error),
    };
    let sni: Option<Host> = hello.name().and_then(|name| name.parse().ok());
    let entry = sni.map(|sni| (whose(&core.plan.load(), &sni), Entry::new(Door::PublicHttps { sni }, client, port)));
    match entry {
        Some((Some(Whose::Gateways(config)), entry)) => match hello.terminate(config).await {
            Ok(stream) => {
                core.metrics.handshake("ok");
                Box::pin(converse(core, Connection::Tls(stream), entry)).await;
            }
            Err(error) => failed(core, "https", client, &error),
        },
        Some((Some(Whose::Instances), entry)) => {
            core.metrics.opened(entry.door.as_str(), "stream");
            Box::pin(stream::serve(core, hello.pass(), &entry, between)).await;
        }
        Some((None, _)) | None => failed(core, "https", client, &Box::pin(hello.refuse()).await),
    }
}

/// Who speaks TLS with the clients of a host.
enum Whose {
    /// This gateway, in this way.
    Gateways(Arc<ServerConfig>),
    /// The instances of the host's service.
    Instances,
}

fn whose(plan: &Plan, host: &Host) -> Option<Whose> {
    let planned = plan.hosts.get(host)?;
    match planned.host.mode {
        TlsMode::Passthrough => Some(Whose::Instances),
        _ => planned.tls.as_ref().map(|tls| Whose::Gateways(tls.config.clone())),
    }
}

/// A connection to the east-west port: mutual TLS in the identity of the GNS whose opaque name the peer asks for. It is a
/// tunnel of requests, or of one stream, as was agreed on in the handshake.
async fn east_west(core: &Arc<Core>, port: u16, io: Inbound, client: IpAddr, ticket: &mut Ticket) {
    let (stream, global_namespace, trust) = match tunnel(core, io).await {
        Ok(done) => done,
        Err(error) => return failed(core, "tunnel", client, &error),
    };
    let Some(standing) = standing(&stream) else {
        return core.log.turned_away("tunnel", client, "handshake_failed", &"the certificate names no peer");
    };
    let peer = standing.id().clone();
    ticket.prove();
    core.metrics.handshake("ok");
    tracing::debug!(%global_namespace, %peer, "a tunnel came in");
    let entry = Entry::new(tunnel_door(global_namespace, peer), client, port);
    let of = entry.clone();
    let served = async {
        match stream.get_ref().1.alpn_protocol() {
            Some(STREAM_ALPN) => {
                core.metrics.opened(entry.door.as_str(), "stream");
                Box::pin(stream::serve_peer(core, *stream, &entry)).await;
            }
            _ => Box::pin(converse(core, Connection::Tls(stream), entry)).await,
        }
    };
    while_believed(core, Peer { standing, trust }, &of, served).await;
}

/// Serves a connection until its peer is no longer believed, and tells when that was so.
pub(super) async fn while_believed(core: &Core, peer: Peer, entry: &Entry, serving: impl Future<Output = ()>) {
    if let Err(refusal) = core.standings.serve(&core.plan, peer, &entry.lifetime, serving).await {
        core.log.turned_away(entry.door.as_str(), entry.client, refusal.code(), &refusal);
    }
}

/// With whom to believe as that was when the handshake began.
async fn tunnel(core: &Core, io: Inbound) -> Result<(Box<TlsStream<Inbound>>, Name, Arc<TrustView>), HandshakeError> {
    let hello = Hello::read(io).await?;
    let known = hello.name().and_then(|label| {
        let plan = core.plan.load();
        let (global_namespace, tls) = plan.tunnel_server(&label)?;
        Some((tls.server.clone(), global_namespace.clone(), plan.trust.clone()))
    });
    match known {
        Some((config, global_namespace, trust)) => Ok((hello.terminate(config).await?, global_namespace, trust)),
        None => Err(Box::pin(hello.refuse()).await),
    }
}

fn tunnel_door(global_namespace: Name, peer: SpiffeId) -> Door {
    Door::Tunnel { global_namespace, peer: Arc::new(peer) }
}

/// What the verified client certificate says of the peer.
pub(super) fn standing(stream: &TlsStream<Inbound>) -> Option<Standing> {
    Standing::of(stream.get_ref().1.peer_certificates()?).ok()
}

pub(super) fn failed(core: &Core, door: &'static str, client: IpAddr, error: &HandshakeError) {
    core.metrics.handshake(error.code());
    core.log.turned_away(door, client, error.code(), error);
}

pub(super) fn no_request(core: &Core, entry: &Entry) {
    core.log.turned_away(entry.door.as_str(), entry.client, "no_request", &"no request within the deadline");
}

/// In a box, so that what a connection needs for its opening and what it needs afterwards do not add up: it may be idle
/// for most of its life.
pub(super) async fn converse(core: &Arc<Core>, connection: Connection, entry: Entry) {
    core.metrics.opened(entry.door.as_str(), connection.protocol());
    let lifetime = entry.lifetime.clone();
    // Before anything can ask it to end: who follows it must not miss that.
    let ending = lifetime.ending();
    let _registered = core.connections.register(&lifetime);
    let (bounds, stopping) = match entry.door {
        Door::Tunnel { .. } => (Bounds::of_tunnel(), core.stopping(Stopping::All)),
        _ => (Bounds::of_client(core.settings.max_age), core.stopping(Stopping::Clients)),
    };
    tokio::select! {
        () = talk(core, connection, entry, ending) => {}
        () = lifetime.run(bounds, stopping) => tracing::debug!("a connection was asked to end, and was cut"),
    }
}

async fn talk(core: &Arc<Core>, connection: Connection, entry: Entry, ending: watch::Receiver<bool>) {
    match connection.is_http2() {
        true => Box::pin(over_http2(core, connection, entry, ending)).await,
        false => Box::pin(over_http1(core, connection, entry, ending)).await,
    }
}

async fn over_http1(core: &Arc<Core>, connection: Connection, entry: Entry, ending: watch::Receiver<bool>) {
    http1::serve(&**core, connection, &entry, &core.settings.limits.head, ending).await;
}

async fn over_http2(core: &Arc<Core>, connection: Connection, entry: Entry, ending: watch::Receiver<bool>) {
    let served = http2::serve(core.clone(), connection, entry.clone(), &core.settings.limits, ending).await;
    if served.is_err() {
        no_request(core, &entry);
    }
}

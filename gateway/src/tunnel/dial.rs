//! One tunnel, from dialling to death.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::resource::cluster::AddressHost;
use config::resource::{Address, Name};
use h2::client::Connection;
use http::{HeaderValue, Method, Request, Uri, Version};
use identity::{Refusal, Role, peer_identity};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::metadata::{CHANGES, REPORT_PATH};
use super::pool::{LAST_CALLS, LONGEST_CALLS, Means, Peer, Tunnel};
use super::pulse::{Heard, Pulse};
use super::report::{Lines, Report, SILENCE};
use crate::turns::{Gathering, Turns, in_turns};

/// From the first packet to the end of the handshake; and from there to the peer's first report.
const OPENING: Duration = Duration::from_secs(3);

/// A name that is not looked up after so long is given up, so that another address has its chance.
const LOOKUP: Duration = Duration::from_secs(1);

/// Of the addresses of a name, so many are tried.
const ADDRESSES: usize = 4;

/// What a gateway lets a peer send before it has read it, which is what a reader that takes nothing costs: by stream, and on the whole tunnel, in bytes.
pub const STREAM_WINDOW: u32 = 128 * 1024;
/// The window of a whole tunnel, in bytes: that of 512 streams, so that slow readers don't stall the others.
pub const TUNNEL_WINDOW: u32 = 64 * 1024 * 1024;

/// Why there is no tunnel, or no longer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TunnelError {
    #[error("this gateway has no identity in the GNS yet")]
    Identity,
    #[error("{0} cannot be looked up")]
    Lookup(String),
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("the peer is not who it should be, or refused us: {}", Refusal::or_error(.0))]
    Tls(std::io::Error),
    #[error("the peer does not speak as a gateway: {0}")]
    Http2(#[from] h2::Error),
    #[error("the peer answered {0} instead of its report")]
    Status(http::StatusCode),
    #[error("{0}")]
    Report(#[from] super::report::ReportError),
    #[error("the peer was silent for {SILENCE:?}")]
    Silence,
    #[error("no answer within {OPENING:?}")]
    Opening,
    #[error("the peer closed the tunnel")]
    Closed,
    #[error("the peer is stopping")]
    Stopped,
    #[error("the opaque name {0:?} is no server name")]
    Label(String),
}

impl TunnelError {
    /// Whether no root that is believed now is above what the peer shows: then a tunnel that it opened by that before is
    /// as good as none.
    pub fn is_rootless(&self) -> bool {
        matches!(self.refusal(), Some("unknown_issuer" | "bad_signature" | "no_roots"))
    }

    /// Whether it is told in the same breath as that other: seconds since a certificate ended count on from one attempt to
    /// the next, and are no news.
    pub fn is_as(&self, other: &Self) -> bool {
        match (self.refusal(), other.refusal()) {
            (None, None) => self.to_string() == other.to_string(),
            (this, other) => this == other,
        }
    }

    fn refusal(&self) -> Option<&'static str> {
        let TunnelError::Tls(error) = self else { return None };
        Refusal::in_handshake(error).map(Refusal::code)
    }
}

/// A tunnel that requests find, for as long as this is kept.
pub struct Opened {
    peer: Arc<Peer>,
    raised: Raised,
    moving: watch::Sender<bool>,
    /// How long its calls may go on after this is dropped.
    last_calls: Duration,
}

/// Opens a tunnel, and adds it to the peer's pool.
pub async fn open(peer: &Arc<Peer>, means: &Means) -> Result<Opened, TunnelError> {
    let (raised, first) = raise(secure(means, &peer.key.gateway).await?).await?;
    peer.add(raised.tunnel.clone(), first);
    Ok(Opened { peer: peer.clone(), raised, moving: watch::Sender::new(false), last_calls: LAST_CALLS })
}

impl Opened {
    /// Turns true when a successor of the peer serves at its address.
    pub fn moving(&self) -> watch::Receiver<bool> {
        self.moving.subscribe()
    }

    /// Takes in what the peer reports until the tunnel ends, and returns why. Each time the peer says something that
    /// changes where requests may go, `changed` is called.
    pub async fn follow(&mut self, changed: &(dyn Fn() + Send + Sync)) -> TunnelError {
        loop {
            let next = tokio::select! {
                biased;
                ended = &mut self.raised.driving => return ended.unwrap_or(TunnelError::Closed),
                next = self.raised.reports.next() => next,
            };
            match next {
                Ok(Some(report)) => {
                    self.moving.send_if_modified(|moving| report.moving && !std::mem::replace(moving, true));
                    self.peer.update(report);
                    changed();
                }
                Ok(None) => {}
                Err(end) => return end,
            }
        }
    }
}

impl Opened {
    /// Another tunnel to the peer is there. Unless the peer itself makes way for its successor, the calls on this one go
    /// on: it was only renewed.
    pub fn make_way(mut self) {
        if !*self.moving.borrow() {
            self.last_calls = LONGEST_CALLS;
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.peer.retire(&self.raised.tunnel, self.last_calls);
    }
}

/// A connection on which both have proved who they are.
pub struct Secured {
    /// It.
    pub io: TlsStream<TcpStream>,
    /// Which gateway of the cluster answered, by its certificate.
    pub gateway: Option<Name>,
}

impl Secured {
    /// Whether it was another gateway that answered than the one which should be there.
    pub fn instead_of(&self, gateway: &Name) -> Option<&Name> {
        self.gateway.as_ref().filter(|answered| *answered != gateway)
    }
}

/// Connects to the gateway of this name, and proves who both are. Whoever answers at one address but isn't the peer
/// doesn't keep it from the other. Another gateway of its cluster is taken where the peer itself is at neither.
pub async fn secure(means: &Means, gateway: &Name) -> Result<Secured, TunnelError> {
    let (first, other) = (&means.place.address, means.place.or_else.as_ref());
    let patience = if other.is_some() { OPENING / 2 } else { OPENING };
    let securing = async |address| {
        let securing = async { shake(means, connect(address).await?).await };
        timeout(patience, securing).await.unwrap_or(Err(TunnelError::Opening))
    };
    let secured = securing(first).await;
    let Some(other) = other else { return secured };
    let Ok(secured) = secured else { return securing(other).await };
    match secured.instead_of(gateway) {
        None => Ok(secured),
        Some(_) => {
            Ok(securing(other).await.ok().filter(|other| other.instead_of(gateway).is_none()).unwrap_or(secured))
        }
    }
}

/// Proves who both are, on a connection to the peer.
pub async fn shake(means: &Means, tcp: TcpStream) -> Result<Secured, TunnelError> {
    let tls = means.tls.clone().ok_or(TunnelError::Identity)?;
    let label = means.place.label.as_str().to_owned();
    let name = ServerName::try_from(label.clone()).map_err(|_| TunnelError::Label(label))?;
    let io = TlsConnector::from(tls).connect(name, tcp).await.map_err(TunnelError::Tls)?;
    let proven = io.get_ref().1.peer_certificates().and_then(|chain| peer_identity(chain).ok());
    let gateway = proven.and_then(|id| match id.role() {
        Role::Gateway { name, .. } => name.parse().ok(),
        _ => None,
    });
    Ok(Secured { io, gateway })
}

/// Tries whether the peer takes a tunnel, by its first report; then the tunnel ends.
pub async fn greet(secured: Secured) -> Result<Report, TunnelError> {
    raise(secured).await.map(|(_, first)| first)
}

/// Connects to the first of an address's meanings that answers.
pub async fn connect(address: &Address) -> Result<TcpStream, TunnelError> {
    let found = look_up(address).await?;
    let each = OPENING / u32::try_from(found.len() + 1).unwrap_or(u32::MAX);
    let mut fault = TunnelError::Lookup(address.to_string());
    for at in found {
        let connected = timeout(each, TcpStream::connect(at)).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        match connected.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp)) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => fault = TunnelError::Connect(error),
        }
    }
    Err(fault)
}

/// A name is looked up for each tunnel anew: what it stands for may have changed.
pub async fn look_up(address: &Address) -> Result<Vec<SocketAddr>, TunnelError> {
    match &address.host {
        AddressHost::Ip(ip) => Ok(vec![SocketAddr::new(*ip, address.port)]),
        AddressHost::Name(name) => {
            let found = timeout(LOOKUP, tokio::net::lookup_host((name.as_str(), address.port))).await;
            let found = found.ok().and_then(Result::ok).ok_or_else(|| TunnelError::Lookup(name.to_string()))?;
            Ok(found.take(ADDRESSES).collect())
        }
    }
}

/// A tunnel that carries frames and reports.
struct Raised {
    tunnel: Arc<Tunnel>,
    reports: Reports,
    driving: JoinHandle<TunnelError>,
}

/// Begins HTTP/2, and waits for the peer's first report.
async fn raise(Secured { io, gateway }: Secured) -> Result<(Raised, Report), TunnelError> {
    raise_over(io, gateway).await
}

/// The same over any connection, at whose far end is the gateway of this name, if it has proved one.
async fn raise_over(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    gateway: Option<Name>,
) -> Result<(Raised, Report), TunnelError> {
    let raising = async {
        let (pulse, (io, turns)) = (Pulse::start(), in_turns(io));
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            .max_header_list_size(64 * 1024)
            .handshake(Heard::new(io, pulse.clone()))
            .await?;
        let tunnel = Arc::new(Tunnel::new(sender, gateway.clone()));
        let driving = tokio::spawn(drive(connection, turns, pulse, tunnel.closing(), tunnel.over()));
        let mut reports = Reports::request(&tunnel, gateway).await?;
        let first = reports.first().await?;
        Ok((Raised { tunnel, reports, driving }, first))
    };
    timeout(OPENING, raising).await.unwrap_or(Err(TunnelError::Opening))
}

/// Moves the tunnel's frames until it breaks, its far end dies, or nobody needs it; returns which.
async fn drive<Io: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<Heard<Gathering<Io>>, Bytes>,
    mut turns: Turns<Io>,
    pulse: Pulse,
    closing: CancellationToken,
    over: impl Future<Output = ()>,
) -> TunnelError {
    let pings = connection.ping_pong();
    let driving = poll_fn(|cx| turns.poll(cx, |cx| Pin::new(&mut connection).poll(cx)));
    let end = tokio::select! {
        ended = driving => ended.map_or_else(TunnelError::Http2, |()| TunnelError::Closed),
        () = pulse.stopped(pings) => TunnelError::Silence,
        () = over => TunnelError::Closed,
    };
    // Who waits on the tunnel learns that it is dead before its streams break.
    closing.cancel();
    end
}

/// The peer's reports, as they come in.
struct Reports {
    body: h2::RecvStream,
    lines: Lines,
    /// Who says them, as it has proved.
    gateway: Option<Name>,
}

impl Reports {
    async fn request(tunnel: &Tunnel, gateway: Option<Name>) -> Result<Reports, TunnelError> {
        let mut head = Request::new(());
        *head.method_mut() = Method::GET;
        *head.version_mut() = Version::HTTP_2;
        head.headers_mut().insert(CHANGES, HeaderValue::from_static("1"));
        let mut uri = Uri::default().into_parts();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(http::uri::Authority::from_static("peer"));
        uri.path_and_query = Some(http::uri::PathAndQuery::from_static(REPORT_PATH));
        *head.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let mut sender = tunnel.sender().ready().await?;
        let (answer, _) = sender.send_request(head, true)?;
        let answer = answer.await?;
        if !answer.status().is_success() {
            return Err(TunnelError::Status(answer.status()));
        }
        Ok(Reports { body: answer.into_body(), lines: Lines::default(), gateway })
    }

    async fn first(&mut self) -> Result<Report, TunnelError> {
        loop {
            if let Some(report) = self.next().await? {
                return Ok(report);
            }
        }
    }

    /// The next line: a report, or nothing for a beat.
    async fn next(&mut self) -> Result<Option<Report>, TunnelError> {
        let Some(part) = self.body.data().await else { return Err(TunnelError::Stopped) };
        let part = part?;
        self.body.flow_control().release_capacity(part.len())?;
        let report = self.lines.push(&part)?;
        Ok(report.map(|report| Report { gateway: self.gateway.clone().or(report.gateway), ..report }))
    }
}

#[cfg(test)]
mod tests;

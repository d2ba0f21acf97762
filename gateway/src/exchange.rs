//! One request and its answer, as the request path sees them: whatever protocol they came by.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use config::resource::{Host, Name};
use decide::forwarded::Peer;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response};
use identity::SpiffeId;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::lifetime::Lifetime;

/// The client is gone, or what it sent can't be read on. There is nobody to answer.
#[derive(Debug)]
pub struct Gone;

/// One request, and the way back to whoever sent it.
pub trait Exchange: Send {
    /// The head, as it came.
    fn head(&self) -> &RequestHeader;

    /// Where the connection came in, and from whom.
    fn entry(&self) -> &Entry;

    /// Whether the body's end was seen.
    fn body_done(&mut self) -> bool;

    /// The next part of the body; `None` at its end, however often it is asked for then. Says `100 Continue` first, when the client waits for it.
    fn read_body(&mut self) -> impl Future<Output = Result<Option<Bytes>, Gone>> + Send;

    /// What followed the body (RFC 9110 section 6.5), where the protocol has it. Only once the body is done; once.
    fn request_trailers(&mut self) -> impl Future<Output = Result<Option<HeaderMap>, Gone>> + Send;

    /// Comes back when the client has gone. Of a body that isn't done it may take a little, and keeps it.
    fn gone(&mut self) -> impl Future<Output = Gone> + Send;

    /// Sends an interim head (RFC 9110 section 15.2), such as 103, where the client's protocol knows it. Never 101.
    fn inform(&mut self, head: Box<ResponseHeader>) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Sends the head of the answer, which is all of it when `end` is said. With 101 the connection, or the stream, is switched: from then on what is read and
    /// written is no message's body any more but the bytes of the protocol that was agreed on, until either side ends.
    fn respond(&mut self, head: Box<ResponseHeader>, end: bool) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Sends a part of the answer's body, perhaps the last; waits while the client is slow.
    fn write(&mut self, body: Bytes, end: bool) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Ends the answer with trailers, where the protocol has them.
    fn trailers(&mut self, trailers: HeaderMap) -> impl Future<Output = Result<(), Gone>> + Send;

    /// The request is refused for what it is. Where the connection goes on all the same, too many of these end it.
    fn offend(&mut self) {}

    /// The connection must not be used after this exchange.
    fn close(&mut self);
}

/// Changes the headers of an answer, whose names nobody keeps as they were written: the type's own methods write each
/// name anew for whoever might.
pub fn change_headers(head: &mut ResponseHeader, change: impl FnOnce(&mut HeaderMap)) {
    let (nothing, ()) = Response::new(()).into_parts();
    let mut parts = Parts::from(std::mem::replace(head, ResponseHeader::from(nothing)));
    change(&mut parts.headers);
    *head = ResponseHeader::from(parts);
}

/// Where a connection came in, what is known of who opened it, and how long it goes on.
#[derive(Debug, Clone)]
pub struct Entry {
    /// By which door.
    pub door: Door,
    /// The address of whoever opened it.
    pub client: IpAddr,
    /// The same, as instances are told of it.
    pub peer: Peer,
    /// The port on which the gateway listens.
    pub port: u16,
    /// What tells it to end. Requests on it say so while they last.
    pub lifetime: Arc<Lifetime>,
}

impl Entry {
    /// Of a connection that begins now.
    pub fn new(door: Door, client: IpAddr, port: u16) -> Self {
        let client = client.to_canonical();
        Entry { door, client, peer: Peer::new(client), port, lifetime: Arc::default() }
    }
}

/// A workload that has proved who it is.
#[derive(Debug)]
pub struct Proven {
    /// Who.
    pub id: SpiffeId,
    /// The same, as tunnels' metadata has it.
    pub text: HeaderValue,
    /// The GNS whose gateway it asked for.
    pub opened_for: Name,
}

impl Proven {
    /// A peer of this identity, that asked for a gateway of the GNS.
    pub fn new(id: SpiffeId, opened_for: Name) -> Self {
        // A SPIFFE ID of ours is plain ASCII.
        let text = HeaderValue::try_from(id.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unprintable"));
        Proven { id, text, opened_for }
    }
}

/// The doors of a gateway.
#[derive(Debug, Clone)]
pub enum Door {
    /// From outside, in plain text.
    PublicHttp,
    /// From outside, through TLS opened for this host.
    PublicHttps {
        /// The name that the client asked for (RFC 6066 section 3).
        sni: Host,
    },
    /// From a workload of this cluster, on a service's own port.
    Mesh {
        /// Who it is, where it has proved that by mutual TLS.
        caller: Option<Arc<Proven>>,
    },
    /// From another cluster's gateway, which has shown this identity of this GNS.
    Tunnel {
        /// The GNS in whose identity both sides speak.
        global_namespace: Name,
        /// The peer.
        peer: Arc<SpiffeId>,
    },
}

impl Door {
    /// From a workload that has not proved who it is.
    pub fn mesh() -> Self {
        Door::Mesh { caller: None }
    }

    /// Who called, where that is proven here.
    pub fn caller(&self) -> Option<&Arc<Proven>> {
        match self {
            Door::Mesh { caller } => caller.as_ref(),
            Door::PublicHttp | Door::PublicHttps { .. } | Door::Tunnel { .. } => None,
        }
    }

    /// As in log and metric labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Door::PublicHttp => "http",
            Door::PublicHttps { .. } => "https",
            Door::Mesh { .. } => "mesh",
            Door::Tunnel { .. } => "tunnel",
        }
    }
}

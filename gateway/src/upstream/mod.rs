//! A request on its way out: to an instance of this cluster, or through a tunnel to a gateway of another.

pub mod http1;
pub mod http2;
mod path;
pub mod pool;
pub mod secure;

use std::sync::Arc;

use bytes::Bytes;
use config::resource::Protocol;
use http::{HeaderMap, HeaderValue, Method};
use pingora_http::ResponseHeader;

use crate::health::Target;
use crate::tunnel::metadata::Metadata;
use crate::tunnel::pool::Tunnel;
pub use path::Path;

/// The request as it goes out, whichever way. Made once; each attempt shapes it for its protocol.
#[derive(Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// What is asked for.
    pub target: Path,
    /// The host, with its port when the client named one.
    pub authority: HeaderValue,
    /// The headers, clean of everything that belongs to a hop.
    pub headers: HeaderMap,
    /// How the body ends.
    pub body: Body,
    /// The protocol that shall follow; then there is no body.
    pub switch: Option<Switch>,
    /// Whether the client takes interim answers (RFC 9110 section 15.2).
    pub interim: bool,
}

/// What a connection, or a stream, may be switched to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// RFC 6455; on HTTP/2 by extended CONNECT (RFC 8441).
    WebSocket,
}

impl Switch {
    /// As in `Upgrade` and in `:protocol`.
    pub const fn token(self) -> &'static str {
        match self {
            Switch::WebSocket => "websocket",
        }
    }
}

/// How a request's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// As `content-length` says, which is among the headers.
    Length,
    /// Nobody knows before it ends.
    Open,
}

/// A part of an answer after its head.
#[derive(Debug)]
pub enum Event {
    /// A part of the body.
    Body(Bytes),
    /// The end, with trailers.
    Trailers(HeaderMap),
    /// The end.
    End,
}

/// Why a call did not bring an answer, and whether the far end may have begun to act on it.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No byte of the request went out, and the far end is not to blame.
    #[error("{0}")]
    NotSent(String),
    /// No byte of the request went out, because nobody listens at the far end, or it can't be reached.
    #[error("{0}")]
    Unreachable(String),
    /// No byte of the request went out, because no connection was there in time.
    #[error("{0}")]
    Slow(String),
    /// The far end had left the connection, and has not acted on the request.
    #[error("{0}")]
    Left(String),
    /// A pooled connection was closed before anything came back, as its far end may do at any time.
    #[error("{0}")]
    Stale(String),
    /// The request, or a part of it, went out.
    #[error("{0}")]
    Broken(String),
    /// What came back makes no sense.
    #[error("{0}")]
    BadAnswer(String),
}

/// The way of a request's body.
pub enum Sending {
    /// To an instance that speaks HTTP/1.1.
    Http1(http1::Sending),
    /// To a peer gateway, or to an instance that speaks HTTP/2.
    Http2(http2::Sending),
}

/// The way of the answer.
pub enum Receiving {
    /// From an instance that speaks HTTP/1.1.
    Http1(http1::Receiving),
    /// From a peer gateway, or from an instance that speaks HTTP/2.
    Http2(http2::Receiving),
}

/// A call that has begun: both its halves. There is nothing to send when there is no body.
pub type Call = (Option<Sending>, Receiving);

/// Sends the head to an instance, in the protocol of its port.
pub async fn to_instance(target: Arc<Target>, request: &Outgoing) -> Result<Call, CallError> {
    match target.protocol {
        Protocol::Http2 | Protocol::Grpc => {
            let (sending, receiving) = http2::to(target, request).await?;
            Ok((sending.map(Sending::Http2), Receiving::Http2(receiving)))
        }
        Protocol::Http | Protocol::Tcp | Protocol::Tls => {
            let (sending, receiving) = http1::start(target, request).await?;
            Ok((sending.map(Sending::Http1), Receiving::Http1(receiving)))
        }
    }
}

/// Sends the head through a tunnel.
pub async fn through(tunnel: Arc<Tunnel>, metadata: &Metadata<'_>, request: &Outgoing) -> Result<Call, CallError> {
    let (sending, receiving) = http2::through(tunnel, metadata, request).await?;
    Ok((sending.map(Sending::Http2), Receiving::Http2(receiving)))
}

impl Sending {
    /// Sends as much of the part as the far end takes now, and leaves the rest in it; waits while it takes nothing. May
    /// be dropped and called again: what was sent is gone from the part. With the end of the last part the body's end may
    /// go out, too; then it returns true.
    pub async fn send(&mut self, part: &mut Bytes, last: bool) -> Result<bool, CallError> {
        match self {
            Sending::Http1(sending) => sending.send(part, last).await,
            Sending::Http2(sending) => sending.send(part, last).await,
        }
    }

    /// Sends what waits of the head, where that does not go out by itself. May be dropped and called again.
    pub async fn flush(&mut self) -> Result<(), CallError> {
        match self {
            Sending::Http1(sending) => sending.flush().await,
            Sending::Http2(_) => Ok(()),
        }
    }

    /// Sends the body's end, with what follows it. May be dropped and called again.
    pub async fn end(&mut self, trailers: &mut Option<HeaderMap>) -> Result<(), CallError> {
        match self {
            Sending::Http1(sending) => sending.end(trailers).await,
            Sending::Http2(sending) => sending.end(trailers.take()),
        }
    }
}

impl Receiving {
    /// Waits for the next head of the answer: an interim one, where the client takes such, or the final one. May be
    /// dropped and called again.
    pub async fn head(&mut self) -> Result<Box<ResponseHeader>, CallError> {
        match self {
            Receiving::Http1(receiving) => receiving.head().await,
            Receiving::Http2(receiving) => receiving.head().await,
        }
    }

    /// Whether the head was all of the answer.
    pub fn ended(&self) -> bool {
        match self {
            Receiving::Http1(receiving) => receiving.ended(),
            Receiving::Http2(receiving) => receiving.ended(),
        }
    }

    /// The head said that the far end has switched protocols: what is to be sent from here on.
    pub fn switched(&mut self) -> Result<Sending, CallError> {
        match self {
            Receiving::Http1(receiving) => receiving.switched().map(Sending::Http1),
            Receiving::Http2(receiving) => receiving.switched().map(Sending::Http2),
        }
    }

    /// Waits for the next part of the answer. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Event, CallError> {
        match self {
            Receiving::Http1(receiving) => receiving.next().await,
            Receiving::Http2(receiving) => receiving.next().await,
        }
    }

    /// Whether another gateway answers.
    pub fn is_tunnelled(&self) -> bool {
        matches!(self, Receiving::Http2(receiving) if receiving.is_tunnelled())
    }

    /// Who serves it, as `CLUSTER/VERSION/INSTANCE`; nothing when another gateway must say.
    pub fn served_by(&self) -> Option<&HeaderValue> {
        match self {
            Receiving::Http1(receiving) => Some(receiving.served_by()),
            Receiving::Http2(receiving) => receiving.served_by(),
        }
    }

    /// By which to learn that what the answer depends on is dead, before its own connection notices, if it ever does.
    pub fn lifeline(&self) -> Lifeline {
        match self {
            Receiving::Http1(receiving) => receiving.lifeline(),
            Receiving::Http2(receiving) => receiving.lifeline(),
        }
    }

    /// Nothing came in time: a connection that others share must not take more, lest they wait, too.
    pub fn distrust(&self) {
        match self {
            Receiving::Http1(_) => {}
            Receiving::Http2(receiving) => receiving.distrust(),
        }
    }

    /// The answer was read whole, and the request is out: the connection may serve others.
    pub fn finish(self) {
        match self {
            Receiving::Http1(receiving) => receiving.finish(),
            Receiving::Http2(_) => {}
        }
    }
}

/// What a call's answer depends on.
pub enum Lifeline {
    /// An instance that was not known to be sick when it was chosen.
    Instance(Arc<Target>),
    /// An instance that was chosen although it was known to be sick, since all are: only its connection can tell.
    Doubtful,
    /// A tunnel.
    Tunnel(Arc<Tunnel>),
}

impl Lifeline {
    /// Comes back when it is known to be dead.
    pub async fn cut(&self) {
        match self {
            Lifeline::Instance(target) => target.health.dead().await,
            Lifeline::Doubtful => std::future::pending().await,
            Lifeline::Tunnel(tunnel) => tunnel.closed().await,
        }
    }
}

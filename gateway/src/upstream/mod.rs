//! A request on its way out: to an instance of this cluster, or through a tunnel to a gateway of another.

pub mod body;
pub mod instance;
pub mod pool;
pub mod tunnelled;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use pingora_http::ResponseHeader;

use crate::health::Target;
use crate::tunnel::pool::Tunnel;

/// The request as it goes out, whichever way. Made once; each attempt shapes it for its protocol.
#[derive(Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// The normalised path, and the query as it came.
    pub target: String,
    /// The host, with its port when the client named one.
    pub authority: HeaderValue,
    /// The headers, clean of everything that belongs to a hop.
    pub headers: HeaderMap,
    /// How the body ends.
    pub body: Body,
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
    /// To an instance.
    Instance(instance::Sending),
    /// To a peer gateway.
    Tunnel(tunnelled::Sending),
}

/// The way of the answer.
pub enum Receiving {
    /// From an instance.
    Instance(Box<instance::Receiving>),
    /// From a peer gateway.
    Tunnel(tunnelled::Receiving),
}

impl Sending {
    /// Sends as much of the part as the far end takes now, and leaves the rest in it; waits while it takes nothing. May
    /// be dropped and called again: what was sent is gone from the part.
    pub async fn send(&mut self, part: &mut Bytes) -> Result<(), CallError> {
        match self {
            Sending::Instance(sending) => {
                sending.ready().await?;
                sending.put(std::mem::take(part))
            }
            Sending::Tunnel(sending) => sending.send(part).await,
        }
    }

    /// Sends the body's end. May be dropped and called again.
    pub async fn end(&mut self) -> Result<(), CallError> {
        match self {
            Sending::Instance(sending) => sending.end().await,
            Sending::Tunnel(sending) => sending.end(),
        }
    }
}

impl Receiving {
    /// Waits for the final head of the answer. May be dropped and called again.
    pub async fn head(&mut self) -> Result<Box<ResponseHeader>, CallError> {
        match self {
            Receiving::Instance(receiving) => receiving.head().await,
            Receiving::Tunnel(receiving) => receiving.head().await,
        }
    }

    /// Waits for the next part of the answer. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Event, CallError> {
        match self {
            Receiving::Instance(receiving) => receiving.next().await,
            Receiving::Tunnel(receiving) => receiving.next().await,
        }
    }

    /// By which to learn that what the answer depends on is dead, before its own connection notices, if it ever does.
    pub fn lifeline(&self) -> Lifeline {
        match self {
            Receiving::Instance(receiving) => receiving.lifeline(),
            Receiving::Tunnel(receiving) => Lifeline::Tunnel(receiving.tunnel().clone()),
        }
    }

    /// The answer was read whole, and the request is out: the connection may serve others.
    pub fn finish(self) {
        match self {
            Receiving::Instance(receiving) => receiving.finish(),
            Receiving::Tunnel(_) => {}
        }
    }
}

/// An answer's head, for pingora's sessions.
fn head_of(parts: &http::response::Parts, version: http::Version) -> Result<Box<ResponseHeader>, CallError> {
    let wrong = |error: Box<pingora_error::Error>| CallError::BadAnswer(error.to_string());
    let mut head = ResponseHeader::build_no_case(parts.status, Some(parts.headers.len())).map_err(wrong)?;
    head.set_version(version);
    for (name, value) in &parts.headers {
        head.append_header(name, value).map_err(wrong)?;
    }
    Ok(Box::new(head))
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
            Lifeline::Instance(target) => target.health.ejected().await,
            Lifeline::Doubtful => std::future::pending().await,
            Lifeline::Tunnel(tunnel) => tunnel.closed().await,
        }
    }
}

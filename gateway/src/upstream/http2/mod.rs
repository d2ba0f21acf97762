//! One HTTP/2 stream on its way out: through a tunnel, or to an instance that speaks HTTP/2.

pub mod pool;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::uri::{self, Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, response};
use pingora_http::ResponseHeader;

use super::{Body, CallError, Event, Lifeline, Outgoing};
use crate::health::Target;
use crate::tunnel::metadata::{self, Metadata};
use crate::tunnel::pool::Tunnel;

/// The half that sends the request's body. When both halves are gone before the stream's end, h2 resets it.
pub struct Sending(SendStream<Bytes>);

/// The half that brings the answer.
pub struct Receiving {
    carrier: Carrier,
    answer: Answer,
    /// The other half, kept back until the far end has agreed to switch.
    switching: Option<Sending>,
}

/// What the stream runs on, alive for as long as the stream.
enum Carrier {
    Tunnel(Arc<Tunnel>),
    Instance { target: Arc<Target>, doubtful: bool, seat: pool::Seat },
}

enum Answer {
    /// Whether interim heads are wanted.
    Awaited(ResponseFuture, bool),
    Body(RecvStream),
}

/// Opens a stream in a tunnel and sends the head.
pub async fn through(
    tunnel: Arc<Tunnel>,
    metadata: &Metadata<'_>,
    request: &Outgoing,
) -> Result<(Option<Sending>, Receiving), CallError> {
    let mut head = shape(request, Scheme::HTTP, metadata::OF_REQUEST.len())?;
    metadata.write(head.headers_mut());
    let sender = ready(tunnel.sender()).await?;
    open(sender, head, request, Carrier::Tunnel(tunnel))
}

/// Opens a stream to an instance and sends the head.
pub async fn to(target: Arc<Target>, request: &Outgoing) -> Result<(Option<Sending>, Receiving), CallError> {
    let doubtful = target.health.is_sick();
    let scheme = if target.connections.security.is_mutual() { Scheme::HTTPS } else { Scheme::HTTP };
    let head = shape(request, scheme, 0)?;
    let seat = target.connections.http2.take().await?;
    let sender = ready(seat.sender()).await?;
    open(sender, head, request, Carrier::Instance { target, doubtful, seat })
}

async fn ready(sender: SendRequest<Bytes>) -> Result<SendRequest<Bytes>, CallError> {
    sender.ready().await.map_err(|error| CallError::Left(error.to_string()))
}

fn open(
    mut sender: SendRequest<Bytes>,
    head: Request<()>,
    request: &Outgoing,
    carrier: Carrier,
) -> Result<(Option<Sending>, Receiving), CallError> {
    if request.switch.is_some() && !sender.is_extended_connect_protocol_enabled() {
        return Err(CallError::NotSent("the far end does not take extended CONNECT (RFC 8441)".into()));
    }
    let bodiless = request.body == Body::None && request.switch.is_none();
    let (answer, send) = sender.send_request(head, bodiless).map_err(|error| classify(&error))?;
    let sending = (!bodiless).then_some(Sending(send));
    let (now, switching) = if request.switch.is_some() { (None, sending) } else { (sending, None) };
    Ok((now, Receiving { carrier, answer: Answer::Awaited(answer, request.interim), switching }))
}

impl Sending {
    pub(super) async fn send(&mut self, part: &mut Bytes, last: bool) -> Result<bool, CallError> {
        self.0.reserve_capacity(part.len());
        match poll_fn(|context| self.0.poll_capacity(context)).await {
            Some(Ok(capacity)) => {
                let now = part.split_to(capacity.min(part.len()));
                let ends = last && part.is_empty();
                self.0.send_data(now, ends).map_err(|error| classify(&error))?;
                Ok(ends)
            }
            Some(Err(error)) => Err(classify(&error)),
            None => Err(CallError::Broken("the far end takes no more of the body".into())),
        }
    }

    pub(super) fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), CallError> {
        let ended = match trailers {
            Some(trailers) => self.0.send_trailers(trailers),
            None => self.0.send_data(Bytes::new(), true),
        };
        ended.map_err(|error| classify(&error))
    }
}

impl Receiving {
    /// Whether it comes from another gateway.
    pub(super) fn is_tunnelled(&self) -> bool {
        matches!(self.carrier, Carrier::Tunnel(_))
    }

    /// Which instance serves it, where that is one of this cluster.
    pub(super) fn served_by(&self) -> Option<&HeaderValue> {
        match &self.carrier {
            Carrier::Tunnel(_) => None,
            Carrier::Instance { target, .. } => Some(&target.served_by),
        }
    }

    /// Nothing came on it in time.
    pub(super) fn distrust(&self) {
        if let Carrier::Instance { seat, .. } = &self.carrier {
            seat.distrust();
        }
    }

    pub(super) fn lifeline(&self) -> Lifeline {
        match &self.carrier {
            Carrier::Tunnel(tunnel) => Lifeline::Tunnel(tunnel.clone()),
            Carrier::Instance { doubtful: true, .. } => Lifeline::Doubtful,
            Carrier::Instance { target, .. } => Lifeline::Instance(target.clone()),
        }
    }

    pub(super) async fn head(&mut self) -> Result<Box<ResponseHeader>, CallError> {
        let Answer::Awaited(answer, interim) = &mut self.answer else {
            return Err(CallError::BadAnswer("the answer's head was read already".into()));
        };
        let (mut parts, body) = poll_fn(|context| poll_head(answer, *interim, context)).await?;
        match body {
            Some(body) => self.answer = Answer::Body(body),
            None if parts.status == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(CallError::BadAnswer("it answered 101, which HTTP/2 does not know".into()));
            }
            None => return Ok(Box::new(parts.into())),
        }
        if self.switching.is_some() && parts.status == StatusCode::OK {
            // RFC 8441 section 5: what HTTP/1.1 calls 101 is 200 here.
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
        }
        Ok(Box::new(ResponseHeader::from(parts)))
    }

    pub(super) fn ended(&self) -> bool {
        matches!(&self.answer, Answer::Body(body) if body.is_end_stream())
    }

    /// The far end has agreed to switch: the way out is open.
    pub(super) fn switched(&mut self) -> Result<Sending, CallError> {
        self.switching.take().ok_or_else(|| CallError::BadAnswer("it switched protocols unasked".into()))
    }

    pub(super) async fn next(&mut self) -> Result<Event, CallError> {
        let Answer::Body(body) = &mut self.answer else {
            return Err(CallError::BadAnswer("the answer's head was not read yet".into()));
        };
        while let Some(part) = body.data().await {
            let part = part.map_err(|error| classify(&error))?;
            if part.is_empty() {
                // Whoever gets many of these takes it for an attack, and so does the library here.
                if let Carrier::Instance { seat, .. } = &self.carrier {
                    seat.got_nothing();
                }
                continue;
            }
            body.flow_control().release_capacity(part.len()).map_err(|error| classify(&error))?;
            return Ok(Event::Body(part));
        }
        match body.trailers().await.map_err(|error| classify(&error))? {
            Some(trailers) => Ok(Event::Trailers(trailers)),
            None => Ok(Event::End),
        }
    }
}

/// The next head; an interim one comes without a body.
fn poll_head(
    answer: &mut ResponseFuture,
    interim: bool,
    context: &mut Context<'_>,
) -> Poll<Result<(response::Parts, Option<RecvStream>), CallError>> {
    if interim && let Poll::Ready(Some(head)) = answer.poll_informational(context) {
        return Poll::Ready(head.map(|head| (head.into_parts().0, None)).map_err(|error| classify(&error)));
    }
    let head = ready!(Pin::new(answer).poll(context)).map_err(|error| classify(&error))?;
    let (head, body) = head.into_parts();
    Poll::Ready(Ok((head, Some(body))))
}

/// The head, with room for so many `more` headers.
fn shape(request: &Outgoing, scheme: Scheme, more: usize) -> Result<Request<()>, CallError> {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = if request.switch.is_some() { Method::CONNECT } else { request.method.clone() };
    head.uri = uri(request, scheme).map_err(|error| CallError::NotSent(error.to_string()))?;
    head.version = Version::HTTP_2;
    head.headers = HeaderMap::with_capacity(request.headers.len() + more);
    for (name, value) in &request.headers {
        head.headers.append(name, value.clone());
    }
    if let Some(switch) = request.switch {
        head.extensions.insert(Protocol::from_static(switch.token()));
    }
    Ok(Request::from_parts(head, ()))
}

fn uri(request: &Outgoing, scheme: Scheme) -> Result<Uri, http::Error> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(request.authority.as_bytes())?);
    parts.path_and_query = Some(request.target.to_uri()?);
    Ok(Uri::from_parts(parts)?)
}

/// Which errors say that the far end did not act on the request (RFC 9113 sections 5.4.2, 6.8 and 8.7).
fn classify(error: &h2::Error) -> CallError {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) => CallError::NotSent(error.to_string()),
        Some(Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => CallError::Left(error.to_string()),
        _ => CallError::Broken(error.to_string()),
    }
}

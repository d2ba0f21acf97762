//! A request through a tunnel: one HTTP/2 stream to a gateway of another cluster.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Uri, Version};
use pingora_http::ResponseHeader;

use super::{Body, CallError, Event, Outgoing, head_of};
use crate::tunnel::metadata::Metadata;
use crate::tunnel::pool::Tunnel;

/// The half that sends the request's body. When both halves are gone before the stream's end, h2 resets it.
pub struct Sending(SendStream<Bytes>);

/// The half that brings the answer.
pub struct Receiving {
    tunnel: Arc<Tunnel>,
    answer: Answer,
}

enum Answer {
    Awaited(ResponseFuture),
    Body(RecvStream),
}

/// Opens a stream and sends the head.
pub async fn start(
    tunnel: Arc<Tunnel>,
    metadata: &Metadata<'_>,
    request: &Outgoing,
) -> Result<(Option<Sending>, Receiving), CallError> {
    let head = shape(metadata, request)?;
    let sender = tunnel.sender();
    let mut sender = sender.ready().await.map_err(|error| CallError::NotSent(error.to_string()))?;
    let bodiless = request.body == Body::None;
    let (answer, send) = sender.send_request(head, bodiless).map_err(|error| classify(&error))?;
    let sending = (!bodiless).then_some(Sending(send));
    Ok((sending, Receiving { tunnel, answer: Answer::Awaited(answer) }))
}

impl Sending {
    pub(super) async fn send(&mut self, part: &mut Bytes) -> Result<(), CallError> {
        self.0.reserve_capacity(part.len());
        match poll_fn(|context| self.0.poll_capacity(context)).await {
            Some(Ok(capacity)) => {
                let now = part.split_to(capacity.min(part.len()));
                self.0.send_data(now, false).map_err(|error| classify(&error))
            }
            Some(Err(error)) => Err(classify(&error)),
            None => Err(CallError::Broken("the far end takes no more of the body".into())),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), CallError> {
        self.0.send_data(Bytes::new(), true).map_err(|error| classify(&error))
    }
}

impl Receiving {
    pub(super) fn tunnel(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }

    pub(super) async fn head(&mut self) -> Result<Box<ResponseHeader>, CallError> {
        let Answer::Awaited(answer) = &mut self.answer else {
            return Err(CallError::BadAnswer("the answer's head was read already".into()));
        };
        let answer = answer.await.map_err(|error| classify(&error))?;
        let (parts, body) = answer.into_parts();
        self.answer = Answer::Body(body);
        head_of(&parts, Version::HTTP_2)
    }

    pub(super) async fn next(&mut self) -> Result<Event, CallError> {
        let Answer::Body(body) = &mut self.answer else {
            return Err(CallError::BadAnswer("the answer's head was not read yet".into()));
        };
        if let Some(part) = body.data().await {
            let part = part.map_err(|error| classify(&error))?;
            body.flow_control().release_capacity(part.len()).map_err(|error| classify(&error))?;
            return Ok(Event::Body(part));
        }
        match body.trailers().await.map_err(|error| classify(&error))? {
            Some(trailers) => Ok(Event::Trailers(trailers)),
            None => Ok(Event::End),
        }
    }
}

fn shape(metadata: &Metadata<'_>, request: &Outgoing) -> Result<Request<()>, CallError> {
    let wrong = |error: http::Error| CallError::NotSent(error.to_string());
    let uri = Uri::builder()
        .scheme("http")
        .authority(request.authority.as_bytes())
        .path_and_query(request.target.as_str())
        .build()
        .map_err(wrong)?;
    let mut head =
        Request::builder().method(request.method.clone()).uri(uri).version(Version::HTTP_2).body(()).map_err(wrong)?;
    *head.headers_mut() = request.headers.clone();
    metadata.write(head.headers_mut());
    Ok(head)
}

/// Which errors say that the far end did not act on the request (RFC 9113 sections 5.4.2, 6.8 and 8.7).
fn classify(error: &h2::Error) -> CallError {
    let untouched = error.reason() == Some(Reason::REFUSED_STREAM)
        || (error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR));
    match untouched {
        true => CallError::NotSent(error.to_string()),
        false => CallError::Broken(error.to_string()),
    }
}

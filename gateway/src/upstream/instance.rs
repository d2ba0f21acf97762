//! A request to an instance of this cluster, over HTTP/1.1.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pingora_http::ResponseHeader;

use super::body::{BodySender, RequestBody};
use super::pool::Connection;
use super::{Body, CallError, Event, Lifeline, Outgoing, head_of};
use crate::health::Target;

type Awaited = Pin<Box<dyn Future<Output = Result<http::Response<Incoming>, CallError>> + Send>>;

/// The half that sends the request's body.
pub struct Sending(BodySender);

/// The half that brings the answer.
pub struct Receiving {
    target: Arc<Target>,
    connection: Connection,
    doubtful: bool,
    answer: Answer,
}

enum Answer {
    Awaited(Awaited),
    Body(Incoming),
}

/// Takes a connection from the pool, or opens one, and sends the head.
pub async fn start(target: Arc<Target>, request: &Outgoing) -> Result<(Option<Sending>, Box<Receiving>), CallError> {
    let doubtful = target.health.is_sick();
    let mut connection = target.connections.take().await?;
    let (sending, body) = match request.body {
        Body::None => (None, RequestBody::none()),
        Body::Length | Body::Open => {
            let (sender, body) = RequestBody::channel();
            (Some(Sending(sender)), body)
        }
    };
    let head = shape(request, body)?;
    let used = connection.used;
    let answer = connection.sender.try_send_request(head);
    let answer = Box::pin(async move {
        answer.await.map_err(|mut failed| not_answered(used, failed.take_message(), failed.error()))
    });
    Ok((sending, Box::new(Receiving { target, connection, doubtful, answer: Answer::Awaited(answer) })))
}

/// hyper gives the request back when not a byte of it went out.
fn not_answered(used: bool, unsent: Option<Request<RequestBody>>, error: &hyper::Error) -> CallError {
    let what = describe(error);
    match (unsent, used) {
        (Some(_), _) => CallError::NotSent(what),
        (None, _) if error.is_parse() || error.is_parse_too_large() => CallError::BadAnswer(what),
        (None, true) => CallError::Stale(what),
        (None, false) => CallError::Broken(what),
    }
}

impl Sending {
    /// Comes back when a part can be put. May be dropped and called again.
    pub(super) async fn ready(&self) -> Result<(), CallError> {
        self.0.ready().await.map_err(|error| CallError::Broken(error.to_string()))
    }

    pub(super) fn put(&self, part: Bytes) -> Result<(), CallError> {
        self.0.put(Some(part)).map_err(|error| CallError::Broken(error.to_string()))
    }

    /// hyper lets go of a body as soon as its length is reached: then nobody is left to be told of its end.
    pub(super) async fn end(&self) -> Result<(), CallError> {
        match self.0.ready().await {
            Ok(()) => self.0.put(None).map_err(|error| CallError::Broken(error.to_string())),
            Err(_) => Ok(()),
        }
    }
}

impl Receiving {
    /// Who serves it, as `CLUSTER/VERSION/INSTANCE`.
    pub fn served_by(&self) -> &HeaderValue {
        &self.target.served_by
    }

    pub(super) async fn head(&mut self) -> Result<Box<ResponseHeader>, CallError> {
        let Answer::Awaited(answer) = &mut self.answer else {
            return Err(CallError::BadAnswer("the answer's head was read already".into()));
        };
        let (parts, body) = answer.await?.into_parts();
        self.answer = Answer::Body(body);
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(CallError::BadAnswer("it switched protocols unasked".into()));
        }
        head_of(&parts, Version::HTTP_11)
    }

    pub(super) async fn next(&mut self) -> Result<Event, CallError> {
        let Answer::Body(body) = &mut self.answer else {
            return Err(CallError::BadAnswer("the answer's head was not read yet".into()));
        };
        match body.frame().await {
            None => Ok(Event::End),
            Some(Err(error)) => Err(CallError::Broken(describe(&error))),
            Some(Ok(frame)) => Ok(match frame.into_data() {
                Ok(data) => Event::Body(data),
                Err(frame) => frame.into_trailers().map_or(Event::End, Event::Trailers),
            }),
        }
    }

    pub(super) fn lifeline(&self) -> Lifeline {
        if self.doubtful { Lifeline::Doubtful } else { Lifeline::Instance(self.target.clone()) }
    }

    pub(super) fn finish(self) {
        let Receiving { target, connection, answer, .. } = self;
        drop(answer);
        target.connections.give_back(connection);
    }
}

fn shape(request: &Outgoing, body: RequestBody) -> Result<Request<RequestBody>, CallError> {
    let wrong = |error: &dyn std::fmt::Display| CallError::NotSent(error.to_string());
    let mut head = Request::new(body);
    *head.method_mut() = request.method.clone();
    *head.uri_mut() = Uri::try_from(request.target.as_str()).map_err(|error| wrong(&error))?;
    *head.headers_mut() = request.headers.clone();
    head.headers_mut().insert(HOST, request.authority.clone());
    Ok(head)
}

/// hyper keeps the cause apart from the error's own text.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

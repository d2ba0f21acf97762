//! A request to an instance of this cluster, over HTTP/1.1.

pub mod body;
pub mod pool;

use std::pin::Pin;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_KEY, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;

use super::{Body, CallError, Event, Lifeline, Outgoing, Switch, head_of};
use crate::health::Target;
use body::{BodySender, RequestBody};
use pool::Connection;

/// A switched connection is read in pieces of so many bytes.
const PIECE: usize = 16 * 1024;

type Awaited = Pin<Box<dyn Future<Output = Result<http::Response<Incoming>, CallError>> + Send>>;
type Switched = TokioIo<Upgraded>;

/// The half that sends.
pub enum Sending {
    /// The request's body.
    Body(BodySender),
    /// What follows a switch of protocols.
    Switched(WriteHalf<Switched>),
}

/// The half that brings the answer.
pub struct Receiving {
    target: Arc<Target>,
    connection: Connection,
    doubtful: bool,
    /// Interim answers, where they are wanted.
    interim: Option<mpsc::Receiver<Box<ResponseHeader>>>,
    answer: Answer,
}

enum Answer {
    Awaited(Awaited),
    Body(Incoming),
    /// It has agreed to switch; what follows is handed over next.
    Agreed(hyper::upgrade::OnUpgrade),
    Switched(ReadHalf<Switched>, BytesMut),
}

/// Takes a connection from the pool, or opens one, and sends the head.
pub async fn start(target: Arc<Target>, request: &Outgoing) -> Result<(Option<Sending>, Box<Receiving>), CallError> {
    let doubtful = target.health.is_sick();
    let mut connection = target.connections.http1.take().await?;
    let (sending, body) = match request.body {
        Body::None => (None, RequestBody::none()),
        Body::Length | Body::Open => {
            let (sender, body) = RequestBody::channel();
            (Some(Sending::Body(sender)), body)
        }
    };
    let mut head = shape(request, body)?;
    let interim = request.interim.then(|| follow_interim(&mut head));
    let used = connection.used;
    let answer = connection.sender.try_send_request(head);
    let answer = Box::pin(async move {
        answer.await.map_err(|mut failed| not_answered(used, failed.take_message(), failed.error()))
    });
    Ok((sending, Box::new(Receiving { target, connection, doubtful, interim, answer: Answer::Awaited(answer) })))
}

/// An instance that sends more interim answers than this at once is not waited for: they are only hints.
const MOST_INTERIM: usize = 8;

fn follow_interim(head: &mut Request<RequestBody>) -> mpsc::Receiver<Box<ResponseHeader>> {
    let (sender, receiver) = mpsc::channel(MOST_INTERIM);
    hyper::ext::on_informational(head, move |answer| {
        // 100 answers an expectation of the gateway's own; the client's was answered when its body was first read.
        if answer.status() == StatusCode::CONTINUE {
            return;
        }
        if let Ok(hint) = head_of(answer.status(), answer.headers(), Version::HTTP_11)
            && sender.try_send(hint).is_err()
        {
            tracing::trace!("an interim answer was dropped");
        }
    });
    receiver
}

/// hyper gives the request back when not a byte of it went out.
fn not_answered(used: bool, unsent: Option<Request<RequestBody>>, error: &hyper::Error) -> CallError {
    let what = describe(error);
    match (unsent, used) {
        (Some(_), true) => CallError::Left(what),
        (Some(_), false) => CallError::NotSent(what),
        (None, _) if error.is_parse() || error.is_parse_too_large() => CallError::BadAnswer(what),
        (None, true) => CallError::Stale(what),
        (None, false) => CallError::Broken(what),
    }
}

impl Sending {
    /// May be dropped and called again: what was sent is gone from the part.
    pub(super) async fn send(&mut self, part: &mut Bytes) -> Result<(), CallError> {
        match self {
            Sending::Body(body) => {
                body.ready().await.map_err(broken)?;
                body.put(std::mem::take(part)).map_err(broken)
            }
            Sending::Switched(stream) => stream.write_buf(part).await.map(drop).map_err(broken),
        }
    }

    /// hyper lets go of a body as soon as its length is reached: then nobody is left to be told of its end.
    pub(super) async fn end(&mut self, trailers: &mut Option<HeaderMap>) -> Result<(), CallError> {
        match self {
            Sending::Body(body) => match body.ready().await {
                Ok(()) => body.end(trailers.take()).map_err(broken),
                Err(_) => Ok(()),
            },
            Sending::Switched(stream) => stream.shutdown().await.map_err(broken),
        }
    }
}

impl Receiving {
    /// Who serves it, as `CLUSTER/VERSION/INSTANCE`.
    pub(super) fn served_by(&self) -> &HeaderValue {
        &self.target.served_by
    }

    pub(super) async fn head(&mut self) -> Result<Box<ResponseHeader>, CallError> {
        let Answer::Awaited(answer) = &mut self.answer else {
            return Err(CallError::BadAnswer("the answer's head was read already".into()));
        };
        let answer = tokio::select! {
            biased;
            Some(hint) = next_interim(&mut self.interim) => return Ok(hint),
            answer = answer => answer,
        };
        if matches!(answer, Err(CallError::Stale(_))) {
            // The instance has begun anew, or is tired of idle connections: the others are likely to be gone, too.
            self.target.connections.http1.clear();
        }
        let mut answer = answer?;
        let agreed = (answer.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(&mut answer));
        let (mut parts, body) = answer.into_parts();
        if parts.headers.contains_key(TRANSFER_ENCODING) {
            // The chunks say where it ends (RFC 9112 section 6.3): nobody may be told otherwise.
            parts.headers.remove(CONTENT_LENGTH);
        }
        self.answer = agreed.map_or(Answer::Body(body), Answer::Agreed);
        head_of(parts.status, &parts.headers, Version::HTTP_11)
    }

    pub(super) fn ended(&self) -> bool {
        matches!(&self.answer, Answer::Body(body) if hyper::body::Body::is_end_stream(body))
    }

    /// The instance has agreed to switch: the connection is both halves' from here on.
    pub(super) async fn switched(&mut self) -> Result<Sending, CallError> {
        let Answer::Agreed(agreed) = &mut self.answer else {
            return Err(CallError::BadAnswer("it did not switch protocols".into()));
        };
        let (read, write) = split(TokioIo::new(agreed.await.map_err(|error| CallError::Broken(describe(&error)))?));
        self.answer = Answer::Switched(read, BytesMut::new());
        Ok(Sending::Switched(write))
    }

    pub(super) async fn next(&mut self) -> Result<Event, CallError> {
        match &mut self.answer {
            Answer::Awaited(_) | Answer::Agreed(_) => {
                Err(CallError::BadAnswer("the answer's head was not read yet".into()))
            }
            Answer::Switched(stream, piece) => {
                piece.reserve(PIECE);
                Ok(match stream.read_buf(piece).await.map_err(broken)? {
                    0 => Event::End,
                    _ => Event::Body(piece.split().freeze()),
                })
            }
            Answer::Body(body) => match body.frame().await {
                None => Ok(Event::End),
                Some(Err(error)) => Err(CallError::Broken(describe(&error))),
                Some(Ok(frame)) => Ok(match frame.into_data() {
                    Ok(data) => Event::Body(data),
                    Err(frame) => frame.into_trailers().map_or(Event::End, Event::Trailers),
                }),
            },
        }
    }

    pub(super) fn lifeline(&self) -> Lifeline {
        if self.doubtful { Lifeline::Doubtful } else { Lifeline::Instance(self.target.clone()) }
    }

    pub(super) fn finish(self) {
        let Receiving { target, connection, answer, .. } = self;
        if matches!(answer, Answer::Body(_)) {
            drop(answer);
            target.connections.http1.give_back(connection);
        }
    }
}

async fn next_interim(interim: &mut Option<mpsc::Receiver<Box<ResponseHeader>>>) -> Option<Box<ResponseHeader>> {
    match interim {
        Some(interim) => interim.recv().await,
        None => None,
    }
}

fn shape(request: &Outgoing, body: RequestBody) -> Result<Request<RequestBody>, CallError> {
    let wrong = |error: &dyn std::fmt::Display| CallError::NotSent(error.to_string());
    let mut head = Request::new(body);
    *head.method_mut() = request.method.clone();
    *head.uri_mut() = Uri::try_from(request.target.as_str()).map_err(|error| wrong(&error))?;
    *head.headers_mut() = request.headers.clone();
    let headers = head.headers_mut();
    headers.insert(HOST, request.authority.clone());
    if request.body == Body::Open {
        // hyper would take a GET to have no body unless it says so.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(switch) = request.switch {
        switch_by(headers, switch);
    } else if headers.contains_key(TE) {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    Ok(head)
}

/// RFC 6455 section 4.1. A client of HTTP/2 has sent no key (RFC 8441 section 5): then it is ours.
fn switch_by(headers: &mut HeaderMap, switch: Switch) {
    // It would be one more hop-by-hop field to name, and a switched connection has no trailers.
    headers.remove(TE);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(switch.token()));
    let key = || HeaderValue::from_str(&STANDARD.encode(fastrand::u128(..).to_ne_bytes()));
    if !headers.contains_key(SEC_WEBSOCKET_KEY)
        && let Ok(key) = key()
    {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
}

fn broken(error: impl std::error::Error) -> CallError {
    CallError::Broken(error.to_string())
}

/// hyper keeps the cause apart from the error's own text.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

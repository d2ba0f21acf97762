//! A request to an instance of this cluster, over HTTP/1.1.
//!
//! Why it is ours: `docs/decisions/0007-http1-upstream.md`.

mod answer;
mod line;
pub mod pool;
mod request;
mod sending;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use http::header::TRAILER;
use http::{HeaderValue, Method, StatusCode};
use pingora_http::ResponseHeader;

use super::{Body, CallError, Event, Lifeline, Outgoing};
use crate::health::Target;
use crate::http1::body::{self, Found};
use answer::{Head, Search};
use line::Line;
use pool::Connection;
use sending::Framing;
pub use sending::Sending;

/// A head is read in pieces of about so many bytes: most answers are smaller.
const HEAD_ROOM: usize = 4 * 1024;
/// A body is read in pieces of about so many bytes.
const BODY_ROOM: usize = 32 * 1024;

/// The half that brings the answer.
pub struct Receiving {
    target: Arc<Target>,
    doubtful: bool,
    line: Line,
    /// Whether the connection has served a request before.
    used: bool,
    method: Method,
    /// Whether interim answers are wanted.
    interim: bool,
    /// What did not go out yet of a request that is only a head.
    unsent: BytesMut,
    input: BytesMut,
    answer: Answer,
}

enum Answer {
    /// Whether something of it came.
    Awaited(Search, bool),
    /// What is left of it, and whether the connection goes on after it.
    Body(body::Body, bool),
}

/// Takes a connection from the pool, or opens one, and sends the head as soon as an answer is waited for, or a part of
/// the body is there to go with it.
pub async fn start(target: Arc<Target>, request: &Outgoing) -> Result<(Option<Sending>, Receiving), CallError> {
    let doubtful = target.health.is_sick();
    let Connection { line, used } = target.connections.http1.take().await?;
    line.begin();
    let head = request::head(request);
    let (sending, unsent) = match framing(request)? {
        None => (None, head),
        Some(framing) => (Some(Sending::new(line.clone(), head, framing)), BytesMut::new()),
    };
    let (method, interim, input) = (request.method.clone(), request.interim, BytesMut::new());
    let answer = Answer::Awaited(Search::default(), false);
    Ok((sending, Receiving { target, doubtful, line, used, method, interim, unsent, input, answer }))
}

/// Nothing when there is no body.
fn framing(request: &Outgoing) -> Result<Option<Framing>, CallError> {
    let unclear = || CallError::NotSent("the request does not say how long its body is".to_owned());
    Ok(match request.body {
        Body::None => None,
        Body::Open => Some(Framing::Chunked { trailers: request.headers.contains_key(TRAILER) }),
        Body::Length => Some(Framing::Length(answer::length(&request.headers).ok().flatten().ok_or_else(unclear)?)),
    })
}

impl Receiving {
    /// Who serves it, as `CLUSTER/VERSION/INSTANCE`.
    pub(super) fn served_by(&self) -> &HeaderValue {
        &self.target.served_by
    }

    pub(super) async fn head(&mut self) -> Result<Box<ResponseHeader>, CallError> {
        loop {
            let Answer::Awaited(search, came) = &mut self.answer else {
                return Err(CallError::BadAnswer("the answer's head was read already".into()));
            };
            match search.take(&mut self.input, &self.method).map_err(bad)? {
                Some(Head { head, body, persists }) if is_final(head.status) => {
                    self.answer = Answer::Body(body, persists);
                    return Ok(head);
                }
                // 100 answers an expectation of the gateway's own; the client's was answered when its body was first read.
                Some(Head { head, .. }) if self.interim && head.status != StatusCode::CONTINUE => {
                    *came = true;
                    return Ok(head);
                }
                Some(_) => *came = true,
                None => match self.fill(HEAD_ROOM).await {
                    Ok(1..) => {}
                    Ok(0) => return Err(self.unanswered("the instance closed the connection before its answer")),
                    Err(error) => return Err(self.unanswered(&error.to_string())),
                },
            }
        }
    }

    /// What a connection that ends says of a request whose answer did not come.
    fn unanswered(&self, what: &str) -> CallError {
        let silent = self.input.is_empty() && matches!(self.answer, Answer::Awaited(_, false));
        match (self.line.has_spoken(), self.used) {
            (false, true) => CallError::Left(what.to_owned()),
            (false, false) => CallError::NotSent(what.to_owned()),
            (true, true) if silent => {
                // The instance has begun anew, or is tired of idle connections: the others are likely to be gone, too.
                self.target.connections.http1.clear();
                CallError::Stale(what.to_owned())
            }
            (true, _) => CallError::Broken(what.to_owned()),
        }
    }

    pub(super) fn ended(&self) -> bool {
        matches!(&self.answer, Answer::Body(body, _) if body.is_done())
    }

    /// The instance has agreed to switch: the connection is both halves' from here on.
    pub(super) fn switched(&mut self) -> Result<Sending, CallError> {
        match &self.answer {
            Answer::Body(body::Body::Open, _) => {
                Ok(Sending::new(self.line.clone(), BytesMut::new(), Framing::Switched))
            }
            _ => Err(CallError::BadAnswer("it did not switch protocols".into())),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Event, CallError> {
        loop {
            let Answer::Body(body, _) = &mut self.answer else {
                return Err(CallError::BadAnswer("the answer's head was not read yet".into()));
            };
            match body.take(&mut self.input).map_err(bad)? {
                Found::Part(part) => return Ok(Event::Body(part)),
                Found::End(Some(trailers)) => return Ok(Event::Trailers(trailers)),
                Found::End(None) => return Ok(Event::End),
                Found::Nothing => self.more().await?,
            }
        }
    }

    /// Waits for more of the body.
    async fn more(&mut self) -> Result<(), CallError> {
        match self.fill(BODY_ROOM).await {
            Ok(1..) => Ok(()),
            Ok(0) => match &mut self.answer {
                Answer::Body(body @ body::Body::Open, _) => {
                    *body = body::Body::Done;
                    Ok(())
                }
                _ => Err(CallError::Broken("the instance closed the connection within its answer".into())),
            },
            Err(error) => Err(CallError::Broken(error.to_string())),
        }
    }

    /// Takes more of the answer; returns how many bytes, which is none at the end. May be dropped and called again.
    async fn fill(&mut self, room: usize) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(room, context)).await
    }

    fn poll_fill(&mut self, room: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.unsent.has_remaining()
            && let Poll::Ready(Err(error)) = self.line.poll_send(&mut self.unsent, context)
        {
            if !self.line.has_spoken() {
                return Poll::Ready(Err(error));
            }
            // Who takes no more may have answered already.
            self.unsent.clear();
        }
        self.line.poll_fill(&mut self.input, room, context)
    }

    pub(super) fn lifeline(&self) -> Lifeline {
        if self.doubtful { Lifeline::Doubtful } else { Lifeline::Instance(self.target.clone()) }
    }

    /// The request is out. What follows an answer that nobody asked for is nobody's: then the connection ends.
    pub(super) fn finish(self) {
        if matches!(&self.answer, Answer::Body(body, true) if body.is_done()) && self.input.is_empty() {
            self.target.connections.http1.give_back(self.line);
        }
    }
}

/// RFC 9110 section 15.2; 101 is final, as far as the request is concerned.
fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

fn bad(error: impl std::error::Error) -> CallError {
    CallError::BadAnswer(error.to_string())
}

#[cfg(test)]
mod tests;

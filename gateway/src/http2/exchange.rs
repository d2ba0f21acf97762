//! One request and its answer on an HTTP/2 stream.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use decide::headers::strip_from_trailers;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, response};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::timeout;

use super::metered::Conduct;
use crate::exchange::{Entry, Exchange, Gone};
use crate::http1::answer::Clock;

/// A client that takes nothing of its answer for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// One request on a stream.
pub struct Http2Exchange<'c> {
    entry: &'c Entry,
    conduct: &'c Conduct,
    head: RequestHeader,
    body: RecvStream,
    body_done: bool,
    /// Whether the client waits for `100 Continue`.
    waits: bool,
    answer: Answer,
}

/// How far the answer is.
enum Answer {
    Awaited(SendResponse<Bytes>),
    Begun { stream: SendStream<Bytes>, ended: bool },
}

impl<'c> Http2Exchange<'c> {
    /// For a stream whose head was just read.
    pub fn new(
        entry: &'c Entry,
        conduct: &'c Conduct,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let (head, body) = request.into_parts();
        let body_done = body.is_end_stream() || is_empty(&head.headers);
        let waits = !body_done && expects_continue(&head.headers);
        Http2Exchange { entry, conduct, head: head.into(), body, body_done, waits, answer: Answer::Awaited(respond) }
    }

    /// Ends the stream: whatever is not complete by now is reset.
    pub fn finish(self) {
        // An answer that has begun is reset by being dropped.
        if let Answer::Awaited(mut respond) = self.answer {
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn stream(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        match &mut self.answer {
            Answer::Begun { stream, ended: false } => Ok(stream),
            Answer::Begun { ended: true, .. } | Answer::Awaited(_) => Err(Gone),
        }
    }

    fn send(&mut self, part: Bytes, end: bool) -> Result<(), Gone> {
        self.stream()?.send_data(part, end).map_err(gone)?;
        self.ended(end);
        Ok(())
    }

    fn ended(&mut self, end: bool) {
        if let Answer::Begun { ended, .. } = &mut self.answer {
            *ended = end;
        }
    }

    /// How many bytes the client takes now, up to so many; waits while it takes none.
    async fn room(&mut self, wanted: usize) -> Result<usize, Gone> {
        let stream = self.stream()?;
        stream.reserve_capacity(wanted);
        if let room @ 1.. = stream.capacity() {
            return Ok(room);
        }
        match timeout(WRITE_TIMEOUT, poll_fn(|context| stream.poll_capacity(context))).await {
            Ok(Some(Ok(room))) => Ok(room),
            Ok(Some(Err(error))) => Err(gone(error)),
            Ok(None) => Err(Gone),
            Err(_) => {
                // Other streams end as they will; but whoever makes no room is not waited for again.
                self.entry.lifetime.end();
                Err(Gone)
            }
        }
    }
}

/// Without an end of the stream, too, a body is none when its length says so: who goes on to send is reset.
fn is_empty(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|expectation| expectation.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn gone(error: h2::Error) -> Gone {
    tracing::trace!(%error, "a stream broke");
    Gone
}

impl Exchange for Http2Exchange<'_> {
    fn head(&self) -> &RequestHeader {
        &self.head
    }

    fn entry(&self) -> &Entry {
        self.entry
    }

    fn body_done(&mut self) -> bool {
        self.body_done = self.body_done || self.body.is_end_stream();
        self.body_done
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>, Gone> {
        if let (true, Answer::Awaited(respond)) = (std::mem::take(&mut self.waits), &mut self.answer) {
            let mut head = Response::new(());
            *head.status_mut() = StatusCode::CONTINUE;
            respond.send_informational(head).map_err(gone)?;
        }
        while let Some(part) = self.body.data().await {
            let part = part.map_err(gone)?;
            if !part.is_empty() {
                self.body.flow_control().release_capacity(part.len()).map_err(gone)?;
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    async fn request_trailers(&mut self) -> Result<Option<HeaderMap>, Gone> {
        if self.body_done {
            return Ok(None);
        }
        let mut trailers = self.body.trailers().await.map_err(gone)?;
        if let Some(trailers) = &mut trailers {
            strip_from_trailers(trailers);
        }
        Ok(trailers)
    }

    async fn gone(&mut self) -> Gone {
        let left = match &mut self.answer {
            Answer::Awaited(respond) => poll_fn(|context| respond.poll_reset(context)).await,
            Answer::Begun { stream, .. } => poll_fn(|context| stream.poll_reset(context)).await,
        };
        tracing::trace!(?left, "a client left a stream");
        Gone
    }

    async fn inform(&mut self, head: Box<ResponseHeader>) -> Result<(), Gone> {
        let ours = [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&head.status);
        let Answer::Awaited(respond) = &mut self.answer else { return Ok(()) };
        if ours || !head.status.is_informational() {
            return Ok(());
        }
        let mut head = response::Parts::from(*head);
        head.headers.remove(CONTENT_LENGTH);
        respond.send_informational(Response::from_parts(head, ())).map_err(gone)
    }

    async fn respond(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<(), Gone> {
        let mut head = response::Parts::from(*head);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 8441 section 5.
            head.status = StatusCode::OK;
            head.headers.remove(UPGRADE);
        }
        let Answer::Awaited(respond) = &mut self.answer else { return Err(Gone) };
        if head.status.is_informational() {
            return Err(Gone);
        }
        if !head.headers.contains_key(DATE)
            && let Ok(now) = HeaderValue::from_bytes(Clock::default().now())
        {
            head.headers.insert(DATE, now);
        }
        let stream = respond.send_response(Response::from_parts(head, ()), end).map_err(gone)?;
        self.answer = Answer::Begun { stream, ended: end };
        Ok(())
    }

    async fn write(&mut self, mut body: Bytes, end: bool) -> Result<(), Gone> {
        if body.is_empty() && end {
            return self.send(body, end);
        }
        while !body.is_empty() {
            let room = self.room(body.len()).await?;
            let part = body.split_to(room.min(body.len()));
            self.send(part, end && body.is_empty())?;
        }
        Ok(())
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.stream()?.send_trailers(trailers).map_err(gone)?;
        self.ended(true);
        Ok(())
    }

    fn offend(&mut self) {
        self.conduct.offend();
    }

    /// The other streams of a connection have nothing to do with this one, which ends in any case.
    fn close(&mut self) {}
}

//! One request and its answer on an HTTP/1 connection.

use std::future::pending;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use decide::chunked::SizeLine;
use http::{HeaderMap, StatusCode, Version};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::answer::{self, CONTINUE, Clock, Ending};
use super::body::{Body, Found};
use super::fields;
use super::head::Head;
use super::wire::{Wire, within};
use crate::exchange::{Entry, Exchange, Gone};

/// A body is read in pieces of about so many bytes.
const ROOM: usize = 16 * 1024;
/// So many bytes of the next requests are read while one is served: only so can it be seen that the client leaves.
const AHEAD: usize = 4 * 1024;
/// So long, and so many bytes, the rest of a request that was answered is read so that its connection can go on.
const REST: Duration = Duration::from_secs(1);
/// See [`REST`].
const REST_BYTES: usize = 256 * 1024;

/// One request on a connection.
pub struct Http1Exchange<'c, IO> {
    wire: &'c mut Wire<IO>,
    clock: &'c mut Clock,
    entry: &'c Entry,
    stopping: &'c watch::Receiver<bool>,
    head: Head,
    /// Whether the body's end was not only seen but told.
    end_told: bool,
    trailers: Option<HeaderMap>,
    answer: Answer,
}

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Awaited,
    Body(Ending),
    Ended,
    Broken,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Another request may follow.
    Next,
    /// The answer is out, and nothing may follow it.
    End,
    /// The client is gone, or its answer broke off, which it shall notice.
    Break,
}

impl<'c, IO: AsyncRead + AsyncWrite + Unpin + Send> Http1Exchange<'c, IO> {
    /// For a request whose head was just read. Its answer is the connection's last one when `stopping` is true by then.
    pub fn new(
        wire: &'c mut Wire<IO>,
        clock: &'c mut Clock,
        entry: &'c Entry,
        stopping: &'c watch::Receiver<bool>,
        head: Head,
    ) -> Self {
        let end_told = head.body.is_done();
        Http1Exchange { wire, clock, entry, stopping, head, end_told, trailers: None, answer: Answer::Awaited }
    }

    /// Sends what is left of the answer, and takes what is left of the request when that is little.
    pub async fn finish(mut self) -> After {
        let silent = matches!(self.answer, Answer::Awaited | Answer::Broken);
        // Also the head of an answer that broke off: else a client could take the request for one that nobody saw.
        if silent || self.wire.flush().await.is_err() || self.answer != Answer::Ended {
            return After::Break;
        }
        match self.head.persists && self.is_drained().await {
            true => After::Next,
            false => After::End,
        }
    }

    async fn is_drained(&mut self) -> bool {
        let mut left = REST_BYTES;
        let rest = async {
            while let Ok(Some(part)) = self.next_part().await {
                left = left.checked_sub(part.len())?;
            }
            Some(())
        };
        within(REST, rest).await.is_some() && self.head.body.is_done()
    }

    async fn next_part(&mut self) -> Result<Option<Bytes>, Gone> {
        loop {
            match self.head.body.take(&mut self.wire.input) {
                Ok(Found::Part(part)) => return Ok(Some(part)),
                Ok(Found::End(trailers)) => {
                    self.end_told = true;
                    self.trailers = self.trailers.take().or(trailers);
                    return Ok(None);
                }
                Ok(Found::Nothing) => self.wait().await?,
                Err(error) => {
                    tracing::debug!(%error, "a request's body cannot be read on");
                    return Err(Gone);
                }
            }
        }
    }

    /// Waits for more of the body.
    async fn wait(&mut self) -> Result<(), Gone> {
        match self.wire.fill(ROOM).await {
            Ok(1..) => Ok(()),
            Ok(0) if matches!(self.head.body, Body::Open) => {
                self.head.body = Body::Done;
                Ok(())
            }
            Ok(0) | Err(_) => Err(Gone),
        }
    }

    async fn send(&mut self, more: impl Buf + Send) -> Result<(), Gone> {
        let sent = self.wire.send(more).await;
        if sent.is_err() {
            self.answer = Answer::Broken;
        }
        sent
    }

    /// What the answer says about the connection.
    fn connection(&self, ending: Ending) -> Option<&'static str> {
        match self.head.persists {
            _ if ending == Ending::Switched => Some("upgrade"),
            false => Some("close"),
            true if self.head.request.version == Version::HTTP_10 => Some("keep-alive"),
            true => None,
        }
    }

    /// Counts a part of a body whose length was told. More, or an end too soon, would be taken for something else.
    fn count(&mut self, left: u64, part: &Bytes, end: bool) -> Result<(), Gone> {
        let left = left.checked_sub(part.len() as u64).filter(|left| *left == 0 || !end).ok_or(Gone)?;
        self.answer = Answer::Body(Ending::Length(left));
        Ok(())
    }

    async fn write_chunk(&mut self, part: Bytes, end: bool) -> Result<(), Gone> {
        let after: &[u8] = match (part.is_empty(), end) {
            (false, false) => b"\r\n",
            (false, true) => b"\r\n0\r\n\r\n",
            (true, true) => b"0\r\n\r\n",
            (true, false) => b"",
        };
        if !part.is_empty() {
            self.wire.output.put_slice(SizeLine::new(part.len() as u64).as_bytes());
        }
        self.send(part.chain(after)).await
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Exchange for Http1Exchange<'_, IO> {
    fn head(&self) -> &RequestHeader {
        &self.head.request
    }

    fn entry(&self) -> &Entry {
        self.entry
    }

    fn body_done(&mut self) -> bool {
        self.head.body.is_done()
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>, Gone> {
        if self.head.waits && self.answer == Answer::Awaited {
            self.head.waits = false;
            // Who has begun to send waits no more (RFC 9110 section 10.1.1).
            if self.wire.input.is_empty() {
                self.wire.output.put_slice(CONTINUE);
            }
        }
        self.wire.flush().await?;
        self.next_part().await
    }

    async fn request_trailers(&mut self) -> Result<Option<HeaderMap>, Gone> {
        Ok(self.trailers.take())
    }

    async fn gone(&mut self) -> Gone {
        if self.wire.flush().await.is_err() {
            return Gone;
        }
        // Who has ended its half of a switched connection may still listen.
        while self.answer != Answer::Body(Ending::Switched) && self.wire.input.len() < AHEAD {
            if !matches!(self.wire.fill(AHEAD).await, Ok(1..)) {
                return Gone;
            }
        }
        pending().await
    }

    async fn inform(&mut self, head: Box<ResponseHeader>) -> Result<(), Gone> {
        let ours = [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&head.status);
        let fits = self.answer == Answer::Awaited && head.status.is_informational() && !ours;
        // HTTP/1.0 knows no interim heads (RFC 9110 section 15.2).
        if !fits || self.head.request.version == Version::HTTP_10 {
            return Ok(());
        }
        answer::write_interim(&mut self.wire.output, &head);
        self.send(Bytes::new()).await
    }

    async fn respond(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<(), Gone> {
        let ending = Ending::of(&self.head.request, &head, end);
        if head.status.is_informational() && ending != Ending::Switched || self.answer != Answer::Awaited {
            return Err(Gone);
        }
        // A client that was not told to go on may send its body or not: nobody could tell it from the next request.
        self.head.persists &= ending.persists() && !self.head.waits && !*self.stopping.borrow();
        let connection = self.connection(ending);
        answer::write_head(&mut self.wire.output, &head, ending, connection, self.clock);
        self.answer = Answer::Body(ending);
        if end {
            return self.write(Bytes::new(), true).await;
        }
        if ending == Ending::Switched {
            self.head.body = Body::Open;
        } else if self.end_told {
            // It goes out with the first part of the body, or as soon as the client is waited for, whichever is first.
            return Ok(());
        }
        self.send(Bytes::new()).await
    }

    async fn write(&mut self, body: Bytes, end: bool) -> Result<(), Gone> {
        let Answer::Body(ending) = self.answer else { return Err(Gone) };
        match ending {
            Ending::Length(left) => {
                self.count(left, &body, end)?;
                self.send(body).await?;
            }
            Ending::Chunked { .. } => self.write_chunk(body, end).await?,
            Ending::Close | Ending::Switched => self.send(body).await?,
            Ending::NoBody => self.send(Bytes::new()).await?,
        }
        if end {
            self.answer = Answer::Ended;
        }
        match ending {
            // The client may go on sending.
            Ending::Switched if end => self.wire.end().await,
            _ => Ok(()),
        }
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        if self.answer != Answer::Body(Ending::Chunked { trailers: true }) {
            // Whoever does not know of them loses nothing (RFC 9110 section 6.5.1).
            return self.write(Bytes::new(), true).await;
        }
        fields::write_trailers(&mut self.wire.output, trailers);
        self.send(Bytes::new()).await?;
        self.answer = Answer::Ended;
        Ok(())
    }

    fn close(&mut self) {
        self.head.persists = false;
    }
}

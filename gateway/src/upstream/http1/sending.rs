//! A request on its way to an instance: the head, then the body part by part (RFC 9112 section 6).

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use decide::chunked::SizeLine;
use http::HeaderMap;

use super::line::Line;
use crate::http1::fields::write_trailers;
use crate::upstream::CallError;

/// How the end of what is sent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// By the last chunk; and whether the head has told of trailers. Servers may take others for a mistake.
    Chunked {
        /// See above.
        trailers: bool,
    },
    /// It was told.
    Ended,
    /// By the connection: what is sent is no message's body but the protocol that was switched to.
    Switched,
}

/// The half of a call that sends.
pub struct Sending {
    line: Line,
    /// What goes out first.
    output: BytesMut,
    framing: Framing,
}

impl Sending {
    /// Sends this first: the head.
    pub fn new(line: Line, output: BytesMut, framing: Framing) -> Self {
        Sending { line, output, framing }
    }

    /// Sends the part, the last one with its end. May be dropped and called again: what was taken of the part is gone from
    /// it. Returns whether the end is out.
    pub async fn send(&mut self, part: &mut Bytes, last: bool) -> Result<bool, CallError> {
        match self.framing {
            Framing::Length(left) if part.len() as u64 > left => {
                return Err(CallError::Broken("the request's body is longer than it said".to_owned()));
            }
            Framing::Chunked { .. } => self.put_chunk(&std::mem::take(part), last),
            _ => {}
        }
        poll_fn(|context| self.poll_send(part, context)).await.map_err(broken)?;
        Ok(last && matches!(self.framing, Framing::Length(0) | Framing::Ended))
    }

    /// Sends what waits of the head. May be dropped and called again.
    pub async fn flush(&mut self) -> Result<(), CallError> {
        poll_fn(|context| self.poll_send(&mut Bytes::new(), context)).await.map_err(broken)
    }

    /// Sends the end. May be dropped and called again.
    pub async fn end(&mut self, trailers: &mut Option<HeaderMap>) -> Result<(), CallError> {
        match self.framing {
            Framing::Length(1..) => {
                return Err(CallError::Broken("the request's body is shorter than it said".to_owned()));
            }
            Framing::Chunked { trailers: told } => {
                write_trailers(&mut self.output, trailers.take().filter(|_| told).unwrap_or_default());
                self.framing = Framing::Ended;
            }
            Framing::Length(0) | Framing::Ended | Framing::Switched => {}
        }
        self.flush().await?;
        match self.framing {
            Framing::Switched => poll_fn(|context| self.line.poll_end(context)).await.map_err(broken),
            _ => Ok(()),
        }
    }

    /// A chunk goes out whole: who sends it may be stopped halfway, and its framing must not be lost.
    fn put_chunk(&mut self, part: &[u8], last: bool) {
        if !part.is_empty() {
            self.output.reserve(part.len() + 32);
            self.output.put_slice(SizeLine::new(part.len() as u64).as_bytes());
            self.output.put_slice(part);
            self.output.put_slice(b"\r\n");
        }
        if last {
            write_trailers(&mut self.output, HeaderMap::new());
            self.framing = Framing::Ended;
        }
    }

    fn poll_send(&mut self, part: &mut Bytes, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = part.len();
        let sent = self.line.poll_send(&mut (&mut self.output).chain(&mut *part), context);
        if let Framing::Length(left) = &mut self.framing {
            *left = left.saturating_sub((before - part.len()) as u64);
        }
        sent
    }
}

fn broken(error: io::Error) -> CallError {
    CallError::Broken(error.to_string())
}

//! HTTP/2 stream by stream, for what an ordinary client hides: interim heads, trailers, extended CONNECT.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, Uri};

use super::http::{Outcome, PATIENCE, Wire};

/// A connection.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    /// Scheme and authority of its requests.
    origin: String,
}

impl Http2 {
    /// Over TLS, or by prior knowledge; `origin` as in `https://shop.example.com:18443`.
    pub async fn over(stream: impl Wire, origin: &str) -> Outcome<Http2> {
        let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Http2 { sender, origin: origin.to_owned() })
    }

    /// The URI of a path.
    pub fn uri(&self, path: &str) -> Uri {
        format!("{}{path}", self.origin).parse().unwrap()
    }

    /// Whether the server has said that it knows extended CONNECT (RFC 8441 section 3).
    pub fn offers_extended_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Sends the head of a request, whose body may follow.
    pub async fn open(&mut self, request: Request<()>) -> Outcome<Stream> {
        poll_fn(|context| self.sender.poll_ready(context)).await.map_err(|error| error.to_string())?;
        let (answer, sender) = self.sender.send_request(request, false).map_err(|error| error.to_string())?;
        Ok(Stream { answer, sender })
    }
}

/// A request under way.
pub struct Stream {
    answer: ResponseFuture,
    sender: SendStream<Bytes>,
}

impl Stream {
    /// Sends a part of the body.
    pub fn send(&mut self, bytes: impl Into<Bytes>) -> Outcome<()> {
        self.sender.send_data(bytes.into(), false).map_err(|error| error.to_string())
    }

    /// Ends the body.
    pub fn finish(&mut self) -> Outcome<()> {
        self.sender.send_data(Bytes::new(), true).map_err(|error| error.to_string())
    }

    /// The next interim head; `None` when the answer's own comes next.
    pub async fn interim(&mut self) -> Outcome<Option<Response<()>>> {
        let interim = in_time(poll_fn(|context| self.answer.poll_informational(context))).await?;
        interim.transpose().map_err(|error| error.to_string())
    }

    /// The head of the answer, and what follows it.
    pub async fn answer(&mut self) -> Outcome<(Response<()>, Incoming)> {
        let answer = in_time(&mut self.answer).await?.map_err(|error| error.to_string())?;
        let (head, stream) = answer.into_parts();
        Ok((Response::from_parts(head, ()), Incoming { stream, buffer: BytesMut::new() }))
    }

    /// The way up, alone.
    pub fn into_sender(self) -> SendStream<Bytes> {
        self.sender
    }
}

/// The body of an answer.
pub struct Incoming {
    stream: RecvStream,
    buffer: BytesMut,
}

impl Incoming {
    /// Exactly so many bytes; `None` at the end, if it comes before the first of them.
    pub async fn exactly(&mut self, length: usize) -> Outcome<Option<Bytes>> {
        while self.buffer.len() < length {
            let Some(part) = self.part().await? else {
                return if self.buffer.is_empty() { Ok(None) } else { Err(format!("cut within {:?}", self.buffer)) };
            };
            self.buffer.extend_from_slice(&part);
        }
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// The next part, as it comes; `None` at the end.
    pub async fn part(&mut self) -> Outcome<Option<Bytes>> {
        let Some(part) = in_time(self.stream.data()).await? else { return Ok(None) };
        let part = part.map_err(|error| error.to_string())?;
        self.stream.flow_control().release_capacity(part.len()).map_err(|error| error.to_string())?;
        Ok(Some(part))
    }

    /// What follows the body.
    pub async fn trailers(&mut self) -> Outcome<HeaderMap> {
        let trailers = in_time(poll_fn(|context| self.stream.poll_trailers(context))).await?;
        Ok(trailers.map_err(|error| error.to_string())?.unwrap_or_default())
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> Outcome<T> {
    tokio::time::timeout(PATIENCE, what).await.map_err(|_| format!("nothing came for {PATIENCE:?}"))
}

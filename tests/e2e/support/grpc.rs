//! A gRPC client of a few lines: messages are bytes, and a call's end is its status.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};

use super::http::Outcome;
use super::http2::{Http2, Incoming, Stream};

/// The codes that the tests know.
pub const OK: u32 = 0;
pub const PERMISSION_DENIED: u32 = 7;
pub const FAILED_PRECONDITION: u32 = 9;
pub const UNIMPLEMENTED: u32 = 12;
pub const UNAVAILABLE: u32 = 14;

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// `grpc-status`.
    pub status: u32,
    /// `grpc-message`, or nothing.
    pub message: String,
    /// Whether the status was in the answer's only head.
    pub trailers_only: bool,
}

/// A call under way.
pub struct Call {
    stream: Stream,
    answer: Option<Answer>,
}

struct Answer {
    head: HeaderMap,
    body: Incoming,
}

impl Call {
    /// Begins a call of `/service/method`.
    pub async fn begin(connection: &mut Http2, path: &str) -> Outcome<Call> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = connection.uri(path);
        for (name, value) in [("content-type", "application/grpc+proto"), ("te", "trailers")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        Ok(Call { stream: connection.open(request).await?, answer: None })
    }

    /// Sends a message, uncompressed.
    pub fn send(&mut self, message: &[u8]) -> Outcome<()> {
        let mut framed = BytesMut::with_capacity(5 + message.len());
        framed.put_u8(0);
        framed.put_u32(message.len().try_into().unwrap());
        framed.put(message);
        self.stream.send(framed)
    }

    /// There are no more messages.
    pub fn finish(&mut self) -> Outcome<()> {
        self.stream.finish()
    }

    /// The next message; `None` when the call has ended.
    pub async fn next(&mut self) -> Outcome<Option<Bytes>> {
        let body = &mut self.answered().await?.body;
        let Some(prefix) = body.exactly(5).await? else { return Ok(None) };
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        body.exactly(length.try_into().unwrap()).await
    }

    /// How it ended; reads what messages are left.
    pub async fn end(mut self) -> Outcome<Ended> {
        while self.next().await?.is_some() {}
        let answer = self.answered().await?;
        let trailers = answer.body.trailers().await?;
        let trailers_only = answer.head.contains_key("grpc-status");
        let last = if trailers_only { &answer.head } else { &trailers };
        let text = |name| last.get(name).map(|value| value.to_str().unwrap().to_owned());
        let status = text("grpc-status").ok_or_else(|| format!("no status: {:?} {trailers:?}", answer.head))?;
        Ok(Ended { status: status.parse().unwrap(), message: text("grpc-message").unwrap_or_default(), trailers_only })
    }

    /// The answer's head must have come, and be gRPC's.
    async fn answered(&mut self) -> Outcome<&mut Answer> {
        if self.answer.is_none() {
            let (head, body) = self.stream.answer().await?;
            let media_type =
                head.headers().get("content-type").map(|value| value.to_str().unwrap()).unwrap_or_default();
            if head.status() != StatusCode::OK || !media_type.starts_with("application/grpc") {
                return Err(format!("not gRPC: {head:?}"));
            }
            self.answer = Some(Answer { head: head.into_parts().0.headers, body });
        }
        self.answer.as_mut().ok_or_else(String::new)
    }
}

/// One message up, and what comes of it: the messages down, and the end.
pub async fn unary(connection: &mut Http2, path: &str, message: &[u8]) -> Outcome<(Vec<Bytes>, Ended)> {
    let mut call = Call::begin(connection, path).await?;
    call.send(message)?;
    call.finish()?;
    let mut messages = Vec::new();
    while let Some(message) = call.next().await? {
        messages.push(message);
    }
    Ok((messages, call.end().await?))
}

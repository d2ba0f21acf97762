//! As much of gRPC over HTTP/2 as one message in and a stream of messages out need.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// An answer's body.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// How a call ends (gRPC, "Status codes and their use in gRPC").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    PermissionDenied = 7,
    Unimplemented = 12,
    Unavailable = 14,
}

/// The end of a call that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Status { code, message: message.into() }
    }

    /// As trailers, or as the header of an answer without a body.
    pub(super) fn headers(&self) -> HeaderMap {
        let message = HeaderValue::from_str(&percent_encoded(&self.message));
        let message = message.unwrap_or_else(|_| HeaderValue::from_static(""));
        HeaderMap::from_iter([(STATUS, HeaderValue::from(self.code as u16)), (MESSAGE, message)])
    }

    /// An answer that is nothing but this.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
        *response.headers_mut() = self.headers();
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }
}

/// An answer of many messages.
pub(super) fn streaming<S>(frames: S) -> Response<Body>
where
    S: futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send + Sync + 'static,
{
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A message as it travels.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// Whether a request's body is exactly one message, not compressed. What stands in it means nothing here: the requests
/// of this API are empty, and fields of later versions are to be passed over.
pub(super) fn is_one_message(body: &[u8]) -> bool {
    match body.split_first_chunk::<PREFIX>() {
        Some(([0, length @ ..], message)) => u32::from_be_bytes(*length) as usize == message.len(),
        _ => false,
    }
}

/// gRPC over HTTP/2, "Responses": everything but printable ASCII, and `%` itself.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_status_survives_any_text() {
        let headers = Status::new(Code::PermissionDenied, "100 % «no»\n").headers();
        assert_eq!(headers[STATUS], "7");
        assert_eq!(headers[MESSAGE], "100 %25 %C2%ABno%C2%BB%0A");
    }

    #[test]
    fn only_a_whole_message_is_one() {
        assert!(is_one_message(&framed(b"")) && is_one_message(&framed(b"later")));
        for wrong in [&b""[..], b"\0\0\0", b"\0\0\0\0\x01", b"\x01\0\0\0\0", b"\0\0\0\0\0\0"] {
            assert!(!is_one_message(wrong), "{wrong:?}");
        }
    }
}

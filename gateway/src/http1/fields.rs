//! Fields as HTTP/1 writes them, in heads and behind bodies (RFC 9112 sections 5 and 7.1.2).

use bytes::{BufMut, BytesMut};
use decide::chunked::LAST_CHUNK;
use decide::headers::strip_from_trailers;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Writes one field.
pub fn write_field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes fields, in their order.
pub fn write_fields<'f>(out: &mut BytesMut, fields: impl Iterator<Item = (&'f HeaderName, &'f HeaderValue)>) {
    for (name, value) in fields {
        write_field(out, name.as_str(), value.as_bytes());
    }
}

/// Writes the end of a chunked body, with the trailers that may stand there.
pub fn write_trailers(out: &mut BytesMut, mut trailers: HeaderMap) {
    strip_from_trailers(&mut trailers);
    out.put_slice(LAST_CHUNK);
    write_fields(out, trailers.iter());
    out.put_slice(b"\r\n");
}

//! Where a request's body ends: one way to say it, or none.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::Dirty;

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing is said: HTTP/1 requests have no body then (RFC 9112 section 6.3), HTTP/2's end with their stream.
    Unsaid,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// How the headers frame the body. Stricter than RFC 9112 section 6.3, which lets a server repair what is contradictory:
/// two servers that repair differently see two different requests.
pub(super) fn framing(version: Version, headers: &HeaderMap) -> Result<Framing, Dirty> {
    if ![Version::HTTP_10, Version::HTTP_11, Version::HTTP_2].contains(&version) {
        return Err(Dirty::Version);
    }
    declared(version, headers)
}

/// How `Content-Length` and `Transfer-Encoding` frame the body: enough to find its end, but not to pass it on, since other
/// servers may take other names for these. See [`check`](super::check).
pub fn declared(version: Version, headers: &HeaderMap) -> Result<Framing, Dirty> {
    let length = only(headers, &CONTENT_LENGTH).map_err(|_| Dirty::ContentLength)?;
    let coding = only(headers, &TRANSFER_ENCODING).map_err(|_| Dirty::TransferEncoding)?;
    match (length, coding) {
        (None, None) => Ok(Framing::Unsaid),
        (Some(length), None) => parse_length(length).map(Framing::Length),
        (None, Some(coding)) if version == Version::HTTP_11 && is_chunked(coding) => Ok(Framing::Chunked),
        (None, Some(_)) => Err(Dirty::TransferEncoding),
        (Some(_), Some(_)) => Err(Dirty::TwoFramings),
    }
}

/// More than one field of a name that must stand alone.
struct Repeated;

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(Repeated),
    }
}

/// RFC 9110 section 8.6: digits only. Neither a sign nor a list, though both are often repaired.
fn parse_length(value: &HeaderValue) -> Result<u64, Dirty> {
    let text = value.to_str().map_err(|_| Dirty::ContentLength)?;
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map_err(|_| Dirty::ContentLength),
        false => Err(Dirty::ContentLength),
    }
}

fn is_chunked(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"chunked")
}

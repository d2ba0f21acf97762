//! The header fields one by one: names and values that every server reads alike.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT, RANGE, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::Dirty;
use crate::headers::resembles;

/// Fields with one value by their definition, of which servers take the first, the last, or all: whom the request speaks
/// for, and how its body is read. Host and the framing have rules of their own.
static ALONE: [HeaderName; 5] = [AUTHORIZATION, CONTENT_TYPE, CONTENT_RANGE, RANGE, EXPECT];

/// What HTTP/2 forbids (RFC 9113 section 8.2.2): it frames messages itself, and a server of HTTP/1 behind would heed them.
static OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Checks all of them.
pub(super) fn check(version: Version, headers: &HeaderMap) -> Result<(), Dirty> {
    for (name, value) in headers {
        check_field(name, value)?;
    }
    if ALONE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
        return Err(Dirty::Repeated);
    }
    match version {
        Version::HTTP_2 => check_http2(headers),
        _ => Ok(()),
    }
}

fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), Dirty> {
    // The whole value without an early exit, which the compiler can do many bytes at a time.
    let controls = value.as_bytes().iter().fold(false, |found, byte| found | is_control(*byte));
    // The type lets one byte through that is no part of a token (RFC 9110 section 5.6.2).
    let no_token = name.as_str().contains('"');
    let poses = |real: &HeaderName| name != real && resembles(name.as_str(), real.as_str());
    match () {
        () if controls => Err(Dirty::HeaderValue),
        () if no_token => Err(Dirty::HeaderName),
        () if poses(&CONTENT_LENGTH) || poses(&TRANSFER_ENCODING) => Err(Dirty::LookAlike),
        () => Ok(()),
    }
}

/// What may not stand in a value (RFC 9110 section 5.5): all control bytes but the tab.
fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7F
}

fn check_http2(headers: &HeaderMap) -> Result<(), Dirty> {
    let other_te = headers.get_all(TE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    if other_te || OF_A_CONNECTION.iter().any(|name| headers.contains_key(name)) {
        return Err(Dirty::ConnectionHeader);
    }
    match headers.values().any(|value| value.as_bytes().trim_ascii().len() != value.len()) {
        true => Err(Dirty::HeaderValue),
        false => Ok(()),
    }
}

//! What a proxy must know of gRPC: which requests are of it, how long they may take, and how it is told that one failed.

use std::fmt::Write;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

/// The statuses that a gateway answers with (gRPC's `codes.proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Cancelled = 1,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Status {
    /// What a client of gRPC is told where one of HTTP would get this status: what it would make of that itself, but
    /// for the statuses that say more here.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Status::Unauthenticated,
            403 => Status::PermissionDenied,
            404 | 501 => Status::Unimplemented,
            408 | 499 => Status::Cancelled,
            413 | 414 | 431 => Status::ResourceExhausted,
            504 => Status::DeadlineExceeded,
            421 | 429 | 502 | 503 => Status::Unavailable,
            _ => Status::Internal,
        }
    }

    /// For `grpc-status`.
    pub fn value(self) -> HeaderValue {
        HeaderValue::from(self as u16)
    }
}

/// Whether these are the headers of a gRPC request: its content type is `application/grpc`, perhaps with a suffix.
/// gRPC-Web is another protocol, which any HTTP proxy can carry.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long the caller gives the call: `grpc-timeout`, at most eight digits and a unit. Nothing when it doesn't say, or
/// says it wrongly.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A text for `grpc-message`: percent-encoded where it isn't plain ASCII.
pub fn message(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    HeaderValue::from_str(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn only_grpc_is_grpc() {
        let is = |value| is_grpc(&with("content-type", value));
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc;charset=utf-8"));
        assert!(!is("application/grpc-web") && !is("application/json") && !is("application/grp"));
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_are_read_strictly() {
        let read = |value| timeout(&with("grpc-timeout", value));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("5n"), Some(Duration::from_nanos(5)));
        for wrong in ["", "S", "1", "+1S", "123456789S", "1s", "1 S", "1.5S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn messages_are_plain_ascii() {
        assert_eq!(message("100 % grün"), "100 %25 gr%C3%BCn");
        assert_eq!(message("a\r\nb"), "a%0D%0Ab");
    }

    #[test]
    fn statuses_are_what_clients_expect() {
        let of = |status| Status::of(StatusCode::from_u16(status).unwrap_or_default()).value();
        assert_eq!([503, 404, 403, 504, 400].map(of), ["14", "12", "7", "4", "13"]);
    }
}

//! An answer's bytes on the wire (RFC 9112 sections 4 and 6).

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use decide::headers::accepts_trailers;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use httpdate::HttpDate;
use pingora_http::{RequestHeader, ResponseHeader};

use super::fields::{write_field, write_fields};

/// What every client reads an interim answer as that it waits for.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// No head has a year of five digits (RFC 9110 section 5.6.7): 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// How the end of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is no body.
    NoBody,
    /// After so many more bytes.
    Length(u64),
    /// By the last chunk.
    Chunked {
        /// Whether trailers may follow it.
        trailers: bool,
    },
    /// By the end of the connection, for HTTP/1.0.
    Close,
    /// It is none: the connection belongs to another protocol from here on.
    Switched,
}

impl Ending {
    /// Of this answer to this request; `whole` when its head is all of it. A length that cannot be read tells nothing.
    pub fn of(request: &RequestHeader, answer: &ResponseHeader, whole: bool) -> Self {
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&answer.status);
        match length(&answer.headers) {
            _ if answer.status == StatusCode::SWITCHING_PROTOCOLS => Ending::Switched,
            _ if bodiless || request.method == Method::HEAD => Ending::NoBody,
            Some(length) => Ending::Length(length),
            None if whole => Ending::Length(0),
            None if request.version == Version::HTTP_10 => Ending::Close,
            None => {
                Ending::Chunked { trailers: accepts_trailers(&request.headers) || answer.headers.contains_key(TRAILER) }
            }
        }
    }

    /// Whether another answer may follow on the connection.
    pub fn persists(self) -> bool {
        !matches!(self, Ending::Close | Ending::Switched)
    }

    /// Whether the head's own length is shown.
    fn shows_length(self, answer: &ResponseHeader) -> bool {
        let told = matches!(self, Ending::Length(_) | Ending::NoBody) && answer.status != StatusCode::NO_CONTENT;
        told && length(&answer.headers).is_some()
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let text = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Writes a head. What frames the body and what is said about the connection are this hop's own.
pub fn write_head(
    out: &mut BytesMut,
    answer: &ResponseHeader,
    ending: Ending,
    connection: Option<&'static str>,
    clock: &mut Clock,
) {
    let shows_length = ending.shows_length(answer);
    let passes = |name: &HeaderName| match () {
        () if *name == CONTENT_LENGTH => shows_length,
        () if *name == UPGRADE => ending == Ending::Switched,
        () => ![CONNECTION, TRANSFER_ENCODING, KEEP_ALIVE].contains(name),
    };
    write_status(out, answer.status);
    if !answer.headers.contains_key(DATE) {
        write_field(out, DATE.as_str(), clock.now());
    }
    write_fields(out, answer.headers.iter().filter(|(name, _)| passes(name)));
    match ending {
        Ending::Length(0) if !shows_length => write_field(out, CONTENT_LENGTH.as_str(), b"0"),
        Ending::Chunked { .. } => write_field(out, TRANSFER_ENCODING.as_str(), b"chunked"),
        _ => {}
    }
    if let Some(connection) = connection {
        write_field(out, CONNECTION.as_str(), connection.as_bytes());
    }
    out.put_slice(b"\r\n");
}

/// Writes an interim head.
pub fn write_interim(out: &mut BytesMut, head: &ResponseHeader) {
    let passes =
        |name: &HeaderName| ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, KEEP_ALIVE, UPGRADE].contains(name);
    write_status(out, head.status);
    write_fields(out, head.headers.iter().filter(|(name, _)| passes(name)));
    out.put_slice(b"\r\n");
}

fn write_status(out: &mut BytesMut, status: StatusCode) {
    out.reserve(512);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// The time as `Date` has it, formatted once a second.
#[derive(Debug, Default)]
pub struct Clock {
    second: Option<u64>,
    text: [u8; 29],
}

impl Clock {
    /// Now.
    pub fn now(&mut self) -> &[u8] {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST_SECOND);
        if self.second != Some(second) {
            let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            self.second = write!(self.text.as_mut_slice(), "{date}").is_ok().then_some(second);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn request(method: &str, version: Version) -> RequestHeader {
        let mut head = RequestHeader::build_no_case(method, b"/", None).unwrap();
        head.set_version(version);
        head
    }

    fn written(head: &ResponseHeader, ending: Ending) -> String {
        let mut out = BytesMut::new();
        write_head(&mut out, head, ending, None, &mut Clock::default());
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn the_length_is_believed_only_when_it_is_one_number() {
        let get = request("GET", Version::HTTP_11);
        let chunked = Ending::Chunked { trailers: false };
        assert_eq!(Ending::of(&get, &answer(200, &[("content-length", "3")]), false), Ending::Length(3));
        for length in ["", "+3", "3, 3", "3 ", "0x3", "99999999999999999999"] {
            let head = answer(200, &[("content-length", length)]);
            assert_eq!(Ending::of(&get, &head, false), chunked, "{length:?}");
            assert!(!written(&head, chunked).contains("content-length"));
        }
        assert_eq!(Ending::of(&get, &answer(200, &[("content-length", "3"), ("content-length", "3")]), false), chunked);
    }

    #[test]
    fn what_has_no_body_says_so_by_itself() {
        let get = request("GET", Version::HTTP_11);
        let length = [("content-length", "3")];
        assert_eq!(Ending::of(&request("HEAD", Version::HTTP_11), &answer(200, &length), false), Ending::NoBody);
        assert!(written(&answer(200, &length), Ending::NoBody).contains("content-length: 3\r\n"));
        for status in [204, 304] {
            assert_eq!(Ending::of(&get, &answer(status, &length), false), Ending::NoBody);
        }
        assert!(!written(&answer(204, &length), Ending::NoBody).contains("content-length"));
        assert_eq!(Ending::of(&request("GET", Version::HTTP_10), &answer(200, &[]), false), Ending::Close);
        assert_eq!(Ending::of(&get, &answer(200, &[]), true), Ending::Length(0));
        assert!(written(&answer(200, &[]), Ending::Length(0)).contains("content-length: 0\r\n"));
        assert_eq!(Ending::of(&get, &answer(101, &[]), false), Ending::Switched);
    }

    #[test]
    fn one_hops_fields_are_written_by_this_hop_only() {
        let fields = [("transfer-encoding", "gzip"), ("connection", "x"), ("keep-alive", "1"), ("upgrade", "h2c")];
        let text = written(&answer(200, &fields), Ending::Chunked { trailers: true });
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\ndate: ") && text.ends_with("\r\ntransfer-encoding: chunked\r\n\r\n")
        );
        assert_eq!(text.lines().count(), 4);
        assert!(httpdate::parse_http_date(text.lines().nth(1).unwrap().strip_prefix("date: ").unwrap()).is_ok());
        assert!(!written(&answer(200, &[("date", "x")]), Ending::Length(0)).contains("GMT"));
    }
}

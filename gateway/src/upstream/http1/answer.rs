//! An answer's head, out of what has come (RFC 9112 sections 4 and 6.3). Instances are read as leniently as other proxies
//! read them; what says two things about where its body ends is not.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use decide::chunked::Decoder;
use decide::headers::names;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use pingora_http::ResponseHeader;

use crate::http1::body::Body;

/// A head may be so long, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// And have so many fields.
const FIELDS: usize = 128;

/// A head, and what follows it.
pub struct Head {
    /// The head.
    pub head: Box<ResponseHeader>,
    /// The body.
    pub body: Body,
    /// Whether the connection goes on after it (RFC 9112 section 9.3).
    pub persists: bool,
}

/// Why what came is no answer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadAnswer {
    #[error("its head is longer than {HEAD_BYTES} bytes")]
    TooLong,
    #[error("its head cannot be read: {0}")]
    Head(httparse::Error),
    #[error("its head has a field that cannot be passed on")]
    Field,
    #[error("its content-length is no number, or several")]
    Length,
}

/// Looks for a head in what comes.
#[derive(Debug, Default)]
pub struct Search {
    seen: usize,
}

impl Search {
    /// Takes a head off the input, once it is whole.
    pub fn take(&mut self, input: &mut BytesMut, method: &Method) -> Result<Option<Head>, BadAnswer> {
        let end = self.find_end(input);
        if end.unwrap_or(input.len()) > HEAD_BYTES {
            return Err(BadAnswer::TooLong);
        }
        let Some(end) = end else { return Ok(None) };
        self.seen = 0;
        parse(&input.split_to(end).freeze(), method).map(Some)
    }

    /// Behind the first empty line that follows another line. Each byte is looked at once, however slowly they come.
    fn find_end(&mut self, input: &[u8]) -> Option<usize> {
        while let Some(found) = input.get(self.seen..)?.iter().position(|byte| *byte == b'\n') {
            let end = self.seen + found;
            self.seen = end + 1;
            let line = input.get(..end).map(|before| before.strip_suffix(b"\r").unwrap_or(before));
            if line.is_some_and(|before| before.ends_with(b"\n")) {
                return Some(self.seen);
            }
        }
        self.seen = input.len();
        None
    }
}

fn parse(bytes: &Bytes, method: &Method) -> Result<Head, BadAnswer> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let read = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    if read.map_err(BadAnswer::Head)? == Status::Partial {
        return Err(BadAnswer::Head(httparse::Error::NewLine));
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadAnswer::Field)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| BadAnswer::Field)?;
        headers.try_append(name, value).map_err(|_| BadAnswer::Field)?;
    }
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| BadAnswer::Field)?;
    let is_new = parsed.version == Some(1);
    let clear = !(headers.contains_key(TRANSFER_ENCODING) && (headers.contains_key(CONTENT_LENGTH) || !is_new));
    let body = body(method, parts.status, &mut headers)?;
    let persists = match is_new {
        true => !names(&headers, &CONNECTION, "close"),
        false => names(&headers, &CONNECTION, "keep-alive"),
    };
    let persists = persists && clear && !matches!(body, Body::Open);
    parts.version = Version::HTTP_11;
    parts.headers = headers;
    Ok(Head { head: Box::new(ResponseHeader::from(parts)), body, persists })
}

/// RFC 9112 section 6.3. Of what is said about the length, what holds is left, once.
fn body(method: &Method, status: StatusCode, headers: &mut HeaderMap) -> Result<Body, BadAnswer> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Body::Open);
    }
    if let Some(codings) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        let is_chunked = codings
            .as_bytes()
            .rsplit(|byte| *byte == b',')
            .next()
            .is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        headers.remove(CONTENT_LENGTH);
        return Ok(match is_chunked {
            _ if is_bodiless(method, status) => Body::Done,
            true => Body::Chunked(Decoder::of_answer()),
            false => Body::Open,
        });
    }
    let length = length(headers)?;
    if let Some(length) = length.filter(|_| headers.get_all(CONTENT_LENGTH).iter().count() > 1) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(match length {
        _ if is_bodiless(method, status) => Body::Done,
        Some(0) => Body::Done,
        Some(length) => Body::Length(length),
        None => Body::Open,
    })
}

fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

/// What the fields say of a body's length. Some servers say it twice, in one field or two; all must agree (RFC 9110 section 8.6).
pub fn length(headers: &HeaderMap) -> Result<Option<u64>, BadAnswer> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for one in value.as_bytes().split(|byte| *byte == b',') {
            let one = number(one.trim_ascii()).ok_or(BadAnswer::Length)?;
            if *length.get_or_insert(one) != one {
                return Err(BadAnswer::Length);
            }
        }
    }
    Ok(length)
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What is read out of a head that comes byte by byte, with something behind it: its fields, the body, whether the
    /// connection goes on.
    fn read(method: Method, head: &str) -> Result<(HeaderMap, String, bool), String> {
        let (mut search, mut input) = (Search::default(), BytesMut::new());
        for byte in head.bytes() {
            if let Some(early) = search.take(&mut input, &method).map_err(|error| error.to_string())? {
                return Err(format!("whole after {:?}", early.head.status));
            }
            input.extend_from_slice(&[byte]);
        }
        input.extend_from_slice(b"rest\n\n");
        let Head { head, body, persists } =
            search.take(&mut input, &method).map_err(|error| error.to_string())?.unwrap();
        assert_eq!(&*input, b"rest\n\n");
        let body = format!("{body:?}");
        Ok((head.headers.clone(), body.split(['(', ' ']).next().unwrap().to_owned() + &digits(&body), persists))
    }

    fn digits(body: &str) -> String {
        if body.starts_with("Length") { body.chars().filter(char::is_ascii_digit).collect() } else { String::new() }
    }

    #[test]
    fn where_a_body_ends_is_told_by_the_head() {
        let get = |fields: &str| {
            let (_, body, persists) = read(Method::GET, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).unwrap();
            (body, persists)
        };
        let told = |body: &str, persists| (body.to_owned(), persists);
        assert_eq!(get("content-length: 3\r\n"), told("Length3", true));
        assert_eq!(get("content-length: 0\r\n"), told("Done", true));
        assert_eq!(get("content-length: 3\r\nConnection: foo, Close\r\n"), told("Length3", false));
        assert_eq!(get("Transfer-Encoding: gzip, chunked\r\n"), told("Chunked", true));
        assert_eq!(get("transfer-encoding: chunked\r\ncontent-length: 3\r\n"), told("Chunked", false));
        assert_eq!(get("transfer-encoding: chunked, gzip\r\n"), told("Open", false));
        assert_eq!(get(""), told("Open", false));
    }

    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304), (Method::GET, 103)] {
            for field in ["content-length: 3", "transfer-encoding: chunked", "x: y"] {
                let (_, body, persists) =
                    read(method.clone(), &format!("HTTP/1.1 {status} x\r\n{field}\r\n\r\n")).unwrap();
                assert_eq!((body.as_str(), persists), ("Done", true), "{method} {status} {field}");
            }
        }
        assert_eq!(read(Method::GET, "HTTP/1.1 101 x\r\ncontent-length: 3\r\n\r\n").unwrap().1, "Open");
    }

    #[test]
    fn one_length_is_passed_on_and_only_if_all_agree() {
        let head = |lengths: &str| format!("HTTP/1.1 200 OK\r\n{lengths}\r\n");
        for agreed in ["content-length: 3, 3\r\n", "content-length: 3\r\nContent-Length:3\r\n"] {
            let (headers, body, _) = read(Method::GET, &head(agreed)).unwrap();
            assert_eq!(body, "Length3");
            assert!(agreed.contains(", 3") || headers.get_all(CONTENT_LENGTH).iter().eq(["3"]), "{headers:?}");
        }
        for wrong in ["3\r\ncontent-length: 4", "3, 4", "", "+3", "-3", "0x3", "3 3", "99999999999999999999"] {
            let refused = read(Method::GET, &head(&format!("content-length: {wrong}\r\n"))).unwrap_err();
            assert!(refused.contains("content-length"), "{wrong}: {refused}");
        }
        let (headers, ..) = read(Method::GET, &head("content-length: 3\r\ntransfer-encoding: chunked\r\n")).unwrap();
        assert!(!headers.contains_key(CONTENT_LENGTH), "the chunks say where it ends");
    }

    #[test]
    fn old_and_sloppy_servers_are_read_too() {
        let (headers, body, persists) = read(Method::GET, "HTTP/1.0 200\nX:  y \n\n").unwrap();
        assert_eq!(
            (headers.get("x").unwrap(), body.as_str(), persists),
            (&HeaderValue::from_static("y"), "Open", false)
        );
        let kept = "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 1\r\n\r\n";
        assert!(read(Method::GET, kept).unwrap().2);
    }

    #[test]
    fn what_is_no_head_is_refused_and_so_is_one_without_end() {
        for wrong in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 2OO OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        ] {
            assert!(read(Method::GET, wrong).unwrap_err().contains("cannot be read"), "{wrong}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(FIELDS + 1));
        assert!(read(Method::GET, &many).unwrap_err().contains("too many"));
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES));
        assert_eq!(read(Method::GET, &long).unwrap_err(), BadAnswer::TooLong.to_string());
    }
}

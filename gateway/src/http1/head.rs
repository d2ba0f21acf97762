//! A request's head, from the wire to the form in which the request path takes it.

use bytes::Bytes;
use decide::head::{BadHead, Scan};
use decide::headers::names;
use decide::hygiene::{self, Limits};
use http::header::{CONNECTION, EXPECT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use pingora_http::RequestHeader;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::Body;
use super::wire::Wire;
use crate::refusal::Refusal;

/// A head is read in pieces of about so many bytes: most are smaller.
pub const ROOM: usize = 4 * 1024;
/// A method, a version and the spaces between them are no longer than this in any request that could be served.
const REST_OF_LINE: usize = 64;

/// A request whose head was read.
pub struct Head {
    /// What the request path sees.
    pub request: RequestHeader,
    /// What follows it.
    pub body: Body,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    pub waits: bool,
    /// Whether another request may follow (RFC 9112 section 9.3).
    pub persists: bool,
}

/// Why there is no head that could be served.
pub enum NoHead {
    /// The client is gone.
    Gone,
    /// It is refused; what can be told of it is for the log.
    Refused(Refusal, Box<Head>),
}

/// Reads a head, of which a part may have come already.
pub async fn read<IO>(wire: &mut Wire<IO>, limits: &Limits) -> Result<Head, NoHead>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut scan = Scan::head(limits.header_count);
    loop {
        match find_end(&mut scan, &wire.input, limits) {
            Ok(None) if matches!(wire.fill(ROOM).await, Ok(1..)) => {}
            Ok(None) => return Err(NoHead::Gone),
            Ok(Some(end)) => {
                let head = wire.input.split_to(end).freeze();
                return parse(&head).map_err(|bad| refuse(refusal(bad), &head));
            }
            Err(refusal) => return Err(refuse(refusal, &wire.input)),
        }
    }
}

/// The head in these bytes, read as one that comes over a connection.
///
/// # Errors
/// How it would be refused.
pub fn of(bytes: Vec<u8>, limits: &Limits) -> Result<RequestHeader, Refusal> {
    let mut scan = Scan::head(limits.header_count);
    let mut bytes = Bytes::from(bytes);
    let end = find_end(&mut scan, &bytes, limits)?.ok_or(Refusal::Dirty("incomplete"))?;
    parse(&bytes.split_to(end)).map(|head| head.request).map_err(refusal)
}

fn find_end(scan: &mut Scan, input: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
    let end = scan.find_end(input).map_err(refusal)?;
    let bytes = end.unwrap_or(input.len());
    match () {
        () if !scan.has_line() && bytes > limits.target_bytes + REST_OF_LINE => Err(Refusal::TargetTooLong),
        () if bytes > limits.header_bytes => Err(Refusal::HeadTooLarge("header_bytes")),
        () => Ok(end),
    }
}

fn refusal(bad: BadHead) -> Refusal {
    match bad {
        BadHead::Version => Refusal::Version,
        BadHead::TooMany => Refusal::HeadTooLarge("header_count"),
        _ => Refusal::Dirty(bad.code()),
    }
}

fn refuse(refusal: Refusal, head: &[u8]) -> NoHead {
    NoHead::Refused(refusal, Box::new(sketch(head)))
}

fn parse(bytes: &Bytes) -> Result<Head, BadHead> {
    let head = decide::head::parse(bytes)?;
    let mut headers = HeaderMap::with_capacity(head.fields.most());
    read_fields(head.fields, bytes, &mut headers)?;
    let request = shape(bytes, &head, headers).ok_or(BadHead::Target)?;
    let (version, headers) = (request.version, &request.headers);
    // What contradicts itself is refused with all else that is not clean; until then nobody reads the body.
    let body = hygiene::declared(version, headers).map_or(Body::Unknown, Body::new);
    let waits = version == Version::HTTP_11 && names(headers, &EXPECT, "100-continue");
    let persists = !names(headers, &CONNECTION, "close")
        && (version == Version::HTTP_11 || names(headers, &CONNECTION, "keep-alive"));
    Ok(Head { waits: waits && !body.is_done(), persists, body, request })
}

/// Reads fields out of the bytes in which they stand, and shares these.
pub fn read_fields(fields: decide::head::Fields<'_>, bytes: &Bytes, into: &mut HeaderMap) -> Result<(), BadHead> {
    for field in fields {
        let (name, value) = field?;
        let name = HeaderName::from_bytes(name).map_err(|_| BadHead::FieldName)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).map_err(|_| BadHead::ControlByte)?;
        into.try_append(name, value).map_err(|_| BadHead::TooMany)?;
    }
    Ok(())
}

fn shape(bytes: &Bytes, head: &decide::head::RequestHead<'_>, headers: HeaderMap) -> Option<RequestHeader> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(head.method).ok()?;
    parts.version = head.version;
    parts.headers = headers;
    if head.target.starts_with(b"/") {
        parts.uri = Uri::from_maybe_shared(bytes.slice_ref(head.target)).ok()?;
        return Some(RequestHeader::from(parts));
    }
    // Any other form the type keeps beside the URI, which cannot hold each of them.
    let mut request = RequestHeader::from(parts);
    request.set_raw_path(head.target).ok()?;
    Some(request)
}

/// What can be told, for the log, of a request whose head is refused.
pub fn sketch(input: &[u8]) -> Head {
    let line = decide::head::parse(input).ok().map(|head| (head.method, head.target));
    let known = line.and_then(|(method, target)| RequestHeader::build_no_case(method, target, None).ok());
    Head { request: known.unwrap_or_else(unknown), body: Body::Unknown, waits: false, persists: false }
}

fn unknown() -> RequestHeader {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(b"-").unwrap_or_default();
    RequestHeader::from(parts)
}

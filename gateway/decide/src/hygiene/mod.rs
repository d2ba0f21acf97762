//! Whether a request head is clean: whether every server behind the gateway must read it as the gateway does. What
//! isn't clean is refused before anything is decided, and its connection closed.

mod dirty;
mod fields;
mod framing;

use http::header::HOST;
use http::{HeaderMap, Method, Version};

pub use dirty::Dirty;
pub use framing::{Framing, declared};

use crate::authority::Authority;
use crate::target::{BadTarget, Target};

/// A request head as it came.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The bytes of the request line's target, or of `:path`.
    pub target: &'a [u8],
    /// The HTTP version.
    pub version: Version,
    /// HTTP/2's `:authority`.
    pub authority: Option<&'a [u8]>,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The target's length in bytes.
    pub target_bytes: usize,
    /// The header fields' bytes, counted as on an HTTP/1.1 wire.
    pub header_bytes: usize,
    /// The number of header fields; repeated ones count each time.
    pub header_count: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { target_bytes: 8 << 10, header_bytes: 64 << 10, header_count: 100 }
    }
}

/// What a clean head says, in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanHead<'a> {
    /// Who is asked.
    pub authority: Authority<'a>,
    /// What is asked for.
    pub target: Target<'a>,
    /// Where the body ends.
    pub framing: Framing,
}

impl CleanHead<'_> {
    /// The same without the borrow.
    pub fn into_owned(self) -> CleanHead<'static> {
        let CleanHead { authority, target, framing } = self;
        CleanHead { authority: authority.into_owned(), target: target.into_owned(), framing }
    }
}

/// Checks a head and brings it into normal form. The headers' own forms are left alone; see [`headers`](crate::headers).
pub fn check<'a>(head: &Head<'a>, limits: &Limits) -> Result<CleanHead<'a>, Dirty> {
    check_size(head, limits)?;
    check_method(head)?;
    fields::check(head.version, head.headers)?;
    let framing = framing::framing(head.version, head.headers)?;
    let (of_target, target) = split(head)?;
    let authority = authority(head, of_target.or(head.authority))?;
    Ok(CleanHead { authority, target, framing })
}

fn check_size(head: &Head<'_>, limits: &Limits) -> Result<(), Dirty> {
    // ": " and the line's end.
    const PUNCTUATION: usize = 4;
    let bytes = || head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PUNCTUATION).sum();
    if head.target.len() > limits.target_bytes {
        return Err(Dirty::TargetLength { limit: limits.target_bytes });
    }
    if head.headers.len() > limits.header_count {
        return Err(Dirty::HeaderCount { limit: limits.header_count });
    }
    if limits.header_bytes < bytes() {
        return Err(Dirty::HeaderBytes { limit: limits.header_bytes });
    }
    Ok(())
}

/// Methods are case-sensitive tokens (RFC 9110 section 9.1), yet some servers take `get` for `GET`: a rule about one would
/// not be one about the other. All that are registered have no lower-case letter.
fn check_method(head: &Head<'_>) -> Result<(), Dirty> {
    match *head.method {
        Method::CONNECT => Err(Dirty::Connect),
        Method::TRACE => Err(Dirty::Trace),
        _ if head.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) => Err(Dirty::Method),
        _ => Ok(()),
    }
}

/// The authority that the target itself names, and the rest of it in normal form.
fn split<'a>(head: &Head<'a>) -> Result<(Option<&'a [u8]>, Target<'a>), Dirty> {
    if head.target == b"*" && head.method == Method::OPTIONS {
        return Ok((None, Target::ASTERISK));
    }
    if head.version == Version::HTTP_2 || head.target.starts_with(b"/") {
        return Ok((None, Target::parse(head.target)?));
    }
    let (authority, rest) = absolute(head.target).ok_or(BadTarget::Form)?;
    let target = match rest {
        [] => Target::parse(b"/")?,
        [b'/', ..] => Target::parse(rest)?,
        _ => Target::parse(&[b"/", rest].concat())?.into_owned(),
    };
    Ok((Some(authority), target))
}

/// The absolute-form (RFC 9112 section 3.2.2), split behind its authority.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let (scheme, rest) = target.split_at_checked(target.iter().position(|byte| *byte == b':')?)?;
    let known = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let rest = rest.strip_prefix(b"://").filter(|_| known)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    rest.split_at_checked(end)
}

/// One authority, wherever it stands: HTTP/1.1 must have a Host (RFC 9112 section 3.2), and where `:authority` or the
/// target names one too, both must be the same (RFC 9113 section 8.3.1, RFC 9110 section 7.2).
fn authority<'a>(head: &Head<'a>, named: Option<&'a [u8]>) -> Result<Authority<'a>, Dirty> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| Authority::parse(host.as_bytes())).transpose()?;
    let named = named.map(Authority::parse).transpose()?;
    if hosts.next().is_some() {
        return Err(Dirty::HostRepeated);
    }
    match (host, named) {
        (None, Some(_)) if head.version == Version::HTTP_11 => Err(Dirty::HostMissing),
        (Some(host), Some(named)) if host != named => Err(Dirty::AuthorityMismatch),
        (host, named) => named.or(host).ok_or(Dirty::HostMissing),
    }
}

#[cfg(test)]
mod tests;

//! The head of an HTTP/1 request and the fields of a trailer section, byte by byte (RFC 9112). Only the grammar itself
//! passes, not what RFC 9112 lets a lenient server repair: two servers that repair differently see two requests.

use http::Version;

/// Why a head, or a trailer section, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// RFC 9112 section 2.2: some take a lone LF for a line's end, others do not.
    #[error("a line ends with CR or LF alone; end it with both")]
    LineEnd,
    /// NUL and its like, or DEL (RFC 9110 section 5.5). A TLS handshake begins with one, too.
    #[error("there is a control byte")]
    ControlByte,
    /// Not `METHOD SP TARGET SP VERSION` (RFC 9112 section 3).
    #[error("the request line is not a method, a target and a version with one space between them")]
    RequestLine,
    /// A byte that no target has, or a fragment (RFC 9112 section 3.2).
    #[error("the target contains a fragment, or a byte outside ASCII")]
    Target,
    /// HTTP/2 on a connection where HTTP/1 was agreed on (RFC 9113 section 3.4).
    #[error("this is the preface of HTTP/2, which was not agreed on")]
    Preface,
    /// A version, but neither HTTP/1.0 nor HTTP/1.1.
    #[error("this version of HTTP is not spoken here")]
    Version,
    /// A field that goes on in a second line (RFC 9112 section 5.2).
    #[error("a header field is folded over several lines")]
    Folded,
    /// Not a token directly before a colon (RFC 9112 section 5.1).
    #[error("a header field's name is not a token followed by a colon")]
    FieldName,
    /// More lines than there may be.
    #[error("there are too many header fields")]
    TooMany,
}

impl BadHead {
    /// The label in metrics and logs.
    pub fn code(self) -> &'static str {
        match self {
            BadHead::LineEnd => "line_end",
            BadHead::ControlByte => "control_byte",
            BadHead::RequestLine => "request_line",
            BadHead::Target => "target",
            BadHead::Preface => "http2_preface",
            BadHead::Version => "version",
            BadHead::Folded => "folded_field",
            BadHead::FieldName => "field_name",
            BadHead::TooMany => "header_count",
        }
    }
}

/// Looks for the end of a section while it comes, and refuses at once what no further byte could mend.
#[derive(Debug, Clone)]
pub struct Scan {
    seen: usize,
    line: usize,
    lines: usize,
    most_lines: usize,
    after_cr: bool,
    /// Whether an empty line may still come before the first.
    may_skip: bool,
}

impl Scan {
    /// For a request's head with at most so many fields. One empty line before it is skipped (RFC 9112 section 2.2).
    pub fn head(most_fields: usize) -> Self {
        Scan { may_skip: true, ..Scan::trailers(most_fields.saturating_add(1)) }
    }

    /// For a trailer section with at most so many fields.
    pub fn trailers(most_fields: usize) -> Self {
        Scan { seen: 0, line: 0, lines: 0, most_lines: most_fields, after_cr: false, may_skip: false }
    }

    /// Whether a whole line has been seen.
    pub fn has_line(&self) -> bool {
        self.lines > 0
    }

    /// Where the section ends, behind its empty line. Takes all that has come so far, and looks at what is new.
    pub fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadHead> {
        while let Some((byte, after)) = bytes.get(self.seen..).and_then(<[u8]>::split_first) {
            self.seen += 1;
            match (self.after_cr, byte) {
                // Most of a head is text, of which only its end matters.
                (false, byte) if is_text(*byte) => self.seen += after.iter().take_while(|byte| is_text(**byte)).count(),
                (false, b'\r') => self.after_cr = true,
                (true, b'\n') if self.ends_line()? => return Ok(Some(self.seen)),
                (true, b'\n') => {}
                (true, _) | (false, b'\n') => return Err(BadHead::LineEnd),
                (false, _) => return Err(BadHead::ControlByte),
            }
        }
        Ok(None)
    }

    /// Whether the section ends with the line that ends here.
    fn ends_line(&mut self) -> Result<bool, BadHead> {
        let empty = self.seen - self.line == 2;
        if empty && !std::mem::take(&mut self.may_skip) {
            return Ok(true);
        }
        if !empty {
            self.may_skip = false;
            self.lines += 1;
            if self.lines > self.most_lines {
                return Err(BadHead::TooMany);
            }
        }
        self.line = self.seen;
        self.after_cr = false;
        Ok(false)
    }
}

/// What may stand within a line.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A request's head, still as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method, a token.
    pub method: &'a [u8],
    /// The target, in whichever form: visible ASCII without a fragment, and not empty.
    pub target: &'a [u8],
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// What follows the request line.
    pub fields: Fields<'a>,
}

/// Reads a head whose end a [`Scan`] has found. The fields are read as they are iterated.
pub fn parse(head: &[u8]) -> Result<RequestHead<'_>, BadHead> {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let (line, rest) = split_line(head).ok_or(BadHead::RequestLine)?;
    if line == b"PRI * HTTP/2.0" {
        return Err(BadHead::Preface);
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BadHead::RequestLine);
    };
    if !is_token(method) || target.is_empty() {
        return Err(BadHead::RequestLine);
    }
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(BadHead::Target);
    }
    Ok(RequestHead { method, target, version: parse_version(version)?, fields: Fields(rest) })
}

fn parse_version(text: &[u8]) -> Result<Version, BadHead> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(BadHead::Version),
        _ => Err(BadHead::RequestLine),
    }
}

/// The fields of a head or a trailer section: each name and value, the white space around the value left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Those of a trailer section whose end a [`Scan`] has found.
    pub fn of_trailers(section: &'a [u8]) -> Self {
        Fields(section)
    }

    /// How many there are at most.
    pub fn most(&self) -> usize {
        self.0.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), BadHead>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, rest) = split_line(self.0).filter(|(line, _)| !line.is_empty())?;
        self.0 = rest;
        Some(parse_field(line))
    }
}

fn parse_field(line: &[u8]) -> Result<(&[u8], &[u8]), BadHead> {
    if line.first().is_some_and(|byte| is_white(*byte)) {
        return Err(BadHead::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(BadHead::FieldName)?;
    let (name, value) = line.split_at_checked(colon).ok_or(BadHead::FieldName)?;
    match is_token(name) {
        true => Ok((name, trim(value.strip_prefix(b":").unwrap_or(value)))),
        false => Err(BadHead::FieldName),
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = bytes.split_at_checked(bytes.iter().position(|byte| *byte == b'\r')?)?;
    Some((line, rest.strip_prefix(b"\r\n")?))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_white(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_white(*last)
    {
        value = rest;
    }
    value
}

fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110 section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(of_token)
}

#[cfg(test)]
mod tests;

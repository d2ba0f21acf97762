//! By what a request is followed from one server to the next: the W3C Trace Context (level 1 and 2, both version 00), and
//! an identifier for people. Random bits come in as arguments.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The trace, and the sender's place in it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems say to one another in the same trace.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// One name for a request, from its client to its instance.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `00-` trace `-` span `-` flags.
const LENGTH: usize = 55;
/// Whether the sender may have recorded the trace; and whether the trace's identifier is random.
const KNOWN_FLAGS: u8 = 0b11;
/// What the gateway begins, it has recorded: in its access log.
const BEGUN_HERE: u8 = 0b11;
/// A request's name is no longer than this, in bytes.
const LONGEST_NAME: usize = 128;
/// One that is made here has 128 bits, in hexadecimal digits.
const NEW_NAME: usize = 32;
/// Of `tracestate`, so many entries are passed on at most.
const STATES: usize = 32;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// How many headers [`Marks::write`] sets.
pub const MARKS: usize = 2;

/// By what a request is known: to the next server, and in the access log.
#[derive(Debug, Clone)]
pub struct Marks {
    /// Its place in a trace.
    pub span: Span,
    /// Its own name.
    pub request_id: HeaderValue,
    traceparent: HeaderValue,
}

/// Random bits for [`Marks`].
#[derive(Debug, Clone, Copy)]
pub struct Random {
    /// For a trace.
    pub trace: u128,
    /// For a place in one.
    pub span: u64,
    /// For a name.
    pub name: u128,
}

impl Marks {
    /// Those that it came with, as far as they are fit to be passed on and logged; else random ones.
    pub fn of(headers: &HeaderMap, random: Random) -> Self {
        let span = Span::of(headers, (random.trace, random.span));
        let text = match given_name(headers) {
            Some(given) => Text::new(&span, given),
            None => Text::new(&span, &hex_of(random.name)),
        };
        let text = Bytes::from_owner(text);
        let (traceparent, name) = (text.slice(..LENGTH), text.slice(LENGTH..));
        // Digits, and what was a value before.
        let value = |text| {
            let unknown = HeaderValue::from_static("unknown");
            let mut value = HeaderValue::from_maybe_shared::<Bytes>(text).unwrap_or(unknown);
            // No two requests have the same: HTTP/2 shall not keep it to refer to it later (RFC 7541 section 6.2.3).
            value.set_sensitive(true);
            value
        };
        Marks { span, request_id: value(name), traceparent: value(traceparent) }
    }

    /// The trace and the hop, as they are written.
    pub fn texts(&self) -> (&str, &str) {
        let text = self.traceparent.to_str().unwrap_or_default();
        (text.get(3..35).unwrap_or_default(), text.get(36..52).unwrap_or_default())
    }

    /// Tells them to the next server. What tracing systems have added goes on with its trace only, and only if it is what
    /// they may say.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.traceparent.clone());
        headers.insert(REQUEST_ID, self.request_id.clone());
        if headers.contains_key(TRACESTATE) && !(self.span.continued && states_are_valid(headers)) {
            headers.remove(TRACESTATE);
        }
    }
}

/// A `traceparent`, and a name behind it, in one piece of memory that both share: they are cloned, and live as long. It
/// is a copy of what was given, which shares its memory with the whole head that it came in.
struct Text {
    bytes: [u8; LENGTH + LONGEST_NAME],
    length: usize,
}

impl Text {
    fn new(span: &Span, name: &[u8]) -> Self {
        let mut text = Text { bytes: [0; LENGTH + LONGEST_NAME], length: LENGTH + name.len() };
        text.bytes.iter_mut().zip(span.header().iter().chain(name)).for_each(|(place, byte)| *place = *byte);
        text
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

/// The name that the client has given the request, if it is fit.
fn given_name(headers: &HeaderMap) -> Option<&[u8]> {
    let fit = |name: &&[u8]| (1..=LONGEST_NAME).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    only(headers, &REQUEST_ID).filter(fit)
}

/// A request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The trace; never 0.
    pub trace: u128,
    /// The hop; never 0.
    pub id: u64,
    flags: u8,
    continued: bool,
}

impl Span {
    /// The gateway's own place: in the trace that the request came with, if it came with one, else in a new one.
    pub fn of(headers: &HeaderMap, random: (u128, u64)) -> Span {
        let (trace, id) = (random.0.max(1), random.1.max(1));
        match only(headers, &TRACEPARENT).and_then(Span::parse) {
            Some(parent) => Span { id, continued: true, ..parent },
            None => Span { trace, id, flags: BEGUN_HERE, continued: false },
        }
    }

    /// Reads a `traceparent`. Of a version after 00, only what 00 has is read, as the specification wants it.
    pub fn parse(value: &[u8]) -> Option<Span> {
        let (head, rest) = value.split_at_checked(LENGTH)?;
        let [version, trace, id, flags] = parts(head)?;
        match hex(version)? {
            0 if rest.is_empty() => {}
            1..=0xfe if rest.is_empty() || rest.starts_with(b"-") => {}
            _ => return None,
        }
        let (trace, id) = (hex(trace)?, u64::try_from(hex(id)?).ok()?);
        let flags = u8::try_from(hex(flags)?).ok()? & KNOWN_FLAGS;
        (trace != 0 && id != 0).then_some(Span { trace, id, flags, continued: true })
    }

    /// As the next server shall read it.
    pub fn header(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let [_, trace, id, flags] = [(0, 2), (3, 32), (36, 16), (53, 2)].map(|(at, long)| at..at + long);
        for (range, number) in [(trace, self.trace), (id, self.id.into()), (flags, self.flags.into())] {
            if let Some(place) = text.get_mut(range) {
                write_hex(place, number);
            }
        }
        text
    }
}

/// The only value that a header has.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Some(only.as_bytes()),
        _ => None,
    }
}

fn parts(head: &[u8]) -> Option<[&[u8]; 4]> {
    let mut parts = head.split(|byte| *byte == b'-');
    let all = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    (parts.next().is_none() && all.map(<[u8]>::len) == [2, 32, 16, 2]).then_some(all)
}

/// Lower case only: the specification allows no other.
fn hex(text: &[u8]) -> Option<u128> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    text.iter().try_fold(0, |number: u128, byte| Some(number << 4 | u128::from(digit(*byte)?)))
}

/// In 32 digits.
fn hex_of(number: u128) -> [u8; NEW_NAME] {
    let mut text = [0; NEW_NAME];
    write_hex(&mut text, number);
    text
}

fn write_hex(place: &mut [u8], number: u128) {
    let mut rest = number;
    for byte in place.iter_mut().rev() {
        *byte = DIGITS.get((rest & 15) as usize).copied().unwrap_or(b'0');
        rest >>= 4;
    }
}

/// Whether all of `tracestate` is a list of entries as the specification has it; else none of it can be trusted.
fn states_are_valid(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TRACESTATE).into_iter();
    let entries = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let mut number = 0;
    entries.filter(|entry| !entry.is_empty()).all(|entry| {
        number += 1;
        number <= STATES && is_state(entry)
    })
}

fn is_state(entry: &[u8]) -> bool {
    let Some(at) = entry.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (entry.get(..at).unwrap_or_default(), entry.get(at + 1..).unwrap_or_default());
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let in_key = |byte: &u8| first(byte) || b"_-*/@".contains(byte);
    let in_value = |byte: &u8| matches!(byte, 0x20..=0x7e) && !b",=".contains(byte);
    key.first().is_some_and(first)
        && key.len() <= 256
        && key.iter().all(in_key)
        && (1..=256).contains(&value.len())
        && value.iter().all(in_value)
}

#[cfg(test)]
mod tests;

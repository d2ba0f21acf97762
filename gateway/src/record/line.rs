//! A line of the access log.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use config::resource::{Host, Name};
use decide::trace::Marks;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Version};
use pingora_http::RequestHeader;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::exchange::{Door, Entry};

/// What a client or a peer says is cut off after so many bytes, in the line as in what came.
pub(super) const LONGEST_TEXT: usize = 2_048;

/// A request's line, or a stream's, its fields in their order. Stable; `docs/guides/observability.md` explains them, and a test holds it
/// to that.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    time_ms: u128,
    door: &'static str,
    client: IpAddr,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<Host>,
    method: String,
    host: String,
    path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(flatten, serialize_with = "identifiers")]
    pub(super) marks: Option<Marks>,
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) global_namespace: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) served_by: Option<String>,
    pub(super) attempts: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failures: Vec<String>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) head_us: Option<u128>,
    pub(super) duration_us: u128,
}

impl Line {
    /// What is known when the head has come; without texts unless they are `kept`.
    pub(super) fn new(head: &RequestHeader, entry: &Entry, marks: Marks, kept: bool) -> Self {
        let text = |text: &[u8]| if kept { shorten(text) } else { String::new() };
        let header = |name| head.headers.get(name).map(HeaderValue::as_bytes);
        let host = head.uri.host().map(str::as_bytes).or_else(|| header(HOST)).unwrap_or_default();
        Line {
            protocol: protocol(head.version),
            sni: other_sni(&entry.door, host).filter(|_| kept).cloned(),
            method: text(head.method.as_str().as_bytes()),
            host: text(host),
            path: text(head.raw_path()),
            user_agent: text(header(USER_AGENT).unwrap_or_default()),
            marks: Some(marks),
            ..Line::of(entry)
        }
    }

    /// What is known when a stream begins.
    pub(super) fn of_stream(entry: &Entry, kept: bool) -> Self {
        let host = match &entry.door {
            Door::PublicHttps { sni } if kept => sni.to_string(),
            _ => String::new(),
        };
        Line { host, ..Line::of(entry) }
    }

    /// What the connection alone tells.
    fn of(entry: &Entry) -> Self {
        Line {
            time_ms: now_ms(),
            door: entry.door.as_str(),
            client: entry.client,
            protocol: "TCP",
            sni: None,
            method: String::new(),
            host: String::new(),
            path: String::new(),
            user_agent: String::new(),
            marks: None,
            status: 0,
            refusal: None,
            cut: false,
            global_namespace: None,
            service: None,
            served_by: None,
            attempts: 0,
            failures: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            head_us: None,
            duration_us: 0,
        }
    }
}

impl Line {
    /// The bytes that it holds, about.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.method, &self.host, &self.path, &self.user_agent].map(String::capacity);
        let failures = self.failures.iter().map(|failure| size_of::<String>() + failure.capacity());
        size_of::<Line>() + texts.into_iter().chain(failures).sum::<usize>()
    }
}

/// The line of a connection that was refused, and so brought no request; or no further one.
#[derive(Debug, Serialize)]
pub(super) struct TurnedAway {
    time_ms: u128,
    door: &'static str,
    client: IpAddr,
    refusal: &'static str,
    cause: String,
    #[serde(skip_serializing_if = "is_zero")]
    unsaid: u64,
}

impl TurnedAway {
    /// The bytes that it holds.
    pub(super) fn size(&self) -> usize {
        size_of::<TurnedAway>() + self.cause.capacity()
    }

    pub(super) fn new(
        door: &'static str,
        client: IpAddr,
        refusal: &'static str,
        cause: &dyn Display,
        unsaid: u64,
    ) -> Self {
        let cause = shorten(cause.to_string().as_bytes());
        TurnedAway { time_ms: now_ms(), door, client, refusal, cause, unsaid }
    }
}

/// Writes one line. Whatever its texts hold, it stays one: JSON escapes what would end it.
pub(super) fn write(line: &impl Serialize, to: &mut impl Write) -> io::Result<()> {
    // Whole, so that a buffer never ends within a line: a successor appends to the same file.
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    to.write_all(&text)
}

/// The beginning of a text. What isn't UTF-8, or what a terminal would obey although JSON lets it stand, is replaced.
pub(super) fn shorten(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..LONGEST_TEXT).unwrap_or(text));
    let mut text = match text.contains(is_treacherous) {
        true => text.replace(is_treacherous, "\u{fffd}"),
        false => text.into_owned(),
    };
    // What was replaced has grown.
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

/// DEL and the C1 controls; what breaks lines or turns the direction of writing.
fn is_treacherous(char: char) -> bool {
    matches!(char, '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// The name that the connection was opened for, when the request is for another.
fn other_sni<'e>(door: &'e Door, host: &[u8]) -> Option<&'e Host> {
    let Door::PublicHttps { sni } = door else { return None };
    let name = host.split(|byte| *byte == b':').next().unwrap_or_default();
    (!name.eq_ignore_ascii_case(sni.as_str().as_bytes())).then_some(sni)
}

fn identifiers<S: Serializer>(marks: &Option<Marks>, to: S) -> Result<S::Ok, S::Error> {
    let Some(marks) = marks else { return to.serialize_map(Some(0))?.end() };
    let mut map = to.serialize_map(Some(3))?;
    map.serialize_entry("request_id", &String::from_utf8_lossy(marks.request_id.as_bytes()))?;
    map.serialize_entry("trace_id", &format_args!("{:032x}", marks.span.trace))?;
    map.serialize_entry("span_id", &format_args!("{:016x}", marks.span.id))?;
    map.end()
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

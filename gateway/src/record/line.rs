//! A line of the access log.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use config::resource::{Host, Name};
use decide::trace::Marks;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Version};
use pingora_http::RequestHeader;

use super::json::Object;
use crate::exchange::{Door, Entry};
use crate::tunnel::metadata::SOURCE;

/// What a client or a peer says is cut off after so many bytes, in the line as in what came.
pub(super) const LONGEST_TEXT: usize = 2_048;

/// A request's line, or a stream's.
#[derive(Debug)]
pub(super) struct Line {
    time_ms: u64,
    door: &'static str,
    client: IpAddr,
    protocol: &'static str,
    sni: Option<Host>,
    texts: Texts,
    pub(super) marks: Option<Marks>,
    pub(super) status: u16,
    pub(super) refusal: Option<&'static str>,
    pub(super) cut: bool,
    pub(super) global_namespace: Option<Name>,
    pub(super) service: Option<Name>,
    pub(super) attempts: u32,
    pub(super) failures: Vec<String>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) head_us: Option<u64>,
    pub(super) duration_us: u64,
}

impl Line {
    /// What is known when the head has come; without texts unless they are `kept`.
    pub(super) fn new(head: &RequestHeader, entry: &Entry, marks: Marks, kept: bool) -> Self {
        let header = |name| head.headers.get(name).map(HeaderValue::as_bytes);
        let mut line = Line { protocol: protocol(head.version), marks: Some(marks), ..Line::of(entry) };
        if kept {
            let host = head.uri.host().map(str::as_bytes).or_else(|| header(HOST)).unwrap_or_default();
            let user_agent = header(USER_AGENT).unwrap_or_default();
            line.sni = other_sni(&entry.door, host).cloned();
            let source = match &entry.door {
                Door::Tunnel { .. } => header(SOURCE),
                door => caller(door),
            };
            line.texts = Texts::new([
                head.method.as_str().as_bytes(),
                host,
                head.raw_path(),
                user_agent,
                source.unwrap_or_default(),
            ]);
        }
        line
    }

    /// What is known when a stream begins.
    pub(super) fn of_stream(entry: &Entry, kept: bool) -> Self {
        let mut line = Line::of(entry);
        match (&entry.door, caller(&entry.door)) {
            (Door::PublicHttps { sni }, _) if kept => {
                line.texts = Texts::new([b"", sni.as_str().as_bytes(), b"", b"", b""]);
            }
            (_, Some(source)) if kept => line.texts = Texts::new([b"", b"", b"", b"", source]),
            _ => {}
        }
        line
    }

    /// What the connection alone tells.
    fn of(entry: &Entry) -> Self {
        Line {
            time_ms: now_ms(),
            door: entry.door.as_str(),
            client: entry.client,
            protocol: "TCP",
            sni: None,
            texts: Texts::default(),
            marks: None,
            status: 0,
            refusal: None,
            cut: false,
            global_namespace: None,
            service: None,
            attempts: 0,
            failures: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            head_us: None,
            duration_us: 0,
        }
    }

    /// Who called.
    pub(super) fn source(&mut self, source: &str) {
        let came = [Text::Method, Text::Host, Text::Path, Text::UserAgent].map(|text| self.texts.get(text).as_bytes());
        let [method, host, path, user_agent] = came;
        self.texts = Texts::new([method, host, path, user_agent, source.as_bytes()]);
    }

    /// Who served it. The last one counts.
    pub(super) fn served_by(&mut self, who: &str) {
        self.texts.set_served_by(who);
    }
}

/// What a line can be written of.
pub(super) trait Fields {
    /// Writes its fields, in their order.
    fn put(&self, to: &mut Object<'_>);
}

/// Stable, and so is the order; `docs/guides/observability.md` explains the fields, and a test holds it to that.
impl Fields for Line {
    fn put(&self, to: &mut Object<'_>) {
        to.number("time_ms", self.time_ms);
        to.text("door", self.door);
        to.shown("client", self.client);
        to.text_if("source", non_empty(self.texts.get(Text::Source)));
        to.text("protocol", self.protocol);
        to.text_if("sni", self.sni.as_ref().map(Host::as_str));
        to.text("method", self.texts.get(Text::Method));
        to.text("host", self.texts.get(Text::Host));
        to.text("path", self.texts.get(Text::Path));
        to.text_if("user_agent", non_empty(self.texts.get(Text::UserAgent)));
        if let Some(marks) = &self.marks {
            put_marks(marks, to);
        }
        to.number("status", self.status);
        to.text_if("refusal", self.refusal);
        if self.cut {
            to.yes("cut");
        }
        to.text_if("global_namespace", self.global_namespace.as_ref().map(Name::as_str));
        to.text_if("service", self.service.as_ref().map(Name::as_str));
        to.text_if("served_by", non_empty(self.texts.get(Text::ServedBy)));
        to.number("attempts", self.attempts);
        to.texts_if("failures", &self.failures);
        to.number("bytes_in", self.bytes_in);
        to.number("bytes_out", self.bytes_out);
        if let Some(head_us) = self.head_us {
            to.number("head_us", head_us);
        }
        to.number("duration_us", self.duration_us);
    }
}

fn put_marks(marks: &Marks, to: &mut Object<'_>) {
    to.text("request_id", &String::from_utf8_lossy(marks.request_id.as_bytes()));
    let (trace, span) = marks.texts();
    to.text("trace_id", trace);
    to.text("span_id", span);
}

/// Who called, as the connection proves.
fn caller(door: &Door) -> Option<&[u8]> {
    door.caller().map(|caller| caller.text.as_bytes())
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The texts that a request brings, and who served it: one behind the other in one piece of memory, and fit to be shown.
/// Each is a copy: what came shares its memory with a whole head.
#[derive(Debug, Default)]
struct Texts {
    all: String,
    /// Where each of them ends.
    ends: [usize; 6],
}

/// Which text, by its place.
#[derive(Debug, Clone, Copy)]
enum Text {
    Method,
    Host,
    Path,
    UserAgent,
    Source,
    ServedBy,
}

impl Texts {
    /// Room for who will serve it, in bytes: most names of instances are shorter.
    const SERVED_BY: usize = 64;

    /// Those that came: all but the last.
    fn new(came: [&[u8]; 5]) -> Self {
        let room = came.iter().map(|text| text.len().min(LONGEST_TEXT)).sum::<usize>() + Texts::SERVED_BY;
        let mut texts = Texts { all: String::with_capacity(room), ends: [0; 6] };
        for (end, text) in texts.ends.iter_mut().zip(came) {
            texts.all.push_str(&shorten(text));
            *end = texts.all.len();
        }
        texts
    }

    fn set_served_by(&mut self, who: &str) {
        let [.., last, end] = &mut self.ends;
        self.all.truncate(*last);
        self.all.push_str(&shorten(who.as_bytes()));
        *end = self.all.len();
    }

    fn get(&self, which: Text) -> &str {
        let place = which as usize;
        let end = |place: Option<usize>| place.and_then(|place| self.ends.get(place)).copied().unwrap_or_default();
        self.all.get(end(place.checked_sub(1))..end(Some(place))).unwrap_or_default()
    }
}

/// The line of a connection that was refused, and so brought no request; or no further one.
#[derive(Debug)]
pub(super) struct TurnedAway {
    time_ms: u64,
    door: &'static str,
    client: IpAddr,
    refusal: &'static str,
    cause: String,
    unsaid: u64,
}

impl TurnedAway {
    pub(super) fn new(
        door: &'static str,
        client: IpAddr,
        refusal: &'static str,
        cause: &dyn Display,
        unsaid: u64,
    ) -> Self {
        let cause = shorten(cause.to_string().as_bytes()).into_owned();
        TurnedAway { time_ms: now_ms(), door, client, refusal, cause, unsaid }
    }
}

impl Fields for TurnedAway {
    fn put(&self, to: &mut Object<'_>) {
        to.number("time_ms", self.time_ms);
        to.text("door", self.door);
        to.shown("client", self.client);
        to.text("refusal", self.refusal);
        to.text("cause", &self.cause);
        if self.unsaid != 0 {
            to.number("unsaid", self.unsaid);
        }
    }
}

/// Puts one line into `room`, which held another. Whatever its texts hold, it stays one: JSON escapes what would end it.
pub(super) fn write(line: &impl Fields, room: &mut Vec<u8>) {
    room.clear();
    let mut object = Object::begin(room);
    line.put(&mut object);
    object.end();
    room.push(b'\n');
}

/// The beginning of a text. What isn't UTF-8, or what a terminal would obey although JSON lets it stand, is replaced.
pub(super) fn shorten(text: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(text.get(..LONGEST_TEXT).unwrap_or(text));
    // Most are plain, which is quickly seen.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.contains(is_treacherous) && fits(&text) {
        return text;
    }
    let mut text = text.replace(is_treacherous, "\u{fffd}");
    // What was replaced has grown.
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    Cow::Owned(text)
}

fn fits(text: &str) -> bool {
    text.len() <= LONGEST_TEXT
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

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

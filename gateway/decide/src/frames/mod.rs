//! HTTP/2 floods: frames that cost a client nothing and a server much. The meter reads the headers of frames (RFC 9113
//! section 4.1) as they come in, and says when there are more than any honest client sends.
//!
//! It stands before the HTTP/2 library, which answers such frames one by one, and knows no rates.

mod allowance;

use std::time::Instant;

use allowance::Allowance;

/// What a client floods the gateway with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// Streams that are opened and reset at once: their requests are made for nobody (CVE-2023-44487).
    #[error("too many streams are reset")]
    Resets,
    /// A header block that has no end (CVE-2024-27316).
    #[error("a header block is too long")]
    HeaderBlock,
    /// Each is to be acknowledged (CVE-2019-9515).
    #[error("too many SETTINGS")]
    Settings,
    /// Each is to be answered (CVE-2019-9512).
    #[error("too many PINGs")]
    Pings,
    /// More than there is data to make room for.
    #[error("too many WINDOW_UPDATEs")]
    WindowUpdates,
    /// Frames without data that end nothing (CVE-2019-9518).
    #[error("too many empty DATA frames")]
    EmptyData,
    /// Priorities (CVE-2019-9513), and frames of unknown types.
    #[error("too many frames without a use")]
    Useless,
    /// Requests that are refused for what they are, as with a thousand cookies: each costs more to read than to send.
    #[error("too many bad requests")]
    BadRequests,
    /// A frame longer than we take.
    #[error("a frame is too long")]
    FrameSize,
}

impl Flood {
    /// The label in metrics.
    pub fn kind(self) -> &'static str {
        match self {
            Flood::Resets => "resets",
            Flood::HeaderBlock => "header_block",
            Flood::Settings => "settings",
            Flood::Pings => "pings",
            Flood::WindowUpdates => "window_updates",
            Flood::EmptyData => "empty_data",
            Flood::Useless => "useless",
            Flood::BadRequests => "bad_requests",
            Flood::FrameSize => "frame_size",
        }
    }
}

/// What may differ from gateway to gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Streams that a client may reset in a second, in the long run.
    pub resets_per_second: u32,
    /// The bytes of a header block on the wire, compressed. What is longer than the head may be, but not than this, is
    /// refused with an answer.
    pub header_block_bytes: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        // A proxy that multiplexes 10,000 requests a second over one connection, and gives up one in a hundred.
        Bounds { resets_per_second: 100, header_block_bytes: 256 << 10 }
    }
}

/// The start of every HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length of a frame's header.
const HEADER: usize = 9;
/// We announce no other `SETTINGS_MAX_FRAME_SIZE` than the least.
const LONGEST_FRAME: u32 = 16 << 10;
/// A full block needs five frames of the usual size; some clients cut smaller.
const CONTINUATIONS: u32 = 64;
/// A block of more than a frame is that of a head which is refused for its size, or which only cookies make so long: a
/// page's worth of those is no flood.
const LONG_BLOCK: u32 = LONGEST_FRAME;
/// Room to make for so many bytes that we sent is worth a WINDOW_UPDATE. The shortest frame with data in it has ten, and
/// some clients make room for each twice: for its stream, and for the connection.
const BYTES_PER_UPDATE: usize = 5;
/// Streams come with WINDOW_UPDATEs of their own (Firefox), for themselves and the connection, for an upload's end too.
const UPDATES_PER_STREAM: u32 = 4;
/// gRPC measures a connection's capacity: data that comes while no PING is under way is answered by one. So we send at
/// least this between two of them: the acknowledgement, of 17 bytes, and the shortest frame with data. Who sends nothing
/// but PINGs gets the acknowledgements only, and runs out.
const BYTES_PER_PING: u32 = 27;
/// Some libraries flush an empty frame before they know that the body ends.
const EMPTIES_PER_STREAM: u32 = 1;
/// Browsers change a stream's priority once it is known what it is for (RFC 9218 section 7).
const PRIORITIES_PER_STREAM: u32 = 2;

/// Meters what comes in on one connection. A connection that does not begin as HTTP/2 does is left alone.
#[derive(Debug)]
pub struct Meter {
    state: State,
    /// A frame came.
    framed: bool,
    bounds: Bounds,
    block: Block,
    /// Bytes sent that aren't worth a WINDOW_UPDATE yet.
    sent: usize,
    resets: Allowance,
    settings: Allowance,
    /// In bytes sent.
    pings: Allowance,
    updates: Allowance,
    empties: Allowance,
    useless: Allowance,
    long_blocks: Allowance,
    bad: Allowance,
}

#[derive(Debug)]
enum State {
    /// So much of the preface was seen.
    Preface(usize),
    /// So much of a frame's header was seen.
    Header([u8; HEADER], usize),
    /// So much of a frame is still to come.
    Payload(usize),
    /// It is not HTTP/2.
    Foreign,
}

/// A header block under way.
#[derive(Debug, Default)]
struct Block {
    continuations: u32,
    bytes: u32,
}

impl Meter {
    /// For a new connection.
    pub fn new(bounds: Bounds, now: Instant) -> Self {
        let allowance = |per_second, most| Allowance::new(per_second, most, now);
        Meter {
            state: State::Preface(0),
            framed: false,
            bounds,
            block: Block::default(),
            sent: 0,
            // Who leaves a page cancels all that it still loads, several times in a row.
            resets: allowance(bounds.resets_per_second, bounds.resets_per_second.saturating_mul(5)),
            // One at the start, an acknowledgement of ours; hardly ever another.
            settings: allowance(1, 20),
            // Keep-alives are seconds apart; those that measure earn their credit.
            pings: allowance(10 * BYTES_PER_PING, 100 * BYTES_PER_PING),
            updates: allowance(100, 10_000),
            empties: allowance(10, 200),
            useless: allowance(50, 500),
            long_blocks: allowance(100, 1_000),
            // A proxy in front of us passes on the mistakes of many.
            bad: allowance(10, 100),
        }
    }

    /// Reads on, and says if this is too much. After that it must not be asked again: what follows is of no worth.
    pub fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Foreign => return Ok(()),
                State::Payload(left) => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    if *left == 0 {
                        self.state = State::Header([0; HEADER], 0);
                    }
                    taken
                }
                State::Header(header, filled) => {
                    let taken = fill(header, filled, bytes);
                    if *filled == HEADER {
                        let frame = Frame::parse(*header);
                        self.framed = true;
                        self.judge(&frame, now)?;
                        self.state = frame.next();
                    }
                    taken
                }
                State::Preface(seen) => {
                    let taken = matching(PREFACE.get(*seen..).unwrap_or_default(), bytes);
                    *seen += taken;
                    if *seen == PREFACE.len() {
                        self.state = State::Header([0; HEADER], 0);
                    } else if taken < bytes.len() {
                        self.state = State::Foreign;
                    }
                    taken
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether the client has begun to speak HTTP/2: its preface came, and a frame (RFC 9113 section 3.4).
    pub fn has_begun(&self) -> bool {
        self.framed
    }

    /// So many bytes went out: what answers them is no flood.
    pub fn sent(&mut self, bytes: usize) {
        let whole = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        self.pings.grant(whole(bytes));
        self.sent = self.sent.saturating_add(bytes);
        self.updates.grant(whole(self.sent / BYTES_PER_UPDATE));
        self.sent %= BYTES_PER_UPDATE;
    }

    /// So many requests of the connection were refused for what they are.
    pub fn refused(&mut self, requests: u32, now: Instant) -> Result<(), Flood> {
        if self.bad.take(requests, now) { Ok(()) } else { Err(Flood::BadRequests) }
    }

    fn judge(&mut self, frame: &Frame, now: Instant) -> Result<(), Flood> {
        if frame.length > LONGEST_FRAME {
            return Err(Flood::FrameSize);
        }
        let (honest, flood) = match frame.kind {
            Kind::Data => (!frame.may_be_empty() || self.empties.take(1, now), Flood::EmptyData),
            Kind::Headers => {
                self.updates.grant(UPDATES_PER_STREAM);
                self.useless.grant(PRIORITIES_PER_STREAM);
                self.empties.grant(EMPTIES_PER_STREAM);
                self.block = Block { continuations: 0, bytes: frame.length };
                (true, Flood::HeaderBlock)
            }
            Kind::Continuation => (self.continues(frame.length, now), Flood::HeaderBlock),
            Kind::Reset => (self.resets.take(1, now), Flood::Resets),
            Kind::Settings => (self.settings.take(1, now), Flood::Settings),
            Kind::Ping => (self.pings.take(BYTES_PER_PING, now), Flood::Pings),
            Kind::WindowUpdate => (self.updates.take(1, now), Flood::WindowUpdates),
            Kind::Other => (self.useless.take(1, now), Flood::Useless),
        };
        if honest { Ok(()) } else { Err(flood) }
    }

    fn continues(&mut self, length: u32, now: Instant) -> bool {
        let before = self.block.bytes;
        self.block.continuations += 1;
        self.block.bytes = before.saturating_add(length);
        let becomes_long = before <= LONG_BLOCK && self.block.bytes > LONG_BLOCK;
        let bounded = self.block.continuations <= CONTINUATIONS && self.block.bytes <= self.bounds.header_block_bytes;
        bounded && (!becomes_long || self.long_blocks.take(1, now))
    }
}

/// The header of a frame (RFC 9113 section 4.1), as far as it matters here.
struct Frame {
    length: u32,
    kind: Kind,
    flags: u8,
}

/// The types that matter here (RFC 9113 section 6).
enum Kind {
    Data,
    Headers,
    Reset,
    Settings,
    Ping,
    WindowUpdate,
    Continuation,
    Other,
}

impl Frame {
    fn parse([high, middle, low, kind, flags, ..]: [u8; HEADER]) -> Self {
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::Reset,
            4 => Kind::Settings,
            6 => Kind::Ping,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        Frame { length: u32::from_be_bytes([0, high, middle, low]), kind, flags }
    }

    fn next(&self) -> State {
        match usize::try_from(self.length) {
            Ok(0) | Err(_) => State::Header([0; HEADER], 0),
            Ok(length) => State::Payload(length),
        }
    }

    /// A DATA frame that ends nothing and has no data, or so little that it may be all padding.
    fn may_be_empty(&self) -> bool {
        const END_STREAM: u8 = 0x1;
        const PADDED: u8 = 0x8;
        let longest_padding = if self.flags & PADDED != 0 { 256 } else { 0 };
        self.flags & END_STREAM == 0 && self.length <= longest_padding
    }
}

/// Copies what fits, and says how much.
fn fill(header: &mut [u8; HEADER], filled: &mut usize, bytes: &[u8]) -> usize {
    let mut taken = 0;
    for (to, from) in header.iter_mut().skip(*filled).zip(bytes) {
        *to = *from;
        taken += 1;
    }
    *filled += taken;
    taken
}

/// How many bytes are the same at the start.
fn matching(expected: &[u8], bytes: &[u8]) -> usize {
    expected.iter().zip(bytes).take_while(|(should, is)| should == is).count()
}

#[cfg(test)]
mod tests;

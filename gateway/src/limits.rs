//! How much of anything one client gets. The defaults stand here and nowhere else; each limit is a flag, and each time
//! one is hit it is counted under a name of its own.

use decide::frames::Bounds;
use decide::hygiene;

use crate::exchange::Door;

/// An origin gateway adds no more fields than this to a client's.
const ORIGIN_FIELDS: usize = 24;
/// And no more bytes.
const ORIGIN_BYTES: usize = 16 << 10;

/// The limits of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A request's head.
    pub head: hygiene::Limits,
    /// A request's body, in bytes; without a limit when absent: uploads are passed on, not kept.
    pub body_bytes: Option<u64>,
    /// Streams that a client may have open at once on one HTTP/2 connection.
    pub streams: u32,
    /// Streams that a client may reset in a second, in the long run, on one HTTP/2 connection.
    pub resets_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: hygiene::Limits::default(),
            body_bytes: None,
            // What browsers and load generators use, and what other proxies have.
            streams: 128,
            resets_per_second: Bounds::default().resets_per_second,
        }
    }
}

impl Limits {
    /// The bounds of frames that come in on an HTTP/2 connection.
    pub fn frames(&self) -> Bounds {
        Bounds { resets_per_second: self.resets_per_second, ..Bounds::default() }
    }

    /// The bounds of a request's head. What comes through a tunnel is as large as an origin gateway lets a client's be, and
    /// says what that one knows of it besides.
    pub fn head(&self, door: &Door) -> hygiene::Limits {
        match door {
            Door::Tunnel { .. } => hygiene::Limits {
                header_bytes: self.head.header_bytes.saturating_add(ORIGIN_BYTES),
                header_count: self.head.header_count.saturating_add(ORIGIN_FIELDS),
                ..self.head
            },
            Door::PublicHttp | Door::PublicHttps { .. } | Door::Mesh { .. } => self.head,
        }
    }

    /// Whether a body of so many bytes is allowed.
    pub fn allows_body(&self, bytes: u64) -> bool {
        self.body_bytes.is_none_or(|most| bytes <= most)
    }
}

//! What a request's attempt shows of the instance that it went to.

/// What an attempt showed. Only what the instance is to blame for: a client that broke off shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// No connection: refused, reset, or unreachable.
    Connect,
    /// No connection in time. One lost packet suffices for that.
    ConnectTimeout,
    /// The connection broke before an answer's head, or what came was none.
    Reset,
    /// No answer's head came in time, though the whole request was out.
    Timeout,
    /// An answer's head came, with this status.
    Status(u16),
    /// The answer broke off in its middle, or went on no more.
    Broken,
    /// The answer was read to its end.
    Whole,
}

/// A kind of failure. Each has a streak of its own: they have different causes, and one must not hide another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// [`Shown::Connect`].
    Connect,
    /// [`Shown::ConnectTimeout`].
    ConnectTimeout,
    /// [`Shown::Reset`].
    Reset,
    /// [`Shown::Timeout`].
    Timeout,
    /// [`Shown::Broken`].
    Broken,
    /// An answer of 502, 503 or 504: a server says that it cannot serve, or that what is behind it cannot.
    Unavailable,
    /// An answer of any other 5xx: the application failed at this request.
    Error,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 7] = [
        Fault::Connect,
        Fault::ConnectTimeout,
        Fault::Reset,
        Fault::Timeout,
        Fault::Broken,
        Fault::Unavailable,
        Fault::Error,
    ];

    /// One word for metrics. Stable.
    pub fn code(self) -> &'static str {
        match self {
            Fault::Connect => "connect",
            Fault::ConnectTimeout => "connect_timeout",
            Fault::Reset => "reset",
            Fault::Timeout => "timeout",
            Fault::Broken => "broken",
            Fault::Unavailable => "unavailable",
            Fault::Error => "error",
        }
    }

    /// So many in a row eject an instance for a while.
    ///
    /// - *Connects*: the first one ejects until the next good check. If a third follows the first two without an answer
    ///   in between, the check is no proof that requests are served, and a time must pass.
    /// - *Connects that time out*: one may be a lost packet; of three in a row each was.
    /// - *Timeouts*: each has cost a client 30 s; there is no time for more.
    /// - *Resets, broken answers, 502 to 504*: five in a row are no accident any more, and few enough to be retried.
    /// - *Other 5xx*: an application answers those for single requests that it has a fault with, and a client may send
    ///   just that request again and again. Twenty in a row without one good answer between them are something else.
    pub fn limit(self) -> u8 {
        match self {
            Fault::Connect | Fault::ConnectTimeout | Fault::Timeout => 3,
            Fault::Reset | Fault::Broken | Fault::Unavailable => 5,
            Fault::Error => 20,
        }
    }
}

impl Shown {
    /// The failure, if it is one.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Shown::Connect => Some(Fault::Connect),
            Shown::ConnectTimeout => Some(Fault::ConnectTimeout),
            Shown::Reset => Some(Fault::Reset),
            Shown::Timeout => Some(Fault::Timeout),
            Shown::Broken => Some(Fault::Broken),
            Shown::Status(502..=504) => Some(Fault::Unavailable),
            Shown::Status(500..) => Some(Fault::Error),
            Shown::Status(_) | Shown::Whole => None,
        }
    }
}

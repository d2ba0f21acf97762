//! The PROXY protocol, versions 1 and 2: what a proxy says of a connection before the connection's own first byte.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. Numbers of sections are those of that text.

mod checksum;
mod v1;
mod v2;

use std::net::SocketAddr;

pub use v2::write;

/// A header is no longer than this, in bytes, whatever its own length says.
pub const LONGEST: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Between whom the connection was made; nothing when the proxy speaks for itself (`LOCAL`), or doesn't know
    /// (`UNKNOWN`, a family other than IP): then the socket's own addresses count.
    pub addresses: Option<Addresses>,
    /// What else it says (section 2.2), in its order, the checksum left out. Always empty in version 1.
    pub extras: Vec<Extra>,
}

/// Between whom a connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Who opened it.
    pub source: SocketAddr,
    /// Where.
    pub destination: SocketAddr,
}

/// A value with its type (section 2.2: `PP2_TYPE_…`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// The type. 0xE0 to 0xEF are for private use.
    pub kind: u8,
    /// The value.
    pub value: Vec<u8>,
}

/// What stands at a connection's beginning is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Malformed {
    #[error("the connection does not begin with a PROXY header")]
    Absent,
    #[error("the PROXY header is longer than is allowed")]
    TooLong,
    #[error("the PROXY header's line is malformed")]
    Line,
    #[error("the PROXY header's version or command is unknown")]
    Command,
    #[error("the PROXY header's addresses are malformed")]
    Addresses,
    #[error("the PROXY header's extra values are malformed")]
    Extras,
    #[error("the PROXY header's checksum is wrong")]
    Checksum,
}

/// Reads the header at the beginning of `bytes`, and how long it is; nothing while its end is still to come. What
/// cannot become a header any more is known as soon as possible, so that nobody waits for the rest of it.
///
/// # Errors
/// When the bytes are no header.
pub fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let begins = |signature: &[u8]| signature.starts_with(bytes.get(..signature.len()).unwrap_or(bytes));
    match () {
        () if begins(v2::SIGNATURE) => v2::read(bytes),
        () if begins(v1::SIGNATURE) => v1::read(bytes),
        () => Err(Malformed::Absent),
    }
}

#[cfg(test)]
mod tests;

//! HTTPS between our own processes and from people's tools: one server loop, one client, and what they say.

pub mod client;
pub mod csr;
pub mod failures;
pub mod message;
mod peer;
pub mod server;
pub mod token;

pub use peer::{ClientCertificate, Peer, Remote, Stale};

/// What a client offers (RFC 7301): all of our clients speak HTTP/2.
pub const CLIENT_ALPN: &[&[u8]] = &[b"h2"];
/// What a server takes.
pub const SERVER_ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

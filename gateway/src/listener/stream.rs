//! A connection in the form in which HTTP is spoken on it: plain TCP, or TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::opening::Inbound;

/// An accepted connection, ready for HTTP.
#[derive(Debug)]
pub enum Connection {
    /// Without TLS.
    Plain {
        /// The connection.
        io: Inbound,
        /// Whether HTTP/2 is spoken on it by prior knowledge; else HTTP/1.
        http2: bool,
    },
    /// After its handshake.
    Tls(Box<TlsStream<Inbound>>),
}

impl Connection {
    /// What ALPN has chosen (RFC 7301), for metrics; `clear` where there was none to choose.
    pub fn protocol(&self) -> &'static str {
        match self {
            Connection::Plain { http2: true, .. } => "h2",
            Connection::Plain { http2: false, .. } => "clear",
            Connection::Tls(io) => match io.get_ref().1.alpn_protocol() {
                Some(b"h2") => "h2",
                Some(b"http/1.1") => "http/1.1",
                _ => "clear",
            },
        }
    }

    /// Whether HTTP/2 is spoken on it.
    pub fn is_http2(&self) -> bool {
        self.protocol() == "h2"
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain { io, .. } => Pin::new(io).poll_read(cx, buf),
            Connection::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain { io, .. } => Pin::new(io).poll_write(cx, buf),
            Connection::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain { io, .. } => Pin::new(io).poll_flush(cx),
            Connection::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain { io, .. } => Pin::new(io).poll_shutdown(cx),
            Connection::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain { io, .. } => Pin::new(io).poll_write_vectored(cx, bufs),
            Connection::Tls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

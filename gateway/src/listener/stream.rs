//! A connection in the form that pingora's HTTP sessions take: plain TCP, or TLS by rustls.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::ALPN;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::opening::Inbound;

/// An accepted connection, ready for HTTP.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    fd: i32,
    socket: Arc<SocketDigest>,
}

#[derive(Debug)]
enum Io {
    Plain { io: Inbound, http2: bool },
    Tls(Box<TlsStream<Inbound>>),
}

impl Connection {
    /// A connection without TLS, on which HTTP/2 is spoken by prior knowledge, or HTTP/1.
    pub fn plain(io: Inbound, http2: bool) -> Self {
        Connection::new(io.as_raw_fd(), Io::Plain { io, http2 })
    }

    /// A connection after its handshake.
    pub fn tls(io: Box<TlsStream<Inbound>>) -> Self {
        Connection::new(io.get_ref().0.as_raw_fd(), Io::Tls(io))
    }

    /// What ALPN has chosen (RFC 7301), for metrics; `clear` where there was none to choose.
    pub fn protocol(&self) -> &'static str {
        match self.selected_alpn_proto() {
            Some(ALPN::H2) => "h2",
            Some(_) => "http/1.1",
            None => "clear",
        }
    }

    fn new(fd: i32, io: Io) -> Self {
        Connection { io, fd, socket: Arc::new(SocketDigest::from_raw_fd(fd)) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain { io, .. } => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain { io, .. } => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain { io, .. } => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain { io, .. } => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain { io, .. } => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::trace!(%error, "a connection did not close cleanly");
        }
    }
}

impl UniqueID for Connection {
    fn id(&self) -> i32 {
        self.fd
    }
}

impl Ssl for Connection {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match &self.io {
            Io::Plain { http2, .. } => http2.then_some(ALPN::H2),
            Io::Tls(io) => match io.get_ref().1.alpn_protocol() {
                Some(b"h2") => Some(ALPN::H2),
                Some(b"http/1.1") => Some(ALPN::H1),
                _ => None,
            },
        }
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

impl Peek for Connection {}

//! How instances are spoken to: in plain text, or by mutual TLS. Never one for want of the other.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use identity::Refusal;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::CallError;
use super::pool::{CONNECT_TIMEOUT, connect};

/// The first number that is free for mutual TLS: those below are of plain text, and of what isn't spoken at all.
pub const FIRST_NUMBER: u64 = 2;

/// How an instance is spoken to.
#[derive(Clone)]
pub enum Security {
    /// In plain text.
    Plain,
    /// By mutual TLS.
    Mutual(Arc<MutualTls>),
    /// By mutual TLS, for which this gateway has no identity yet: not at all.
    Missing,
}

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever the two ends of a stream speak.
    Stream,
}

/// For dialling the instances of one service in one namespace: in whose name, and whom they must prove to be.
pub struct MutualTls {
    number: u64,
    name: ServerName<'static>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    stream: Arc<ClientConfig>,
}

impl MutualTls {
    /// Of these configurations, each with its own ALPN; `name` is what instances see as the name that is dialled. No other
    /// has the number.
    pub fn new(number: u64, name: ServerName<'static>, [http1, http2, stream]: [ClientConfig; 3]) -> Self {
        MutualTls { number, name, http1: Arc::new(http1), http2: Arc::new(http2), stream: Arc::new(stream) }
    }

    fn config(&self, inside: Inside) -> Arc<ClientConfig> {
        match inside {
            Inside::Http1 => self.http1.clone(),
            Inside::Http2 => self.http2.clone(),
            Inside::Stream => self.stream.clone(),
        }
    }
}

impl Security {
    /// Connections may be shared only where this is the same: in another identity, or to whom other roots vouch for, a
    /// connection is another.
    pub fn number(&self) -> u64 {
        match self {
            Security::Plain => 0,
            Security::Missing => 1,
            Security::Mutual(tls) => tls.number,
        }
    }

    /// Whether it is mutual TLS, or would be.
    pub fn is_mutual(&self) -> bool {
        !matches!(self, Security::Plain)
    }

    /// Opens a connection to an instance, and proves who both are.
    pub async fn open(&self, address: SocketAddr, inside: Inside) -> Result<Wire, CallError> {
        let tls = match self {
            Security::Plain => return Ok(Wire::Plain(connect(address).await?)),
            Security::Mutual(tls) => tls,
            Security::Missing => {
                return Err(CallError::NotSent("this gateway has no identity in the GNS yet".to_owned()));
            }
        };
        let tcp = connect(address).await?;
        let shaking = TlsConnector::from(tls.config(inside)).connect(tls.name.clone(), tcp);
        match timeout(CONNECT_TIMEOUT, shaking).await {
            Ok(Ok(stream)) => Ok(Wire::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(CallError::Unreachable(unproven(&error))),
            Err(_) => Err(CallError::Slow(format!("no handshake within {CONNECT_TIMEOUT:?}"))),
        }
    }
}

/// Why a handshake failed, as this side knows it.
fn unproven(error: &io::Error) -> String {
    match Refusal::in_handshake(error) {
        Some(refusal) => format!("it is not who it should be: {refusal}"),
        None => format!("the handshake failed: {error}"),
    }
}

/// A connection to an instance.
pub enum Wire {
    /// In plain text.
    Plain(TcpStream),
    /// By mutual TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// What it runs on.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Plain(tcp) => tcp,
            Wire::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

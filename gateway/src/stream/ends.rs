//! The two ends of a stream: plain sockets, and TLS.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use super::attempt::Connected;
use crate::listener::opening::Inbound;
use crate::refusal::Refusal;
use crate::tunnel::stream::Verdict;
use crate::upstream::secure::Wire;

/// The kernel asks a silent far end for signs of life after so long, then at this interval.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// See [`KEEP_ALIVE`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// An end of a stream.
pub(super) trait End: AsyncRead + AsyncWrite + Unpin + Send {
    /// The stream begins: until [`End::ends_well`], whatever closes this end shows its far side that the stream was broken
    /// off, and did not end.
    fn begins(&self) -> io::Result<()>;

    /// The stream has ended in both directions.
    fn ends_well(&self) -> io::Result<()>;

    /// The socket, where its bytes are the stream's own.
    fn bare(&self) -> Option<&TcpStream> {
        None
    }

    /// What was read of the socket already, and is still to be carried.
    fn take_ahead(&mut self) -> Bytes {
        Bytes::new()
    }
}

/// The end that asked for the stream.
pub(super) trait Client: End {
    /// It is told whether it gets the stream, where it can be told.
    fn answer(&mut self, connected: &Result<Connected, Refusal>) -> impl Future<Output = io::Result<()>> + Send;
}

impl Client for Inbound {
    /// What is not carried is closed with a reset, so that nobody takes it for an empty answer.
    async fn answer(&mut self, connected: &Result<Connected, Refusal>) -> io::Result<()> {
        if connected.is_err() { break_off(self) } else { Ok(()) }
    }
}

impl Client for server::TlsStream<Inbound> {
    async fn answer(&mut self, connected: &Result<Connected, Refusal>) -> io::Result<()> {
        match connected {
            Ok(connected) => Verdict::Accepted(connected.served_by.clone()).send(self).await,
            Err(refusal) => {
                Verdict::Refused(refusal.code().to_owned()).send(self).await?;
                self.shutdown().await
            }
        }
    }
}

/// A workload that speaks TLS with the gateway. What it is told is the stream itself, and nothing else.
pub(super) struct Workload(pub(super) Box<server::TlsStream<Inbound>>);

impl Client for Workload {
    /// As without TLS: with a reset.
    async fn answer(&mut self, connected: &Result<Connected, Refusal>) -> io::Result<()> {
        if connected.is_err() { break_off(self.0.get_ref().0) } else { Ok(()) }
    }
}

/// TLS says itself whether a stream has ended (RFC 8446 section 6.1).
impl End for Workload {
    fn begins(&self) -> io::Result<()> {
        keep_alive(self.0.get_ref().0)
    }

    fn ends_well(&self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Workload {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Workload {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.0.as_mut()).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_shutdown(cx)
    }
}

impl End for Inbound {
    fn begins(&self) -> io::Result<()> {
        keep_alive(self)?;
        break_off(self)
    }

    fn ends_well(&self) -> io::Result<()> {
        close(self)
    }

    fn bare(&self) -> Option<&TcpStream> {
        Inbound::bare(self)
    }

    fn take_ahead(&mut self) -> Bytes {
        Inbound::take_ahead(self)
    }
}

impl End for Wire {
    fn begins(&self) -> io::Result<()> {
        keep_alive(self.tcp())?;
        match self {
            Wire::Plain(tcp) => break_off(tcp),
            // TLS says itself whether a stream has ended (RFC 8446 section 6.1).
            Wire::Tls(_) => Ok(()),
        }
    }

    fn ends_well(&self) -> io::Result<()> {
        match self {
            Wire::Plain(tcp) => close(tcp),
            Wire::Tls(_) => Ok(()),
        }
    }

    fn bare(&self) -> Option<&TcpStream> {
        match self {
            Wire::Plain(tcp) => Some(tcp),
            Wire::Tls(_) => None,
        }
    }
}

/// TLS says itself whether a stream has ended (RFC 8446 section 6.1).
impl End for server::TlsStream<Inbound> {
    fn begins(&self) -> io::Result<()> {
        keep_alive(self.get_ref().0)
    }

    fn ends_well(&self) -> io::Result<()> {
        Ok(())
    }
}

/// TLS says itself whether a stream has ended (RFC 8446 section 6.1).
impl End for client::TlsStream<TcpStream> {
    fn begins(&self) -> io::Result<()> {
        keep_alive(self.get_ref().0)
    }

    fn ends_well(&self) -> io::Result<()> {
        Ok(())
    }
}

fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE_INTERVAL);
    SockRef::from(socket).set_tcp_keepalive(&keep_alive)
}

/// From now on closing the socket resets its connection (socket(7), `SO_LINGER`).
fn break_off(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// From now on closing the socket ends its connection.
fn close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(None)
}

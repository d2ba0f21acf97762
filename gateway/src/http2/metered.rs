//! A connection whose incoming frames are metered, before the HTTP/2 library works for them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use decide::frames::{Flood, Meter};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the other side of a connection behaves.
#[derive(Debug, Default)]
pub struct Conduct {
    begun: AtomicBool,
    /// Requests that were refused for what they are, since the meter last asked.
    offences: AtomicU32,
    flood: OnceLock<Flood>,
}

impl Conduct {
    /// It speaks HTTP/2.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// One more request was refused for what it is.
    pub fn offend(&self) {
        self.offences.fetch_add(1, Ordering::Relaxed);
    }

    fn take_offences(&self) -> u32 {
        match self.offences.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.offences.swap(0, Ordering::Relaxed),
        }
    }

    /// What it floods the gateway with, if it does. Nothing that it sent after that is read.
    pub fn flood(&self) -> Option<Flood> {
        self.flood.get().copied()
    }
}

/// A connection. What is written earns what is read a credit.
pub struct Metered<IO> {
    io: IO,
    /// Peer gateways have none: each is one of us.
    meter: Option<Meter>,
    conduct: Arc<Conduct>,
}

impl<IO> Metered<IO> {
    /// Meters a connection, and tells what it sees. What does not begin as HTTP/2 is let through.
    pub fn new(io: IO, meter: Option<Meter>, conduct: Arc<Conduct>) -> Self {
        Metered { io, meter, conduct }
    }

    fn judge(&mut self, came: &[u8]) -> Result<(), Flood> {
        let Some(meter) = &mut self.meter else { return Ok(()) };
        let now = Instant::now();
        meter.read(came, now)?;
        if meter.has_begun() {
            self.conduct.begin();
        }
        meter.refused(self.conduct.take_offences(), now)
    }

    fn counted(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(bytes)), Some(meter)) = (&written, &mut self.meter) {
            meter.sent(*bytes);
        }
        written
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    /// Nothing comes any more after a flood: whoever drives the connection looks at [`Conduct::flood`] then, and can still
    /// say why it ends.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conduct.flood().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let Err(flood) = this.judge(buf.filled().get(before..).unwrap_or_default()) else {
            return Poll::Ready(Ok(()));
        };
        // The library must not see what came with it.
        buf.set_filled(before);
        this.conduct.flood.get_or_init(|| flood);
        Poll::Pending
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.counted(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.counted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

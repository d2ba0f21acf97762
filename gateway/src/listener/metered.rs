//! A connection whose incoming HTTP/2 frames are metered: a flood makes it fail, before the HTTP/2 library works for it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use decide::frames::{Flood, Meter};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::ALPN;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::stream::Connection;
use crate::exchange::Entry;
use crate::runtime::Core;

/// The requests of one connection that were refused for what they are, since it was last asked.
#[derive(Debug, Default)]
pub struct Offences(AtomicU32);

impl Offences {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> u32 {
        match self.0.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.0.swap(0, Ordering::Relaxed),
        }
    }
}

/// A client's connection. What is written earns what is read a credit.
pub struct Metered {
    io: Connection,
    meter: Meter,
    offences: Arc<Offences>,
    /// To be cancelled when the client has begun to speak HTTP/2.
    begun: Option<CancellationToken>,
    core: Arc<Core>,
    entry: Entry,
}

impl Metered {
    /// Meters a connection of a client, and cancels `begun` once it speaks HTTP/2. What does not begin so is let through.
    pub fn new(
        io: Connection,
        core: Arc<Core>,
        entry: Entry,
        offences: Arc<Offences>,
        begun: CancellationToken,
    ) -> Self {
        let meter = Meter::new(core.settings.limits.frames(), Instant::now());
        Metered { io, meter, offences, begun: Some(begun), core, entry }
    }

    fn judge(&mut self, came: &[u8]) -> Result<(), Flood> {
        let now = Instant::now();
        self.meter.read(came, now)?;
        if self.meter.has_begun()
            && let Some(begun) = self.begun.take()
        {
            begun.cancel();
        }
        self.meter.refused(self.offences.take(), now)
    }

    fn counted(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.meter.sent(bytes);
        }
        written
    }
}

impl std::fmt::Debug for Metered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Metered").field(&self.io).finish()
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if !matches!(polled, Poll::Ready(Ok(()))) {
            return polled;
        }
        let came = buf.filled().get(before..).unwrap_or_default();
        if let Err(flood) = this.judge(came) {
            this.core.metrics.flooded(flood.kind());
            this.core.log.turned_away(this.entry.door.as_str(), this.entry.client, "http2_flood", &flood);
            // The library must not see what came with it.
            buf.set_filled(before);
            return Poll::Ready(Err(io::Error::other(flood)));
        }
        polled
    }
}

impl AsyncWrite for Metered {
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

#[async_trait]
impl Shutdown for Metered {
    async fn shutdown(&mut self) {
        self.io.shutdown().await;
    }
}

impl UniqueID for Metered {
    fn id(&self) -> i32 {
        self.io.id()
    }
}

impl Ssl for Metered {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.selected_alpn_proto()
    }
}

impl GetTimingDigest for Metered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.get_timing_digest()
    }
}

impl GetProxyDigest for Metered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io.get_proxy_digest()
    }
}

impl GetSocketDigest for Metered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.get_socket_digest()
    }
}

impl Peek for Metered {}

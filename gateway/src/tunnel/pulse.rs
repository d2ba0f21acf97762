//! Whether a tunnel's far end lives: it was heard lately, if only to answer a ping.
//!
//! Reports can't tell: they share the tunnel's window (RFC 9113 section 5.2) with answers that nobody reads. Pings are
//! under no flow control.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, sleep_until};

use super::report::{BEAT, SILENCE};

/// A process that was itself stopped finds what its peers sent meanwhile within this time.
const CATCH_UP: Duration = Duration::from_millis(50);

/// When the far end was last heard.
#[derive(Debug, Clone)]
pub struct Pulse {
    began: Instant,
    /// In milliseconds after `began`.
    heard: Arc<AtomicU64>,
}

impl Pulse {
    /// Heard just now.
    pub fn start() -> Self {
        Pulse { began: Instant::now(), heard: Arc::default() }
    }

    fn beat(&self) {
        let after = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(after, Ordering::Relaxed);
    }

    fn deadline(&self) -> Instant {
        self.began + Duration::from_millis(self.heard.load(Ordering::Relaxed)) + SILENCE
    }

    /// Asks the far end for signs of life, and comes back once nothing was heard for [`SILENCE`].
    pub async fn stopped(&self, pings: Option<PingPong>) {
        let asking = async {
            if let Some(mut pings) = pings {
                // They fail only when the connection has ended, which others see.
                while pings.ping(Ping::opaque()).await.is_ok() {
                    sleep(BEAT).await;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            () = asking => {}
            () = self.silence() => {}
        }
    }

    async fn silence(&self) {
        while Instant::now() < self.deadline() {
            sleep_until(self.deadline()).await;
            sleep(CATCH_UP).await;
        }
    }
}

/// A connection whose every read is a sign of life.
#[derive(Debug)]
pub struct Heard<Io> {
    io: Io,
    pulse: Pulse,
}

impl<Io> Heard<Io> {
    /// Tells the pulse of what is read.
    pub fn new(io: Io, pulse: Pulse) -> Self {
        Heard { io, pulse }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Heard<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.pulse.beat();
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Heard<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

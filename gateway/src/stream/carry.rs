//! A stream's bytes, in both directions until both have ended. Each end is read only as fast as the other takes it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::ends::{Client, End};
use crate::record::Record;
use crate::refusal::Refusal;

/// So much is held in each direction, in bytes, beside what the kernel holds.
const BUFFER: usize = 16 * 1024;

/// A stream on which nothing moves for so long is cut: in this time, or up to one [`LOOK`] later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// From one look for movement to the next.
const LOOK: Duration = Duration::from_secs(60);

/// Carries a stream to its end. When this is dropped before, or fails, both far sides see that it was broken off.
pub(super) async fn carry<C: Client, U: End>(client: C, upstream: U, record: &mut Record) -> Result<(), Refusal> {
    let (up, down) = (Side::default(), Side::default());
    client.begins().map_err(|_| Refusal::ClientGone)?;
    upstream.begins().map_err(|_| Refusal::InstanceReset)?;
    let (mut client, mut upstream) = (Watched { io: client, side: &up }, Watched { io: upstream, side: &down });
    let ended = tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => match copied {
            Ok(_) => Ok(()),
            Err(_) if up.broke.load(Ordering::Relaxed) => Err(Refusal::ClientGone),
            Err(_) => Err(Refusal::InstanceReset),
        },
        () = idle(&up, &down) => Err(Refusal::StreamIdle),
    };
    record.bytes_in(up.bytes());
    record.bytes_out(down.bytes());
    if ended.is_ok() {
        for end in [client.io.ends_well(), upstream.io.ends_well()] {
            end.unwrap_or_else(|error| tracing::debug!(%error, "a stream's end will look like a break"));
        }
    }
    ended
}

async fn idle(up: &Side, down: &Side) {
    let (mut moved, mut quiet) = (0, Duration::ZERO);
    while quiet < IDLE_TIMEOUT {
        tokio::time::sleep(LOOK).await;
        let now = up.bytes.load(Ordering::Relaxed).wrapping_add(down.bytes.load(Ordering::Relaxed));
        quiet = if now == moved { quiet + LOOK } else { Duration::ZERO };
        moved = now;
    }
}

/// What is known of one end.
#[derive(Default)]
struct Side {
    /// Read from it so far.
    bytes: AtomicU64,
    /// Whether it broke.
    broke: AtomicBool,
}

impl Side {
    fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    fn seen<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() {
            self.broke.store(true, Ordering::Relaxed);
        }
        done
    }
}

/// An end whose bytes are counted, and whose breaking is noted.
struct Watched<'s, Io> {
    io: Io,
    side: &'s Side,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<'_, Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let more = buf.filled().len() - before;
        self.side.bytes.fetch_add(more as u64, Ordering::Relaxed);
        Poll::Ready(self.side.seen(read))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<'_, Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.side.seen(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        Poll::Ready(self.side.seen(flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        Poll::Ready(self.side.seen(shut))
    }
}

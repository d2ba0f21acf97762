//! A stream's bytes, in both directions until both have ended. Each end is read only as fast as the other takes it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::ends::{Client, End};
use super::pipe::Pipes;
use super::plain::{self, Plain};
use crate::record::Record;
use crate::refusal::Refusal;

/// So much is held in each direction, in bytes, beside what the kernel holds.
pub(super) const BUFFER: usize = 16 * 1024;

/// A stream on which nothing moves for so long is cut: in this time, or up to one [`LOOK`] later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// From one look for movement to the next.
const LOOK: Duration = Duration::from_secs(60);

/// Carries a stream to its end. When this is dropped before, or fails, both far sides see that it was broken off.
pub(super) async fn carry<C: Client, U: End>(
    mut client: C,
    mut upstream: U,
    pipes: &Pipes,
    record: &mut Record,
) -> Result<(), Refusal> {
    let (up, down) = (Side::default(), Side::default());
    client.begins().map_err(|_| Refusal::ClientGone)?;
    upstream.begins().map_err(|_| Refusal::InstanceReset)?;
    let ended = tokio::select! {
        moved = pass(&mut client, &mut upstream, [&up, &down], pipes) => match moved {
            Ok(()) => Ok(()),
            Err(_) if up.has_broken() => Err(Refusal::ClientGone),
            Err(_) => Err(Refusal::InstanceReset),
        },
        () = idle(&up, &down) => Err(Refusal::StreamIdle),
    };
    record.bytes_in(up.bytes());
    record.bytes_out(down.bytes());
    if ended.is_ok() {
        for end in [client.ends_well(), upstream.ends_well()] {
            end.unwrap_or_else(|error| tracing::debug!(%error, "a stream's end will look like a break"));
        }
    }
    ended
}

/// Moves all bytes: of plain sockets by [`plain`], others by copying.
async fn pass(client: &mut impl End, upstream: &mut impl End, [up, down]: [&Side; 2], pipes: &Pipes) -> io::Result<()> {
    let ahead = if client.bare().and(upstream.bare()).is_some() { client.take_ahead() } else { Bytes::new() };
    if let (Some(client), Some(upstream)) = (client.bare(), upstream.bare()) {
        up.add(ahead.len());
        let (client, upstream) = (Plain { tcp: client, side: up }, Plain { tcp: upstream, side: down });
        return plain::between(client, upstream, ahead, pipes).await;
    }
    let (mut client, mut upstream) = (Watched { io: client, side: up }, Watched { io: upstream, side: down });
    copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await.map(|_| ())
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
pub(super) struct Side {
    /// Read from it so far.
    bytes: AtomicU64,
    /// Whether it broke.
    broke: AtomicBool,
}

impl Side {
    /// How many bytes were read from it.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Whether it was this end that broke.
    pub(super) fn has_broken(&self) -> bool {
        self.broke.load(Ordering::Relaxed)
    }

    /// More bytes were read from it.
    pub(super) fn add(&self, read: usize) {
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
    }

    /// What was done with it, noted when that shows that it broke.
    pub(super) fn seen<T>(&self, done: io::Result<T>) -> io::Result<T> {
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
        self.side.add(buf.filled().len() - before);
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

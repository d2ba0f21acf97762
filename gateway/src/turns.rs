//! How a connection that many requests share is driven: after everybody who has something for it, and then all at once.
//!
//! Each request that sends a frame wakes the task that writes it. Run at once, that task would write one frame in one TLS
//! record and one call to the kernel, and the next request's again; and the HTTP/2 library writes each part of a body by
//! itself. [`Turns`] let it run last, and what it writes meanwhile goes out together.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

/// So many bytes are gathered at the most: two TLS records.
const MOST: usize = 32 * 1024;

thread_local! {
    /// Memory for what is gathered: nearly always all of it is written at the end of a turn, and the next connection
    /// takes it.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Splits a connection into what an HTTP/2 connection reads from and writes to, and the turns in which that is driven.
/// Outside of a turn, bytes go through as they come.
pub fn in_turns<IO>(io: IO) -> (Gathering<IO>, Turns<IO>) {
    let wire = Arc::new(Mutex::new(Wire { io, waiting: Vec::new(), written: 0, gathers: false, fault: None }));
    (Gathering(wire.clone()), Turns { wire, rested: false })
}

/// The turns of one connection.
pub struct Turns<IO> {
    wire: Arc<Mutex<Wire<IO>>>,
    /// It had nothing to do when it was last asked: whoever wakes it may not be the only one.
    rested: bool,
}

impl<IO: AsyncWrite + Unpin> Turns<IO> {
    /// Polls the connection: when it was woken, not before all other tasks that are ready now. What it writes is sent when
    /// it has nothing more to do.
    pub fn poll<T>(&mut self, cx: &mut Context<'_>, connection: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        if self.rested {
            self.rested = false;
            // Its first poll always gives way, and wakes this task when its turn has come.
            if pin!(yield_now()).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        lock(&self.wire).gathers = true;
        let polled = connection(cx);
        self.rested = polled.is_pending();
        let mut wire = lock(&self.wire);
        wire.gathers = false;
        if self.rested {
            wire.finish(cx);
        }
        polled
    }
}

/// A connection as HTTP/2 sees it.
pub struct Gathering<IO>(Arc<Mutex<Wire<IO>>>);

struct Wire<IO> {
    io: IO,
    waiting: Vec<u8>,
    /// So many of them are already written.
    written: usize,
    /// Nothing is written yet unless it has to be.
    gathers: bool,
    /// What went wrong after a turn: the next read or write says so.
    fault: Option<io::Error>,
}

fn lock<IO>(wire: &Mutex<Wire<IO>>) -> MutexGuard<'_, Wire<IO>> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<IO: AsyncWrite + Unpin> Wire<IO> {
    /// Writes what was gathered, or as much as goes.
    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            self.fault = Some(error);
            cx.waker().wake_by_ref();
        }
    }

    fn gather(&mut self, parts: &[IoSlice<'_>]) -> usize {
        if self.waiting.capacity() == 0 {
            self.waiting = SPARE.take();
        }
        parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
        length(parts)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        if !self.waiting.is_empty() {
            self.written = 0;
            self.waiting.clear();
            SPARE.set(std::mem::take(&mut self.waiting));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Err(fault));
        }
        let fits = self.waiting.len() - self.written + length(parts) <= MOST;
        if self.gathers && fits {
            return Poll::Ready(Ok(self.gather(parts)));
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }
}

fn length(parts: &[IoSlice<'_>]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gathering<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *lock(&self.0);
        if let Some(fault) = wire.fault.take() {
            return Poll::Ready(Err(fault));
        }
        Pin::new(&mut wire.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gathering<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The end of the turn does it.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.0);
        if wire.gathers { Poll::Ready(Ok(())) } else { wire.poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *lock(&self.0);
        ready!(wire.poll_flush(cx))?;
        Pin::new(&mut wire.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

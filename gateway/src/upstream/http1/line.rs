//! A connection's bytes, both ways, for the two halves of a call.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

/// A connection to an instance. Closed once nobody has it any more. Both halves of a call are polled by one task, so
/// that neither waits for the other's lock.
#[derive(Clone)]
pub struct Line(Arc<Mutex<Open>>);

struct Open {
    tcp: TcpStream,
    /// Whether something of the call went out.
    spoken: bool,
}

impl Line {
    /// A connection that was just opened.
    pub fn new(tcp: TcpStream) -> Self {
        Line(Arc::new(Mutex::new(Open { tcp, spoken: false })))
    }

    /// Another call begins, of which nothing went out yet.
    pub fn begin(&self) {
        self.open().spoken = false;
    }

    /// Whether something of the call went out.
    pub fn has_spoken(&self) -> bool {
        self.open().spoken
    }

    /// Whether the far end has neither closed it nor sent what nobody asked for.
    pub fn is_silent(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.open().tcp.poll_read_ready(&mut context).is_pending()
    }

    /// Takes about so many more bytes; returns how many, which is none at the end.
    pub fn poll_fill(&self, input: &mut BytesMut, room: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut open = self.open();
        // Whoever waits needs no room yet.
        ready!(open.tcp.poll_read_ready(context))?;
        if input.capacity() - input.len() < room / 2 {
            input.reserve(room);
        }
        pin!(open.tcp.read_buf(input)).poll(context)
    }

    /// Sends all of it. What was sent is gone from it, also when the rest must wait.
    pub fn poll_send(&self, from: &mut impl Buf, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut open = self.open();
        while from.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = from.chunks_vectored(&mut slices);
            let slices = slices.get(..filled).unwrap_or_default();
            match ready!(Pin::new(&mut open.tcp).poll_write_vectored(context, slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => from.advance(sent),
            }
            open.spoken = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be sent.
    pub fn end(&self) -> io::Result<()> {
        SockRef::from(&self.open().tcp).shutdown(Shutdown::Write)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A connection's bytes, both ways, for the two halves of a call.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::upstream::secure::Wire;
use crate::workers::Number;

/// A connection to an instance. Closed once nobody has it any more. Both halves of a call are polled by one task, so
/// that neither waits for the other's lock.
#[derive(Clone)]
pub struct Line {
    open: Arc<Mutex<Open>>,
    worker: Number,
}

struct Open {
    wire: Wire,
    /// Whether something of the call went out.
    spoken: bool,
    /// Whether TLS may still hold something back that was sent.
    held_back: bool,
}

impl Line {
    /// A connection that the calling worker has just opened.
    pub fn new(wire: Wire) -> Self {
        let open = Arc::new(Mutex::new(Open { wire, spoken: false, held_back: false }));
        Line { open, worker: Number::here() }
    }

    /// Who is told first when something comes.
    pub fn worker(&self) -> Number {
        self.worker
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
        match &mut self.open().wire {
            Wire::Plain(tcp) => tcp.poll_read_ready(&mut context).is_pending(),
            // TLS itself may have something to say, such as a ticket: only what is inside counts.
            Wire::Tls(tls) => {
                let mut one = [0];
                Pin::new(tls.as_mut()).poll_read(&mut context, &mut ReadBuf::new(&mut one)).is_pending()
            }
        }
    }

    /// Takes about so many more bytes; returns how many, which is none at the end.
    pub fn poll_fill(&self, input: &mut BytesMut, room: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut open = self.open();
        open.let_go(context)?;
        if let Wire::Plain(tcp) = &open.wire {
            // Whoever waits needs no room yet.
            ready!(tcp.poll_read_ready(context))?;
        }
        if input.capacity() - input.len() < room / 2 {
            input.reserve(room);
        }
        pin!(open.wire.read_buf(input)).poll(context)
    }

    /// Sends all of it. What was sent is gone from it, also when the rest must wait.
    pub fn poll_send(&self, from: &mut impl Buf, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut open = self.open();
        while from.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = from.chunks_vectored(&mut slices);
            let slices = slices.get(..filled).unwrap_or_default();
            match ready!(Pin::new(&mut open.wire).poll_write_vectored(context, slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => from.advance(sent),
            }
            open.spoken = true;
            open.held_back = matches!(open.wire, Wire::Tls(_));
        }
        // Who reads the answer sends on what is held back: nobody has to wait for it here.
        Poll::Ready(open.let_go(context))
    }

    /// Says that nothing more will be sent.
    pub fn poll_end(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.open().wire {
            Wire::Plain(tcp) => Poll::Ready(SockRef::from(&*tcp).shutdown(Shutdown::Write)),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(context),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Sends what is held back, as far as the socket takes it now.
    fn let_go(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.held_back
            && let Poll::Ready(done) = Pin::new(&mut self.wire).poll_flush(context)
        {
            self.held_back = false;
            return done;
        }
        Ok(())
    }
}

//! A connection's bytes, both ways. It holds room only while there is something to hold.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::exchange::Gone;

/// A client that takes nothing of its answer for so long is gone.
const STALLED: Duration = Duration::from_secs(60);
/// So long, and so many bytes, what the client still sends is read before its connection is closed: bytes that nobody
/// read would make the kernel reset it, and take the answer from the client (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// See [`LINGER`].
const LINGER_BYTES: usize = 256 * 1024;
/// A lingering connection is read in pieces of so many bytes.
const LINGER_ROOM: usize = 4 * 1024;

/// What is no longer than this, in bytes, is read into room of its own size.
const LITTLE: usize = 4 * 1024;

/// One connection.
pub struct Wire<IO> {
    io: IO,
    /// What came and was not used yet.
    pub input: BytesMut,
    /// What goes out before anything else does.
    pub output: BytesMut,
    unflushed: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Wire<IO> {
    /// A connection of which nothing was read yet.
    pub fn new(io: IO) -> Self {
        Wire { io, input: BytesMut::new(), output: BytesMut::new(), unflushed: false }
    }

    /// Waits for more input and takes about so many bytes of it; returns how many, which is none at the end. May be
    /// dropped and called again.
    pub async fn fill(&mut self, room: usize) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(room, context)).await
    }

    fn poll_fill(&mut self, room: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if room <= LITTLE {
            return self.poll_fill_little(context);
        }
        if self.input.capacity() - self.input.len() < room / 2 {
            self.input.reserve(room);
        }
        let polled = pin!(self.io.read_buf(&mut self.input)).poll(context);
        self.let_go(polled.is_pending());
        polled
    }

    /// Most heads are small, and most looks for more find nothing: neither needs room before it is known what came.
    fn poll_fill_little(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [const { MaybeUninit::uninit() }; LITTLE];
        let mut read = ReadBuf::uninit(&mut room);
        let polled = Pin::new(&mut self.io).poll_read(context, &mut read);
        self.input.extend_from_slice(read.filled());
        self.let_go(polled.is_pending());
        polled.map_ok(|()| read.filled().len())
    }

    /// Who waits with nothing holds nothing.
    fn let_go(&mut self, waits: bool) {
        if waits && self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Sends the output, then what is given, and waits while the client is slow. Must not be dropped halfway, if the
    /// connection is to be used on.
    pub async fn send(&mut self, mut more: impl Buf + Send) -> Result<(), Gone> {
        while self.output.has_remaining() || more.has_remaining() {
            let Wire { io, output, .. } = self;
            let mut all = output.chain(&mut more);
            let sent = within(STALLED, poll_fn(|context| poll_send(Pin::new(&mut *io), &mut all, context))).await;
            if !matches!(sent, Some(Ok(1..))) {
                return Err(Gone);
            }
            self.unflushed = true;
        }
        self.output = BytesMut::new();
        if self.unflushed {
            within(STALLED, self.io.flush()).await.ok_or(Gone)?.map_err(|_| Gone)?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Sends the output. May be dropped and called again.
    pub async fn flush(&mut self) -> Result<(), Gone> {
        self.send(Bytes::new()).await
    }

    /// Says that nothing more will be sent.
    pub async fn end(&mut self) -> Result<(), Gone> {
        timeout(STALLED, self.io.shutdown()).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Ends the connection so that the client gets all that was sent.
    pub async fn linger(mut self) {
        let mut rest = LINGER_BYTES;
        let ended = async {
            self.end().await?;
            while rest > 0 {
                self.input.clear();
                match self.fill(LINGER_ROOM).await {
                    Ok(read @ 1..) => rest = rest.saturating_sub(read),
                    Ok(0) | Err(_) => break,
                }
            }
            Ok::<(), Gone>(())
        };
        if !matches!(timeout(LINGER, ended).await, Ok(Ok(()))) {
            tracing::trace!("a client went on after its connection's end");
        }
    }
}

/// As `timeout`, but without a look at the clock for what is done at once.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let now = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
    match now {
        Poll::Ready(done) => Some(done),
        Poll::Pending => timeout(limit, future).await.ok(),
    }
}

fn poll_send<IO: AsyncWrite>(
    io: Pin<&mut IO>,
    from: &mut impl Buf,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); 4];
    let filled = from.chunks_vectored(&mut slices);
    let sent = ready!(io.poll_write_vectored(context, slices.get(..filled).unwrap_or_default()))?;
    from.advance(sent);
    Poll::Ready(Ok(sent))
}

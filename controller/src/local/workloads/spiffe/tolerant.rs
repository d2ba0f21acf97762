//! A connection of which the HTTP/2 library sees what [`super::authority`] makes of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::authority::Rewriter;

/// So many bytes are read at once: a request of this API has about 300.
const AT_ONCE: usize = 4096;

/// The connection.
#[derive(Debug)]
pub(super) struct Tolerant {
    stream: UnixStream,
    rewriter: Rewriter,
    ready: BytesMut,
}

impl Tolerant {
    pub(super) fn new(stream: UnixStream) -> Self {
        Tolerant { stream, rewriter: Rewriter::new(), ready: BytesMut::new() }
    }
}

impl AsyncRead for Tolerant {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Tolerant { stream, rewriter, ready } = self.get_mut();
        while ready.is_empty() {
            let mut bytes = [0; AT_ONCE];
            let mut came = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Ok(())); // half a frame at the end is no frame
            }
            rewriter.push(came.filled(), ready);
        }
        let count = ready.len().min(into.remaining());
        into.put_slice(ready.get(..count).unwrap_or_default());
        ready.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tolerant {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

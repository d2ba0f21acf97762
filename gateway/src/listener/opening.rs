//! What a connection begins with, read before anybody else reads: who called, by a PROXY header, and which HTTP is spoken.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use decide::proxy_header::{self, Header, Malformed};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The first bytes of HTTP/2, by prior knowledge (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of TLS: a record of the handshake (RFC 8446 section 5.1). No method of HTTP begins with it.
const HANDSHAKE: u8 = 22;

/// So much is read at once: the head of most requests.
const READ: usize = 4096;

/// With so much kept for later, in bytes, nothing more is read: a ClientHello of that size, however it is cut into records, is none.
const MOST_KEPT: usize = 64 * 1024;

/// A connection does not begin as it must.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// It broke off.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What stands there is no PROXY header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// An accepted connection. What was read of it too early is read again by whoever it goes to.
#[derive(Debug)]
pub struct Inbound {
    tcp: TcpStream,
    /// Was read, and is still to be read.
    ahead: Bytes,
    /// What is being read, while it may have to be read again.
    kept: Option<BytesMut>,
}

impl Inbound {
    /// A connection of which nothing was read.
    pub fn new(tcp: TcpStream) -> Self {
        Inbound { tcp, ahead: Bytes::new(), kept: None }
    }

    /// Where it came in.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Takes the PROXY header off the connection's beginning.
    pub async fn take_proxy_header(&mut self) -> Result<Header, OpeningError> {
        let mut read = BytesMut::new();
        loop {
            if let Some((header, length)) = proxy_header::read(&read)? {
                read.advance(length);
                self.ahead = read.freeze();
                return Ok(header);
            }
            self.read_more(&mut read).await?;
        }
    }

    /// Whether HTTP/2 begins. Known at the first byte that differs, so that no request is too short to tell.
    pub async fn speaks_http2(&mut self) -> io::Result<bool> {
        let mut read = self.reopen_ahead();
        loop {
            let same = read.iter().zip(HTTP2_PREFACE).take_while(|(byte, expected)| byte == expected).count();
            if same == HTTP2_PREFACE.len() || same < read.len() {
                self.ahead = read.freeze();
                return Ok(same == HTTP2_PREFACE.len());
            }
            self.read_more(&mut read).await?;
        }
    }

    /// Whether TLS begins, as the first byte tells. When this is dropped before that has come, nothing is lost.
    pub async fn speaks_tls(&mut self) -> io::Result<bool> {
        if self.ahead.is_empty() {
            let mut read = BytesMut::new();
            self.read_more(&mut read).await?;
            self.ahead = read.freeze();
        }
        Ok(self.ahead.first() == Some(&HANDSHAKE))
    }

    /// Whether a ClientHello begins (RFC 8446 sections 5.1 and 4). Other protocols may have the same first byte, but
    /// hardly these six. When this is dropped before they have come, nothing is lost.
    pub async fn begins_hello(&mut self) -> io::Result<bool> {
        loop {
            let fits = |(at, byte): (usize, &u8)| match at {
                0 => *byte == HANDSHAKE,
                1 => *byte == 3,
                2 => *byte <= 4,
                // The record's length, then the handshake's first message.
                3 | 4 => true,
                _ => *byte == 1,
            };
            let begun = self.ahead.iter().take(6).enumerate();
            if !begun.clone().all(fits) {
                return Ok(false);
            }
            if begun.len() == 6 {
                return Ok(true);
            }
            let mut more = BytesMut::with_capacity(READ);
            self.read_more(&mut more).await?;
            let mut ahead = self.reopen_ahead();
            ahead.extend_from_slice(&more);
            self.ahead = ahead.freeze();
        }
    }

    /// The connection's socket, unless what is read of it may have to be read again.
    pub fn bare(&self) -> Option<&TcpStream> {
        self.kept.is_none().then_some(&self.tcp)
    }

    /// What was read of the socket, and is still to be read here.
    pub fn take_ahead(&mut self) -> Bytes {
        std::mem::take(&mut self.ahead)
    }

    fn reopen_ahead(&mut self) -> BytesMut {
        self.take_ahead().try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared))
    }

    async fn read_more(&mut self, to: &mut BytesMut) -> io::Result<()> {
        to.reserve(READ);
        match self.tcp.read_buf(to).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// From here on, what is read can be read again.
    pub fn keep(&mut self) {
        self.kept = Some(BytesMut::new());
    }

    /// It need not be.
    pub fn let_go(&mut self) {
        self.kept = None;
    }

    /// It shall be: reading begins anew where [`Inbound::keep`] was called.
    pub fn rewind(&mut self) {
        if let Some(mut kept) = self.kept.take() {
            kept.extend_from_slice(&self.ahead);
            self.ahead = kept.freeze();
        }
    }
}

impl AsyncRead for Inbound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Inbound { tcp, ahead, kept } = &mut *self;
        if kept.as_ref().is_some_and(|kept| kept.len() >= MOST_KEPT) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the ClientHello is too long")));
        }
        let before = buf.filled().len();
        if ahead.is_empty() {
            ready!(Pin::new(tcp).poll_read(cx, buf))?;
        } else {
            let part = ahead.split_to(ahead.len().min(buf.remaining()));
            buf.put_slice(&part);
        }
        if ahead.is_empty() {
            // It must not keep the buffer alive that it was a part of.
            *ahead = Bytes::new();
        }
        if let Some(kept) = kept {
            kept.extend_from_slice(buf.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Inbound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl AsRawFd for Inbound {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp.as_raw_fd()
    }
}

impl AsFd for Inbound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A client, and its connection.
    async fn pair() -> (TcpStream, Inbound) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        (client, Inbound::new(listener.accept().await.unwrap().0))
    }

    /// Sends each byte by itself, then ends.
    async fn drip(mut client: TcpStream, bytes: &[u8]) {
        for byte in bytes {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
    }

    async fn rest(mut inbound: Inbound) -> Vec<u8> {
        let mut rest = Vec::new();
        inbound.read_to_end(&mut rest).await.unwrap();
        rest
    }

    #[tokio::test]
    async fn the_first_byte_that_differs_tells_which_http_it_is() {
        for (sent, expected) in
            [("GET / HTTP/1.1", false), ("P", false), ("POST", false), ("PRI * HTTP/1.1\r\n", false)]
        {
            let (mut client, mut inbound) = pair().await;
            client.write_all(sent.as_bytes()).await.unwrap();
            if sent == "P" {
                client.write_all(b"A").await.unwrap();
            }
            assert_eq!(inbound.speaks_http2().await.unwrap(), expected, "{sent}");
            drop(client);
            assert!(rest(inbound).await.starts_with(sent.as_bytes()), "nothing is lost");
        }
    }

    #[tokio::test]
    async fn the_first_byte_tells_tls_and_is_read_again() {
        for (sent, expected) in [(&b"\x16\x03\x01"[..], true), (b"GET / HTTP/1.1", false), (b"\x80", false)] {
            let (mut client, mut inbound) = pair().await;
            client.write_all(sent).await.unwrap();
            assert_eq!(inbound.speaks_tls().await.unwrap(), expected, "{sent:?}");
            assert_eq!(inbound.speaks_tls().await.unwrap(), expected, "asked again");
            drop(client);
            assert_eq!(rest(inbound).await, sent);
        }
    }

    #[tokio::test]
    async fn a_client_hello_is_told_by_six_bytes_however_they_come() {
        let hello = [22, 3, 1, 2, 0, 1, 0, 9];
        let sent_and_expected: [(&[u8], bool); 5] = [
            (&hello, true),
            (&[22, 3, 9], false),
            (&[22, 3, 1, 0, 5, 2], false),
            (b"\x16hello", false),
            (b"SSH", false),
        ];
        for (sent, expected) in sent_and_expected {
            let (client, mut inbound) = pair().await;
            let asking = async {
                assert_eq!(inbound.begins_hello().await.unwrap(), expected, "{sent:?}");
                assert_eq!(rest(inbound).await, sent);
            };
            tokio::join!(asking, drip(client, sent));
        }
    }

    #[tokio::test]
    async fn a_header_and_a_preface_that_drip_are_read_and_nothing_after_them_is_lost() {
        let (client, mut inbound) = pair().await;
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\n";
        let sent = [line, HTTP2_PREFACE, b"after"].concat();
        let reading = async {
            let header = inbound.take_proxy_header().await.unwrap();
            assert_eq!(header.addresses.unwrap().source, "192.0.2.1:5".parse().unwrap());
            assert!(inbound.speaks_http2().await.unwrap());
            rest(inbound).await
        };
        let (rest, ()) = tokio::join!(reading, drip(client, &sent));
        assert_eq!(rest, sent[line.len()..]);
    }

    #[tokio::test]
    async fn what_was_kept_is_read_again() {
        let (client, mut inbound) = pair().await;
        inbound.ahead = Bytes::from_static(b"first ");
        inbound.keep();
        let reading = async {
            let mut some = [0; 9];
            inbound.read_exact(&mut some).await.unwrap();
            inbound.rewind();
            rest(inbound).await
        };
        let (rest, ()) = tokio::join!(reading, drip(client, b"then more"));
        assert_eq!(rest, b"first then more");
    }

    #[tokio::test]
    async fn no_more_is_kept_than_allowed() {
        let (mut client, mut inbound) = pair().await;
        inbound.keep();
        let sending = tokio::spawn(async move { client.write_all(&vec![0; 2 * MOST_KEPT]).await });
        let mut sink = Vec::new();
        let error = inbound.read_to_end(&mut sink).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(inbound);
        _ = sending.await;
    }
}

//! A stream between two plain sockets. While little moves it is copied, and holds no buffer between two pieces; what moves
//! in bulk goes through a [`Pipe`].

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::carry::{BUFFER, Side};
use super::pipe::{Pipe, Pipes};

/// When so many bytes were copied, the next full buffer is the last, and a pipe takes over.
const BULK: usize = 256 * 1024;

/// A pipe through which nothing goes for so long is given back, and the count begins anew.
const KEEP_PIPE: Duration = Duration::from_secs(1);

/// One end, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Plain<'s> {
    pub(super) tcp: &'s TcpStream,
    pub(super) side: &'s Side,
}

/// Why moving bytes pauses.
enum Pause {
    /// Nothing more has come for now.
    Dry,
    /// There is so much that a pipe pays.
    Bulk,
    /// Nothing more will come.
    Over,
}

/// Moves bytes in both directions until both have ended, or either end breaks. Of the client's those come first that were
/// read ahead.
pub(super) async fn between(client: Plain<'_>, upstream: Plain<'_>, ahead: Bytes, pipes: &Pipes) -> io::Result<()> {
    let up = async {
        upstream.send_all(&ahead).await?;
        drop(ahead);
        one_way(client, upstream, pipes).await
    };
    tokio::try_join!(up, one_way(upstream, client, pipes)).map(|_| ())
}

async fn one_way(from: Plain<'_>, to: Plain<'_>, pipes: &Pipes) -> io::Result<()> {
    let (mut pipe, mut copied) = (None, 0);
    loop {
        pipe = from.wait(pipe).await?;
        let pause = match &pipe {
            None => copy(from, to, &mut copied).await?,
            Some(pipe) => splice(from, to, pipe).await?,
        };
        match pause {
            Pause::Dry => {}
            Pause::Bulk => (pipe, copied) = (pipes.take(), 0),
            Pause::Over => return to.end(),
        }
    }
}

impl Plain<'_> {
    /// Until bytes or the end have come. If that takes long, the pipe is given back meanwhile.
    async fn wait(&self, pipe: Option<Pipe>) -> io::Result<Option<Pipe>> {
        if pipe.is_some() {
            if let Ok(came) = timeout(KEEP_PIPE, self.tcp.readable()).await {
                return self.side.seen(came.map(|()| pipe));
            }
            drop(pipe);
        }
        self.side.seen(self.tcp.readable().await)?;
        Ok(None)
    }

    /// Says that nothing more comes. Who is gone already need not hear it.
    fn end(&self) -> io::Result<()> {
        match SockRef::from(self.tcp).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            ended => self.side.seen(ended),
        }
    }

    /// Reads once; nothing when nothing is there.
    fn read(&self, read: impl FnOnce() -> io::Result<usize>) -> io::Result<Option<usize>> {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => {
                let read = self.side.seen(read)?;
                self.side.add(read);
                Ok(Some(read))
            }
        }
    }

    /// Receives into an empty buffer as much as it has room for.
    fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let (mut read, room) = (0, buffer.capacity());
        let tried = self.tcp.try_io(Interest::READABLE, || {
            (read, _) = recv(self.tcp, spare_capacity(buffer), RecvFlags::empty())?;
            // A buffer that is not filled has emptied the socket: what comes next is told of anew (epoll(7), question 9),
            // and the call that would find nothing is saved.
            if (1..room).contains(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if read > 0 { Ok(read) } else { tried.map(|()| 0) }
    }

    /// Sends so many bytes, as often as it takes; `send` is told how many have gone, and sends some of the rest.
    async fn send(&self, bytes: usize, mut send: impl FnMut(usize) -> io::Result<usize>) -> io::Result<()> {
        let mut gone = 0;
        while gone < bytes {
            self.side.seen(self.tcp.writable().await)?;
            match send(gone) {
                Ok(0) => return self.side.seen(Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => gone += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return self.side.seen(Err(error)),
            }
        }
        Ok(())
    }

    /// Sends all of this.
    async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes.len(), |gone| self.tcp.try_write(bytes.get(gone..).unwrap_or_default())).await
    }
}

async fn copy(from: Plain<'_>, to: Plain<'_>, copied: &mut usize) -> io::Result<Pause> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        consume_budget().await;
        match from.read(|| from.receive(&mut buffer))? {
            None => return Ok(Pause::Dry),
            Some(0) => return Ok(Pause::Over),
            Some(read) => *copied += read,
        }
        to.send_all(&buffer).await?;
        if *copied >= BULK && buffer.len() == buffer.capacity() {
            return Ok(Pause::Bulk);
        }
        buffer.clear();
    }
}

async fn splice(from: Plain<'_>, to: Plain<'_>, pipe: &Pipe) -> io::Result<Pause> {
    loop {
        consume_budget().await;
        if let Some(held @ 1..) = from.read(|| from.tcp.try_io(Interest::READABLE, || pipe.fill(from.tcp)))? {
            let empty = |gone| to.tcp.try_io(Interest::WRITABLE, || pipe.empty(to.tcp, held - gone));
            to.send(held, empty).await?;
            continue;
        }
        // At urgent data (tcp(7), SO_OOBINLINE) splice(2) stops, and then says the same as of a socket that is empty or at
        // its end. Only reading tells, and goes on behind it.
        let mut buffer = Vec::with_capacity(BUFFER);
        match from.read(|| Ok(recv(from.tcp, spare_capacity(&mut buffer), RecvFlags::empty())?.0))? {
            None => return Ok(Pause::Dry),
            Some(0) => return Ok(Pause::Over),
            Some(_) => to.send_all(&buffer).await?,
        }
    }
}

#[cfg(test)]
mod tests;

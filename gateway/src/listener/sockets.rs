//! The listening sockets of a gateway: bound, or taken over from the gateway that ran before; and handed on.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// So many connections wait in the kernel until they are accepted.
const BACKLOG: i32 = 4096;

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {source}")]
pub struct BindError {
    address: SocketAddr,
    purpose: &'static str,
    source: io::Error,
}

/// Opens every listening socket of the process, and says when they accept. Clones are one.
#[derive(Clone)]
pub struct Sockets(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    accepting: watch::Sender<bool>,
}

#[derive(Default)]
struct Table {
    /// Taken over, and not yet asked for.
    inherited: BTreeMap<SocketAddr, StdListener>,
    /// In use, until whoever accepts lets it go.
    open: BTreeMap<SocketAddr, Weak<TcpListener>>,
}

impl Default for Sockets {
    /// Nothing is inherited, and what is opened accepts at once.
    fn default() -> Self {
        Sockets::new(BTreeMap::new(), true)
    }
}

impl Sockets {
    /// Takes over what a predecessor listens on. Nothing accepts before [`Sockets::accept`] says so.
    ///
    /// # Errors
    /// When a descriptor is no listening TCP socket.
    pub fn inherit(descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let adopt = |descriptor| {
            let listener = StdListener::from(descriptor);
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let inherited = descriptors.into_iter().map(adopt).collect::<io::Result<_>>()?;
        Ok(Sockets::new(inherited, false))
    }

    fn new(inherited: BTreeMap<SocketAddr, StdListener>, accepting: bool) -> Self {
        let table = Mutex::new(Table { inherited, open: BTreeMap::new() });
        Sockets(Arc::new(Shared { table, accepting: watch::Sender::new(accepting) }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the inherited socket of this address, or binds one, so that an address in use is known at once, by name.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn open(&self, address: SocketAddr, purpose: &'static str) -> Result<Listening, BindError> {
        let mut table = self.table();
        let inherited = table.inherited.remove(&address);
        let listener = inherited.map_or_else(|| bind(address), TcpListener::from_std);
        let listener = Arc::new(listener.map_err(|source| BindError { address, purpose, source })?);
        table.open.retain(|_, listener| listener.strong_count() > 0);
        let address = listener.local_addr().unwrap_or(address);
        table.open.insert(address, Arc::downgrade(&listener));
        Ok(Listening { listener, accepting: self.0.accepting.subscribe() })
    }

    /// Every socket that is in use.
    pub fn all(&self) -> Vec<Arc<TcpListener>> {
        self.table().open.values().filter_map(Weak::upgrade).collect()
    }

    /// From now on connections are accepted, or are left to whoever shares the sockets.
    pub fn accept(&self, accepting: bool) {
        self.0.accepting.send_replace(accepting);
    }

    /// Closes what was inherited and nobody asked for; returns the addresses.
    pub fn close_unused(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.table().inherited).into_keys().collect()
    }
}

/// One listening socket. It is closed when this is dropped, unless another process shares it.
pub struct Listening {
    listener: Arc<TcpListener>,
    accepting: watch::Receiver<bool>,
}

impl Listening {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, once connections are accepted at all. May be dropped and called again.
    ///
    /// # Errors
    /// As accept(2).
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            // The sender lives as long as the process's sockets: where it is gone, nobody else has a say.
            _ = self.accepting.wait_for(|accepting| *accepting).await;
            tokio::select! {
                biased;
                Ok(_) = self.accepting.wait_for(|accepting| !*accepting) => {}
                accepted = self.listener.accept() => return accepted,
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted gateway must not wait for the kernel to forget its predecessor's connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    fn descriptors(of: &Sockets) -> Vec<OwnedFd> {
        use std::os::fd::AsFd;
        of.all().iter().map(|listener| listener.as_fd().try_clone_to_owned().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_successor_accepts_what_came_before_it_did() {
        let old = Sockets::default();
        let mut first = old.open((Ipv4Addr::LOCALHOST, 0).into(), "a test").unwrap();
        let at = first.local_addr().unwrap();
        let new = Sockets::inherit(descriptors(&old)).unwrap();
        let mut second = new.open(at, "a test").unwrap();
        let (begun, _) = tokio::join!(TcpStream::connect(at), first.accept());
        begun.unwrap();
        old.accept(false);
        let waiting = TcpStream::connect(at).await.unwrap();
        drop(first);
        new.accept(true);
        let (_, client) = second.accept().await.unwrap();
        assert_eq!(client, waiting.local_addr().unwrap());
        assert!(old.all().is_empty() && new.all().len() == 1);
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_closed() {
        let old = Sockets::default();
        let listening = old.open((Ipv4Addr::LOCALHOST, 0).into(), "a test").unwrap();
        let at = listening.local_addr().unwrap();
        let new = Sockets::inherit(descriptors(&old)).unwrap();
        drop(listening);
        assert!(TcpStream::connect(at).await.is_ok());
        assert_eq!(new.close_unused(), [at]);
        assert!(TcpStream::connect(at).await.is_err());
    }
}

//! Listeners: sockets that are bound before anything depends on them, accept until they are told to stop, and hand
//! each connection to its door.

pub mod doors;
pub mod mesh;
pub mod opening;
pub mod stream;
pub mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Between two accepts when the process has used up what a connection needs.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {source}")]
pub struct BindError {
    address: SocketAddr,
    purpose: &'static str,
    source: io::Error,
}

/// Binds a TCP socket and starts to listen, so that an address in use is known at once, by name.
pub fn bind(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, BindError> {
    try_bind(address).map_err(|source| BindError { address, purpose, source })
}

fn try_bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted gateway must not wait for the kernel to forget its predecessor's connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until told to stop; each connection is a task of its own.
pub async fn accept<F, Fut>(listener: TcpListener, stop: CancellationToken, handle: F)
where
    F: Fn(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a new connection was gone at once");
                }
                tokio::spawn(handle(stream, client));
            }
            Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a new connection was gone at once"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Whether the error is that of the connection which would have been accepted (accept(2)); the next one may be well.
/// All else, above all that there is no memory or descriptor left, lasts a while.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    let kinds = [ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable];
    kinds.contains(&error.kind())
}

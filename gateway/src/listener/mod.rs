//! Listeners: sockets that are bound before anything depends on them, accept until they are told to stop, and hand
//! each connection to its door.

pub mod doors;
pub mod mesh;
pub mod opening;
pub mod sockets;
pub mod stream;
pub mod tls;
pub mod workload;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::connections::{Opener, Shed, Ticket};
use crate::descriptors::Spare;
use crate::runtime::Core;
use crate::workers::Seat;
use sockets::Listening;

/// Between two accepts when the process has used up what a connection needs.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// So often it is told that connections are closed as soon as they come.
const TELL: Duration = Duration::from_secs(1);

/// Accepts until told to stop; each connection that may stay is a task of its own, of one of the workers.
pub async fn accept<F, Fut>(
    core: Arc<Core>,
    mut listening: Listening,
    opener: Opener,
    stop: CancellationToken,
    handle: F,
) where
    F: Fn(Accepted, SocketAddr, Ticket) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut turnstile = Turnstile { core, opener, spare: Spare::keep(), told: None };
    while let Some(accepted) = stop.run_until_cancelled(listening.accept()).await {
        match accepted {
            Ok((stream, client)) => turnstile.admit(stream, client, &handle),
            Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a new connection was gone at once"),
            Err(error) => turnstile.exhausted(&mut listening, &error).await,
        }
    }
}

/// A connection on its way to the worker that will have it.
pub enum Accepted {
    /// The one that accepted it.
    Here(TcpStream),
    /// Another one.
    Elsewhere(std::net::TcpStream),
}

impl Accepted {
    fn new(stream: TcpStream, seat: &Seat<'_>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        match seat.is_here() {
            true => Ok(Accepted::Here(stream)),
            false => stream.into_std().map(Accepted::Elsewhere),
        }
    }

    /// From here on it is the calling worker that waits for it.
    ///
    /// # Errors
    /// When the system has no memory for that.
    pub fn take(self) -> io::Result<TcpStream> {
        match self {
            Accepted::Here(stream) => Ok(stream),
            Accepted::Elsewhere(stream) => TcpStream::from_std(stream),
        }
    }
}

/// What a listener does with what it accepted, or couldn't.
struct Turnstile {
    core: Arc<Core>,
    opener: Opener,
    spare: Spare,
    /// When it was last told that connections are closed.
    told: Option<Instant>,
}

impl Turnstile {
    fn admit<Fut>(
        &mut self,
        stream: TcpStream,
        client: SocketAddr,
        handle: impl Fn(Accepted, SocketAddr, Ticket) -> Fut,
    ) where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let ticket = match self.core.connections.admit(self.opener, client.ip()) {
            Ok(ticket) => ticket,
            Err(shed) => return self.shed(shed),
        };
        let seat = self.core.workers.seat(self.opener, client.ip(), |worker| self.core.overload.lags(worker));
        match Accepted::new(stream, &seat) {
            Ok(accepted) => seat.serve(handle(accepted, client, ticket)),
            Err(error) => tracing::debug!(%error, "a new connection was gone at once"),
        }
    }

    /// There was no descriptor (or memory) for a connection. It must not wait in the kernel, where its client would learn
    /// nothing: with the spare descriptor it is accepted, and closed.
    async fn exhausted(&mut self, listening: &mut Listening, error: &io::Error) {
        tracing::debug!(%error, "cannot accept a connection");
        self.core.connections.make_room();
        let given_up = is_of_descriptors(error) && self.spare.give_up();
        let accepted = timeout(Duration::ZERO, listening.accept()).await;
        let closed = given_up && matches!(accepted, Ok(Ok(_)));
        drop(accepted);
        self.spare.retake();
        match closed {
            true => self.shed(Shed::Descriptors),
            false => tokio::time::sleep(EXHAUSTED).await,
        }
    }

    fn shed(&mut self, shed: Shed) {
        self.core.metrics.shed(shed);
        if matches!(shed, Shed::Total | Shed::Descriptors) {
            self.core.connections.make_room();
        }
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            tracing::warn!(limit = shed.code(), "too many connections: new ones are closed");
        }
    }
}

fn is_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
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

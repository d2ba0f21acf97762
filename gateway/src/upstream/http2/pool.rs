//! Connections to instances that speak HTTP/2 by prior knowledge (RFC 9113 section 3.3): a few, shared by all requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::tunnel::dial::{STREAM_WINDOW, TUNNEL_WINDOW};
use crate::upstream::CallError;
use crate::upstream::pool::{CONNECT_TIMEOUT, connect};

/// Streams on one connection before another is opened: more would wait for one another's packets.
const STREAMS: usize = 100;
/// So many connections to one instance at the most; requests beyond their streams wait for a free one.
const MOST_CONNECTIONS: usize = 16;
/// A connection that nobody used for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to an instance. Closed when it is dropped, whatever goes on on it.
struct Connection {
    sender: SendRequest<Bytes>,
    driver: AbortHandle,
    streams: AtomicUsize,
    used: Mutex<Instant>,
}

impl Connection {
    fn is_usable(&self) -> bool {
        !self.driver.is_finished()
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// How many streams it should carry: no more than the far end allows.
    fn room(&self) -> usize {
        self.sender.current_max_send_streams().clamp(1, STREAMS)
    }

    fn is_old(&self) -> bool {
        let last_used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.streams() == 0 && last_used.elapsed() > IDLE_TIMEOUT
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Room for one stream on a connection, until this is dropped.
pub struct Seat(Arc<Connection>);

impl Seat {
    fn on(connection: Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        *connection.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Seat(connection)
    }

    /// For the stream.
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections to one address.
pub struct Connections {
    address: SocketAddr,
    open: Mutex<Vec<Arc<Connection>>>,
    /// Whoever needs a new connection waits for one that is being opened: it has room for many.
    opening: tokio::sync::Mutex<()>,
}

impl Connections {
    /// None yet.
    pub fn new(address: SocketAddr) -> Self {
        Connections { address, open: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    /// The connection with the fewest streams, or a new one when all are full.
    pub async fn take(&self) -> Result<Seat, CallError> {
        if let Some(seat) = self.free() {
            return Ok(seat);
        }
        let _opening = self.opening.lock().await;
        match self.free() {
            Some(seat) => Ok(seat),
            None => self.open().await,
        }
    }

    fn free(&self) -> Option<Seat> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| connection.is_usable());
        let least = open.iter().min_by_key(|connection| connection.streams())?;
        if least.streams() >= least.room() && open.len() < MOST_CONNECTIONS {
            return None;
        }
        Some(Seat::on(least.clone()))
    }

    async fn open(&self) -> Result<Seat, CallError> {
        let stream = connect(self.address).await?;
        let shaking = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            .max_header_list_size(64 * 1024)
            .enable_push(false)
            .handshake(stream);
        let shaken = timeout(CONNECT_TIMEOUT, shaking).await.map_err(|error| CallError::NotSent(error.to_string()))?;
        let (sender, driver) = shaken.map_err(|error| CallError::NotSent(error.to_string()))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::trace!(%error, "a connection to an instance broke");
            }
        });
        let (streams, used) = (AtomicUsize::new(0), Mutex::new(Instant::now()));
        let connection = Arc::new(Connection { sender, driver: driver.abort_handle(), streams, used });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(connection.clone());
        Ok(Seat::on(connection))
    }

    /// Closes what nobody uses.
    pub fn drop_old(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| connection.is_usable() && !connection.is_old());
    }
}

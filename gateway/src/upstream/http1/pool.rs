//! Connections to instances that speak HTTP/1.1, by hyper's client: kept for the next request when the last one ended
//! well.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::body::RequestBody;
use crate::upstream::CallError;
use crate::upstream::pool::connect;

/// A connection that nobody used for so long is closed: sooner than most servers do it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// So many idle connections to one instance are kept.
const MAX_IDLE: usize = 256;

/// A connection to an instance. Closed when it is dropped, whatever goes on on it.
pub struct Connection {
    /// For the next request.
    pub sender: SendRequest<RequestBody>,
    /// Whether it has served a request before.
    pub used: bool,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The idle connections to one address, the last used first.
pub struct Connections {
    address: SocketAddr,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Connections {
    /// None yet.
    pub fn new(address: SocketAddr) -> Self {
        Connections { address, idle: Mutex::default() }
    }

    /// A connection that is ready for a request: an idle one, or a new one.
    pub async fn take(&self) -> Result<Connection, CallError> {
        if let Some(connection) = self.take_idle() {
            return Ok(connection);
        }
        let stream = connect(self.address).await?;
        let shaken = http1::Builder::new().max_headers(128).handshake(TokioIo::new(stream)).await;
        let (sender, driver) = shaken.map_err(|error| CallError::NotSent(error.to_string()))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::trace!(%error, "a connection to an instance broke");
            }
        });
        Ok(Connection { sender, used: false, driver: driver.abort_handle() })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((since, connection)) = idle.pop() {
            if since.elapsed() > IDLE_TIMEOUT {
                // Those below it are older still.
                idle.clear();
                return None;
            }
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// The request on it ended well.
    pub fn give_back(&self, mut connection: Connection) {
        connection.used = true;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push((Instant::now(), connection));
        }
    }

    /// Closes all that are idle.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Closes what is idle for too long.
    pub fn drop_old(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, connection)| since.elapsed() <= IDLE_TIMEOUT && !connection.sender.is_closed());
    }
}

//! Connections to instances: HTTP/1.1 by hyper's client, kept for the next request when the last one ended well.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::CallError;
use super::body::RequestBody;

/// How long a connect to an instance of the same cluster may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
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
    /// A connection that is ready for a request: an idle one, or a new one.
    pub async fn take(&self) -> Result<Connection, CallError> {
        if let Some(connection) = self.take_idle() {
            return Ok(connection);
        }
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address)).await;
        let stream =
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|e| not_connected(&e))?;
        stream.set_nodelay(true).map_err(|e| not_connected(&e))?;
        let shaken = http1::Builder::new().max_headers(128).handshake(TokioIo::new(stream)).await;
        let (sender, driver) = shaken.map_err(|error| CallError::NotSent(error.to_string()))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
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

    fn drop_old(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, connection)| since.elapsed() <= IDLE_TIMEOUT && !connection.sender.is_closed());
    }
}

/// Only what says that nobody is there speaks against the instance; our own want of descriptors, say, does not.
fn not_connected(error: &io::Error) -> CallError {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut => {
            CallError::Unreachable(error.to_string())
        }
        _ => CallError::NotSent(error.to_string()),
    }
}

/// The connections to all instances, by address. Plans come and go; connections stay while some plan has their instance.
#[derive(Default)]
pub struct Pools(Mutex<HashMap<SocketAddr, Arc<Connections>>>);

impl Pools {
    /// Those to one address.
    pub fn of(&self, address: SocketAddr) -> Arc<Connections> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.entry(address).or_insert_with(|| Arc::new(Connections { address, idle: Mutex::default() })).clone()
    }

    /// Closes what is idle for too long, again and again, and forgets instances that no plan has any more.
    pub async fn tidy(self: Arc<Self>) {
        loop {
            tokio::time::sleep(IDLE_TIMEOUT / 2).await;
            let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            pools.retain(|_, pool| Arc::strong_count(pool) > 1);
            pools.values().for_each(|pool| pool.drop_old());
        }
    }
}

//! The connections to all instances, by address and by how they are spoken to. Plans come and go; connections stay while some plan has their instance.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::secure::{FIRST_NUMBER, Security};
use super::{CallError, http1, http2};

/// How long a connect to an instance of the same cluster may take. A lost first packet is sent again only then (RFC 6298
/// section 2.1): it is better to try elsewhere than to wait on, and no reason to take the instance for dead.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// From one look for idle connections to the next.
const TIDY: Duration = Duration::from_secs(2);

/// The connections to one address, for whichever protocol its port speaks.
pub struct Connections {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub security: Security,
    /// Those of HTTP/1.1.
    pub http1: http1::pool::Connections,
    /// Those of HTTP/2.
    pub http2: http2::pool::Connections,
}

/// See the module.
#[derive(Default)]
pub struct Pools {
    open: Mutex<HashMap<(SocketAddr, u64), Arc<Connections>>>,
    /// The last of the numbers by which connections are told apart.
    last: AtomicU64,
}

impl Pools {
    /// A number that no connections have had yet.
    pub fn number(&self) -> u64 {
        FIRST_NUMBER + self.last.fetch_add(1, Ordering::Relaxed)
    }

    /// Those to one address that may be shared by whoever speaks to it so.
    pub fn of(&self, address: SocketAddr, security: &Security) -> Arc<Connections> {
        let new = || {
            let http1 = http1::pool::Connections::new(address, security.clone());
            let http2 = http2::pool::Connections::new(address, security.clone());
            Arc::new(Connections { address, security: security.clone(), http1, http2 })
        };
        let mut pools = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        pools.entry((address, security.number())).or_insert_with(new).clone()
    }

    /// Closes what is idle for too long, again and again, and forgets instances that no plan has any more.
    pub async fn tidy(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TIDY).await;
            let mut pools = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            pools.retain(|_, pool| Arc::strong_count(pool) > 1);
            for pool in pools.values() {
                pool.http1.drop_old();
                pool.http2.drop_old();
            }
        }
    }
}

/// Opens a connection to an instance.
pub async fn connect(address: SocketAddr) -> Result<TcpStream, CallError> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let late = |_| Err(CallError::Slow(format!("no connection within {CONNECT_TIMEOUT:?}")));
    let stream = connected.map_or_else(late, |done| done.map_err(|e| not_connected(&e)))?;
    stream.set_nodelay(true).map_err(|e| not_connected(&e))?;
    Ok(stream)
}

/// Only what says that nobody is there, or suggests it, speaks against the instance; our own want of descriptors, say, does not.
fn not_connected(error: &io::Error) -> CallError {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable => {
            CallError::Unreachable(error.to_string())
        }
        TimedOut => CallError::Slow(error.to_string()),
        _ => CallError::NotSent(error.to_string()),
    }
}

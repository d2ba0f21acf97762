//! Connections to instances that speak HTTP/1.1: kept for the next request when the last one ended well.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::line::Line;
use crate::upstream::CallError;
use crate::upstream::secure::{Inside, Security};
use crate::workers::Number;

/// A connection that nobody used for so long is closed: sooner than most servers do it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// One that nobody used for so long is lent to other workers, too: they have less to do than would pay to keep apart.
const SPARE: Duration = Duration::from_millis(100);
/// So many idle connections to one instance are kept.
const MAX_IDLE: usize = 256;

/// A connection for a request.
pub struct Connection {
    /// Its bytes.
    pub line: Line,
    /// Whether it has served a request before.
    pub used: bool,
}

/// A connection that waits for its next request. The worker that opened it is told when something comes: requests of
/// another one cost a wake more on it, which is less than to open one.
struct Idle {
    since: Instant,
    line: Line,
}

/// The idle connections to one address, the last used last.
pub struct Connections {
    address: SocketAddr,
    security: Security,
    idle: Mutex<Vec<Idle>>,
}

impl Connections {
    /// None yet.
    pub fn new(address: SocketAddr, security: Security) -> Self {
        Connections { address, security, idle: Mutex::default() }
    }

    /// A connection that is ready for a request: an idle one, or a new one.
    pub async fn take(&self) -> Result<Connection, CallError> {
        let used = |line| Connection { line, used: true };
        if let Some(line) = self.take_idle() {
            return Ok(used(line));
        }
        match self.security.open(self.address, Inside::Http1).await {
            Ok(wire) => Ok(Connection { line: Line::new(wire), used: false }),
            // It may have as many connections as it takes.
            Err(error) => self.take_idle_after(Duration::ZERO).map(used).ok_or(error),
        }
    }

    pub(super) fn take_idle(&self) -> Option<Line> {
        self.take_idle_after(SPARE)
    }

    /// One of the calling worker's, or one that another has not used for so long.
    fn take_idle_after(&self, spare: Duration) -> Option<Line> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let here = Number::here();
        loop {
            let own = idle.iter().rposition(|idle| idle.line.worker() == here);
            let last = own.or_else(|| idle.iter().rposition(|idle| idle.since.elapsed() >= spare))?;
            if idle.get(last)?.since.elapsed() > IDLE_TIMEOUT {
                // Those below it are older still.
                idle.drain(..=last);
                continue;
            }
            let Idle { line, .. } = idle.remove(last);
            if line.is_silent() {
                return Some(line);
            }
        }
    }

    /// The request on it ended well.
    pub fn give_back(&self, line: Line) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { since: Instant::now(), line });
        }
    }

    /// Closes all that are idle.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Closes what is idle for too long, or was closed by the instance.
    pub fn drop_old(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() <= IDLE_TIMEOUT && idle.line.is_silent());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;
    use crate::workers::{Layout, Workers};

    /// Has a worker take so many connections at once and give them back: whether each was used before, and whether it
    /// was the worker itself that opened it.
    async fn taken(workers: &Workers, number: usize, pool: &Arc<Connections>, count: usize) -> Vec<(bool, bool)> {
        let ((told, tell), pool) = (oneshot::channel(), pool.clone());
        workers.run(number, async move {
            let mut taken = Vec::new();
            for _ in 0..count {
                taken.push(pool.take().await.unwrap());
            }
            let seen = taken.iter().map(|one| (one.used, one.line.worker() == Number::here())).collect();
            taken.into_iter().for_each(|one| pool.give_back(one.line));
            told.send(seen).unwrap();
        });
        tell.await.unwrap()
    }

    #[tokio::test]
    async fn a_worker_gets_its_own_connections_first_and_then_what_others_have_to_spare() {
        let instance = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let workers = Workers::start(Layout::Threads(2.try_into().unwrap())).unwrap();
        let pool = Arc::new(Connections::new(instance.local_addr().unwrap(), Security::Plain));
        assert_eq!(taken(&workers, 0, &pool, 1).await, [(false, true)]);
        assert_eq!(taken(&workers, 0, &pool, 1).await, [(true, true)]);
        tokio::time::sleep(SPARE * 2).await;
        assert_eq!(taken(&workers, 1, &pool, 2).await, [(true, false), (false, true)]);
        for number in [1, 0] {
            assert_eq!(taken(&workers, number, &pool, 1).await, [(true, true)], "of the one that opened it, still");
        }
    }
}

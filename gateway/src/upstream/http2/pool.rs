//! Connections to instances that speak HTTP/2, by prior knowledge (RFC 9113 section 3.3) where there is no TLS to agree on
//! it: a few, shared by all requests.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::tunnel::dial::TUNNEL_WINDOW;
use crate::turns::in_turns;
use crate::upstream::CallError;
use crate::upstream::pool::CONNECT_TIMEOUT;
use crate::upstream::secure::{Inside, Security};
use crate::workers::Number;

/// Streams on one connection before another is opened: more would wait for one another's packets.
const STREAMS: usize = 100;
/// So many connections of a worker to one instance at the most; requests beyond their streams wait for a free one.
const MOST_CONNECTIONS: usize = 16;
/// Of an answer, so much waits in memory for a client that is slow. Instances are near: more would not be faster.
const INSTANCE_WINDOW: u32 = 64 * 1024;
/// See [`Seat::got_nothing`].
const MOST_EMPTIES: usize = 20;
/// A worker that could not open one uses those of others for so long before it tries again.
const AGAIN: Duration = Duration::from_secs(2);
/// A connection that nobody used for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to an instance. Closed when it is dropped, whatever goes on on it.
struct Connection {
    /// Which moves its frames: it serves the requests of that one, as long as others can open their own.
    worker: Number,
    sender: SendRequest<Bytes>,
    driver: AbortHandle,
    streams: AtomicUsize,
    used: Mutex<Instant>,
    /// A request on it brought nothing in time: the way may be broken without anybody having said so.
    distrusted: AtomicBool,
    /// Empty frames that came on it.
    empties: AtomicUsize,
}

impl Connection {
    /// Whether it takes another stream. After a GOAWAY it doesn't, however long its old ones go on.
    fn is_usable(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let refuses = matches!(self.sender.clone().poll_ready(&mut context), Poll::Ready(Err(_)));
        !refuses && !self.distrusted.load(Ordering::Relaxed) && !self.driver.is_finished()
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

    /// An empty frame came that ends nothing. The library closes a connection after a hundred of them, with all that goes
    /// on on it: before that it gets no further streams.
    pub fn got_nothing(&self) {
        if self.0.empties.fetch_add(1, Ordering::Relaxed) >= MOST_EMPTIES {
            self.distrust();
        }
    }

    /// Lets no further stream onto the connection.
    pub fn distrust(&self) {
        self.0.distrusted.store(true, Ordering::Relaxed);
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

/// Whoever of a worker needs a new connection waits for one that is being opened: it has room for many. It holds when the
/// last attempt failed.
type Opening = tokio::sync::Mutex<Option<Instant>>;

/// The connections to one address.
pub struct Connections {
    address: SocketAddr,
    security: Security,
    open: Mutex<Vec<Arc<Connection>>>,
    opening: Mutex<HashMap<Number, Arc<Opening>>>,
}

impl Connections {
    /// None yet.
    pub fn new(address: SocketAddr, security: Security) -> Self {
        Connections { address, security, open: Mutex::default(), opening: Mutex::default() }
    }

    /// The connection with the fewest streams, or a new one when all are full.
    pub async fn take(&self) -> Result<Seat, CallError> {
        if let Some(seat) = self.free() {
            return Ok(seat);
        }
        let asked = Instant::now();
        let opening = self.opening();
        let mut failed_at = opening.lock().await;
        if let Some(seat) = self.free() {
            return Ok(seat);
        }
        // An instance may take fewer connections than there are workers: that is not found out anew by each request.
        if failed_at.is_some_and(|failed_at| failed_at >= asked || failed_at.elapsed() < AGAIN)
            && let Some(seat) = self.borrowed()
        {
            return Ok(seat);
        }
        // Whoever waited for an attempt that failed must not wait for one more of its own.
        if failed_at.is_some_and(|failed_at| failed_at >= asked) {
            return Err(CallError::NotSent("no connection could be opened".to_owned()));
        }
        let opened = self.open().await;
        *failed_at = opened.is_err().then(Instant::now);
        opened.or_else(|error| self.borrowed().ok_or(error))
    }

    fn opening(&self) -> Arc<Opening> {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        opening.entry(Number::here()).or_default().clone()
    }

    /// Another worker's connection that has room.
    fn borrowed(&self) -> Option<Seat> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let with_room = open.iter().filter(|one| one.is_usable() && one.streams() < one.room());
        with_room.min_by_key(|connection| connection.streams()).cloned().map(Seat::on)
    }

    fn free(&self) -> Option<Seat> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = Number::here();
        // To look at another worker's would be to wait for what it does with it.
        open.retain(|connection| connection.worker != here || connection.is_usable());
        let own = || open.iter().filter(|connection| connection.worker == here);
        let least = own().min_by_key(|connection| connection.streams())?;
        if least.streams() >= least.room() && own().count() < MOST_CONNECTIONS {
            return None;
        }
        Some(Seat::on(least.clone()))
    }

    async fn open(&self) -> Result<Seat, CallError> {
        let (stream, mut turns) = in_turns(self.security.open(self.address, Inside::Http2).await?);
        let shaking = h2::client::Builder::new()
            .initial_window_size(INSTANCE_WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            .max_header_list_size(64 * 1024)
            .enable_push(false)
            .handshake(stream);
        let shaken = timeout(CONNECT_TIMEOUT, shaking).await.map_err(|error| CallError::NotSent(error.to_string()))?;
        let (sender, mut driver) = shaken.map_err(|error| CallError::NotSent(error.to_string()))?;
        let pings = driver.ping_pong();
        let driver = tokio::spawn(async move {
            let driving = poll_fn(|cx| turns.poll(cx, |cx| Pin::new(&mut driver).poll(cx)));
            if let Err(error) = driving.await {
                tracing::trace!(%error, "a connection to an instance broke");
            }
        });
        let connection = Arc::new(Connection {
            worker: Number::here(),
            sender,
            driver: driver.abort_handle(),
            streams: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            distrusted: AtomicBool::new(false),
            empties: AtomicUsize::new(0),
        });
        greeted(pings).await?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(connection.clone());
        Ok(Seat::on(connection))
    }

    /// Closes what nobody uses.
    pub fn drop_old(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| connection.is_usable() && !connection.is_old());
    }
}

/// Waits for the far end's first frames: only then is it known that it speaks HTTP/2, and what it takes.
async fn greeted(pings: Option<PingPong>) -> Result<(), CallError> {
    let Some(mut pings) = pings else { return Ok(()) };
    match timeout(CONNECT_TIMEOUT, pings.ping(Ping::opaque())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(CallError::NotSent(error.to_string())),
        Err(_) => Err(CallError::NotSent("it does not answer in HTTP/2".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio::task::JoinSet;

    use super::*;
    use crate::workers::{Layout, Workers};

    /// Has a worker take a seat: on whose connection it is, or why there is none.
    async fn taken(workers: &Workers, number: usize, pool: &Arc<Connections>) -> Result<Number, CallError> {
        let ((told, tell), pool) = (oneshot::channel(), pool.clone());
        workers.run(number, async move {
            let seat = pool.take().await;
            told.send(seat.map(|seat| seat.0.worker)).unwrap();
        });
        tell.await.unwrap()
    }

    /// Takes so many connections, and no more after that.
    async fn serve(listener: TcpListener, count: usize) {
        let mut open = JoinSet::new();
        for _ in 0..count {
            let (stream, _) = listener.accept().await.unwrap();
            open.spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while connection.accept().await.is_some() {}
            });
        }
        drop(listener);
        open.join_all().await;
    }

    #[tokio::test]
    async fn each_worker_has_its_own_connection_unless_the_instance_takes_no_more() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let workers = Workers::start(Layout::Threads(3.try_into().unwrap())).unwrap();
        let pool = Arc::new(Connections::new(listener.local_addr().unwrap(), Security::Plain));
        let instance = tokio::spawn(serve(listener, 2));
        let [first, second] = [taken(&workers, 0, &pool).await.unwrap(), taken(&workers, 1, &pool).await.unwrap()];
        assert_ne!(first, second);
        assert_eq!(taken(&workers, 0, &pool).await.unwrap(), first);
        let third = taken(&workers, 2, &pool).await.unwrap();
        assert!([first, second].contains(&third));
        instance.abort();
        let gone = async || taken(&workers, 2, &pool).await.is_err();
        while !gone().await {
            tokio::task::yield_now().await;
        }
    }
}

//! HTTP/2 from clients and peer gateways: a connection's streams, each a request in a task of its own. Read [`serve`]
//! first.
//!
//! Why it is ours: `docs/decisions/0008-http2.md`.

mod exchange;
mod metered;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use decide::frames::{Flood, Meter};
use decide::hygiene;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::exchange::{Door, Entry};
use crate::http1::Handler;
use crate::limits::Limits;
use crate::runtime::Core;
use crate::tunnel::dial::{STREAM_WINDOW, TUNNEL_WINDOW};
use crate::turns::{Gathering, Turns, in_turns};
use exchange::Http2Exchange;
use metered::{Conduct, Metered};

/// A client's first frame has come within this time, and a peer gateway's first request.
const OPENING: Duration = Duration::from_secs(10);
/// A client that floods the gateway has so long to take the frame that says so.
const FAREWELL: Duration = Duration::from_secs(1);
/// Streams that a peer gateway may have open at once in one tunnel.
const TUNNEL_STREAMS: u32 = 4096;
/// Streams that broke the protocol, for which a client is told so, before it is told to calm down.
const BROKEN_STREAMS: usize = 100;
/// A client may send so much of one body before it is taken (HTTP/2's initial window).
const ONE_WINDOW: u32 = 65_535;
/// And so much of all bodies on a connection: one that isn't taken must not hold up the others.
const MOST_WINDOW: u32 = 8 * 1024 * 1024;
/// Of an answer, so much waits in memory for a client that makes no room.
const SEND_BUFFER: usize = 32 * 1024;

/// Nobody spoke HTTP/2 in time.
#[derive(Debug)]
pub struct Silent;

/// Who serves the requests of connections, and hears how they end.
pub trait Keeper: Handler + Send + 'static {
    /// The client floods the gateway: its connection ends.
    fn flooded(&self, entry: &Entry, flood: Flood);
}

impl Keeper for Core {
    fn flooded(&self, entry: &Entry, flood: Flood) {
        self.metrics.flooded(flood.kind());
        self.log.turned_away(entry.door.as_str(), entry.client, "http2_flood", &flood);
    }
}

/// What the tasks of a connection share.
struct Shared<K> {
    keeper: Arc<K>,
    entry: Entry,
    conduct: Arc<Conduct>,
}

/// Serves the requests of one connection until it ends. When `ending` becomes true, the client is told to send no more.
///
/// # Errors
/// When HTTP/2 did not begin in time.
pub async fn serve<K, IO>(
    keeper: Arc<K>,
    io: IO,
    entry: Entry,
    limits: &Limits,
    ending: watch::Receiver<bool>,
) -> Result<(), Silent>
where
    K: Keeper,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (opened_by, conduct) = (Instant::now() + OPENING, Arc::<Conduct>::default());
    let (io, turns) = in_turns(io);
    let io = Metered::new(io, meter(&entry, limits), conduct.clone());
    match timeout_at(opened_by, settings(&entry, limits).handshake(io)).await {
        Ok(Ok(connection)) => {
            let shared = Arc::new(Shared { keeper, entry, conduct });
            converse(connection, turns, &shared, opened_by, ending).await
        }
        Ok(Err(error)) => {
            tracing::debug!(client = %entry.client, %error, "HTTP/2 did not begin");
            Ok(())
        }
        Err(_) => Err(Silent),
    }
}

/// From here on each request has a task of its own. Once HTTP/2 has begun, a connection may wait for its first request as
/// for any other: clients open some ahead.
async fn converse<K, IO>(
    mut connection: Connection<Metered<Gathering<IO>>, Bytes>,
    mut turns: Turns<IO>,
    shared: &Arc<Shared<K>>,
    opened_by: Instant,
    mut ending: watch::Receiver<bool>,
) -> Result<(), Silent>
where
    K: Keeper,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut asked_to_end, mut opening) = (pin!(ending.wait_for(|ending| *ending)), pin!(sleep_until(opened_by)));
    let (mut is_ending, mut is_open) = (false, false);
    loop {
        let next = tokio::select! {
            biased;
            _ = &mut asked_to_end, if !is_ending => {
                connection.graceful_shutdown();
                is_ending = true;
                continue;
            }
            next = next(&mut connection, &mut turns, &shared.conduct) => next,
            () = &mut opening, if !is_open => {
                is_open = shared.conduct.has_begun();
                if is_open { continue } else { return Err(Silent) }
            }
        };
        match next {
            Ok((request, respond)) => {
                shared.conduct.begin();
                tokio::spawn(answer(shared.clone(), request, respond));
            }
            Err(Over::Flood(flood)) => {
                shared.keeper.flooded(&shared.entry, flood);
                dismiss(connection).await;
                return Ok(());
            }
            Err(Over::End(error)) => {
                tracing::debug!(client = %shared.entry.client, ?error, "a connection ended");
                return Ok(());
            }
        }
    }
}

/// How much a client may do at once, and a peer.
fn settings(entry: &Entry, limits: &Limits) -> Builder {
    let mut settings = Builder::new();
    settings.enable_connect_protocol();
    settings.max_send_buffer_size(SEND_BUFFER);
    match entry.door {
        Door::Tunnel { .. } => {
            settings.max_concurrent_streams(TUNNEL_STREAMS);
            settings.initial_window_size(STREAM_WINDOW);
            settings.initial_connection_window_size(TUNNEL_WINDOW);
            settings.max_header_list_size(head_list(&limits.head(&entry.door)));
        }
        Door::PublicHttp | Door::PublicHttps { .. } | Door::Mesh { .. } => {
            settings.max_concurrent_streams(limits.streams);
            settings.initial_connection_window_size(limits.streams.saturating_mul(ONE_WINDOW).min(MOST_WINDOW));
            settings.max_header_list_size(u32::try_from(limits.head.header_bytes).unwrap_or(u32::MAX));
            settings.max_local_error_reset_streams(Some(BROKEN_STREAMS));
        }
    }
    settings
}

/// As RFC 9113 section 6.5.2 counts a head's bytes: with 32 for each field.
fn head_list(limits: &hygiene::Limits) -> u32 {
    let fields = limits.header_count.saturating_mul(32);
    u32::try_from(limits.header_bytes.saturating_add(fields)).unwrap_or(u32::MAX)
}

fn meter(entry: &Entry, limits: &Limits) -> Option<Meter> {
    match entry.door {
        Door::Tunnel { .. } => None,
        _ => Some(Meter::new(limits.frames(), std::time::Instant::now())),
    }
}

/// Why no request comes any more.
enum Over {
    Flood(Flood),
    /// The connection has ended, or broke.
    End(Option<h2::Error>),
}

/// Drives all of the connection's streams until a request comes.
async fn next<IO>(
    connection: &mut Connection<Metered<Gathering<IO>>, Bytes>,
    turns: &mut Turns<IO>,
    conduct: &Conduct,
) -> Result<(Request<RecvStream>, SendResponse<Bytes>), Over>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut accepting = pin!(connection.accept());
    poll_fn(|context| {
        let accepted = turns.poll(context, |context| accepting.as_mut().poll(context));
        if let Some(flood) = conduct.flood() {
            return Poll::Ready(Err(Over::Flood(flood)));
        }
        accepted.map(|accepted| match accepted {
            Some(Ok(request)) => Ok(request),
            Some(Err(error)) => Err(Over::End(Some(error))),
            None => Err(Over::End(None)),
        })
    })
    .await
}

/// Serves one request.
async fn answer<K: Keeper>(shared: Arc<Shared<K>>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let mut exchange = Http2Exchange::new(&shared.entry, &shared.conduct, request, respond);
    shared.keeper.serve(&mut exchange).await;
    exchange.finish();
}

/// Breaks off whatever is under way, and says why.
async fn dismiss<IO>(mut connection: Connection<Metered<Gathering<IO>>, Bytes>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let ended = timeout(FAREWELL, poll_fn(|context| connection.poll_closed(context))).await;
    if !matches!(ended, Ok(Ok(()))) {
        tracing::debug!("a client that floods the gateway was not told so");
    }
}

#[cfg(test)]
mod tests;

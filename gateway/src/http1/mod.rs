//! HTTP/1.0 and HTTP/1.1 from clients: a connection's requests, one after the other. Read [`serve`] first.
//!
//! Why it is ours: `docs/decisions/0005-http1.md`.

pub(crate) mod answer;
pub(crate) mod body;
mod exchange;
pub(crate) mod fields;
pub mod head;
mod wire;

use std::future::Future;
use std::time::Duration;

use decide::hygiene::Limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::exchange::{Entry, Exchange};
use crate::refusal::Refusal;
use crate::request;
use crate::runtime::Core;
use answer::Clock;
use exchange::{After, Http1Exchange};
use head::NoHead;
use wire::{Wire, within};

/// A new connection's first byte comes within this time.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// A head's last byte comes within this time after its first.
const HEAD: Duration = Duration::from_secs(10);
/// The next request on a connection begins within this time.
const IDLE: Duration = Duration::from_secs(75);
/// A stopping gateway waits so long for the next request on an idle connection, and tells its client to open another.
const LAST_REQUEST: Duration = Duration::from_secs(2);

/// What is done with a connection's requests.
pub trait Handler: Sync {
    /// Serves one, whatever comes of it.
    fn serve<E: Exchange>(&self, exchange: &mut E) -> impl Future<Output = ()> + Send;

    /// Answers one that cannot be served, because its head cannot be read.
    fn refuse<E: Exchange>(&self, exchange: &mut E, refusal: Refusal) -> impl Future<Output = ()> + Send;
}

impl Handler for Core {
    async fn serve<E: Exchange>(&self, exchange: &mut E) {
        request::serve(self, exchange).await;
    }

    async fn refuse<E: Exchange>(&self, exchange: &mut E, refusal: Refusal) {
        request::refuse(self, exchange, refusal).await;
    }
}

/// Serves the requests of one connection until it ends. When `stopping` becomes true, the next answer is the last one.
pub async fn serve<H, IO>(handler: &H, io: IO, entry: &Entry, limits: &Limits, mut stopping: watch::Receiver<bool>)
where
    H: Handler,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut wire, mut clock) = (Wire::new(io), Clock::default());
    let mut patience = FIRST_BYTE;
    while begins(&mut wire, patience, &mut stopping).await {
        // In a box, so that a connection without a request takes no room for one.
        let after = Box::pin(converse(handler, &mut wire, &mut clock, entry, limits, &stopping)).await;
        match after {
            After::Next => patience = IDLE,
            After::End => return wire.linger().await,
            After::Break => return,
        }
    }
    if wire.end().await.is_err() {
        tracing::trace!("an idle connection was gone already");
    }
}

/// Whether another request begins in time.
async fn begins<IO>(wire: &mut Wire<IO>, patience: Duration, stopping: &mut watch::Receiver<bool>) -> bool
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    if !wire.input.is_empty() {
        return true;
    }
    tokio::select! {
        biased;
        read = wire.fill(head::ROOM) => matches!(read, Ok(1..)),
        () = idle_for_too_long(patience, stopping) => false,
    }
}

/// When the gateway stops, idle connections are closed sooner, yet not so soon that it would cross a request that is on
/// its way.
async fn idle_for_too_long(patience: Duration, stopping: &mut watch::Receiver<bool>) {
    if timeout(patience, stopping.wait_for(|stopping| *stopping)).await.is_ok() {
        sleep(LAST_REQUEST).await;
    }
}

/// Reads one request, and has it answered.
async fn converse<H, IO>(
    handler: &H,
    wire: &mut Wire<IO>,
    clock: &mut Clock,
    entry: &Entry,
    limits: &Limits,
    stopping: &watch::Receiver<bool>,
) -> After
where
    H: Handler,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (head, refusal) = match within(HEAD, head::read(wire, limits)).await {
        Some(Ok(head)) => (head, None),
        Some(Err(NoHead::Gone)) => return After::Break,
        Some(Err(NoHead::Refused(refusal, head))) => (*head, Some(refusal)),
        // Empty lines are no request: whoever asks later must not take an answer to them for its own.
        None if wire.input.trim_ascii().is_empty() => return After::End,
        None => (head::sketch(&wire.input), Some(Refusal::HeadTimeout)),
    };
    let mut exchange = Http1Exchange::new(wire, clock, entry, stopping, head);
    match refusal {
        None => handler.serve(&mut exchange).await,
        Some(refusal) => handler.refuse(&mut exchange, refusal).await,
    }
    exchange.finish().await
}

#[cfg(test)]
mod tests;

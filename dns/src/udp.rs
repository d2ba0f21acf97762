//! Questions and answers in datagrams.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::datagrams::{Inbox, Outbox};
use crate::limit::{Limiter, Verdict};
use crate::message::{LONGEST_QUESTION, Responder, Transport};

/// How long to rest after an error of the socket, so that a lasting one does not fill the log or the processor.
const REST: Duration = Duration::from_millis(50);

/// Answers until shutdown, or until it is dropped, on a thread of its own: where several threads share a runtime, each
/// datagram that comes while one of them answers wakes another, which finds nothing to do.
pub(crate) async fn serve(
    socket: std::net::UdpSocket,
    responder: Arc<Responder>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let stop = shutdown.child_token();
    let _stops_when_dropped = stop.clone().drop_guard();
    let (ended, end) = oneshot::channel();
    // Whoever does not listen any more has dropped this future.
    let thread = move || drop(ended.send(run(socket, &responder, &stop)));
    thread::Builder::new().name("dns-udp".to_owned()).spawn(thread)?;
    end.await.unwrap_or_else(|_| Err(io::Error::other("the thread that answers over UDP panicked")))
}

fn run(socket: std::net::UdpSocket, responder: &Responder, stop: &CancellationToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = UdpSocket::from_std(socket)?;
        stop.run_until_cancelled(answer(&socket, responder)).await;
        Ok(())
    })
}

/// Answers for ever, one batch after another: an answer takes microseconds, and what can't be taken in time waits in
/// the kernel's buffer, which is bounded.
async fn answer(socket: &UdpSocket, responder: &Responder) {
    let mut limiter = Limiter::new();
    let start = Instant::now();
    let (mut inbox, mut outbox) = (Inbox::<LONGEST_QUESTION>::new(), Outbox::new());
    loop {
        if let Err(error) = socket.async_io(Interest::READABLE, || inbox.receive(socket)).await {
            warn!(%error, "cannot receive over UDP");
            tokio::time::sleep(REST).await;
            continue;
        }
        let now = start.elapsed();
        for (question, sender) in inbox.datagrams() {
            let verdict = sender.ip().map_or(Verdict::Drop, |ip| limiter.admit(ip, now));
            if let Some(answer) = respond(responder, question, verdict) {
                outbox.push(answer, sender);
            }
        }
        while !outbox.is_empty() {
            if socket.async_io(Interest::WRITABLE, || outbox.send(socket)).await.is_err() {
                outbox.skip();
                responder.metrics.dropped.send.inc();
            }
        }
    }
}

fn respond(responder: &Responder, question: &[u8], verdict: Verdict) -> Option<Vec<u8>> {
    let dropped = &responder.metrics.dropped;
    match verdict {
        Verdict::Answer => responder.respond(question, Transport::Udp),
        Verdict::Slip => {
            dropped.slipped.inc();
            responder.respond(question, Transport::Slip)
        }
        Verdict::Drop => {
            dropped.rate_limited.inc();
            None
        }
    }
}

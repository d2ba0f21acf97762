//! Questions and answers in datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tracing::warn;

use crate::limit::{Limiter, Verdict};
use crate::message::{LONGEST_QUESTION, Responder, Transport};

/// How long to rest after an error of the socket, so that a lasting one does not fill the log or the processor.
const REST: Duration = Duration::from_millis(50);

/// Answers for ever, one datagram after another: an answer takes microseconds, and what can't be taken in time waits in
/// the kernel's buffer, which is bounded.
pub(crate) async fn serve(socket: UdpSocket, responder: Arc<Responder>) {
    let mut limiter = Limiter::new();
    let start = Instant::now();
    let mut packet = vec![0; LONGEST_QUESTION];
    loop {
        let (length, client) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "cannot receive over UDP");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let verdict = limiter.admit(client.ip(), start.elapsed());
        let question = packet.get(..length).unwrap_or_default();
        if let Some(answer) = respond(&responder, question, client, verdict)
            && socket.send_to(&answer, client).await.is_err()
        {
            responder.metrics.dropped.send.inc();
        }
    }
}

fn respond(responder: &Responder, question: &[u8], client: SocketAddr, verdict: Verdict) -> Option<Vec<u8>> {
    let dropped = &responder.metrics.dropped;
    match verdict {
        Verdict::Answer => responder.respond(question, client, Transport::Udp),
        Verdict::Slip => {
            dropped.slipped.inc();
            responder.respond(question, client, Transport::Slip)
        }
        Verdict::Drop => {
            dropped.rate_limited.inc();
            None
        }
    }
}

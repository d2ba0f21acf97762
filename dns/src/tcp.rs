//! Questions and answers in streams: each message after its length in two bytes (RFC 7766, section 8).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::message::{LONGEST_QUESTION, Responder, Transport};

/// How many connections there may be at a time.
const MOST_CONNECTIONS: usize = 512;
/// How long one question and its answer may take, and so also how long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// How long to rest after an error of the listener: there may be no file descriptors left.
const REST: Duration = Duration::from_millis(50);

/// Serves for ever. Ends all connections when it is dropped.
pub(crate) async fn serve(listener: TcpListener, responder: Arc<Responder>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < MOST_CONNECTIONS => {
                connections.spawn(converse(stream, responder.clone()));
            }
            Ok(_) => responder.metrics.dropped.connections.inc(),
            Err(error) => {
                warn!(%error, "cannot accept over TCP");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Answers until the client leaves, is silent for too long, or sends what is not a question.
async fn converse(mut stream: TcpStream, responder: Arc<Responder>) {
    let mut buffer = Vec::new();
    while let Ok(Ok(true)) = timeout(IDLE, exchange(&mut stream, &responder, &mut buffer)).await {}
}

/// One question and its answer; tells whether to go on.
async fn exchange(stream: &mut TcpStream, responder: &Responder, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST_QUESTION {
        responder.metrics.dropped.malformed.inc();
        return Ok(false);
    }
    buffer.resize(length, 0);
    stream.read_exact(buffer).await?;
    let Some(answer) = responder.respond(buffer, Transport::Tcp) else { return Ok(false) };
    let Ok(length) = u16::try_from(answer.len()) else { return Ok(false) };
    // In one write, so that one segment holds both (RFC 7766, section 8).
    stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    Ok(true)
}

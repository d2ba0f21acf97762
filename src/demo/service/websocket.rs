//! A WebSocket that echoes: opened by an upgrade of HTTP/1.1 (RFC 6455), or by an extended CONNECT of HTTP/2 (RFC 8441).
//!
//! An echo needs no library: frames go back as they come, whatever message they are a part of.

use std::io::{Error, ErrorKind, Result};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::answer::{Body, empty, status};

/// What a server adds to a client's key to show that it speaks WebSocket (RFC 6455 section 1.3).
const PROOF: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longer frames end the connection, in bytes.
const LONGEST_FRAME: u64 = 1 << 20;

// RFC 6455 section 5.2.
const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const MASKED: u8 = 0x80;

/// Switches to WebSocket, or says why not.
pub fn open(mut request: Request<Incoming>) -> Response<Body> {
    let Some(response) = agree(&request) else { return status(StatusCode::UPGRADE_REQUIRED) };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(stream) = upgraded.await else { return };
        if let Err(error) = echo(BufReader::new(TokioIo::new(stream))).await {
            tracing::debug!(%error, "a WebSocket broke");
        }
    });
    response
}

/// The head that opens the WebSocket; `None` when the client asked for none.
fn agree(request: &Request<Incoming>) -> Option<Response<Body>> {
    if request.method() == Method::CONNECT {
        let protocol = request.extensions().get::<Protocol>()?;
        return (protocol.as_str() == "websocket").then(|| Response::new(empty()));
    }
    let upgrade = request.headers().get(UPGRADE)?;
    if !upgrade.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return None;
    }
    let accept = HeaderValue::from_str(&accept(request.headers().get(SEC_WEBSOCKET_KEY)?.as_bytes())).ok()?;
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    *response.headers_mut() = HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ]);
    Some(response)
}

fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, PROOF].concat()))
}

/// Sends back what comes, until a close.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    while let Some((first, payload)) = read(&mut stream).await? {
        let opcode = first & OPCODE;
        match opcode {
            PONG => continue,
            PING => write(&mut stream, FINAL | PONG, &payload).await?,
            _ => write(&mut stream, first, &payload).await?,
        }
        if opcode == CLOSE {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

/// A frame's first byte and its payload; `None` at the end of the connection.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(u8, Vec<u8>)>> {
    let first = match stream.read_u8().await {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        first => first?,
    };
    let second = stream.read_u8().await?;
    let length = match second & !MASKED {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    if second & MASKED == 0 || length > LONGEST_FRAME {
        return Err(Error::from(ErrorKind::InvalidData));
    }
    let mut key = [0; 4];
    stream.read_exact(&mut key).await?;
    let mut payload = vec![0; usize::try_from(length).map_err(Error::other)?];
    stream.read_exact(&mut payload).await?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Some((first, payload)))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), first: u8, payload: &[u8]) -> Result<()> {
    let mut frame = Vec::with_capacity(10 + payload.len());
    frame.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standards_example() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn frames_of_each_length_come_back_unmasked_and_a_ping_as_a_pong() {
        let (mut client, server) = tokio::io::duplex(1 << 18);
        let echoing = tokio::spawn(async move { echo(server).await.unwrap() });
        for (first, length, answered) in [(0x81, 5, 0x81), (0x02, 126, 0x02), (0x80, 70_000, 0x80), (0x89, 2, 0x8a)] {
            let mut masked = Vec::new();
            write(&mut masked, first, &vec![b'x' ^ 7; length]).await.unwrap();
            let head = masked.len() - length;
            *masked.get_mut(1).unwrap() |= MASKED;
            masked.splice(head..head, [7; 4]);
            client.write_all(&masked).await.unwrap();
            let mut expected = Vec::new();
            write(&mut expected, answered, &vec![b'x'; length]).await.unwrap();
            let mut echoed = vec![0; expected.len()];
            client.read_exact(&mut echoed).await.unwrap();
            assert!(echoed == expected, "{first:x} {length}");
        }
        drop(client);
        echoing.await.unwrap();
    }
}

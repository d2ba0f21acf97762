//! A WebSocket client: by an upgrade of HTTP/1.1 (RFC 6455) or by an extended CONNECT of HTTP/2 (RFC 8441).

use bytes::Bytes;
use h2::ext::Protocol;
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::http::{Outcome, PATIENCE, Wire};
use super::http2::{Http2, Incoming};
use super::{eventually, holds};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The key of the standard's example, and the proof that belongs to it (RFC 6455 section 1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// All masking keys are this one: nobody but tests reads along.
const MASK: u8 = 0x5a;

/// An open WebSocket.
pub struct WebSocket {
    stream: Box<dyn Wire>,
}

impl WebSocket {
    /// By an upgrade; `Err` is the head of whatever was answered instead.
    pub async fn upgrade(stream: impl Wire, authority: &str, path: &str) -> Outcome<WebSocket> {
        let mut stream: Box<dyn Wire> = Box::new(stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.map_err(|_| "no answer in time")?;
            head.push(byte.map_err(|error| format!("{error} after {:?}", String::from_utf8_lossy(&head)))?);
        }
        let head = String::from_utf8(head).unwrap();
        // All three are a must, and clients look (RFC 6455 section 4.1).
        let lower = head.to_ascii_lowercase();
        let agreed = lower.contains("\nconnection: upgrade\r\n") && lower.contains("\nupgrade: websocket\r\n");
        holds(head.starts_with("HTTP/1.1 101 ") && agreed && head.contains(PROOF), || head.clone())?;
        Ok(WebSocket { stream })
    }

    /// The head of an extended CONNECT, as soon as the server has said that it takes such.
    pub async fn request(connection: &Http2, path: &str) -> Request<()> {
        let offered = || std::future::ready(holds(connection.offers_extended_connect(), || "not offered".to_owned()));
        eventually("extended CONNECT is offered", offered).await;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = connection.uri(path);
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
        request
    }

    /// By an extended CONNECT.
    pub async fn connect(connection: &mut Http2, path: &str) -> Outcome<WebSocket> {
        let request = WebSocket::request(connection, path).await;
        let mut stream = connection.open(request).await?;
        let (head, incoming) = stream.answer().await?;
        holds(head.status() == StatusCode::OK, || format!("{head:?}"))?;
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(carry(theirs, stream.into_sender(), incoming));
        Ok(WebSocket { stream: Box::new(ours) })
    }

    /// Sends a whole message, masked as clients must.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ ..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([MASK; 4]);
        frame.extend(payload.iter().map(|byte| byte ^ MASK));
        self.stream.write_all(&frame).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next frame: its opcode, and its payload.
    pub async fn next(&mut self) -> (u8, Bytes) {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("a frame in time").unwrap()
    }

    async fn read(&mut self) -> std::io::Result<(u8, Bytes)> {
        let first = self.stream.read_u8().await?;
        let length = match self.stream.read_u8().await? {
            126 => self.stream.read_u16().await?.into(),
            127 => self.stream.read_u64().await?,
            short => short.into(),
        };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok((first & 0x0f, payload.into()))
    }

    /// Whether the other side has ended the connection.
    pub async fn has_ended(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut [0])).await.expect("it ends");
        read.map_or(true, |length| length == 0)
    }
}

/// Joins an HTTP/2 stream to a pipe that looks like a connection.
async fn carry(pipe: DuplexStream, mut up: h2::SendStream<Bytes>, mut down: Incoming) {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let upwards = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            if up.send_data(Bytes::copy_from_slice(&buffer[..length]), false).is_err() {
                return;
            }
        }
        _ = up.send_data(Bytes::new(), true);
    };
    let downwards = async {
        while let Ok(Some(part)) = down.part().await {
            if writer.write_all(&part).await.is_err() {
                return;
            }
        }
        _ = writer.shutdown().await;
    };
    tokio::join!(upwards, downwards);
}

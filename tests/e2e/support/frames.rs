//! HTTP/2 by hand, for what no library would send: frames (RFC 9113 section 6), and header blocks in the plainest HPACK
//! there is (RFC 7541 section 6.2.2, nothing indexed, nothing compressed).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::http::Client;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[high, middle, low, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// A header block of these fields, whatever is in them.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, 0, 7, text.len());
            block.extend(*text);
        }
    }
    block
}

/// RFC 7541 section 5.1.
pub fn integer(block: &mut Vec<u8>, pattern: u8, bits: u8, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        return block.push(pattern | u8::try_from(number).unwrap());
    }
    block.push(pattern | u8::try_from(most).unwrap());
    let mut rest = number - most;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// What came back on a stream, or for the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The first byte of the header block: HPACK's index for `:status`, where it is one of the static ones.
    Head(u8),
    Reset,
    /// GOAWAY, or the end.
    Closed,
    /// The answer to a PING that was sent after it all.
    Nothing,
}

/// A connection on which anything can be said.
pub struct Raw {
    pub stream: TlsStream<TcpStream>,
}

impl Raw {
    /// Opens one, with the preface and these settings.
    pub async fn open(client: &Client, at: SocketAddr, host: &str, settings: &[(u16, u32)]) -> Raw {
        let mut raw = Raw { stream: client.tls(at, host, b"h2").await.unwrap() };
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        raw.stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()).await.unwrap();
        raw
    }

    /// The next frame: its kind, flags, stream and payload. `None` at the end, however it comes.
    pub async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await.ok()?;
        let [high, middle, low, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// Sends these bytes, and says what they bring to stream 1.
    pub async fn ask(&mut self, bytes: &[u8]) -> Reply {
        const AFTERWARDS: &[u8; 8] = b"all said";
        if self.stream.write_all(bytes).await.is_err() {
            return Reply::Closed;
        }
        // Where this fails the end is read below.
        _ = self.stream.write_all(&frame(PING, 0, 0, AFTERWARDS)).await;
        let mut ponged = false;
        loop {
            // An answer that is under way may come after the PING's.
            let next = match ponged {
                true => tokio::time::timeout(std::time::Duration::from_secs(8), self.next()).await,
                false => Ok(self.next().await),
            };
            match next {
                Err(_) => return Reply::Nothing,
                Ok(None | Some((GOAWAY, ..))) => return Reply::Closed,
                Ok(Some((HEADERS, _, 1, payload))) => return Reply::Head(payload[0]),
                Ok(Some((RST_STREAM, _, 1, _))) => return Reply::Reset,
                Ok(Some((PING, ACK, _, payload))) if payload == AFTERWARDS => ponged = true,
                Ok(Some(_)) => {}
            }
        }
    }
}

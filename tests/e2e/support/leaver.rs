//! An instance that speaks HTTP/2 stream by stream, and leaves its connections when it is asked to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::frames::{ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, SETTINGS, frame};

/// - At `/leave` it says GOAWAY (RFC 9113 section 6.8), and goes on with what it has begun.
/// - Of `/held` the head comes at once, and the body at the sign.
/// - `/trailers` has such, harmless ones and others.
/// - A WebSocket gets one message.
/// - Anything else gets an empty answer.
#[derive(Clone, Default)]
pub struct Leaver {
    connections: Arc<AtomicUsize>,
    sign: Arc<Notify>,
}

impl Leaver {
    /// Serves until the test's runtime ends.
    pub async fn serve(at: SocketAddr) -> Leaver {
        let (leaver, listener) = (Leaver::default(), TcpListener::bind(at).await.unwrap());
        let serving = leaver.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().converse(stream));
            }
        });
        leaver
    }

    /// How many connections brought HTTP/2 so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Gives the sign.
    pub fn go_on(&self) {
        self.sign.notify_one();
    }

    async fn converse(self, stream: TcpStream) -> Result<(), h2::Error> {
        let mut connection = h2::server::Builder::new().enable_connect_protocol().handshake::<_, Bytes>(stream).await?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        while let Some(asked) = connection.accept().await {
            let (request, respond) = asked?;
            if request.uri().path() == "/leave" {
                connection.graceful_shutdown();
            }
            tokio::spawn(self.clone().answer(request, respond));
        }
        Ok(())
    }

    async fn answer(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
        let mut body = respond.send_response(Response::new(()), false)?;
        match request.uri().path() {
            _ if request.method() == Method::CONNECT => {
                body.send_data(Bytes::from_static(b"\x81\x05hello"), true)?;
            }
            "/held" => {
                self.sign.notified().await;
                body.send_data(Bytes::from_static(b"held"), true)?;
            }
            "/trailers" => {
                body.send_data(Bytes::from_static(b"hello"), false)?;
                body.send_trailers(trailers())?;
            }
            _ => body.send_data(Bytes::new(), true)?,
        }
        Ok(())
    }
}

/// Of each connection it answers the first request, and says of the second by GOAWAY that it has not seen it.
pub async fn hasty(at: SocketAddr) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_one(stream));
        }
    });
}

async fn answer_one(mut stream: TcpStream) -> std::io::Result<()> {
    const STATUS_200: u8 = 0x88;
    stream.read_exact(&mut [0; PREFACE.len()]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let [high, middle, low, kind, flags, id @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        stream.read_exact(&mut payload).await?;
        match (kind, u32::from_be_bytes(id)) {
            (SETTINGS | PING, _) if flags & ACK == 0 => {
                let payload = if kind == PING { &payload[..] } else { &[] };
                stream.write_all(&frame(kind, ACK, 0, payload)).await?;
            }
            (HEADERS, 1) => stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &[STATUS_200])).await?,
            // The last stream that it has seen, and no error.
            (HEADERS, _) => stream.write_all(&frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await?,
            _ => {}
        }
    }
}

fn trailers() -> HeaderMap {
    let fields = [("set-cookie", "a=b"), ("tombolo-served-by", "nobody"), ("x-end", "reached")];
    HeaderMap::from_iter(fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())))
}

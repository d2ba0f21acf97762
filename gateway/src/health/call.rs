//! What an active check asks over HTTP/2: a GET, or a call of gRPC's health protocol.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// The method of gRPC's health protocol that is called.
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// An empty `HealthCheckRequest`, which asks for the whole server: not compressed, and no bytes long.
const WHOLE_SERVER: [u8; 5] = [0; 5];
/// A `HealthCheckResponse` that says `SERVING`: its field 1 is the number 1.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 0x08, 0x01];

/// The status of the answer to a GET, by prior knowledge (RFC 9113 section 3.3).
pub(super) async fn get(stream: impl Io, at: SocketAddr, path: &str) -> io::Result<u16> {
    let head = head(Method::GET, at, path)?;
    over(stream, async |mut sender| {
        let (answer, _) = sender.send_request(head, true)?;
        Ok(answer.await?.status().as_u16())
    })
    .await
}

/// Whether the server says that it serves.
pub(super) async fn serves(stream: impl Io, at: SocketAddr) -> io::Result<bool> {
    let mut head = head(Method::POST, at, CHECK)?;
    head.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    head.headers_mut().insert(TE, http::HeaderValue::from_static("trailers"));
    over(stream, async |mut sender| {
        let (answer, mut body) = sender.send_request(head, false)?;
        body.send_data(Bytes::from_static(&WHOLE_SERVER), true)?;
        said(answer.await?).await
    })
    .await
}

/// Whether the server answers a PING (RFC 9113 section 6.7).
pub(super) async fn beats(stream: impl Io) -> io::Result<()> {
    let beating = async {
        let (_sender, mut connection) = h2::client::handshake::<_>(stream).await?;
        let mut pings = connection.ping_pong().ok_or(h2::Reason::INTERNAL_ERROR)?;
        tokio::select! {
            beat = pings.ping(h2::Ping::opaque()) => beat.map(drop),
            broken = &mut connection => broken.and(Err(h2::Reason::CANCEL.into())),
        }
    };
    beating.await.map_err(|error: h2::Error| io::Error::other(error))
}

async fn said(answer: Response<RecvStream>) -> Result<bool, h2::Error> {
    let (parts, mut body) = answer.into_parts();
    let mut message: Vec<u8> = Vec::with_capacity(SERVING.len() + 1);
    while let Some(part) = body.data().await {
        message.extend(part?.iter().take(SERVING.len() + 1));
        if message.len() > SERVING.len() {
            return Ok(false);
        }
    }
    let trailers = body.trailers().await?;
    Ok(message == SERVING && [Some(&parts.headers), trailers.as_ref()].into_iter().flatten().any(is_ok))
}

fn is_ok(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "0")
}

/// Opens HTTP/2 on the connection for one exchange.
async fn over<T>(
    stream: impl Io,
    exchange: impl AsyncFnOnce(SendRequest<Bytes>) -> Result<T, h2::Error>,
) -> io::Result<T> {
    let done = async {
        let (sender, connection) = h2::client::handshake(stream).await?;
        tokio::select! {
            done = exchange(sender.ready().await?) => done,
            broken = connection => match broken {
                Ok(()) => Err(h2::Reason::CANCEL.into()),
                Err(error) => Err(error),
            },
        }
    };
    done.await.map_err(io::Error::other)
}

fn head(method: Method, at: SocketAddr, path: &str) -> io::Result<Request<()>> {
    let uri = Uri::builder().scheme("http").authority(at.to_string()).path_and_query(path).build();
    let head = Request::builder()
        .method(method)
        .uri(uri.map_err(io::Error::other)?)
        .version(Version::HTTP_2)
        .header(USER_AGENT, "tombolo-health");
    head.body(()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;
    use tokio::net::{TcpListener, TcpStream};

    /// A server that answers one call with this message and this status.
    async fn server(message: &'static [u8], status: &'static str) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(listener.accept().await.unwrap().0).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), CHECK);
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(message), false).unwrap();
                let trailers =
                    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
                body.send_trailers(trailers).unwrap();
            }
        });
        TcpStream::connect(at).await.unwrap()
    }

    #[tokio::test]
    async fn only_serving_serves() {
        let ask = async |message, status| {
            let stream = server(message, status).await;
            let at = stream.peer_addr().unwrap();
            serves(stream, at).await.unwrap()
        };
        assert!(ask(&SERVING, "0").await);
        assert!(!ask(&[0, 0, 0, 0, 2, 0x08, 0x02], "0").await);
        assert!(!ask(&SERVING, "14").await);
        assert!(!ask(&[], "12").await);
        assert!(!ask(&[0; 64], "0").await);
    }
}

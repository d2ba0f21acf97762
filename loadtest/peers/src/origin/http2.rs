//! HTTP/2 with prior knowledge: a gRPC call's message comes back, everything else is answered with 1 KiB.

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

const WINDOW: u32 = 1 << 20;
static BODY: [u8; 1 << 10] = [b'x'; 1 << 10];

/// Answers requests until the client ends.
pub async fn serve(client: TcpStream) -> anyhow::Result<()> {
    let mut builder = server::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(16 * WINDOW).max_concurrent_streams(1_000);
    let mut connection = builder.handshake(client).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(answer(request, respond));
    }
    Ok(())
}

async fn answer(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> anyhow::Result<()> {
    let kind = request.headers().get(CONTENT_TYPE);
    let grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let message = read(request.into_body()).await?;
    if grpc { echo(respond, message) } else { plain(respond) }
}

fn echo(mut respond: SendResponse<Bytes>, message: Bytes) -> anyhow::Result<()> {
    let head = Response::builder().header(CONTENT_TYPE, "application/grpc").body(())?;
    let mut body = respond.send_response(head, false)?;
    body.send_data(message, false)?;
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    Ok(body.send_trailers(trailers)?)
}

fn plain(mut respond: SendResponse<Bytes>) -> anyhow::Result<()> {
    let head = Response::builder().header(CONTENT_TYPE, "text/plain").header("content-length", BODY.len()).body(())?;
    Ok(respond.send_response(head, false)?.send_data(Bytes::from_static(&BODY), true)?)
}

async fn read(mut body: RecvStream) -> anyhow::Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

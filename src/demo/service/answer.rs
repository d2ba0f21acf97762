//! What each path answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRAILER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Serialize;

use super::{Args, grpc, websocket};

/// What an answer carries.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;
/// An answer, or what broke while the request was read.
pub type Answer = Result<Response<Body>, hyper::Error>;

/// From one server-sent event to the next.
const PACE: Duration = Duration::from_millis(100);
/// What `/bytes` sends, again and again.
const CHUNK: &[u8] = &[b'.'; 64 << 10];

/// Answers one request.
pub async fn answer(me: Arc<Args>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    match first {
        "" => introduce(&me, request).await,
        "echo" => Ok(echo(request)),
        "count" => Ok(text(received(request).await?.to_string())),
        "bytes" => Ok(rest.parse().map_or_else(|_| status(StatusCode::BAD_REQUEST), bytes)),
        "events" => Ok(events(&request)),
        "delay" => {
            tokio::time::sleep(Duration::from_millis(rest.parse().unwrap_or(0))).await;
            introduce(&me, request).await
        }
        "status" => {
            received(request).await?;
            Ok(status(rest.parse().unwrap_or(StatusCode::BAD_REQUEST)))
        }
        "trailers" => Ok(trailers()),
        "ws" => Ok(websocket::open(request)),
        grpc::HEALTH | grpc::ECHO => grpc::answer(first, rest, request).await,
        _ => introduce(&me, request).await,
    }
}

/// Who answers, and what it was asked.
#[derive(Serialize)]
struct Introduction<'a> {
    cluster: &'a str,
    version: &'a str,
    instance: &'a str,
    host: Option<&'a str>,
    path: &'a str,
    #[serde(rename = "for")]
    caller: Option<&'a str>,
    received: usize,
}

async fn introduce(me: &Args, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let introduction = Introduction {
        cluster: &me.cluster,
        version: &me.version,
        instance: &me.name,
        host: header(HOST.as_str()).or_else(|| head.uri.authority().map(http::uri::Authority::as_str)),
        path: head.uri.path(),
        caller: header("x-forwarded-for"),
        received: length(body).await?,
    };
    let mut body = serde_json::to_vec(&introduction).unwrap_or_default();
    body.push(b'\n');
    Ok(with_type("application/json", full(body)))
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let mut response = Response::new(body.boxed_unsync());
    // HTTP/1.1 sends only such trailers as the head announces (RFC 9110 section 6.6.2).
    for name in [CONTENT_TYPE, TRAILER] {
        if let Some(value) = head.headers.remove(&name) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn bytes(count: u64) -> Response<Body> {
    let chunks = futures_util::stream::unfold(count, |left| async move {
        let length = left.min(CHUNK.len() as u64);
        let chunk = CHUNK.get(..usize::try_from(length).ok()?).filter(|chunk| !chunk.is_empty())?;
        Some((Ok(Frame::data(Bytes::from_static(chunk))), left - length))
    });
    let mut response = with_type("application/octet-stream", BodyExt::boxed_unsync(StreamBody::new(chunks)));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(count));
    response
}

fn events(request: &Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let count: u64 = query.split('&').find_map(|pair| pair.strip_prefix("n=")?.parse().ok()).unwrap_or(10);
    let events = futures_util::stream::iter(0..count).then(|number| async move {
        if number > 0 {
            tokio::time::sleep(PACE).await;
        }
        Ok(Frame::data(Bytes::from(format!("id: {number}\ndata: {number}\n\n"))))
    });
    let mut response = with_type("text/event-stream", BodyExt::boxed_unsync(StreamBody::new(events)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", HeaderValue::from_static("reached"));
    let data = Bytes::from_static(b"what follows this is a trailer\n");
    // A body of known length would leave HTTP/1.1 no place for trailers (RFC 9112 section 7.1.2).
    let frames = futures_util::stream::iter([Ok(Frame::data(data)), Ok(Frame::trailers(trailers))]);
    let mut response = with_type("text/plain", BodyExt::boxed_unsync(StreamBody::new(frames)));
    response.headers_mut().insert(TRAILER, HeaderValue::from_static("x-end"));
    response
}

async fn received(request: Request<Incoming>) -> Result<usize, hyper::Error> {
    length(request.into_body()).await
}

/// Reads a body to its end and keeps nothing of it.
pub async fn length(mut body: Incoming) -> Result<usize, hyper::Error> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(length)
}

fn text(text: String) -> Response<Body> {
    with_type("text/plain", full(text))
}

/// An answer that is a status and no more.
pub fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// An answer of this media type.
pub fn with_type(media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A body that is known whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

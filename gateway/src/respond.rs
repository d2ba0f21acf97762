//! A refusal becomes an answer: the only place that maps errors to responses.

use bytes::Bytes;
use decide::grpc;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pingora_http::ResponseHeader;

use crate::exchange::{Door, Exchange, Gone, change_headers};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::tunnel::metadata::REFUSAL;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Answers with the refusal, if the answer's head isn't out yet; a broken-off answer can only be cut, but for gRPC's,
/// whose status comes last.
pub async fn refuse<E: Exchange>(exchange: &mut E, refusal: Refusal, record: &mut Record) {
    record.refusal(refusal);
    if refusal.is_offence() {
        exchange.offend();
    }
    if record.answered() != 0 {
        return break_off(exchange, refusal).await;
    }
    if refusal.closes() {
        exchange.close();
    }
    if refusal == Refusal::ClientGone {
        return;
    }
    if speaks_grpc(exchange) {
        record.status(StatusCode::OK.as_u16());
        return refuse_call(exchange, refusal, record).await;
    }
    record.status(refusal.status().as_u16());
    let body = Bytes::from(format!("{}\n", refusal.message()));
    let Ok(head) = refusal_head(exchange, refusal, body.len()) else { return };
    if send(exchange, head, body, record).await.is_err() {
        record.refusal(Refusal::ClientGone);
    }
}

/// Between gateways a refusal stays one: the origin may try elsewhere.
fn speaks_grpc(exchange: &impl Exchange) -> bool {
    let head = exchange.head();
    let tunnelled = matches!(exchange.entry().door, Door::Tunnel { .. });
    !tunnelled && head.version == Version::HTTP_2 && grpc::is_grpc(&head.headers)
}

async fn break_off<E: Exchange>(exchange: &mut E, refusal: Refusal) {
    if refusal == Refusal::ClientGone || !speaks_grpc(exchange) {
        return exchange.close();
    }
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, grpc::Status::of(refusal.status()).value());
    trailers.insert(GRPC_MESSAGE, grpc::message(refusal.message()));
    if exchange.trailers(trailers).await.is_err() {
        exchange.close();
    }
}

/// An answer of gRPC that is nothing but its trailers.
async fn refuse_call<E: Exchange>(exchange: &mut E, refusal: Refusal, record: &mut Record) {
    let Ok(head) = call_head(refusal) else { return };
    if send(exchange, head, Bytes::new(), record).await.is_err() {
        record.refusal(Refusal::ClientGone);
    }
}

fn call_head(refusal: Refusal) -> Result<ResponseHeader, Box<pingora_error::Error>> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(3))?;
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))?;
    head.insert_header(GRPC_STATUS, grpc::Status::of(refusal.status()).value())?;
    head.insert_header(GRPC_MESSAGE, grpc::message(refusal.message()))?;
    Ok(head)
}

fn refusal_head(
    exchange: &impl Exchange,
    refusal: Refusal,
    length: usize,
) -> Result<ResponseHeader, Box<pingora_error::Error>> {
    let mut head = ResponseHeader::build(refusal.status(), Some(5))?;
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))?;
    head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    head.insert_header(CONTENT_LENGTH, HeaderValue::from(length))?;
    if refusal == Refusal::Overloaded {
        head.insert_header(RETRY_AFTER, HeaderValue::from_static("1"))?;
    }
    if matches!(exchange.entry().door, Door::Tunnel { .. }) {
        head.insert_header(REFUSAL, HeaderValue::from_static(refusal.code()))?;
    }
    Ok(head)
}

/// Sends clients of plain HTTP to the same place over HTTPS (RFC 9110 section 15.4.9: method and body are kept).
pub async fn redirect<E: Exchange>(exchange: &mut E, location: &str, record: &mut Record) -> Result<(), Refusal> {
    let wrong = |_| Refusal::Dirty("bad_target");
    let location = HeaderValue::from_str(location).map_err(|_| Refusal::Dirty("bad_target"))?;
    let mut head = ResponseHeader::build(308_u16, Some(2)).map_err(wrong)?;
    head.insert_header(LOCATION, location).map_err(wrong)?;
    head.insert_header(CONTENT_LENGTH, HeaderValue::from_static("0")).map_err(wrong)?;
    record.status(308);
    send(exchange, head, Bytes::new(), record).await.map_err(|_| Refusal::ClientGone)
}

async fn send<E: Exchange>(
    exchange: &mut E,
    mut head: ResponseHeader,
    body: Bytes,
    record: &mut Record,
) -> Result<(), Gone> {
    change_headers(&mut head, |headers| record.mark_answer(headers));
    let bodiless = exchange.head().method == http::Method::HEAD || body.is_empty();
    exchange.respond(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(());
    }
    record.bytes_out(body.len());
    exchange.write(body, true).await
}

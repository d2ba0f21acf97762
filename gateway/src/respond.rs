//! A refusal becomes an answer: the only place that maps errors to responses.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use pingora_http::ResponseHeader;

use crate::exchange::{Door, Exchange, Gone};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::tunnel::metadata::REFUSAL;

/// Answers with the refusal, if the answer's head isn't out yet; a broken-off answer can only be cut.
pub async fn refuse<E: Exchange>(exchange: &mut E, refusal: Refusal, record: &mut Record) {
    record.refusal(refusal);
    if refusal.closes() || record.answered() != 0 {
        exchange.close();
    }
    if record.answered() != 0 || refusal == Refusal::ClientGone {
        return;
    }
    record.status(refusal.status().as_u16());
    let body = Bytes::from(format!("{}\n", refusal.message()));
    let Ok(head) = refusal_head(exchange, refusal, body.len()) else { return };
    if send(exchange, head, body, record).await.is_err() {
        record.refusal(Refusal::ClientGone);
    }
}

fn refusal_head(
    exchange: &impl Exchange,
    refusal: Refusal,
    length: usize,
) -> Result<ResponseHeader, Box<pingora_error::Error>> {
    let mut head = ResponseHeader::build(refusal.status(), Some(4))?;
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))?;
    head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    head.insert_header(CONTENT_LENGTH, HeaderValue::from(length))?;
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
    head: ResponseHeader,
    body: Bytes,
    record: &mut Record,
) -> Result<(), Gone> {
    let bodiless = exchange.head().method == http::Method::HEAD || body.is_empty();
    exchange.respond(Box::new(head)).await?;
    if bodiless {
        return exchange.write(Bytes::new(), true).await;
    }
    record.bytes_out(body.len());
    exchange.write(body, true).await
}

//! The answer on its way back to the client.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use config::resource::Name;
use decide::headers::strip_from_trailers;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::time::Instant;

use super::Order;
use super::admit;
use super::attempt::{Answer, Held};
use super::replay::Replay;
use super::upload::{Step, Upload};
use crate::exchange::{Door, Exchange, Gone, change_headers};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::runtime::Core;
use crate::tunnel::metadata::{CHANGES, REFUSAL, SERVED_BY};
use crate::tunnel::report::BEAT;
use crate::tunnel::reports::Listener;
use crate::upstream::{Event, Receiving};

/// What a server adds to a client's key (RFC 6455 section 1.3).
const PROOF: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request that goes on for longer after its answer is cut.
const LAST_PARTS: Duration = Duration::from_secs(1);

/// No two reports of a tunnel follow one another sooner.
const REPORT_PAUSE: Duration = Duration::from_millis(20);

/// Sends the answer on: whole when it was held, else part by part as it comes.
pub async fn forward<E: Exchange>(
    exchange: &mut E,
    order: &Order,
    answer: Answer,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<(), Refusal> {
    let Answer { mut upload, mut receiving, mut head, held, instance: _ } = answer;
    let status = head.status;
    change_headers(&mut head, |headers| dress(exchange, order, &receiving, status, headers, record));
    record.status(status.as_u16());
    // A client of gRPC takes a head that is all of an answer for its trailers, but not when an empty body follows.
    let whole = held.is_none() && receiving.ended();
    exchange.respond(head, whole).await.map_err(|_| Refusal::ClientGone)?;
    match held {
        _ if whole => {}
        Some(held) if held.whole => send_held(exchange, held, record).await?,
        Some(held) => {
            for part in held.body {
                record.bytes_out(part.len());
                exchange.write(part, false).await.map_err(|_| Refusal::ClientGone)?;
            }
            stream(exchange, order, &mut upload, &mut receiving, replay, record).await?;
        }
        None => stream(exchange, order, &mut upload, &mut receiving, replay, record).await?,
    }
    finish_upload(exchange, &mut upload, replay, record).await;
    match upload.is_done() {
        true => receiving.finish(),
        // What is left of the request would be taken for the next one.
        false => exchange.close(),
    }
    Ok(())
}

/// An answer often overtakes the last part, or only the end, of its request: then both connections can go on.
async fn finish_upload<E: Exchange>(exchange: &mut E, upload: &mut Upload, replay: &mut Replay, record: &mut Record) {
    if upload.is_stopped() || upload.is_done() {
        return;
    }
    let rest =
        async { while !upload.is_done() && matches!(upload.step(exchange, replay, record).await, Ok(Step::Moved)) {} };
    if tokio::time::timeout(LAST_PARTS, rest).await.is_err() {
        tracing::trace!("a request went on after its answer");
    }
}

/// Headers that belong to a hop go, and who served is told to whom it concerns.
fn dress<E: Exchange>(
    exchange: &E,
    order: &Order,
    from: &Receiving,
    status: StatusCode,
    headers: &mut HeaderMap,
    record: &mut Record,
) {
    for name in decide::headers::hop_by_hop(headers) {
        headers.remove(name);
    }
    headers.remove(REFUSAL);
    if let Some(switch) = order.outgoing.switch.filter(|_| status == StatusCode::SWITCHING_PROTOCOLS) {
        // Whether the session's protocol has such headers is its own matter.
        prove(exchange.head(), headers);
        headers.insert(UPGRADE, HeaderValue::from_static(switch.token()));
    }
    record.mark_answer(headers);
    let told = headers.remove(SERVED_BY);
    let Some(served_by) = from.served_by().cloned().or(told) else { return };
    record.served_by(served_by.to_str().unwrap_or_default());
    if order.tells_server || matches!(exchange.entry().door, Door::Tunnel { .. }) {
        headers.insert(SERVED_BY, served_by);
    }
}

/// An instance of HTTP/2 agrees without the proof that a client of HTTP/1.1 waits for (RFC 8441 section 5, RFC 6455
/// section 4.2.2).
fn prove(asked: &RequestHeader, headers: &mut HeaderMap) {
    let Some(key) = asked.headers.get(SEC_WEBSOCKET_KEY) else { return };
    if headers.contains_key(SEC_WEBSOCKET_ACCEPT) {
        return;
    }
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), PROOF].concat());
    if let Ok(proof) = HeaderValue::from_str(&STANDARD.encode(proof)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, proof);
    }
}

async fn send_held<E: Exchange>(exchange: &mut E, held: Held, record: &mut Record) -> Result<(), Refusal> {
    let Held { body, trailers, .. } = held;
    let last = body.len().checked_sub(1).filter(|_| trailers.is_none());
    for (index, part) in body.into_iter().enumerate() {
        record.bytes_out(part.len());
        exchange.write(part, Some(index) == last).await.map_err(|_| Refusal::ClientGone)?;
    }
    if last.is_some() { Ok(()) } else { end(exchange, trailers).await }
}

async fn end<E: Exchange>(exchange: &mut E, trailers: Option<HeaderMap>) -> Result<(), Refusal> {
    let ended = match trailers {
        Some(mut trailers) => {
            strip_from_trailers(&mut trailers);
            exchange.trailers(trailers).await
        }
        None => exchange.write(Bytes::new(), true).await,
    };
    ended.map_err(|_| Refusal::ClientGone)
}

/// Passes the answer on while it comes, and what is left of the request's body the other way.
async fn stream<E: Exchange>(
    exchange: &mut E,
    order: &Order,
    upload: &mut Upload,
    receiving: &mut Receiving,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<(), Refusal> {
    let silence = tokio::time::sleep(order.patience.pause);
    tokio::pin!(silence);
    loop {
        let event = tokio::select! {
            event = receiving.next() => event.map_err(|error| {
                record.failure(&"the answer broke off", &error);
                Refusal::InstanceReset
            })?,
            step = upload.step(exchange, replay, record) => {
                step?;
                silence.as_mut().reset(Instant::now() + order.patience.pause);
                continue;
            }
            () = &mut silence => return Err(Refusal::InstanceTimeout),
        };
        match event {
            Event::Body(part) => {
                record.bytes_out(part.len());
                exchange.write(part, false).await.map_err(|_| Refusal::ClientGone)?;
                silence.as_mut().reset(Instant::now() + order.patience.pause);
            }
            Event::Trailers(trailers) => return end(exchange, Some(trailers)).await,
            Event::End => return end(exchange, None).await,
        }
    }
}

/// Tells a peer gateway how this one is, for as long as it listens and this one takes requests.
pub async fn report<E: Exchange>(core: &Core, exchange: &mut E, global_namespace: &Name, told: Option<&Name>) {
    if say(core, exchange, global_namespace, told).await.is_err() {
        tracing::debug!(%global_namespace, "a peer listens no more");
    }
}

async fn say<E: Exchange>(
    core: &Core,
    exchange: &mut E,
    global_namespace: &Name,
    told: Option<&Name>,
) -> Result<(), Gone> {
    let wants_changes = exchange.head().headers.contains_key(CHANGES);
    let mut head = ResponseHeader::build(200_u16, Some(2)).map_err(|_| Gone)?;
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")).map_err(|_| Gone)?;
    head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store")).map_err(|_| Gone)?;
    exchange.respond(Box::new(head), false).await?;
    let (mut changes, mut shutdown) = (core.changes.subscribe(), exchange.entry().lifetime.ending());
    let mut said = None;
    while !*shutdown.borrow_and_update() && admit::peer_of(&core.plan.load(), exchange.entry()).is_some() {
        changes.mark_unchanged();
        let (number, line) = core.report(Listener { global_namespace, told, said, changes: wants_changes });
        said = Some(number);
        exchange.write(line, false).await?;
        tokio::select! {
            _ = changes.changed() => {}
            _ = shutdown.changed() => {}
            () = tokio::time::sleep(BEAT) => {}
        }
        tokio::time::sleep(REPORT_PAUSE).await;
    }
    exchange.write(Bytes::new(), true).await
}

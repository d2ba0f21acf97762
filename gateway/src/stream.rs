//! ★ The life of a stream, in order: admitted, connected, carried, recorded. A stream is a connection whose bytes are
//! passed on unread: of a service's port of protocol `tcp` or `tls`, or TLS that is passed through by the name that the
//! client asks for.

mod admit;
mod attempt;
mod carry;
mod ends;
mod pipe;
mod plain;

use std::sync::Arc;
use std::time::Duration;

use config::resource::TlsMode;
use decide::proxy_header::Addresses;
use tokio_rustls::server::TlsStream;

use crate::choose::{self, Tried, Wanted};
use crate::exchange::{Door, Entry, Proven};
use crate::listener::opening::Inbound;
use crate::plan::Plan;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::runtime::Core;
use crate::tunnel::stream::Asked;
use attempt::{Connected, Upstream};
use ends::{Client, Workload};
pub use pipe::Pipes;

/// No more attempts are made. None of the stream's bytes has gone out before the last of them, so each may go anywhere.
const MOST_ATTEMPTS: u32 = 3;

/// A peer gateway says what it wants within this time.
const ASKING: Duration = Duration::from_secs(5);

/// What a stream was found to want, once it is known that it may have it.
struct Order {
    wanted: Wanted,
    /// Between whom the client's connection was made.
    between: Addresses,
    /// Who called, where that is proven here.
    caller: Option<Arc<Proven>>,
}

/// What is found for a connection whose TLS is passed through, without its being served; nothing for any other.
pub fn foresee(plan: &Plan, entry: &Entry) -> Option<Result<Wanted, Refusal>> {
    let Door::PublicHttps { sni } = &entry.door else { return None };
    plan.hosts.get(sni).filter(|planned| planned.host.mode == TlsMode::Passthrough)?;
    Some(admit::from_outside(plan, sni))
}

/// Serves a stream from a workload, or from outside.
pub async fn serve(core: &Core, client: Inbound, entry: &Entry, between: Addresses) {
    serve_as(core, client, entry, between).await;
}

/// Serves a stream from a workload that has proved who it is.
pub async fn serve_proven(core: &Core, client: Box<TlsStream<Inbound>>, entry: &Entry, between: Addresses) {
    serve_as(core, Workload(client), entry, between).await;
}

async fn serve_as<C: Client>(core: &Core, client: C, entry: &Entry, between: Addresses) {
    let _in_flight = core.begin();
    let plan = core.plan.get();
    let order = admit::admit(&plan, entry, between);
    fulfil(core, plan, client, order, core.log.begin_stream(entry)).await;
}

/// Serves a stream that a peer gateway hands over.
pub async fn serve_peer(core: &Core, mut peer: TlsStream<Inbound>, entry: &Entry) {
    let _in_flight = core.begin();
    let mut record = core.log.begin_stream(entry);
    let asked = tokio::time::timeout(ASKING, Asked::read(&mut peer)).await.unwrap_or(Err(Refusal::ClientGone));
    if let Ok(Asked { source: Some(source), .. }) = &asked {
        record.source(source);
    }
    let plan = core.plan.get();
    let order = asked.and_then(|asked| admit::from_peer(&plan, entry, asked));
    fulfil(core, plan, peer, order, record).await;
}

async fn fulfil<C: Client>(
    core: &Core,
    plan: Arc<Plan>,
    mut client: C,
    order: Result<Order, Refusal>,
    mut record: Record,
) {
    let connected = match order {
        Ok(order) => connect(core, &plan, &order, &mut record).await,
        Err(refusal) => Err(refusal),
    };
    // A long stream must not keep an old plan in memory.
    drop(plan);
    let ended = match (client.answer(&connected).await, connected) {
        (_, Err(refusal)) => Err(refusal),
        (Err(_), Ok(_)) => Err(Refusal::ClientGone),
        (Ok(()), Ok(Connected { upstream: Upstream::Instance(io), .. })) => {
            carry::carry(client, io, &core.pipes, &mut record).await
        }
        (Ok(()), Ok(Connected { upstream: Upstream::Peer(io), .. })) => {
            carry::carry(client, *io, &core.pipes, &mut record).await
        }
    };
    if let Err(refusal) = ended {
        core.metrics.refused(refusal.code());
        record.refusal(refusal);
    }
    core.log.write(record);
}

/// Tries until an instance takes the stream, or none is left.
async fn connect(core: &Core, plan: &Plan, order: &Order, record: &mut Record) -> Result<Connected, Refusal> {
    let service = &order.wanted.service.service;
    record.service(&service.global_namespace, &service.name);
    let mut tried = Tried::default();
    loop {
        let number = record.attempts() + 1;
        record.attempt();
        let Some(destination) = choose::next(core, plan, &order.wanted, &tried, number) else {
            return Err(tried.last_refusal().unwrap_or(Refusal::NoInstance));
        };
        let failure = match attempt::connect(core, plan, order, &destination).await {
            Ok(connected) => {
                record.served_by(&connected.served_by);
                order.wanted.service.metrics.streams.inc();
                return Ok(connected);
            }
            Err(failure) => failure,
        };
        record.failure(&destination, &failure);
        let refusal = failure.refusal();
        tried.add(destination, refusal);
        if number == MOST_ATTEMPTS {
            return Err(refusal);
        }
    }
}

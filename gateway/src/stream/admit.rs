//! What a stream wants, and whether it may have it. Pure but for the plan it reads.

use std::sync::Arc;

use config::resource::{Host, Name, Protocol, TlsMode};
use config::snapshot::PublicHost;
use decide::proxy_header::Addresses;

use super::Order;
use crate::access::{self, Called};
use crate::choose::{Reach, Wanted};
use crate::exchange::{Door, Entry};
use crate::plan::{MeshPort, Plan};
use crate::refusal::Refusal;
use crate::request;
use crate::tunnel::metadata::Received;
use crate::tunnel::stream::Asked;

/// Decides about a stream by its connection alone.
pub(super) fn admit(plan: &Plan, entry: &Entry, between: Addresses) -> Result<Order, Refusal> {
    let wanted = match &entry.door {
        Door::Mesh { .. } => from_workload(plan, entry),
        Door::PublicHttps { sni } => from_outside(plan, sni),
        Door::PublicHttp | Door::Tunnel { .. } => Err(Refusal::WrongProtocol),
    };
    Ok(Order { wanted: wanted?, between, caller: entry.door.caller().cloned() })
}

/// A workload may call the services of its own GNS. The port says which: its bytes name no version and no cluster.
fn from_workload(plan: &Plan, entry: &Entry) -> Result<Wanted, Refusal> {
    let Some(MeshPort::Stream(service)) = plan.mesh.get(&entry.port) else { return Err(Refusal::UnknownPort) };
    let gns = plan.snapshot.namespaces.get(&service.service.global_namespace).ok_or(Refusal::UnknownService)?;
    let called = access::workload(plan, entry, gns, Some(service))?;
    wanted(called, entry.port, None, Reach::Everywhere, None, &[Protocol::Tcp, Protocol::Tls])
}

/// From outside, the name that TLS is opened for says which.
pub(super) fn from_outside(plan: &Plan, sni: &Host) -> Result<Wanted, Refusal> {
    let passed = plan.hosts.get(sni).filter(|planned| planned.host.mode == TlsMode::Passthrough);
    let planned = passed.ok_or(Refusal::UnknownHost)?;
    let route = planned.routes.last().ok_or(Refusal::UnknownService)?;
    let service = route.service.as_ref().ok_or(Refusal::UnknownService)?;
    wanted((service, None), route.port, None, Reach::Everywhere, Some(planned.host.clone()), &[Protocol::Tls])
}

/// A peer gateway may only ask for services of the tunnel's GNS, in this cluster.
pub(super) fn from_peer(plan: &Plan, entry: &Entry, asked: Asked) -> Result<Order, Refusal> {
    let Door::Tunnel { global_namespace, peer } = &entry.door else { return Err(Refusal::ForbiddenPeer) };
    request::peer_of(plan, entry).ok_or(Refusal::ForbiddenPeer)?;
    let Asked { wanted: Received { cluster, service, port, version }, between, source } = asked;
    if cluster != plan.snapshot.place.cluster {
        return Err(Refusal::NotForHere);
    }
    let service = plan.service(global_namespace, service.as_str()).ok_or(Refusal::UnknownService)?;
    let from = access::peer(plan, global_namespace, peer, source.as_deref(), &service.service)?;
    let streams = [Protocol::Tcp, Protocol::Tls];
    Ok(Order { wanted: wanted((service, from), port, version, Reach::Here, None, &streams)?, between, caller: None })
}

fn wanted(
    (service, from): Called<'_>,
    port: u16,
    version: Option<Name>,
    reach: Reach,
    published: Option<Arc<PublicHost>>,
    spoken: &[Protocol],
) -> Result<Wanted, Refusal> {
    let planned = service.ports.get(&port).ok_or(Refusal::UnknownPort)?;
    match spoken.contains(&planned.protocol) {
        true => Ok(Wanted { service: service.clone(), port, version, from, reach, published }),
        false => Err(Refusal::WrongProtocol),
    }
}

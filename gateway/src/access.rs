//! Who may call what: within a global namespace everybody, as its mTLS mode has it; across its boundary nobody but whom
//! an access policy lets in, and only by mutual TLS. Asked at the origin gateway and again at the destination.

use std::sync::Arc;

use config::resource::{MtlsMode, Name};
use config::snapshot::{Allowed, Namespace, Service};
use identity::{Role, SpiffeId};

use crate::exchange::{Entry, Proven};
use crate::plan::{Peer, Plan, PlannedService};
use crate::refusal::Refusal;

/// A service, and the GNS from which it is called, when that is another than its own.
pub type Called<'p> = (&'p Arc<PlannedService>, Option<Name>);

/// Whether a workload of this cluster may call the service of the GNS, if there is such a one: who may not call learns
/// nothing of that.
pub fn workload<'p>(
    plan: &Plan,
    entry: &Entry,
    gns: &Namespace,
    service: Option<&'p Arc<PlannedService>>,
) -> Result<Called<'p>, Refusal> {
    match entry.door.caller() {
        None => by_address(plan, entry, gns, service),
        Some(proven) => by_certificate(plan, proven, gns, service),
    }
}

/// An address proves nothing beyond the boundary of its GNS.
fn by_address<'p>(
    plan: &Plan,
    entry: &Entry,
    gns: &Namespace,
    service: Option<&'p Arc<PlannedService>>,
) -> Result<Called<'p>, Refusal> {
    let caller = &plan.snapshot.caller(entry.client).ok_or(Refusal::UnknownCaller)?.global_namespace;
    if *caller != gns.name {
        let lets_in = |service: &Arc<PlannedService>| {
            service.service.allowed.iter().any(|allowed| allowed.global_namespace == *caller)
        };
        return Err(if service.is_some_and(lets_in) { Refusal::IdentityRequired } else { Refusal::ForeignCaller });
    }
    match gns.mtls {
        MtlsMode::Strict => Err(Refusal::IdentityRequired),
        MtlsMode::Permissive | MtlsMode::Off => Ok((service.ok_or(Refusal::UnknownService)?, None)),
    }
}

fn by_certificate<'p>(
    plan: &Plan,
    caller: &Proven,
    gns: &Namespace,
    service: Option<&'p Arc<PlannedService>>,
) -> Result<Called<'p>, Refusal> {
    if caller.opened_for != gns.name {
        return Err(Refusal::Misdirected);
    }
    if gns.mtls == MtlsMode::Off {
        return Err(Refusal::PlainTextOnly);
    }
    let is_of = |gns: &Name| {
        plan.snapshot.is_of(gns, caller.id.trust_domain().as_str(), caller.id.cluster().unwrap_or_default())
    };
    if !gns.visited && is_of(&gns.name) {
        return Ok((service.ok_or(Refusal::UnknownService)?, None));
    }
    let lets_in = |allowed: &&Allowed| is_of(&allowed.global_namespace) && is_service(allowed, service_of(&caller.id));
    let service = service.ok_or(Refusal::ForeignCaller)?;
    let allowed = service.service.allowed.iter().find(lets_in).ok_or(Refusal::ForeignCaller)?;
    Ok((service, Some(allowed.global_namespace.clone())))
}

/// Whether a peer gateway may ask for the service, for the sake of whoever it says has called. Of its own cluster and GNS
/// it may say who called; of nobody else. Returns the GNS that the call comes from, when that is another.
pub fn peer(
    plan: &Plan,
    gns: &Name,
    peer: &SpiffeId,
    source: Option<&str>,
    service: &Service,
) -> Result<Option<Name>, Refusal> {
    let of = plan.peer(gns, peer).ok_or(Refusal::ForbiddenPeer)?;
    let caller = match source {
        Some(source) => Some(asserted(peer, source).ok_or(Refusal::ForbiddenPeer)?),
        None => None,
    };
    let Peer::Other(other) = of else { return Ok(None) };
    let caller = caller.ok_or(Refusal::ForbiddenPeer)?;
    let lets_in = |allowed: &Allowed| allowed.global_namespace == *other && is_service(allowed, Some(caller));
    match service.allowed.iter().any(lets_in) {
        true => Ok(Some(other.clone())),
        false => Err(Refusal::ForeignCaller),
    }
}

/// The service in the SPIFFE ID of a workload of the peer's own trust domain and cluster.
fn asserted<'s>(peer: &SpiffeId, source: &'s str) -> Option<&'s str> {
    let rest = source.strip_prefix("spiffe://")?.strip_prefix(peer.trust_domain().as_str())?;
    let rest = rest.strip_prefix("/cluster/")?.strip_prefix(peer.cluster()?)?;
    let (namespace, service) = rest.strip_prefix("/ns/")?.split_once("/svc/")?;
    (Name::fits(namespace) && Name::fits(service)).then_some(service)
}

fn is_service(allowed: &Allowed, caller: Option<&str>) -> bool {
    allowed.service.as_ref().is_none_or(|service| caller == Some(service.as_str()))
}

fn service_of(id: &SpiffeId) -> Option<&str> {
    match id.role() {
        Role::Workload { service, .. } => Some(service),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gateway_speaks_for_workloads_of_its_own_cluster_and_trust_domain_only() {
        let peer: SpiffeId = "spiffe://shop.mesh/cluster/north/gateway/gw".parse().unwrap();
        assert_eq!(asserted(&peer, "spiffe://shop.mesh/cluster/north/ns/shop/svc/cart"), Some("cart"));
        for wrong in [
            "",
            "cart",
            "spiffe://shop.mesh",
            "spiffe://bank.mesh/cluster/north/ns/shop/svc/cart",
            "spiffe://shop.mesh.evil/cluster/north/ns/shop/svc/cart",
            "spiffe://shop.mesh/cluster/south/ns/shop/svc/cart",
            "spiffe://shop.mesh/cluster/north-2/ns/shop/svc/cart",
            "spiffe://shop.mesh/cluster/north/gateway/gw",
            "spiffe://shop.mesh/cluster/north/ns/shop/svc/cart/svc/pay",
            "spiffe://shop.mesh/cluster/north/ns/shop/svc/",
            "spiffe://shop.mesh/cluster/north/ns/shop/svc/Cart",
            " spiffe://shop.mesh/cluster/north/ns/shop/svc/cart",
        ] {
            assert_eq!(asserted(&peer, wrong), None, "{wrong}");
        }
    }
}

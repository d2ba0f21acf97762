//! For whom a request is asked about.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use config::explain::{Asked, Caller, Hop, Scheme, Step};
use config::resource::Name;
use identity::{Role, SpiffeId};

use crate::exchange::{Door, Entry, Proven};
use crate::plan::{Plan, PlannedService};

/// The connection that the caller would open on a service's port, in which it asks for a gateway of `opened_for`.
pub(super) fn on_service_port(plan: &Plan, asked: &Asked, opened_for: Option<&Name>) -> Result<Entry, Step> {
    let address = address(plan, &asked.caller);
    let door = match (asked.scheme, opened_for) {
        (Scheme::Http, _) | (Scheme::Https, None) => {
            if address.is_none() {
                return Err(nowhere(plan, &asked.caller));
            }
            Door::mesh()
        }
        (Scheme::Https, Some(gns)) => {
            Door::Mesh { caller: Some(Arc::new(Proven::new(identity(plan, &asked.caller, address)?, gns.clone()))) }
        }
    };
    Ok(Entry::new(door, address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), asked.port))
}

/// From where it calls.
fn address(plan: &Plan, caller: &Caller) -> Option<IpAddr> {
    match caller {
        Caller::Outside => None,
        Caller::Address(address) => Some(*address),
        Caller::Service { address: Some(address), .. } => Some(*address),
        Caller::Service { service, global_namespace, .. } => {
            let services = services(plan, service, global_namespace.as_ref());
            let instances = services.flat_map(|of| of.service.versions.values()).flat_map(|version| &version.instances);
            instances.map(|endpoint| endpoint.address).next()
        }
    }
}

fn services<'p>(
    plan: &'p Plan,
    name: &'p Name,
    gns: Option<&'p Name>,
) -> impl Iterator<Item = &'p Arc<PlannedService>> {
    let of_gns = plan.services.iter().filter(move |(of, _)| gns.is_none_or(|gns| *of == gns));
    of_gns.filter_map(|(_, services)| services.get(name))
}

/// The SPIFFE ID in the certificate that it would show.
fn identity(plan: &Plan, caller: &Caller, address: Option<IpAddr>) -> Result<SpiffeId, Step> {
    let Caller::Service { service, namespace, global_namespace, .. } = caller else {
        let what = "it is not known which certificate a caller shows of whom only the address is known";
        return Err(Step::unknown(Hop::Access, what).remedy("name the service: --from CLUSTER/SERVICE"));
    };
    let row = address.and_then(|address| plan.snapshot.caller(address));
    let namespace = namespace.clone().or_else(|| Some(row?.namespace.clone()));
    let here = || services(plan, service, None).next().map(|known| known.service.global_namespace.clone());
    let gns = global_namespace.clone().or_else(|| Some(row?.global_namespace.clone())).or_else(here);
    let domain = gns.as_ref().and_then(|gns| plan.beliefs.get(gns)).map(|belief| belief.domain.clone());
    let id = domain.zip(namespace).and_then(|(domain, namespace)| {
        let cluster = plan.snapshot.place.cluster.to_string();
        let role = Role::Workload { cluster, namespace: namespace.to_string(), service: service.to_string() };
        SpiffeId::new(domain, role).ok()
    });
    id.ok_or_else(|| {
        Step::failed(Hop::Access, format!("service {service} can have no certificate that is believed here"))
            .about(format_args!("Cluster/{}", plan.snapshot.place.cluster))
            .remedy("let a member row of a GlobalNamespace match its namespace")
    })
}

fn nowhere(plan: &Plan, caller: &Caller) -> Step {
    let cluster = &plan.snapshot.place.cluster;
    let step = |what: String| Step::unknown(Hop::Access, what).about(format_args!("Cluster/{cluster}"));
    match caller {
        Caller::Service { service, .. } => step(format!(
            "no instance of service {service} is known in cluster {cluster}, so that nobody knows from which address it calls"
        ))
        .remedy("name the address from which it calls: --from CLUSTER/ADDRESS"),
        _ => step("nobody is said to call".to_owned()).remedy("name the caller: --from CLUSTER/SERVICE"),
    }
}

//! What is asked about, and whether the caller may know.

use std::net::IpAddr;

use config::explain::{Asked, Caller, Hop, Origin, Step, Tunnelled, Who};
use config::resource::{Name, PublicServiceSpec, ResourceId, Spec};
use identity::{Role, SpiffeId};

use super::Explain;
use crate::access::{Inspect, Permit};
use crate::global::error::Error;
use crate::global::view::{View, global_namespaces, public_services};
use crate::http::message::ErrorItem;

/// A request, and where it comes in.
pub(super) struct Scope {
    pub(super) asked: Asked,
    /// Those into whose gateways it may come.
    pub(super) clusters: Vec<Name>,
    /// By the gateways' public addresses, and not by those for workloads.
    pub(super) public: bool,
    pub(super) at: Option<IpAddr>,
    /// What the host is of.
    pub(super) resource: String,
    /// The service that a name of a GNS means, and the GNS.
    pub(super) service: Option<(Name, String)>,
    /// The resources that say what becomes of the request, and when each became what it is.
    pub(super) concerned: Vec<(ResourceId, u64)>,
}

impl Scope {
    /// Whether what a gateway wants others to be asked is what was asked of it, in its own name: no gateway has those of
    /// another GNS say what they would do for whom it likes.
    pub(super) fn may_ask(&self, (cluster, gateway): (&Name, &Name), question: &Tunnelled) -> bool {
        let own = question.peer.parse::<SpiffeId>().is_ok_and(|peer| {
            *peer.role() == Role::Gateway { cluster: cluster.to_string(), name: gateway.to_string() }
        });
        let same = question.method == self.asked.method && question.authority == self.asked.authority;
        let gns = ResourceId::GlobalNamespace(question.global_namespace.clone());
        own && same && self.concerned.iter().any(|(id, _)| *id == gns)
    }
}

/// Where a request comes in; else why it comes in nowhere.
pub(super) fn scope(view: &View, permit: &Permit<Inspect>, explain: &Explain) -> Result<Result<Scope, Step>, Error> {
    let asked = Asked::of(&explain.method, &explain.url, Caller::Outside).map_err(|error| invalid(&error))?;
    let host = asked.host();
    let published = public_services(&view.desired).find(|(_, spec)| holds(spec, &host));
    if let Some((id, spec)) = published.filter(|(_, spec)| permit.covers(&spec.global_namespace)) {
        return Ok(Ok(from_outside(view, asked, explain.at, (id, spec))));
    }
    let internal = global_namespaces(&view.desired).find(|(_, spec)| spec.domain.labels_of(&host).is_some());
    let internal = internal.filter(|(gns, _)| permit.covers(gns));
    let origin = explain.from.as_deref().map(str::parse::<Origin>).transpose().map_err(|error| invalid(&error))?;
    match (internal, origin) {
        (None, _) => Ok(Err(unknown(&host))),
        (Some((gns, _)), None) => Ok(Err(inside(&host, gns))),
        (Some((gns, spec)), Some(origin)) => {
            let caller = caller(view, permit, &origin)?;
            let resource = ResourceId::GlobalNamespace(gns.clone());
            let policies = view.desired.resources.keys().filter(
                |id| matches!(id, ResourceId::AccessPolicy { global_namespace, .. } if global_namespace == gns),
            );
            let cluster = ResourceId::Cluster(origin.cluster.clone());
            let below = spec.domain.labels_of(&host).and_then(|below| below.rsplit('.').next()).unwrap_or_default();
            let service = Some((gns.clone(), below.to_owned()));
            let concerned = concerned(view, policies.chain([&resource, &cluster]));
            let asked = Asked { caller, ..asked };
            let (clusters, resource) = (vec![origin.cluster], resource.to_string());
            Ok(Ok(Scope { asked, clusters, public: false, at: explain.at, resource, service, concerned }))
        }
    }
}

fn invalid(error: &dyn std::error::Error) -> Error {
    Error::Invalid(vec![ErrorItem::of(error.to_string())])
}

fn holds(spec: &PublicServiceSpec, host: &str) -> bool {
    spec.hosts.iter().any(|entry| entry.name.as_str() == host)
}

fn from_outside(view: &View, asked: Asked, at: Option<IpAddr>, (id, spec): (&ResourceId, &PublicServiceSpec)) -> Scope {
    let gns = ResourceId::GlobalNamespace(spec.global_namespace.clone());
    let clusters = view.members(&spec.global_namespace).into_iter().cloned().collect();
    let concerned = concerned(view, [id, &gns].into_iter());
    Scope { asked, clusters, public: true, at, resource: id.to_string(), service: None, concerned }
}

fn concerned<'i>(view: &View, ids: impl Iterator<Item = &'i ResourceId>) -> Vec<(ResourceId, u64)> {
    ids.filter_map(|id| Some((id.clone(), view.desired.resources.get(id)?.revision))).collect()
}

fn unknown(host: &str) -> Step {
    Step::failed(
        Hop::Route,
        format!("no PublicService publishes {host}, and it is in the domain of no GlobalNamespace"),
    )
    .remedy(format!("correct the URL, or apply a PublicService with the host {host}"))
}

fn inside(host: &str, gns: &Name) -> Step {
    Step::failed(Hop::Route, format!("{host} is a name of global namespace {gns}, which nobody outside it can call"))
        .about(format_args!("GlobalNamespace/{gns}"))
        .remedy("say who calls: --from CLUSTER/SERVICE; or publish the service with a PublicService")
}

/// Who calls, as the cluster's gateways are told.
fn caller(view: &View, permit: &Permit<Inspect>, origin: &Origin) -> Result<Caller, Error> {
    let id = ResourceId::Cluster(origin.cluster.clone());
    let Some(Spec::Cluster(spec)) = view.desired.resources.get(&id).map(|stored| &stored.resource.spec) else {
        return Err(Error::NotFound(id));
    };
    let membership = view.membership();
    let owner = |namespace: &Name| membership.owner(&origin.cluster, namespace);
    let (namespace, service) = match &origin.who {
        Who::Address(address) => {
            let row =
                spec.workloads.iter().filter(|row| row.cidr.contains(*address)).max_by_key(|row| row.cidr.prefix());
            let gns = row.and_then(|row| owner(&row.namespace));
            return match gns.is_none_or(|gns| permit.covers(gns)) {
                true => Ok(Caller::Address(*address)),
                false => Err(Error::NotFound(id)),
            };
        }
        Who::Service(namespace, service) => (namespace.as_ref(), service),
    };
    let seen = view.observed.get(&origin.cluster).into_iter().flat_map(|seen| seen.resources());
    let found = seen.filter_map(|resource| match (&resource.id, &resource.spec) {
        (ResourceId::Service { namespace: of, name, .. }, Spec::Service(spec))
            if name == service && namespace.is_none_or(|namespace| namespace == of) =>
        {
            Some((of, spec))
        }
        _ => None,
    });
    let found: Vec<_> = found.filter(|(of, _)| owner(of).map_or(permit.oversees(), |gns| permit.covers(gns))).collect();
    match found.as_slice() {
        [(namespace, spec)] => Ok(Caller::Service {
            global_namespace: owner(namespace).cloned(),
            namespace: Some((*namespace).clone()),
            service: service.clone(),
            address: spec
                .versions
                .iter()
                .flat_map(|version| &version.instances)
                .map(|instance| instance.address)
                .next(),
        }),
        [] => Err(Error::Invalid(vec![ErrorItem::of(format!(
            "{origin}: the agent of cluster {} sees no such service; name its address instead: {}/ADDRESS",
            origin.cluster, origin.cluster
        ))])),
        several => {
            let namespaces = several.iter().map(|(namespace, _)| namespace.to_string()).collect::<Vec<_>>().join(", ");
            Err(Error::Invalid(vec![ErrorItem::of(format!(
                "{origin}: such a service is in the namespaces {namespaces}: name one, as in {}/NAMESPACE/{service}",
                origin.cluster
            ))]))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Of a request to `cart` in `shop`, as the gateway `gw` of north was asked about it.
    fn scope() -> Scope {
        let caller = Caller::Address("192.0.2.1".parse().unwrap());
        Scope {
            asked: Asked::of("GET", "http://cart.shop.internal:8080/", caller).unwrap(),
            clusters: vec!["north".parse().unwrap()],
            public: false,
            at: None,
            resource: "GlobalNamespace/shop".to_owned(),
            service: None,
            concerned: vec![(ResourceId::GlobalNamespace("shop".parse().unwrap()), 1)],
        }
    }

    fn question() -> Tunnelled {
        Tunnelled {
            method: "GET".to_owned(),
            authority: "cart.shop.internal:8080".to_owned(),
            target: "/".to_owned(),
            global_namespace: "shop".parse().unwrap(),
            service: "cart".parse().unwrap(),
            port: 8080,
            version: None,
            peer: "spiffe://shop.mesh/cluster/north/gateway/gw".to_owned(),
            source: None,
        }
    }

    #[test]
    fn a_gateway_has_others_asked_in_its_own_name_about_the_request_that_it_was_asked_about() {
        let (north, gateway): (Name, Name) = ("north".parse().unwrap(), "gw".parse().unwrap());
        let may = |question: Tunnelled| scope().may_ask((&north, &gateway), &question);
        assert!(may(question()));
        let peer = |role: &str| Tunnelled { peer: format!("spiffe://shop.mesh/cluster/{role}"), ..question() };
        for other in ["north/gateway/gw-b", "south/gateway/gw", "north/ns/shop/svc/gw", "north"] {
            assert!(!may(peer(other)), "{other}");
        }
        assert!(!may(Tunnelled { peer: "gw".to_owned(), ..question() }));
        assert!(!may(Tunnelled { method: "POST".to_owned(), ..question() }));
        assert!(!may(Tunnelled { authority: "pay.shop.internal:8080".to_owned(), ..question() }));
        assert!(!may(Tunnelled { global_namespace: "bank".parse().unwrap(), ..question() }));
    }
}

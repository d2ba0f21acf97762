//! Why a request is refused, what is behind that, and what to do.

use config::explain::{Hop, Step};
use config::snapshot::Namespace;

use super::door::{host_of, unpublished};
use crate::exchange::{Door, Entry};
use crate::plan::{Plan, PlannedHost, PlannedRoute};
use crate::refusal::Refusal;

/// A request that is refused.
pub(super) struct Refused<'r> {
    pub(super) plan: &'r Plan,
    pub(super) entry: &'r Entry,
    pub(super) authority: &'r str,
    pub(super) target: &'r str,
}

impl Refused<'_> {
    /// The step at which it ends.
    pub(super) fn step(&self, refusal: Refusal) -> Step {
        let step = match refusal {
            Refusal::UnknownHost => self.unknown_host(),
            Refusal::Misdirected => self.misdirected(),
            Refusal::UnknownCaller => self.unknown_caller(),
            Refusal::ForeignCaller => self.foreign_caller(),
            Refusal::IdentityRequired => self.in_namespace(
                Hop::Access,
                "asks its callers to prove who they are (mtls: strict, or a caller of another global namespace)",
                "call https:// with a certificate of the mesh, or write mtls: permissive",
            ),
            Refusal::PlainTextOnly => self.in_namespace(
                Hop::Access,
                "is called in plain text only (mtls: off)",
                "call http://, or write mtls: permissive",
            ),
            Refusal::ForbiddenPeer => self.forbidden_peer(),
            Refusal::NotForHere => Step::failed(Hop::Route, "the request is for another cluster"),
            Refusal::UnknownService => self.unknown_service(),
            Refusal::UnknownPort => self.unknown_port(),
            Refusal::WrongProtocol => self.wrong_protocol(),
            other => return malformed(other),
        };
        coded(step, refusal)
    }

    fn host(&self) -> &str {
        host_of(self.authority)
    }

    /// The host of a GNS, and what stands before its domain.
    fn namespace(&self) -> Option<(&Namespace, &str)> {
        let (gns, below) = self.plan.snapshot.namespace_of(self.host())?;
        Some((gns, below.rsplit('.').next().unwrap_or(below)))
    }

    fn published(&self) -> Option<&PlannedHost> {
        self.plan.hosts.get(self.host()).map(|planned| &**planned)
    }

    fn in_namespace(&self, hop: Hop, what: &str, remedy: &str) -> Step {
        match self.namespace() {
            Some((gns, _)) => Step::failed(hop, format!("global namespace {} {what}", gns.name))
                .about(format_args!("GlobalNamespace/{}", gns.name))
                .remedy(format!("{remedy} in GlobalNamespace/{}", gns.name)),
            None => Step::failed(hop, what).remedy(remedy),
        }
    }

    fn unknown_host(&self) -> Step {
        if let Some(planned) = self.published() {
            let step = Step::failed(Hop::Route, format!("{} is not published in plain text", planned.host.host));
            return step
                .about(&planned.host.public_service)
                .remedy("call https://, or write tls.mode: redirect in the PublicService");
        }
        match (&self.entry.door, self.namespace()) {
            (Door::Mesh { .. }, Some((gns, service))) => {
                let what = format!("{} names no version and no cluster of {service}", self.host());
                Step::failed(Hop::Route, what)
                    .about(format_args!("service {}/{service}", gns.name))
                    .remedy(format!("call {service}.{}, or correct what stands before it", gns.domain))
            }
            (Door::Mesh { .. }, None) => {
                let what = format!("{} is in the domain of no global namespace of this cluster", self.host());
                let cluster = &self.plan.snapshot.place.cluster;
                Step::failed(Hop::Route, what)
                    .about(format_args!("Cluster/{cluster}"))
                    .remedy("correct the host, or let a member row of its GlobalNamespace match this cluster")
            }
            _ => unpublished(self.host()),
        }
    }

    fn misdirected(&self) -> Step {
        let step = Step::failed(Hop::Route, format!("TLS was opened for another host than {}", self.authority));
        let step = match self.published() {
            Some(planned) => step.about(&planned.host.public_service),
            None => step,
        };
        step.remedy("open TLS for the host that the request names")
    }

    fn unknown_caller(&self) -> Step {
        let cluster = &self.plan.snapshot.place.cluster;
        let what = format!("the caller's address {} stands in no namespace of a global namespace", self.entry.client);
        Step::failed(Hop::Access, what)
            .about(format_args!("Cluster/{cluster}"))
            .remedy(format!("add a row for it to spec.workloads of Cluster/{cluster}"))
    }

    fn foreign_caller(&self) -> Step {
        let caller = match self.entry.door.caller() {
            Some(proven) => proven.id.to_string(),
            None => match self.plan.snapshot.caller(self.entry.client) {
                Some(row) => format!("a caller of global namespace {}", row.global_namespace),
                None => self.entry.client.to_string(),
            },
        };
        let gns = self.namespace().map(|(gns, service)| (&gns.name, service));
        let Some((gns, service)) = gns else {
            return Step::failed(Hop::Access, format!("{caller} may not call that"));
        };
        Step::failed(Hop::Access, format!("no AccessPolicy lets {caller} call {service} of {gns}"))
            .about(format_args!("GlobalNamespace/{gns}"))
            .remedy(format!(
                "apply an AccessPolicy of {gns} whose `from` names the caller and whose `to` names {service}"
            ))
    }

    fn forbidden_peer(&self) -> Step {
        let (gns, peer) = match &self.entry.door {
            Door::Tunnel { global_namespace, peer } => (global_namespace.to_string(), peer.to_string()),
            _ => (String::new(), "the peer".to_owned()),
        };
        Step::failed(Hop::Access, format!("{peer} may not ask for that here"))
            .about(format_args!("GlobalNamespace/{gns}"))
            .remedy("see that its cluster is a member, and not revoked: `tombolo certs`")
    }

    fn unknown_service(&self) -> Step {
        if let Some(planned) = self.published() {
            let route = planned.routes.find(self.target, PlannedRoute::pattern);
            let host = planned.host.routes.iter().find(|known| route.is_some_and(|route| route.path == known.path));
            let service = host.map_or_else(String::new, |route| format!(" {}", route.service));
            let gns = &planned.host.global_namespace;
            return Step::failed(Hop::Route, format!("there is no service{service} in {gns}, to which the path leads"))
                .about(&planned.host.public_service)
                .remedy("start the service, or correct spec.service or spec.routes of the PublicService");
        }
        match self.namespace() {
            Some((gns, service)) => Step::failed(Hop::Route, format!("there is no service {service} in {}", gns.name))
                .about(format_args!("GlobalNamespace/{}", gns.name))
                .remedy(format!("start it in a member namespace of {}, or correct the host", gns.name)),
            None => Step::failed(Hop::Route, "the service is not known here")
                .remedy("see whether this gateway follows its agent: `tombolo status`"),
        }
    }

    fn unknown_port(&self) -> Step {
        let service = match (self.published(), self.namespace()) {
            (Some(planned), _) => {
                planned.routes.find(self.target, PlannedRoute::pattern).and_then(|route| route.service.clone())
            }
            (None, Some((gns, service))) => self.plan.service(&gns.name, service).cloned(),
            (None, None) => None,
        };
        let step = Step::failed(Hop::Route, "the service has no such port");
        let Some(known) = service else { return step };
        let ports: Vec<_> = known.ports.keys().map(u16::to_string).collect();
        let about = match self.published() {
            Some(planned) => planned.host.public_service.to_string(),
            None => format!("service {}/{}", known.service.global_namespace, known.service.name),
        };
        step.about(about).remedy(format!("use one of the ports of {}: {}", known.service.name, ports.join(", ")))
    }

    fn wrong_protocol(&self) -> Step {
        let step = Step::failed(Hop::Route, "the service's port speaks no HTTP");
        let step = match (self.published(), self.namespace()) {
            (Some(planned), _) => step.about(&planned.host.public_service),
            (None, Some((gns, service))) => step.about(format_args!("service {}/{service}", gns.name)),
            (None, None) => step,
        };
        step.remedy("correct the port's protocol in the Service, or publish it with tls.mode: passthrough")
    }
}

/// With what stands in log and metric.
fn coded(step: Step, refusal: Refusal) -> Step {
    let what = format!("{} ({}, status {})", step.what, refusal.code(), refusal.status().as_u16());
    Step { what, ..step }
}

/// It is the request itself.
pub(super) fn malformed(refusal: Refusal) -> Step {
    let said = refusal.message().trim_end_matches('.');
    let step = Step::failed(Hop::Request, said)
        .about("the request")
        .remedy("send a request that RFC 9110 and RFC 9112 allow, within the gateway's limits");
    coded(step, refusal)
}

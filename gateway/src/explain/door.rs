//! Where a request comes in: whether there is a port for it, and who speaks TLS on it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use config::explain::{Asked, Caller, Hop, Scheme, Step};
use config::resource::{Host, TlsMode};
use identity::{Facts, pem};
use time::OffsetDateTime;

use super::caller;
use super::certificate::out_of_date;
use crate::exchange::{Door, Entry};
use crate::listener::workload;
use crate::plan::{MeshPort, Plan, PlannedHost};
use crate::runtime::Core;

/// The connection by which the request would come in; else the step at which it ends.
pub(super) fn enter(core: &Core, plan: &Plan, asked: &Asked, steps: &mut Vec<Step>) -> Result<Entry, Step> {
    if core.is_draining() {
        let what = "this gateway is stopping: it takes no new connections before long";
        return Err(Step::failed(Hop::Member, what).remedy("wait for its successor, or start it again"));
    }
    match asked.caller {
        Caller::Outside => public(core, plan, asked, steps),
        Caller::Service { .. } | Caller::Address(_) => of_service(core, plan, asked, steps),
    }
}

fn public(core: &Core, plan: &Plan, asked: &Asked, steps: &mut Vec<Step>) -> Result<Entry, Step> {
    let (at, flag) = match asked.scheme {
        Scheme::Http => (core.settings.http, "--http-port"),
        Scheme::Https => (core.settings.https, "--https-port"),
    };
    let (scheme, port) = (asked.scheme.as_str(), asked.port);
    let listens = at.filter(|at| at.port() == port);
    let at = listens.ok_or_else(|| {
        let elsewhere = at.map_or_else(|| "nowhere".to_owned(), |at| format!("on port {}", at.port()));
        let what = format!("this gateway takes public {scheme} {elsewhere}, not on port {port}");
        Step::failed(Hop::Listener, what).remedy(format!("correct the port of the URL, or the gateway's {flag}"))
    })?;
    steps.push(Step::ok(Hop::Listener, format!("listens for public {scheme} on {at}")));
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    match asked.scheme {
        Scheme::Http => Ok(Entry::new(Door::PublicHttp, nobody, port)),
        Scheme::Https => {
            let sni = handshake(plan, asked, steps)?;
            Ok(Entry::new(Door::PublicHttps { sni }, nobody, port))
        }
    }
}

/// The name that TLS is opened for.
fn handshake(plan: &Plan, asked: &Asked, steps: &mut Vec<Step>) -> Result<Host, Step> {
    let name = host_of(&asked.authority);
    let known = name.parse::<Host>().ok().and_then(|host| Some((host.clone(), plan.hosts.get(&host)?)));
    let (host, planned) = known.ok_or_else(|| unpublished(name))?;
    if planned.host.mode != TlsMode::Passthrough {
        steps.push(certificate(planned)?);
    }
    Ok(host)
}

/// The host in an authority, as far as it is one.
pub(super) fn host_of(authority: &str) -> &str {
    let end = authority.rfind(':').filter(|_| !authority.ends_with(']')).unwrap_or(authority.len());
    authority.get(..end).unwrap_or(authority)
}

/// There is nothing of that name here.
pub(super) fn unpublished(host: &str) -> Step {
    Step::failed(Hop::Route, format!("no host {host} is published here"))
        .remedy(format!("apply a PublicService with the host {host}, or correct the URL"))
}

/// Whether clients can believe what the host shows.
fn certificate(planned: &PlannedHost) -> Result<Step, Step> {
    let (host, public) = (&planned.host, &planned.host.public_service);
    let failed = |what: String| Step::failed(Hop::Tls, what).about(public);
    if host.mode == TlsMode::Http {
        return Err(failed(format!("{} is published in plain text only", host.host))
            .remedy("call http://, or write tls.mode: https in the PublicService"));
    }
    let tls = planned.tls.as_ref().ok_or_else(|| {
        let (what, remedy) = match &host.certificate {
            None => ("there is no certificate", "see its conditions: `tombolo describe` says which is missing"),
            Some(_) => ("the key of its certificate is not here", "see that the agent follows the controller"),
        };
        failed(format!("{}: {what}", host.host)).remedy(remedy)
    })?;
    let chain = pem::decode_certificates(&tls.source.chain).ok();
    let facts = chain.as_deref().and_then(<[_]>::first).and_then(|leaf| Facts::read(leaf).ok());
    let facts = facts.ok_or_else(|| failed(format!("the certificate of {} cannot be read", host.host)))?;
    if let Some(why) = out_of_date(&facts, OffsetDateTime::now_utc()) {
        return Err(
            failed(format!("the certificate of {} {why}", host.host)).remedy("apply a Certificate that is valid")
        );
    }
    match facts.covers(host.host.as_str()) {
        true => Ok(Step::ok(Hop::Tls, format!("shows a certificate for {} until {}", host.host, facts.not_after))
            .about(public)),
        false => Err(failed(format!("the certificate is for {}, not for {}", facts.dns_names.join(", "), host.host))
            .remedy("apply a Certificate that names the host")),
    }
}

fn of_service(core: &Core, plan: &Plan, asked: &Asked, steps: &mut Vec<Step>) -> Result<Entry, Step> {
    let port = asked.port;
    let failed = |what: String, remedy: &str| Step::failed(Hop::Listener, what).remedy(remedy);
    let ip = core
        .settings
        .mesh
        .ok_or_else(|| failed("this gateway does not listen for workloads".to_owned(), "start it without --no-mesh"))?;
    match plan.mesh.get(&port) {
        Some(MeshPort::Http) => {}
        Some(MeshPort::Stream(_)) => {
            // Whose it is, is the business of its own global namespace.
            let what = format!("port {port} is that of a service that speaks no HTTP");
            return Err(failed(what, "call a port that speaks HTTP"));
        }
        None => return Err(no_port(plan, asked)),
    }
    let at = SocketAddr::new(ip, port);
    if !core.sockets.all().iter().any(|socket| socket.local_addr().is_ok_and(|bound| bound == at)) {
        return Err(failed(
            format!("{at} cannot be bound"),
            "end the process that holds the port; the gateway tries again",
        ));
    }
    steps.push(Step::ok(Hop::Listener, format!("listens for workloads on {at}")));
    let opened_for = match asked.scheme {
        Scheme::Http => None,
        Scheme::Https => {
            let asks = workload::asked(plan, Some(host_of(&asked.authority).to_owned()));
            let (_, gns) = asks.map_err(|error| {
                let step = Step::failed(Hop::Tls, error.to_string());
                let gns = plan.snapshot.namespace_of(host_of(&asked.authority)).map(|(gns, _)| &gns.name);
                gns.map_or_else(|| step.clone(), |gns| step.clone().about(format_args!("GlobalNamespace/{gns}")))
                    .remedy("call in plain text, or a host of a global namespace that speaks TLS here")
            })?;
            steps.push(Step::ok(Hop::Tls, format!("speaks mutual TLS for {gns}")));
            Some(gns)
        }
    };
    caller::on_service_port(plan, asked, opened_for.as_ref())
}

/// Nobody listens there; perhaps the service has other ports.
fn no_port(plan: &Plan, asked: &Asked) -> Step {
    let (host, port) = (host_of(&asked.authority), asked.port);
    let service = plan.snapshot.namespace_of(host).and_then(|(gns, below)| {
        let name = below.rsplit('.').next()?;
        plan.service(&gns.name, name)
    });
    let step = Step::failed(Hop::Listener, format!("no service of this cluster's global namespaces has port {port}"));
    match service.map(Arc::as_ref) {
        Some(known) => {
            let ports: Vec<_> = known.ports.keys().map(u16::to_string).collect();
            step.about(format_args!("service {}/{}", known.service.global_namespace, known.service.name))
                .remedy(format!("call one of its ports: {}", ports.join(", ")))
        }
        None => step.remedy("correct the port of the URL, or add it to spec.ports of the Service"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_no_part_of_the_host() {
        for (authority, host) in
            [("a.example:80", "a.example"), ("a.example", "a.example"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(host_of(authority), host);
        }
    }
}

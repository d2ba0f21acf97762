//! Whether the instances of this cluster that requests go to answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use config::explain::{Hop, Step, Verdict};
use config::resource::{HealthProtocol, Name, Protocol};
use decide::health::{State, Why};
use futures_util::future::join_all;

use crate::choose::Wanted;
use crate::health::Target;
use crate::health::checker::inside;
use crate::health::probe::{Checked, Found, look, speaks};
use crate::plan::{Plan, PlannedService, Pool};
use crate::upstream::pool::connect;
use crate::upstream::secure::{Inside, Security};

/// An instance has so long to answer, or as long as its checks have.
const PATIENCE: Duration = Duration::from_millis(350);
/// But no longer than this, so that whoever asked still hears of it.
const LONGEST: Duration = Duration::from_millis(750);
/// No more instances are tried.
const MOST: usize = 256;
/// So many of the same kind are told of.
const TOLD: usize = 4;

/// How the instances of a pool are, and whether requests find any.
pub(super) async fn walk(plan: &Plan, wanted: &Wanted, pool: &Pool) -> Vec<Step> {
    let service = &wanted.service;
    let panic = service.panic.load(Ordering::Relaxed);
    let mut all: Vec<_> = pool.takers(panic).collect();
    all.sort_by_key(|(_, takes)| !takes);
    let untried = all.len().saturating_sub(MOST);
    let tried = all.into_iter().take(MOST).map(async |(target, takes)| Tried {
        name: String::from_utf8_lossy(target.served_by.as_bytes()).into_owned(),
        state: target.health.state(),
        takes,
        found: attempt(service, target).await,
    });
    let tried = join_all(tried).await;
    if tried.is_empty() {
        return vec![none(plan, wanted)];
    }
    let mut steps = tell(&tried, service, pool.targets.len());
    if untried > 0 {
        let about = name(service);
        steps.push(
            Step::unknown(Hop::Endpoint, format!("{untried} more instances of {about} were not tried")).about(&about),
        );
    }
    steps
}

/// An instance, and what was found of it.
struct Tried {
    name: String,
    state: State,
    /// Whether requests go to it now.
    takes: bool,
    found: Result<(), Fault>,
}

/// Why an instance doesn't answer.
struct Fault {
    hop: Hop,
    what: String,
    remedy: &'static str,
}

/// Asks an instance in the way that requests do, and as its checks do; the same at once, where that is the same.
async fn attempt(service: &PlannedService, target: &Target) -> Result<(), Fault> {
    let (connections, check) = (&target.connections, &service.service.health_check);
    let security = &connections.security;
    if matches!(security, Security::Missing) {
        let what = "this gateway has no identity with which to dial it".to_owned();
        return Err(Fault { hop: Hop::Tls, what, remedy: "see that the agent runs: it certifies the gateway" });
    }
    let mut secured = false;
    if security.is_mutual() {
        // So that a closed port is told from a handshake that fails.
        connect(connections.address).await.map_err(|error| unreached(&error.to_string()))?;
        secured = true;
    }
    let patience = PATIENCE.max(check.timeout.duration()).min(LONGEST);
    let checked_at = target.health.checked_at();
    let same = checked_at == Some(connections.address) && check.protocol != HealthProtocol::Tcp;
    if !same {
        let inside = spoken(target.protocol);
        let at = Checked { address: connections.address, security: security.clone(), inside };
        fault(speaks(&at, target.protocol, patience).await, secured)?;
    }
    let Some(address) = checked_at else { return Ok(()) };
    let at = Checked { address, security: security.clone(), inside: inside(&service.service) };
    fault(look(&at, check, patience).await, secured)
}

/// What requests speak inside TLS.
fn spoken(protocol: Protocol) -> Inside {
    match protocol {
        Protocol::Http => Inside::Http1,
        Protocol::Http2 | Protocol::Grpc => Inside::Http2,
        Protocol::Tcp | Protocol::Tls => Inside::Stream,
    }
}

fn fault(found: Found, secured: bool) -> Result<(), Fault> {
    let what = match found {
        Found::Well => return Ok(()),
        Found::Broken(error) if secured => {
            let remedy = "give the instance a certificate of the mesh, or take tls: mesh from its version";
            return Err(Fault { hop: Hop::Tls, what: format!("{error}"), remedy });
        }
        Found::Broken(error) => return Err(unreached(&error.to_string())),
        Found::Late(_) => found.to_string(),
        Found::Status(_) | Found::NotServing => {
            let remedy = "mend the instance, or the healthCheck of its service";
            return Err(Fault { hop: Hop::Endpoint, what: found.to_string(), remedy });
        }
        Found::NoHttp => {
            let remedy = "correct the protocol of the service's port, or what listens there; an instance that wants mutual TLS \
                          is of a version with tls: mesh";
            return Err(Fault { hop: Hop::Endpoint, what: found.to_string(), remedy });
        }
    };
    Err(Fault { hop: Hop::Endpoint, what, remedy: "see what the instance does, and whether its machine is up" })
}

fn unreached(error: &str) -> Fault {
    let (what, remedy) = match error.contains("refused") {
        true => (
            "its port is closed: the connection is refused".to_owned(),
            "start the instance, or correct its address and port",
        ),
        false => (format!("it cannot be reached: {error}"), "see whether its machine is up, and what is between"),
    };
    Fault { hop: Hop::Endpoint, what, remedy }
}

fn tell(tried: &[Tried], service: &PlannedService, all: usize) -> Vec<Step> {
    let about = name(service);
    let (takers, out): (Vec<_>, Vec<_>) = tried.iter().partition(|tried| tried.takes);
    let well = takers.iter().filter(|taker| taker.found.is_ok()).count();
    let mut steps = Vec::new();
    if well > 0 {
        steps.push(
            Step::ok(Hop::Endpoint, format!("{well} of {all} instances of {about} take requests and answer"))
                .about(&about),
        );
    }
    let failing = takers.iter().filter_map(|taker| Some((taker, taker.found.as_ref().err()?)));
    steps.extend(failing.take(TOLD).map(|(taker, fault)| {
        Step::failed(fault.hop, format!("{}: {}", taker.name, fault.what)).about(&about).remedy(fault.remedy)
    }));
    let verdict = if takers.is_empty() { Verdict::Failed } else { Verdict::Impaired };
    steps.extend(out.iter().take(TOLD).map(|out| left_out(out, verdict).about(&about)));
    steps
}

/// An instance to which no requests go.
fn left_out(out: &Tried, verdict: Verdict) -> Step {
    let Tried { name, state, found, .. } = out;
    match found {
        Err(fault) => {
            Step::new(fault.hop, verdict, format!("{name} takes no requests: {}", fault.what)).remedy(fault.remedy)
        }
        Ok(()) => Step::new(Hop::Endpoint, verdict, format!("{name} takes no requests: {}", believed(*state)))
            .remedy("it answers now, and is back in a moment if it goes on to"),
    }
}

fn believed(state: State) -> &'static str {
    match state {
        State::Unknown => "it has not been checked yet",
        State::Well => "it has just come",
        State::Sick(Why::Unready) => "it has passed no check yet",
        State::Sick(Why::Silent) => "its checks brought no answer",
        State::Sick(Why::Connect) => "it could not be connected to",
        State::Sick(Why::Checks) => "it failed its checks",
        State::Sick(Why::Responses) => "too many requests to it failed",
    }
}

/// Why there is none.
pub(super) fn none(plan: &Plan, wanted: &Wanted) -> Step {
    let (service, cluster) = (&wanted.service, &plan.snapshot.place.cluster);
    let about = name(service);
    let step = |what: String| Step::failed(Hop::Endpoint, what).about(&about);
    let port = service.ports.get(&wanted.port);
    let plain = port.and_then(|port| port.pool(wanted.version.as_ref(), false));
    if wanted.from.is_some() && plain.is_some_and(|pool| !pool.targets.is_empty()) {
        return step(format!(
            "no instance of {about} speaks mutual TLS, as callers of other global namespaces need it"
        ))
        .remedy("give its instances certificates of the mesh, and their version tls: mesh");
    }
    if let Some(left_out) = rejected(plan, cluster, &service.service.name) {
        return Step { resource: Some(left_out.key.clone()), ..step(left_out.reason.clone()) }
            .remedy("let the instances speak as the global namespace's mtls mode wants it, or change the mode");
    }
    let version = wanted.version.as_ref().map_or_else(String::new, |version| format!(" in version {version}"));
    step(format!("{about} has no instance in cluster {cluster}{version}"))
        .remedy("start one, or correct the instances in the Service's manifest")
}

/// Whether instances of this cluster are no endpoints, for what their manifest says.
pub(super) fn are_left_out(plan: &Plan, wanted: &Wanted) -> bool {
    rejected(plan, &plan.snapshot.place.cluster, &wanted.service.service.name).is_some()
}

/// What the world says of a part of the service that cannot be served as it is written.
fn rejected<'p>(plan: &'p Plan, cluster: &Name, service: &Name) -> Option<&'p config::wire::Rejection> {
    let (before, after) = (format!("Service/{cluster}/"), format!("/{service}"));
    plan.rejected.iter().find(|rejection| rejection.key.starts_with(&before) && rejection.key.ends_with(&after))
}

/// The service, as the steps name it.
pub(super) fn name(service: &PlannedService) -> String {
    format!("service {}/{}", service.service.global_namespace, service.service.name)
}

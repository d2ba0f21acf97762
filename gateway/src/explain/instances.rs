//! Whether the instances of this cluster that requests go to answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use config::explain::{Hop, Step, Verdict};
use config::resource::{HealthProtocol, Protocol};
use decide::health::{Fault as Shown, State, Why};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::patience::{QUESTION, twice};
use crate::choose::Wanted;
use crate::health::checker::inside;
use crate::health::probe::{Checked, Found, look, speaks};
use crate::health::{InstanceHealth, Target};
use crate::plan::{Plan, PlannedService, Pool};
use crate::upstream::pool::connect;
use crate::upstream::secure::{Inside, Security};

/// No more instances are tried.
const MOST: usize = 256;
/// So many of the same kind are told of.
const TOLD: usize = 4;

/// How the instances of a pool are, and whether requests find any.
pub(super) async fn walk(plan: &Plan, wanted: &Wanted, pool: &Pool, until: Instant) -> Vec<Step> {
    let service = &wanted.service;
    let panic = service.panic.load(Ordering::Relaxed);
    let mut all: Vec<_> = pool.takers(panic).collect();
    all.sort_by_key(|(_, takes)| !takes);
    let untried = all.len().saturating_sub(MOST);
    let tried = all.into_iter().take(MOST).map(async |(target, takes)| {
        let found = attempt(service, target, until).await;
        let (health, name) = (&target.health, String::from_utf8_lossy(target.served_by.as_bytes()).into_owned());
        Tried { name, state: health.state(), takes, found: found.and_then(|()| spoken_against(health)) }
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
    /// It said nothing, which proves nothing by itself.
    silent: bool,
}

impl Fault {
    /// It answered, and wrongly.
    fn new(hop: Hop, what: impl Into<String>, remedy: &'static str) -> Self {
        Fault { hop, what: what.into(), remedy, silent: false }
    }

    fn silent(waited: Duration) -> Self {
        let what = format!("it does not answer within {} ms, asked twice", waited.as_millis());
        let remedy = "see what the instance does, and whether its machine is up";
        Fault { silent: true, ..Fault::new(Hop::Endpoint, what, remedy) }
    }
}

/// What requests show of an instance that answers whatever it is asked here.
fn spoken_against(health: &InstanceHealth) -> Result<(), Fault> {
    let remedy = "see what the instance logs of them; the first good answer to a request ends this";
    let fault = |what: String| Err(Fault::new(Hop::Endpoint, what, remedy));
    match health.streak() {
        _ if health.state() == State::Sick(Why::Responses) => {
            fault("too many requests to it failed, though it answers its checks".to_owned())
        }
        // One may have been at fault itself; and what an application answers is no matter of the way, unless it is always so.
        Some((kind, length)) if length > 1 && (kind != Shown::Error || length >= kind.limit()) => {
            fault(format!("the last {length} requests to it failed ({}), though it answers its checks", kind.code()))
        }
        _ => Ok(()),
    }
}

/// Asks an instance, and once more if it says nothing for long.
async fn attempt(service: &PlannedService, target: &Target, until: Instant) -> Result<(), Fault> {
    if matches!(target.connections.security, Security::Missing) {
        let remedy = "see that the agent runs: it certifies the gateway";
        return Err(Fault::new(Hop::Tls, "this gateway has no identity with which to dial it", remedy));
    }
    let begun = Instant::now();
    let asked = twice(until, || ask(service, target)).await;
    asked.unwrap_or_else(|| Err(Fault::silent(begun.elapsed())))
}

/// Asks in the way that requests do, and as its checks do; the same at once, where that is the same.
async fn ask(service: &PlannedService, target: &Target) -> Result<(), Fault> {
    let (connections, check) = (&target.connections, &service.service.health_check);
    let security = &connections.security;
    let secured = security.is_mutual();
    if secured {
        // So that a closed port is told from a handshake that fails.
        connect(connections.address).await.map_err(|error| unreached(&error.to_string()))?;
    }
    let checked_at = target.health.checked_at();
    let same = checked_at == Some(connections.address) && check.protocol != HealthProtocol::Tcp;
    let as_requests = async {
        let inside = spoken(target.protocol);
        let at = Checked { address: connections.address, security: security.clone(), inside };
        if same { Ok(()) } else { fault(speaks(&at, target.protocol, QUESTION).await, secured) }
    };
    let as_checks = async {
        let Some(address) = checked_at else { return Ok(()) };
        let at = Checked { address, security: security.clone(), inside: inside(&service.service) };
        fault(look(&at, check, QUESTION).await, secured)
    };
    tokio::try_join!(as_requests, as_checks).map(drop)
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
    let (hop, remedy) = match &found {
        Found::Well => return Ok(()),
        Found::Late(waited) => return Err(Fault::silent(*waited)),
        Found::Broken(error) if !secured => return Err(unreached(&error.to_string())),
        Found::Broken(_) => {
            (Hop::Tls, "give the instance a certificate of the mesh, or take tls: mesh from its version")
        }
        Found::Status(_) | Found::NotServing => (Hop::Endpoint, "mend the instance, or the healthCheck of its service"),
        Found::NoHttp => (
            Hop::Endpoint,
            "correct the protocol of the service's port, or what listens there; an instance that wants mutual TLS is of a \
             version with tls: mesh",
        ),
    };
    Err(Fault::new(hop, found.to_string(), remedy))
}

fn unreached(error: &str) -> Fault {
    let (what, remedy) = match error.contains("refused") {
        true => (
            "its port is closed: the connection is refused".to_owned(),
            "start the instance, or correct its address and port",
        ),
        false => (format!("it cannot be reached: {error}"), "see whether its machine is up, and what is between"),
    };
    Fault::new(Hop::Endpoint, what, remedy)
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
    steps.extend(failing.take(TOLD).map(|(taker, fault)| fails(taker, fault).about(&about)));
    let verdict = if takers.is_empty() { Verdict::Failed } else { Verdict::Impaired };
    steps.extend(out.iter().take(TOLD).map(|out| left_out(out, verdict).about(&about)));
    steps
}

/// An instance to which requests go. That it is silent is held against it once its own checks are of the same mind.
fn fails(taker: &Tried, fault: &Fault) -> Step {
    let what = format!("{}: {}", taker.name, fault.what);
    let step = match (fault.silent, taker.state) {
        (true, State::Well | State::Unknown) => {
            Step::unknown(fault.hop, format!("{what}; its checks have not found it silent so far"))
        }
        _ => Step::failed(fault.hop, what),
    };
    step.remedy(fault.remedy)
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
    if let Some(left_out) = service.service.left_out.first() {
        return Step { resource: Some(left_out.key.clone()), ..step(left_out.reason.clone()) }
            .remedy("let the instances speak as the global namespace's mtls mode wants it, or change the mode");
    }
    let version = wanted.version.as_ref().map_or_else(String::new, |version| format!(" in version {version}"));
    step(format!("{about} has no instance in cluster {cluster}{version}"))
        .remedy("start one, or correct the instances in the Service's manifest")
}

/// The service, as the steps name it.
pub(super) fn name(service: &PlannedService) -> String {
    format!("service {}/{}", service.service.global_namespace, service.service.name)
}

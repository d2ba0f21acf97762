//! What a request wants, and whether it may have it: clean, identified, routed. Pure but for the plan it reads.

use std::sync::Arc;
use std::time::Duration;

use config::resource::{Host, Name, TlsMode};
use config::snapshot::PublicHost;
use decide::forwarded::{self, RESTATED, Seen};
use decide::hygiene::{self, CleanHead, Framing};
use decide::trace::MARKS;
use decide::{grpc, headers};
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use identity::SpiffeId;
use pingora_http::RequestHeader;

use super::{Order, Patience, switch};
use crate::access;
use crate::choose::{Reach, Wanted};
use crate::exchange::{Door, Entry};
use crate::plan::{Peer, Plan, PlannedHost, PlannedRoute, PlannedService};
use crate::refusal::Refusal;
use crate::runtime::Core;
use crate::tunnel::metadata::{self, REPORT_PATH};
use crate::upstream::{Body, Outgoing, Path, Switch};

/// An answer's head comes within this time after the request has gone out, or not at all.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// An answer that has begun goes on within this time, or is given up. Streams that may be silent for longer should
/// say something now and then, as they must for other middle boxes.
const ANSWER_PAUSE: Duration = Duration::from_secs(300);
/// What both ends have agreed on to be a long conversation is given up after this silence.
const LONG_SILENCE: Duration = Duration::from_secs(3600);

/// What is done with a request that is admitted. Most are orders, which a box would only cost memory of their own.
#[allow(clippy::large_enum_variant)]
pub enum Admitted {
    /// It goes to a service.
    Order(Order),
    /// Its sender is sent to this URL.
    Redirect(String),
    /// A peer gateway asks how this one is, in that GNS; the peer may be of another.
    Report(Name, Option<Name>),
}

/// Where a request shall go.
struct Route<'p> {
    service: &'p Arc<PlannedService>,
    port: u16,
    version: Option<Name>,
    from: Option<Name>,
    reach: Reach,
    published: Option<Arc<PublicHost>>,
    tells_server: bool,
}

impl Route<'_> {
    fn wanted(self) -> Wanted {
        let Route { service, port, version, from, reach, published, .. } = self;
        Wanted { service: service.clone(), port, version, from, reach, published }
    }
}

/// Decides about a request by its head and its connection, and whether it has no body.
pub fn admit(
    core: &Core,
    plan: &Plan,
    (head, bodiless): (&RequestHeader, bool),
    entry: &Entry,
) -> Result<Admitted, Refusal> {
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let switch = switch::asked(head, bodiless)?;
    let clean = hygiene::check(
        &hygiene::Head {
            // What a CONNECT to a protocol asks for is what a GET would ask for (RFC 8441 section 5).
            method: if switch.is_some() { &Method::GET } else { &head.method },
            target: head.raw_path(),
            version: head.version,
            authority: if head.version == http::Version::HTTP_2 { authority } else { None },
            headers: &head.headers,
        },
        &core.settings.limits.head(&entry.door),
    )
    .map_err(|dirty| refuse_dirty(&dirty))?;
    if matches!(clean.framing, Framing::Length(bytes) if !core.settings.limits.allows_body(bytes)) {
        return Err(Refusal::BodyTooLarge);
    }
    if switch.is_some() && !matches!(clean.framing, Framing::Unsaid | Framing::Length(0)) {
        // What follows belongs to the other protocol: a length would be believed by an instance that doesn't switch.
        return Err(Refusal::Dirty("bad_upgrade"));
    }
    let route = match &entry.door {
        Door::Tunnel { global_namespace, peer } => {
            let of = peer_of(plan, entry).ok_or(Refusal::ForbiddenPeer)?;
            if clean.target.path() == REPORT_PATH && !head.headers.contains_key(metadata::SERVICE) {
                return Ok(Admitted::Report(global_namespace.clone(), of.other().cloned()));
            }
            from_peer(plan, &head.headers, (global_namespace, peer))?
        }
        Door::Mesh { .. } => from_workload(plan, entry, &clean)?,
        Door::PublicHttp | Door::PublicHttps { .. } => {
            let planned = published(plan, entry, &clean)?;
            if matches!(entry.door, Door::PublicHttp) && planned.host.mode == TlsMode::Redirect {
                if !clean.target.path().starts_with('/') {
                    return Err(Refusal::Unsupported("asterisk_unsupported"));
                }
                return Ok(Admitted::Redirect(secure_url(core, &planned.host.host, clean.target.as_str())));
            }
            from_outside(planned, clean.target.path())?
        }
    };
    let port = route.service.ports.get(&route.port).ok_or(Refusal::UnknownPort)?;
    if port.protocol.is_stream() {
        return Err(Refusal::WrongProtocol);
    }
    let outgoing = Outgoing {
        switch,
        interim: head.version != Version::HTTP_10,
        ..outgoing(core, head, entry, &clean, bodiless)?
    };
    let (tells_server, patience) = (route.tells_server, patience(head, switch));
    Ok(Admitted::Order(Order { wanted: route.wanted(), tells_server, patience, outgoing }))
}

fn refuse_dirty(dirty: &hygiene::Dirty) -> Refusal {
    match dirty.status() {
        StatusCode::URI_TOO_LONG => Refusal::TargetTooLong,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Refusal::HeadTooLarge(dirty.code()),
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => Refusal::Version,
        StatusCode::NOT_IMPLEMENTED => Refusal::Unsupported(dirty.code()),
        _ => Refusal::Dirty(dirty.code()),
    }
}

/// Calls of gRPC may be silent for as long as their callers like, and so may whatever follows a switch of protocols.
fn patience(head: &RequestHeader, switch: Option<Switch>) -> Patience {
    if head.version == Version::HTTP_2 && grpc::is_grpc(&head.headers) {
        let answer = grpc::timeout(&head.headers).unwrap_or(LONG_SILENCE).min(LONG_SILENCE);
        return Patience { answer, pause: LONG_SILENCE, paced: false };
    }
    let pause = if switch.is_some() { LONG_SILENCE } else { ANSWER_PAUSE };
    Patience { answer: ANSWER_DEADLINE, pause, paced: true }
}

/// Of which GNS the gateway at the other end of a tunnel is, as long as it may come in at all: a tunnel may outlive that.
pub fn peer_of<'p>(plan: &'p Plan, entry: &Entry) -> Option<Peer<'p>> {
    let Door::Tunnel { global_namespace, peer } = &entry.door else { return None };
    plan.peer(global_namespace, peer)
}

/// A peer gateway may only ask for services of the tunnel's GNS, in this cluster.
fn from_peer<'p>(
    plan: &'p Plan,
    headers: &HeaderMap,
    (global_namespace, peer): (&Name, &SpiffeId),
) -> Result<Route<'p>, Refusal> {
    let asked = metadata::read(headers).ok_or(Refusal::ForbiddenPeer)?;
    if asked.cluster != plan.snapshot.place.cluster.as_str() {
        return Err(Refusal::NotForHere);
    }
    let service = plan.service(global_namespace, asked.service).ok_or(Refusal::UnknownService)?;
    let from = access::peer(plan, global_namespace, peer, metadata::source(headers), &service.service)?;
    Ok(Route {
        service,
        port: asked.port,
        version: asked.version,
        from,
        reach: Reach::Here,
        published: None,
        tells_server: true,
    })
}

/// A workload may call the services of its own GNS: `cart`, `v1.cart` (a version), `south.cart` (a cluster). What there
/// is in another GNS is told only to whom it lets in.
fn from_workload<'p>(plan: &'p Plan, entry: &Entry, clean: &CleanHead<'_>) -> Result<Route<'p>, Refusal> {
    let caller = entry.door.caller();
    if caller.is_none() && plan.snapshot.caller(entry.client).is_none() {
        return Err(Refusal::UnknownCaller);
    }
    // Whoever came for a GNS is told nothing of other names.
    let unknown = if caller.is_some() { Refusal::Misdirected } else { Refusal::UnknownHost };
    let host = clean.authority.host.name().filter(|host| Host::fits(host)).ok_or(unknown)?;
    let (gns, below) = plan.snapshot.namespace_of(host).ok_or(unknown)?;
    let (part, name) = match below.rsplit_once('.') {
        Some((part, name)) => (Some(part), name),
        None => (None, below),
    };
    let (service, from) = access::workload(plan, entry, gns, plan.service(&gns.name, name))?;
    let (version, reach) = match part {
        None => (None, Reach::Everywhere),
        Some(part) => part_of(service, &plan.snapshot.place.cluster, part).ok_or(Refusal::UnknownHost)?,
    };
    Ok(Route { service, port: entry.port, version, from, reach, published: None, tells_server: true })
}

/// What stands before the service's name: one of its versions, or one of its clusters.
fn part_of(service: &PlannedService, own: &Name, part: &str) -> Option<(Option<Name>, Reach)> {
    let known = &service.service;
    let version = known.versions.keys().chain(known.remote.values().flat_map(|versions| versions.keys()));
    if let Some(version) = version.into_iter().find(|version| version.as_str() == part) {
        return Some((Some(version.clone()), Reach::Everywhere));
    }
    let mut clusters = known.remote.keys().chain((!known.versions.is_empty()).then_some(own));
    clusters.find(|cluster| cluster.as_str() == part).map(|cluster| (None, Reach::Cluster(cluster.clone())))
}

/// The published host that a request from outside is for. SNI and host must be of the same GNS.
fn published<'p>(plan: &'p Plan, entry: &Entry, clean: &CleanHead<'_>) -> Result<&'p PlannedHost, Refusal> {
    let planned = clean.authority.host.name().and_then(|name| plan.hosts.get(name));
    match &entry.door {
        Door::PublicHttps { sni } => {
            let opened_for = plan.hosts.get(sni).ok_or(Refusal::Misdirected)?;
            let over_tls =
                |planned: &&Arc<PlannedHost>| matches!(planned.host.mode, TlsMode::Https | TlsMode::Redirect);
            let planned = planned.filter(over_tls).ok_or(Refusal::Misdirected)?;
            match planned.host.global_namespace == opened_for.host.global_namespace {
                true => Ok(planned),
                false => Err(Refusal::Misdirected),
            }
        }
        _ => planned
            .map(|planned| &**planned)
            .filter(|planned| matches!(planned.host.mode, TlsMode::Http | TlsMode::Redirect))
            .ok_or(Refusal::UnknownHost),
    }
}

fn from_outside<'p>(planned: &'p PlannedHost, path: &str) -> Result<Route<'p>, Refusal> {
    let route = planned.routes.find(path, PlannedRoute::pattern).ok_or(Refusal::UnknownService)?;
    Ok(Route {
        service: route.service.as_ref().ok_or(Refusal::UnknownService)?,
        port: route.port,
        version: None,
        from: None,
        reach: Reach::Everywhere,
        published: Some(planned.host.clone()),
        tells_server: planned.host.service_info,
    })
}

fn secure_url(core: &Core, host: &Host, target: &str) -> String {
    match core.settings.https.map_or(443, |at| at.port()) {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    }
}

fn outgoing(
    core: &Core,
    head: &RequestHeader,
    entry: &Entry,
    clean: &CleanHead<'_>,
    bodiless: bool,
) -> Result<Outgoing, Refusal> {
    let body = match clean.framing {
        _ if bodiless || head.method == Method::CONNECT => Body::None,
        Framing::Length(_) => Body::Length,
        Framing::Chunked | Framing::Unsaid => Body::Open,
    };
    let authority = authority(head, clean).ok_or(Refusal::Dirty("bad_host"))?;
    let mut headers = passed_on(head, &entry.door, body);
    headers::join_cookies(&mut headers);
    // The origin gateway has said to this one what it knows of the client.
    if !matches!(entry.door, Door::Tunnel { .. }) {
        let is_https = matches!(entry.door, Door::PublicHttps { .. } | Door::Mesh { caller: Some(_) });
        let seen = Seen { peer: &entry.peer, is_https, authority: &authority };
        let trusted = &core.settings.trusted_hops;
        forwarded::restate(&mut headers, &seen, |hop| trusted.iter().any(|range| range.contains(hop)));
    }
    let method = if head.method == Method::CONNECT { Method::GET } else { head.method.clone() };
    Ok(Outgoing {
        method,
        target: Path::new(&clean.target, &head.uri),
        authority,
        headers,
        body,
        switch: None,
        interim: false,
    })
}

/// The headers that go on, with room for those that the gateway sets.
fn passed_on(head: &RequestHeader, door: &Door, body: Body) -> HeaderMap {
    let tunnelled = matches!(door, Door::Tunnel { .. });
    let length_counts = body != Body::Open && head.method != Method::CONNECT;
    headers::passed_on(&head.headers, RESTATED + MARKS, |name| match () {
        () if *name == HOST || *name == EXPECT => false,
        () if *name == CONTENT_LENGTH => length_counts,
        // Meant for this gateway.
        () if tunnelled => !metadata::OF_REQUEST.contains(name),
        () => true,
    })
}

/// In normal form; where it came so, it is not written anew.
fn authority(head: &RequestHeader, clean: &CleanHead<'_>) -> Option<HeaderValue> {
    match head.headers.get(HOST) {
        Some(host) if clean.authority.is_written(host.as_bytes()) => Some(host.clone()),
        _ => HeaderValue::from_str(&clean.authority.to_string()).ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::header::CONTENT_TYPE;

    use super::*;

    /// Elsewhere anybody could say so to be waited for for an hour.
    #[test]
    fn only_calls_on_http2_may_be_silent_for_long() {
        for (version, paced) in [(Version::HTTP_2, false), (Version::HTTP_11, true), (Version::HTTP_10, true)] {
            let mut head = RequestHeader::build("POST", b"/", None).unwrap();
            head.set_version(version);
            head.insert_header(CONTENT_TYPE, "application/grpc").unwrap();
            let patience = patience(&head, None);
            assert_eq!((patience.paced, patience.answer == ANSWER_DEADLINE), (paced, paced), "{version:?}");
        }
    }
}

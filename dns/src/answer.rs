//! What a name means. Pure: no sockets, no clock, no chance but what `turn` brings.
//!
//! A zone is the domain of a GNS, or a public host by itself; the longest that holds a name counts. A service's name
//! answers with this cluster's gateways, a public host's with gateways of the clusters that its scheme prefers.

use std::net::IpAddr;

use config::resource::{Host, Name};
use config::snapshot::{Namespace, PublicHost, Service, Snapshot};

use crate::health::Health;
use crate::select;

/// How long, in seconds, resolvers may keep what GNS names mean, and what does not exist.
pub(crate) const TTL: u32 = 5;

/// How many addresses of a public host are told at most.
const MOST_PUBLIC: usize = 4;

/// RFC 2181, section 8: a TTL has 31 bits.
const LONGEST_TTL: u32 = i32::MAX as u32;

/// What somebody wants to know, of class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    name: String,
    kind: QuestionType,
}

/// Which records are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The zone's start of authority.
    Soa,
    /// The zone's name servers.
    Ns,
    /// Whatever there is.
    Any,
    /// The whole zone, or what changed in it.
    Transfer,
    /// A type of which there never is a record here.
    Other,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These records, at least one.
    Records {
        /// What they say.
        data: Vec<Data>,
        /// How long resolvers may keep them, in seconds.
        ttl: u32,
    },
    /// The name exists, but has no such record (RFC 2308, section 2.2).
    NoData(Soa),
    /// The name does not exist (RFC 2308, section 2.1).
    NoName(Soa),
    /// The name exists, but not even the address of a sick gateway is known: better no answer than an empty one, which
    /// would be believed.
    Unknown,
    /// The name is not ours to answer, or what is asked is not for everybody.
    Refused,
}

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An A or AAAA record.
    Address(IpAddr),
    /// The zone's start of authority.
    Soa(Soa),
    /// The zone's name server is [`SERVER_LABELS`] below this.
    Ns(Host),
    /// There is more, but it has to be asked for by type (RFC 8482, section 4.2).
    Minimal,
}

/// A zone's start of authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    /// The zone's own name.
    pub apex: Host,
    /// Grows with each change.
    pub serial: u32,
}

/// Where, below a zone's apex, the name server itself has its name, unless a service has that name.
pub const SERVER_LABELS: &str = "ns.dns";

impl Question {
    /// The name in presentation form, in any case, with or without the final dot.
    pub fn new(name: impl Into<String>, kind: QuestionType) -> Self {
        let mut name = name.into();
        name.make_ascii_lowercase();
        if name.ends_with('.') {
            name.pop();
        }
        Question { name, kind }
    }
}

/// Answers a question. `server` is the address of this DNS server, where it has one that others can use; each number
/// in `turn` makes another rotation, and another draw of clusters by weight.
pub fn answer(snapshot: &Snapshot, health: &Health, question: &Question, server: Option<IpAddr>, turn: u64) -> Answer {
    let Some(zone) = Zone::of(snapshot, &question.name) else { return Answer::Refused };
    let node = zone.node(snapshot, health, &question.name, server);
    let apex = zone.below.is_empty();
    match (question.kind, node) {
        (QuestionType::Transfer, _) => Answer::Refused,
        (_, Node::Absent) => Answer::NoName(zone.soa(snapshot)),
        (QuestionType::Any, _) => one(Data::Minimal),
        (QuestionType::Soa, _) if apex => one(Data::Soa(zone.soa(snapshot))),
        (QuestionType::Ns, _) if apex && server.is_some() => one(Data::Ns(zone.apex.clone())),
        (QuestionType::A, Node::Addresses(addresses)) => addresses.answer(IpAddr::is_ipv4, turn, || zone.soa(snapshot)),
        (QuestionType::Aaaa, Node::Addresses(addresses)) => {
            addresses.answer(IpAddr::is_ipv6, turn, || zone.soa(snapshot))
        }
        _ => Answer::NoData(zone.soa(snapshot)),
    }
}

fn one(data: Data) -> Answer {
    Answer::Records { data: vec![data], ttl: TTL }
}

/// Where a name stands.
struct Zone<'s, 'q> {
    apex: &'s Host,
    /// What stands before the apex, nothing for the apex itself.
    below: &'q str,
    owner: Owner<'s>,
}

enum Owner<'s> {
    Namespace(&'s Namespace),
    PublicHost(&'s PublicHost),
}

/// What stands at a name.
enum Node<'s> {
    Addresses(Addresses<'s>),
    /// Nothing, but it exists: an apex, or something stands below it (RFC 8020).
    Empty,
    Absent,
}

/// Which addresses stand at a name.
struct Addresses<'s> {
    of: Whose<'s>,
    snapshot: &'s Snapshot,
    health: &'s Health,
}

enum Whose<'s> {
    Server(IpAddr),
    Service,
    PublicHost(&'s PublicHost),
}

impl<'s, 'q> Zone<'s, 'q> {
    fn of(snapshot: &'s Snapshot, name: &'q str) -> Option<Self> {
        suffixes(name).find_map(|(below, suffix)| {
            if let Some((apex, host)) = snapshot.public_hosts.get_key_value(suffix) {
                return Some(Zone { apex, below, owner: Owner::PublicHost(host) });
            }
            let gns = snapshot.namespaces.values().find(|gns| gns.domain.as_str() == suffix)?;
            Some(Zone { apex: &gns.domain, below, owner: Owner::Namespace(gns) })
        })
    }

    fn soa(&self, snapshot: &Snapshot) -> Soa {
        let revision = snapshot.revision;
        // Serials are compared modulo 2^32 (RFC 1982), so that the cut does no harm.
        Soa { apex: self.apex.clone(), serial: revision.global.wrapping_add(revision.agent.sequence) as u32 }
    }

    fn node(&self, snapshot: &'s Snapshot, health: &'s Health, name: &str, server: Option<IpAddr>) -> Node<'s> {
        let addresses = |of| Node::Addresses(Addresses { of, snapshot, health });
        match (&self.owner, self.below, server) {
            (Owner::PublicHost(host), "", _) => addresses(Whose::PublicHost(host)),
            (Owner::Namespace(gns), below, _) if names_service(gns, below, &snapshot.place.cluster) => {
                addresses(Whose::Service)
            }
            (_, SERVER_LABELS, Some(server)) => addresses(Whose::Server(server)),
            (_, "", _) | (_, "dns", Some(_)) => Node::Empty,
            _ if any_zone_below(snapshot, name) => Node::Empty,
            _ => Node::Absent,
        }
    }
}

impl Addresses<'_> {
    fn answer(&self, family: fn(&IpAddr) -> bool, turn: u64, soa: impl Fn() -> Soa) -> Answer {
        let (groups, most, ttl) = match self.of {
            Whose::Server(address) => (vec![vec![address]], 1, TTL),
            Whose::Service => (select::mesh(self.snapshot, self.health), usize::MAX, TTL),
            Whose::PublicHost(host) => {
                (select::public(self.snapshot, self.health, host, turn), MOST_PUBLIC, seconds(host))
            }
        };
        if groups.is_empty() {
            return Answer::Unknown;
        }
        let data: Vec<_> = select::interleave(groups, family, turn, most).into_iter().map(Data::Address).collect();
        if data.is_empty() { Answer::NoData(soa()) } else { Answer::Records { data, ttl } }
    }
}

fn seconds(host: &PublicHost) -> u32 {
    u32::try_from(host.ttl.duration().as_secs()).unwrap_or(LONGEST_TTL).min(LONGEST_TTL)
}

/// Each suffix of whole labels, the longest first, with what stands before it.
fn suffixes(name: &str) -> impl Iterator<Item = (&str, &str)> {
    let below_first = name.match_indices('.').filter_map(|(dot, _)| Some((name.get(..dot)?, name.get(dot + 1..)?)));
    std::iter::once(("", name)).chain(below_first)
}

/// Whether this is a service of the GNS (`cart`), or one of its versions or clusters (`v1.cart`, `north.cart`).
fn names_service(gns: &Namespace, below: &str, here: &Name) -> bool {
    match below.rsplit_once('.') {
        None => gns.services.contains_key(below),
        Some((part, service)) => gns.services.get(service).is_some_and(|service| names_part(service, part, here)),
    }
}

fn names_part(service: &Service, part: &str, here: &Name) -> bool {
    let is_here = here.as_str() == part && !service.versions.is_empty();
    is_here
        || service.versions.contains_key(part)
        || service.remote.contains_key(part)
        || service.remote.values().any(|versions| versions.contains_key(part))
}

/// Whether the name is one of those between a zone and another that stands below it.
fn any_zone_below(snapshot: &Snapshot, name: &str) -> bool {
    let stands_below = |apex: &Host| apex.as_str().strip_suffix(name).is_some_and(|below| below.ends_with('.'));
    let mut domains = snapshot.namespaces.values().map(|gns| &gns.domain);
    domains.any(stands_below) || snapshot.public_hosts.keys().any(stands_below)
}

#[cfg(test)]
mod tests;

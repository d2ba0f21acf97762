//! Why a request gets through, or doesn't: what data planes are asked, and the steps that they answer. Pure data; who
//! answers is `gateway/src/explain/` and `dns/src/explain.rs`, and the controller joins the parts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::resource::Name;
use crate::wire::RevisionPair;

/// What a data plane is asked. It answers out of its own plan and by its own probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Question {
    /// A DNS server: what does the name mean?
    Name {
        /// In presentation form.
        name: String,
        /// The port on which the answered addresses are tried.
        port: u16,
    },
    /// The gateway that a request reaches first: what becomes of it?
    Request(Asked),
    /// A gateway of the cluster that shall deliver a request: what becomes of it there?
    Tunnelled(Tunnelled),
    /// A gateway: which step towards the gateways of another cluster fails?
    #[serde(rename_all = "camelCase")]
    Peering {
        /// The other cluster.
        cluster: Name,
        /// So long the answer is waited for, in milliseconds. Who asks without it, as earlier releases do, waits for less
        /// than a second.
        #[serde(default = "soon")]
        within_ms: u64,
    },
    /// What a newer release asks.
    #[serde(other)]
    Unknown,
}

/// For how long earlier releases wait for the answer to a question about peering, in milliseconds.
fn soon() -> u64 {
    750
}

/// A request that nobody sends: only its head counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// As HTTP has it.
    pub method: String,
    /// How the gateway is spoken to.
    pub scheme: Scheme,
    /// What stands in `Host`, with its port if one was written.
    pub authority: String,
    /// Path and query, as they were written.
    pub target: String,
    /// The port that is called.
    pub port: u16,
    /// Who calls.
    pub caller: Caller,
}

impl Asked {
    /// Of a URL, of which no more is judged than is needed to know where it leads: the rest is for gateways to refuse.
    ///
    /// # Errors
    /// When it is no URL of HTTP.
    pub fn of(method: &str, url: &str, caller: Caller) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| UrlError::Scheme(url.to_owned()))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::Scheme(url.to_owned())),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (host, port) = split(authority);
        let port = match port {
            Some(port) => port.parse().map_err(|_| UrlError::Port(port.to_owned()))?,
            None => scheme.default_port(),
        };
        if host.is_empty() {
            return Err(UrlError::NoHost(url.to_owned()));
        }
        Ok(Asked { method: method.to_owned(), scheme, authority: authority.to_owned(), target, port, caller })
    }

    /// The host alone, in lower case.
    pub fn host(&self) -> String {
        split(&self.authority).0.trim_end_matches('.').to_ascii_lowercase()
    }
}

/// Host and port of an authority (RFC 3986 section 3.2).
fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Why a URL cannot be asked about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum UrlError {
    #[error("{0:?} is no URL of HTTP: begin it with http:// or https://")]
    Scheme(String),
    #[error("{0:?} names no host")]
    NoHost(String),
    #[error("{0:?} is no port: it is a number from 0 to 65535")]
    Port(String),
}

/// From where a request is asked about: a service of a cluster, or an address in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The cluster.
    pub cluster: Name,
    /// Who there.
    pub who: Who,
}

/// Who calls, in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A service, in this namespace if one is named.
    Service(Option<Name>, Name),
    /// Whoever has this address.
    Address(IpAddr),
}

/// A text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nowhere in the mesh: write CLUSTER/SERVICE, CLUSTER/NAMESPACE/SERVICE or CLUSTER/ADDRESS")]
pub struct OriginError(String);

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let wrong = || OriginError(text.to_owned());
        let name = |part: &str| part.parse::<Name>().map_err(|_| wrong());
        let (cluster, who) = text.split_once('/').ok_or_else(wrong)?;
        let who = match (who.parse(), who.split_once('/')) {
            (Ok(address), _) => Who::Address(address),
            (Err(_), Some((namespace, service))) => Who::Service(Some(name(namespace)?), name(service)?),
            (Err(_), None) => Who::Service(None, name(who)?),
        };
        Ok(Origin { cluster: name(cluster)?, who })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Service(Some(namespace), service) => write!(f, "{}/{namespace}/{service}", self.cluster),
            Who::Service(None, service) => write!(f, "{}/{service}", self.cluster),
            Who::Address(address) => write!(f, "{}/{address}", self.cluster),
        }
    }
}

/// How a gateway is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// In plain text.
    Http,
    /// Over TLS: by a workload, with its certificate of the mesh.
    Https,
}

impl Scheme {
    /// As URLs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that a URL means which names none.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Caller {
    /// Somebody outside the mesh.
    Outside,
    /// An instance of a service of the gateway's own cluster.
    #[serde(rename_all = "camelCase")]
    Service {
        /// Its GNS, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        global_namespace: Option<Name>,
        /// Its namespace, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<Name>,
        /// The service.
        service: Name,
        /// From where it calls, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
    },
    /// Whoever calls from this address, in the gateway's own cluster.
    Address(IpAddr),
}

/// What a gateway is asked in a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnelled {
    /// The request.
    pub method: String,
    /// What stands in `Host`.
    pub authority: String,
    /// Path and query, in normal form.
    pub target: String,
    /// The GNS whose service is called.
    pub global_namespace: Name,
    /// The service.
    pub service: Name,
    /// The service's port.
    pub port: u16,
    /// The version, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Name>,
    /// The SPIFFE ID that the origin gateway shows.
    pub peer: String,
    /// Who called, as a SPIFFE ID, where that is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What a data plane answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// What it acts on.
    pub at: RevisionPair,
    /// What it found, in the order of the way.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// A DNS server: the addresses that the name has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// A DNS server: those of them that take no connections on the port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<IpAddr>,
    /// A DNS server: those of the closed ones that only said nothing in time, which proves nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<IpAddr>,
    /// A gateway: where else the request may go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub onward: Vec<Onward>,
}

/// A cluster through whose gateways a request may go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Onward {
    /// The cluster.
    pub cluster: Name,
    /// Those of its gateways that may get the request.
    pub gateways: Vec<Name>,
    /// Whether requests go there now.
    pub taken: bool,
    /// What they are to be asked.
    pub question: Tunnelled,
}

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which.
    pub hop: Hop,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, for people.
    pub what: String,
    /// What it is about: the resource behind it (`PublicService/shop/web`), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Who says so: `CLUSTER/MEMBER`, or the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The steps of the way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hop {
    /// What the name means.
    Dns,
    /// The process itself: whether it is there, and acts on what was applied.
    Member,
    /// The port on which the request comes in.
    Listener,
    /// Who speaks TLS there, with which certificate.
    Tls,
    /// Whether the request's head is clean.
    Request,
    /// Which service is meant.
    Route,
    /// Whether it may be called.
    Access,
    /// The way to another cluster.
    Tunnel,
    /// The instances.
    Endpoint,
    /// Whether a peer says that it lives.
    Health,
    /// A step that this release doesn't know.
    #[serde(other)]
    Other,
}

impl Hop {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Hop::Dns => "dns",
            Hop::Member => "member",
            Hop::Listener => "listener",
            Hop::Tls => "tls",
            Hop::Request => "request",
            Hop::Route => "route",
            Hop::Access => "access",
            Hop::Tunnel => "tunnel",
            Hop::Endpoint => "endpoint",
            Hop::Health => "health",
            Hop::Other => "other",
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a step, or a whole way, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Requests get through.
    Ok,
    /// Requests get through, because what is broken is left out.
    Impaired,
    /// Requests fail.
    Failed,
    /// Nobody can tell. Never healthy.
    #[serde(other)]
    Unknown,
}

impl Verdict {
    /// The worse of the two: what fails is worse than what nobody knows.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        if other.severity() > self.severity() { other } else { self }
    }

    fn severity(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Impaired => 1,
            Verdict::Unknown => 2,
            Verdict::Failed => 3,
        }
    }

    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Impaired => "impaired",
            Verdict::Unknown => "unknown",
            Verdict::Failed => "failed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Step {
    /// A step that was found so.
    pub fn new(hop: Hop, verdict: Verdict, what: impl Into<String>) -> Self {
        Step { hop, verdict, what: what.into(), resource: None, remedy: None, by: None }
    }

    /// One that requests pass.
    pub fn ok(hop: Hop, what: impl Into<String>) -> Self {
        Step::new(hop, Verdict::Ok, what)
    }

    /// One at which requests fail.
    pub fn failed(hop: Hop, what: impl Into<String>) -> Self {
        Step::new(hop, Verdict::Failed, what)
    }

    /// One of which nobody can tell.
    pub fn unknown(hop: Hop, what: impl Into<String>) -> Self {
        Step::new(hop, Verdict::Unknown, what)
    }

    /// It is about this resource.
    #[must_use]
    pub fn about(self, resource: impl fmt::Display) -> Self {
        Step { resource: Some(resource.to_string()), ..self }
    }

    /// This is what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Step { remedy: Some(remedy.into()), ..self }
    }

    /// This one says so.
    #[must_use]
    pub fn by(self, who: impl fmt::Display) -> Self {
        Step { by: Some(who.to_string()), ..self }
    }
}

/// The whole of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether requests get through.
    pub verdict: Verdict,
    /// All that was found, in the order of the way.
    pub steps: Vec<Step>,
}

impl Explanation {
    /// Of these steps: it is as the worst of them, and unknown where there is none.
    pub fn of(steps: Vec<Step>) -> Self {
        let verdict = steps.iter().map(|step| step.verdict).reduce(Verdict::and).unwrap_or(Verdict::Unknown);
        Explanation { verdict, steps }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_never_healthy() {
        assert_eq!(Explanation::of(vec![]).verdict, Verdict::Unknown);
        let steps = |verdicts: &[Verdict]| verdicts.iter().map(|verdict| Step::new(Hop::Route, *verdict, "")).collect();
        use Verdict::{Failed, Impaired, Ok, Unknown};
        for (verdicts, expected) in
            [([Ok, Ok], Ok), ([Ok, Impaired], Impaired), ([Impaired, Unknown], Unknown), ([Failed, Unknown], Failed)]
        {
            assert_eq!(Explanation::of(steps(&verdicts)).verdict, expected, "{verdicts:?}");
        }
    }

    #[test]
    fn what_a_newer_release_says_is_unknown_here() {
        let step: Step = serde_json::from_value(json!({"hop": "moon", "verdict": "shiny", "what": "x"})).unwrap();
        assert_eq!((step.hop, step.verdict), (Hop::Other, Verdict::Unknown));
        let question: Question = serde_json::from_value(json!({"kind": "weather", "where": "here"})).unwrap();
        assert_eq!(question, Question::Unknown);
    }

    #[test]
    fn of_a_url_only_where_it_leads_is_judged() {
        let asked = |url| Asked::of("GET", url, Caller::Outside);
        let parts = |url| asked(url).map(|asked| (asked.scheme, asked.host(), asked.port, asked.target));
        let (http, https) = (Scheme::Http, Scheme::Https);
        assert_eq!(parts("http://A.example"), Ok((http, "a.example".into(), 80, "/".into())));
        assert_eq!(parts("https://a.example:8443/x y%zz#z"), Ok((https, "a.example".into(), 8443, "/x y%zz#z".into())));
        assert_eq!(parts("http://[::1]:80?q"), Ok((http, "[::1]".into(), 80, "/?q".into())));
        assert_eq!(asked("ftp://a").unwrap_err(), UrlError::Scheme("ftp://a".into()));
        assert_eq!(asked("http:///x").unwrap_err(), UrlError::NoHost("http:///x".into()));
        assert_eq!(asked("http://a:70000/").unwrap_err(), UrlError::Port("70000".into()));
    }

    #[test]
    fn an_origin_is_a_service_or_an_address() {
        for text in ["north/cart", "north/shop/cart", "north/192.0.2.1", "north/2001:db8::1"] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
        for wrong in ["", "north", "north/", "/cart", "north/a/b/c", "North/cart"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn questions_survive_the_wire() {
        let south = "south".parse::<Name>().unwrap();
        let asked = Asked {
            method: "GET".into(),
            scheme: Scheme::Http,
            authority: "cart.shop.internal".into(),
            target: "/".into(),
            port: 80,
            caller: Caller::Service { global_namespace: None, namespace: None, service: south.clone(), address: None },
        };
        for question in [Question::Request(asked), Question::Peering { cluster: south, within_ms: 4_500 }] {
            let said = serde_json::to_value(&question).unwrap();
            assert_eq!(serde_json::from_value::<Question>(said.clone()).unwrap(), question, "{said}");
        }
    }
}

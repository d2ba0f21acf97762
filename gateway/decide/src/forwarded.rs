//! Who asked, and through which hops: `X-Forwarded-For`, `-Proto` and `-Host`, set by us, and believed only from hops that
//! are trusted.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authority::Authority;
use crate::headers;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// More hops than that are no honest way.
const LONGEST_WAY: usize = 16;

/// Who opened a connection, and how that is told: the same for each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    address: IpAddr,
    text: HeaderValue,
}

impl Peer {
    /// By its address.
    pub fn new(address: IpAddr) -> Self {
        // Addresses make no bad header value.
        let text = HeaderValue::from_str(&address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Peer { address, text }
    }
}

/// What the connection and the clean head show by themselves.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Who opened the connection.
    pub peer: &'a Peer,
    /// Whether it is encrypted.
    pub is_https: bool,
    /// The request's authority, in normal form.
    pub authority: &'a HeaderValue,
}

/// What a trusted peer told, as far as it is believed.
#[derive(Default)]
struct Told {
    /// The hops before the peer, the nearest first.
    way: Vec<IpAddr>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

/// How many headers [`restate`] sets.
pub const RESTATED: usize = 3;

/// Replaces all that the sender [claims](headers::claims) by what is known, and returns the client's address.
///
/// A trusted peer's account is continued: its hops are read from the nearest on, and the first that isn't trusted is the
/// client. What stands beyond could be anybody's invention, and goes. `Forwarded` (RFC 7239) is read where there is no
/// `X-Forwarded-For`, and never passed on: one account only.
pub fn restate(headers: &mut HeaderMap, seen: &Seen<'_>, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let told = if is_trusted(seen.peer.address) { Told::by(headers, &is_trusted) } else { Told::default() };
    headers::strip_claims(headers);
    let own = HeaderValue::from_static(if seen.is_https { "https" } else { "http" });
    headers.insert(FOR, written(&told.way, seen.peer));
    headers.insert(PROTO, told.proto.unwrap_or(own));
    headers.insert(HOST, told.host.unwrap_or_else(|| seen.authority.clone()));
    told.way.last().copied().unwrap_or(seen.peer.address)
}

impl Told {
    fn by(headers: &HeaderMap, is_trusted: &impl Fn(IpAddr) -> bool) -> Self {
        let parts = |name| headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let way = match headers.contains_key(FOR) {
            true => follow(parts(FOR).rev().map(address), is_trusted),
            false => follow(parts(FORWARDED).rev().map(address_in), is_trusted),
        };
        let proto = single(headers, &PROTO).filter(|proto| *proto == "http" || *proto == "https");
        let host = single(headers, &HOST).filter(|host| Authority::parse(host.as_bytes()).is_ok());
        Told { way, proto: proto.cloned(), host: host.cloned() }
    }
}

/// Goes back along the claimed way, as long as whoever claims the next hop is trusted. A hop that is no address
/// (`unknown`, RFC 7239 section 6) ends it.
fn follow(hops: impl Iterator<Item = Option<IpAddr>>, is_trusted: &impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let mut way = Vec::new();
    for hop in hops.take(LONGEST_WAY).map_while(|hop| hop) {
        way.push(hop);
        if !is_trusted(hop) {
            break;
        }
    }
    way
}

/// The hop of an element of `Forwarded`.
fn address_in(element: &[u8]) -> Option<IpAddr> {
    let mut pairs = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| pair.split_at_checked(4).filter(|(name, _)| name.eq_ignore_ascii_case(b"for=")));
    value.and_then(|(_, value)| address(value))
}

/// `1.2.3.4`, `::1`, `[::1]`, each perhaps with a port, perhaps quoted.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|at| at.ip());
    bare.parse().ok().or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The farthest first, the peer last.
fn written(way: &[IpAddr], peer: &Peer) -> HeaderValue {
    if way.is_empty() {
        return peer.text.clone();
    }
    let mut text = String::new();
    for hop in way.iter().rev() {
        // Writing into a string does not fail.
        _ = write!(text, "{hop}, ");
    }
    _ = write!(text, "{}", peer.address);
    HeaderValue::from_str(&text).unwrap_or_else(|_| peer.text.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    /// What is told after these claims, where 10.0.0.0/8 is trusted: for, proto, host.
    fn told(peer: &str, claims: &[(&'static str, &str)]) -> [String; 3] {
        let mut headers = HeaderMap::new();
        for (name, value) in claims {
            headers.append(*name, value.parse().unwrap());
        }
        let peer = Peer::new(peer.parse().unwrap());
        let seen = Seen { peer: &peer, is_https: true, authority: &HeaderValue::from_static("shop") };
        restate(&mut headers, &seen, |ip| ip.to_string().starts_with("10."));
        assert_eq!(headers.len(), RESTATED, "{headers:?}");
        [FOR, PROTO, HOST].map(|name| headers[name].to_str().unwrap().to_owned())
    }

    #[test]
    fn strangers_are_not_believed() {
        let claims = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "10.0.0.1"),
        ];
        assert_eq!(told("192.0.2.1", &claims), ["192.0.2.1", "https", "shop"]);
        assert_eq!(told("2001:db8::1", &[]), ["2001:db8::1", "https", "shop"]);
    }

    #[test]
    fn a_trusted_hop_is_believed_as_far_as_trust_goes() {
        let way = |claims: &[(&'static str, &str)]| told("10.0.0.9", claims)[0].clone();
        assert_eq!(way(&[]), "10.0.0.9");
        assert_eq!(way(&[("x-forwarded-for", "192.0.2.1")]), "192.0.2.1, 10.0.0.9");
        assert_eq!(way(&[("x-forwarded-for", "evil, 8.8.8.8,192.0.2.1 , 10.0.0.8")]), "192.0.2.1, 10.0.0.8, 10.0.0.9");
        assert_eq!(way(&[("x-forwarded-for", "8.8.8.8"), ("x-forwarded-for", "192.0.2.1")]), "192.0.2.1, 10.0.0.9");
        assert_eq!(way(&[("x-forwarded-for", "192.0.2.1, unknown, 10.0.0.8")]), "10.0.0.8, 10.0.0.9");
        assert_eq!(way(&[("x-forwarded-for", "[2001:db8::1]:80")]), "2001:db8::1, 10.0.0.9");
        assert_eq!(way(&[("forwarded", "for=8.8.8.8, proto=http;For=\"[2001:db8::1]:80\"")]), "2001:db8::1, 10.0.0.9");
        assert_eq!(way(&[("forwarded", "for=_hidden")]), "10.0.0.9");
    }

    #[test]
    fn protocol_and_host_are_believed_if_they_make_sense() {
        let of =
            |proto: &str, host: &str| told("10.0.0.9", &[("x-forwarded-proto", proto), ("x-forwarded-host", host)]);
        assert_eq!(of("http", "Shop.example:8443"), ["10.0.0.9", "http", "Shop.example:8443"]);
        assert_eq!(of("gopher", "a/b"), ["10.0.0.9", "https", "shop"]);
        assert_eq!(told("10.0.0.9", &[("x-forwarded-host", "a"), ("x-forwarded-host", "b")])[2], "shop");
    }

    proptest! {
        #[test]
        fn the_nearest_hop_is_always_the_peer(claim in "[0-9a-f.:,\\[\\]\" ]{0,60}", peer in any::<[u8; 4]>()) {
            let peer = IpAddr::from(peer).to_string();
            let [way, ..] = told(&peer, &[("x-forwarded-for", &claim), ("forwarded", &claim)]);
            prop_assert_eq!(way.rsplit(", ").next().unwrap(), peer);
            prop_assert!(way.split(", ").all(|hop| hop.parse::<IpAddr>().is_ok()));
        }
    }
}

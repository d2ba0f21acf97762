//! Headers that must not pass the gateway: those for one hop only, and those by which a client would speak for us.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// RFC 9110 section 7.6.1; and `Proxy`, which CGI programs take for a setting (httpoxy).
static HOP_BY_HOP: [HeaderName; 11] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("http2-settings"),
];

/// RFC 9110 section 6.5.1.
const NOT_IN_TRAILERS: [&str; 33] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authorization",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
];

/// The headers present that are for this hop only: the well-known ones, and those that `Connection` names (RFC 9110
/// section 7.6.1). `Content-Length` and `Host` never are: a client could name them to change what the next hop sees.
///
/// `TE` is among them even if it says `trailers`; see [`accepts_trailers`].
pub fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let well_known = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned();
    let named = named(headers).filter(|name| headers.contains_key(*name));
    well_known.chain(named.filter_map(|name| name.parse().ok())).collect()
}

/// What `Connection` names, in any case, and fit for a name or not.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let names = tokens(headers, &CONNECTION).filter_map(|token| str::from_utf8(token).ok());
    names.filter(|name| ![CONTENT_LENGTH, HOST].iter().any(|kept| name.eq_ignore_ascii_case(kept.as_str())))
}

/// Whether the sender takes trailers (`TE: trailers`, RFC 9110 section 10.1.4). gRPC depends on it.
pub fn accepts_trailers(headers: &HeaderMap) -> bool {
    names(headers, &TE, "trailers")
}

/// Removes from a trailer section what must stand before the body or nowhere (RFC 9110 section 6.5.1): what frames or
/// routes the message, what changes how it is taken, who it is from, how its content is read, and [`claims`]. Servers that
/// merge trailers into the head would act on it after every check was made.
pub fn strip_from_trailers(trailers: &mut HeaderMap) {
    remove(trailers, hop_by_hop(trailers));
    remove(trailers, claims(trailers));
    let forbidden = |name: &&HeaderName| NOT_IN_TRAILERS.iter().any(|known| resembles(name.as_str(), known));
    let names = trailers.keys().filter(forbidden).cloned().collect();
    remove(trailers, names);
}

/// A copy of a request's headers with room for so many `more`: without [`hop_by_hop`], but with `TE: trailers`, and
/// without what isn't `wanted`. Who passes on a WebSocket sets `Connection` and `Upgrade` anew afterwards, for that
/// protocol alone (never `h2c`, which would hide requests from the gateway); our own headers, too, are set afterwards,
/// out of reach of what `Connection` names.
pub fn passed_on(headers: &HeaderMap, more: usize, wanted: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    // More than a map can have never came in one.
    let mut passed = HeaderMap::try_with_capacity(headers.len() + more).unwrap_or_default();
    for (name, value) in headers.iter().filter(|(name, _)| !HOP_BY_HOP.contains(name) && wanted(name)) {
        passed.append(name, value.clone());
    }
    for name in named(headers) {
        passed.remove(name);
    }
    if accepts_trailers(headers) {
        passed.insert(TE, HeaderValue::from_static("trailers"));
    }
    passed
}

/// How other proxies tell who asked. And two by which some frameworks let a proxy say that another path is meant: they
/// would lead past every rule about paths.
const CLAIMS: [&str; 8] = [
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-url",
    "x-rewrite-url",
];

/// The headers present by which a sender claims an identity or a way that the request came: `Forwarded` (RFC 7239),
/// `X-Forwarded-*`, `X-Real-IP` and the like, and Tombolo's own, which only tunnels may carry. Look-alikes count too
/// (`X_Forwarded_For`): many servers read them as the real ones.
pub fn claims(headers: &HeaderMap) -> Vec<HeaderName> {
    headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect()
}

/// Removes [`claims`].
pub fn strip_claims(headers: &mut HeaderMap) {
    remove(headers, claims(headers));
}

/// Joins the fields into which an HTTP/2 client may split its cookies (RFC 9113 section 8.2.3): servers of HTTP/1.1
/// expect one, and many read only the first.
pub fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = || headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    if crumbs().nth(1).is_none() {
        return;
    }
    // Each was a header value, and so is what they make with a separator that is fit for one.
    if let Ok(cookies) = HeaderValue::from_bytes(&crumbs().collect::<Vec<_>>().join(b"; ".as_slice())) {
        headers.insert(COOKIE, cookies);
    }
}

fn is_claim(name: &str) -> bool {
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| resembles(start, prefix));
    let known = CLAIMS.iter().any(|claim| resembles(name, claim));
    known || name == FORWARDED.as_str() || starts("x-forwarded-") || starts("tombolo-")
}

/// Whether a server that takes other characters for dashes could read one for the other. `expected` is lower case, as
/// all names in a [`HeaderMap`] are.
pub(crate) fn resembles(name: &str, expected: &str) -> bool {
    let alike = |(is, should): (u8, u8)| is == should || (should == b'-' && !is.is_ascii_alphanumeric());
    name.len() == expected.len() && name.bytes().zip(expected.bytes()).all(alike)
}

/// Whether a list of tokens has this one, in any case.
pub fn names(headers: &HeaderMap, list: &HeaderName, token: &str) -> bool {
    tokens(headers, list).any(|other| other.eq_ignore_ascii_case(token.as_bytes()))
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let values = headers.get_all(name).into_iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn remove(headers: &mut HeaderMap, names: Vec<HeaderName>) {
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.iter().map(pair).collect()
    }

    fn present(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let mut headers = map(&[("cookie", "a=1")]);
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn one_hops_headers_stay_on_it() {
        let mut headers = map(&[
            ("connection", "Close, X-Secret ,content-length"),
            ("connection", "te, host, no name, "),
            ("te", "gzip;q=0.5, Trailers"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("host", "a"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-status", "kept"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        let passed = passed_on(&headers, 0, |name| name != "accept");
        assert_eq!(present(&passed), ["content-length", "host", "proxy-status", "te"]);
        assert_eq!(passed.get(TE), Some(&HeaderValue::from_static("trailers")));
        let names = hop_by_hop(&headers);
        remove(&mut headers, names);
        assert_eq!(present(&headers), ["accept", "content-length", "host", "proxy-status"]);
    }

    #[test]
    fn what_passes_keeps_its_order_and_has_room() {
        let headers = map(&[("x-b", "1"), ("connection", "close"), ("x-a", "2"), ("x-b", "3")]);
        let passed = passed_on(&headers, 20, |_| true);
        let fields: Vec<_> = passed.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x-b", b"1".as_slice()), ("x-b", b"3"), ("x-a", b"2")]);
        assert!(passed.capacity() >= 22);
    }

    #[test]
    fn trailers_say_nothing_about_what_came_before_them() {
        let mut trailers = map(&[
            ("grpc-status", "0"),
            ("x-checksum", "1"),
            ("content-length", "3"),
            ("transfer_encoding", "chunked"),
            ("host", "b"),
            ("authorization", "x"),
            ("set-cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("tombolo-service", "x"),
            ("connection", "x-listed"),
            ("x-listed", "1"),
        ]);
        strip_from_trailers(&mut trailers);
        assert_eq!(present(&trailers), ["grpc-status", "x-checksum"]);
    }

    #[test]
    fn nothing_to_remove_costs_nothing() {
        assert_eq!(hop_by_hop(&map(&[("accept", "*/*")])).capacity(), 0);
        assert_eq!(claims(&map(&[("accept", "*/*")])).capacity(), 0);
    }

    #[test]
    fn claims_and_their_look_alikes_go() {
        let mut headers = map(&[
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_proto", "https"),
            ("x-forwarded.host", "evil"),
            ("x-real-ip", "1.2.3.4"),
            ("x_real_ip", "1.2.3.4"),
            ("true-client-ip", "1.2.3.4"),
            ("x_original_url", "/admin"),
            ("x-rewrite-url", "/admin"),
            ("tombolo-source", "spiffe://shop/x"),
            ("tombolo_refusal", "x"),
            ("x-forwarder", "kept"),
            ("tombolo", "kept"),
            ("via", "kept"),
        ]);
        strip_claims(&mut headers);
        assert_eq!(present(&headers), ["tombolo", "via", "x-forwarder"]);
    }
}

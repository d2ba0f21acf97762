#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

type Field = (&'static str, &'static str);

fn map(fields: &[Field]) -> HeaderMap {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn verdict(version: Version, target: &str, authority: Option<&str>, fields: &[Field]) -> Result<Clean, Dirty> {
    let (headers, authority) = (map(fields), authority.map(str::as_bytes));
    let head = Head { method: &Method::GET, target: target.as_bytes(), version, authority, headers: &headers };
    check(&head, &Limits::default()).map(CleanHead::into_owned)
}

type Clean = CleanHead<'static>;

fn framed(fields: &[Field]) -> Result<Framing, Dirty> {
    let headers = map(fields);
    fields::check(Version::HTTP_11, &headers)?;
    framing::framing(Version::HTTP_11, &headers)
}

fn fields_fault(version: Version, fields: &[Field]) -> Option<Dirty> {
    fields::check(version, &map(fields)).err()
}

fn host_of(clean: Result<Clean, Dirty>) -> Result<String, Dirty> {
    clean.map(|clean| clean.authority.to_string())
}

#[test]
fn one_framing_only() {
    assert_eq!(framed(&[]), Ok(Framing::Unsaid));
    assert_eq!(framed(&[("content-length", "42")]), Ok(Framing::Length(42)));
    assert_eq!(framed(&[("transfer-encoding", "Chunked")]), Ok(Framing::Chunked));
    let both = [("content-length", "1"), ("transfer-encoding", "chunked")];
    assert_eq!(framed(&both), Err(Dirty::TwoFramings));
    assert_eq!(framed(&[("content-length", "1"), ("content-length", "1")]), Err(Dirty::ContentLength));
    for length in ["", "1, 1", "+1", "-1", "0x1", "1 ", "1.0", "99999999999999999999"] {
        assert_eq!(framed(&[("content-length", length)]), Err(Dirty::ContentLength), "{length:?}");
    }
    assert_eq!(framed(&[("transfer-encoding", "chunked"); 2]), Err(Dirty::TransferEncoding));
    for coding in ["", "gzip", "gzip, chunked", "chunked, chunked", "chunked, identity", "chunked;x", "xchunked"] {
        assert_eq!(framed(&[("transfer-encoding", coding)]), Err(Dirty::TransferEncoding), "{coding:?}");
    }
    for name in ["transfer_encoding", "content_length", "transfer.encoding", "content~length"] {
        assert_eq!(framed(&[(name, "1")]), Err(Dirty::LookAlike), "{name}");
    }
}

#[test]
fn chunked_is_for_http_1_1_only() {
    let chunked = map(&[("transfer-encoding", "chunked")]);
    for version in [Version::HTTP_10, Version::HTTP_2] {
        assert_eq!(framing::framing(version, &chunked), Err(Dirty::TransferEncoding));
    }
    for version in [Version::HTTP_09, Version::HTTP_3] {
        assert_eq!(framing::framing(version, &HeaderMap::new()), Err(Dirty::Version));
    }
}

#[test]
fn exactly_one_authority() {
    let (v1, v2) = (Version::HTTP_11, Version::HTTP_2);
    let host = |host| [("host", host)];
    assert_eq!(host_of(verdict(v1, "/", None, &host("Shop.example:80"))), Ok("shop.example:80".into()));
    assert_eq!(host_of(verdict(v1, "/", None, &[])), Err(Dirty::HostMissing));
    assert_eq!(host_of(verdict(v1, "/", None, &[("host", "a"); 2])), Err(Dirty::HostRepeated));
    assert_eq!(host_of(verdict(v1, "/", None, &host("a, b"))), Err(Dirty::Authority(crate::authority::BadAuthority)));
    assert_eq!(host_of(verdict(v2, "/", Some("A"), &[])), Ok("a".into()));
    assert_eq!(host_of(verdict(v2, "/", Some("a"), &host("A"))), Ok("a".into()));
    assert_eq!(host_of(verdict(v2, "/", Some("a"), &host("b"))), Err(Dirty::AuthorityMismatch));
    assert_eq!(host_of(verdict(v2, "/", Some("a"), &host("a:1"))), Err(Dirty::AuthorityMismatch));
    assert_eq!(host_of(verdict(v2, "/", None, &host("a"))), Ok("a".into()));
}

#[test]
fn the_absolute_form_agrees_with_host() {
    let get = |version, target, fields: &[Field]| {
        verdict(version, target, None, fields).map(|clean| clean.target.as_str().to_owned())
    };
    let host = [("host", "shop")];
    let v1 = Version::HTTP_11;
    assert_eq!(get(v1, "http://shop", &host), Ok("/".into()));
    assert_eq!(get(v1, "HTTP://SHOP/x/../y?z", &host), Ok("/y?z".into()));
    assert_eq!(get(v1, "https://shop?z=/", &host), Ok("/?z=/".into()));
    assert_eq!(get(v1, "http://other/", &host), Err(Dirty::AuthorityMismatch));
    assert_eq!(get(v1, "http://shop@other/", &host), Err(Dirty::Authority(crate::authority::BadAuthority)));
    assert_eq!(get(v1, "http://shop/", &[]), Err(Dirty::HostMissing));
    assert_eq!(get(Version::HTTP_10, "http://shop/", &[]), Ok("/".into()));
    for target in ["ftp://shop/", "shop/x", "shop:80", "*", "", "http:/shop"] {
        assert_eq!(get(v1, target, &host), Err(Dirty::Target(BadTarget::Form)), "{target}");
    }
    assert_eq!(get(Version::HTTP_2, "http://shop/", &host), Err(Dirty::Target(BadTarget::Form)));
}

#[test]
fn methods_with_their_own_targets() {
    let headers = map(&[("host", "a")]);
    let path = |method: &str, target: &str| {
        let (method, version) = (method.parse().unwrap(), Version::HTTP_11);
        let head = Head { method: &method, target: target.as_bytes(), version, authority: None, headers: &headers };
        check(&head, &Limits::default()).map(|clean| clean.target.path().to_owned())
    };
    assert_eq!(path("OPTIONS", "*"), Ok("*".into()));
    assert_eq!(path("CONNECT", "a:443"), Err(Dirty::Connect));
    assert_eq!(path("TRACE", "/"), Err(Dirty::Trace));
    for method in ["get", "Get", "connect", "trace", "gET"] {
        assert_eq!(path(method, "/"), Err(Dirty::Method), "{method}");
    }
    for method in ["PURGE", "M-SEARCH", "X_1"] {
        assert_eq!(path(method, "/"), Ok("/".into()), "{method}");
    }
}

#[test]
fn http_2_has_no_fields_of_a_connection() {
    for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"] {
        assert_eq!(fields_fault(Version::HTTP_2, &[(name, "x")]), Some(Dirty::ConnectionHeader), "{name}");
        assert_eq!(fields_fault(Version::HTTP_11, &[(name, "x")]), None, "{name}");
    }
    assert_eq!(fields_fault(Version::HTTP_2, &[("te", "Trailers")]), None);
    for te in ["gzip", "trailers, gzip", "trailers;q=1", ""] {
        assert_eq!(fields_fault(Version::HTTP_2, &[("te", te)]), Some(Dirty::ConnectionHeader), "{te}");
    }
    assert_eq!(fields_fault(Version::HTTP_2, &[("te", "trailers"), ("te", "gzip")]), Some(Dirty::ConnectionHeader));
}

#[test]
fn values_are_visible() {
    for value in [" a", "a ", "\ta"] {
        assert_eq!(fields_fault(Version::HTTP_2, &[("x", value)]), Some(Dirty::HeaderValue), "{value:?}");
    }
    assert_eq!(fields_fault(Version::HTTP_2, &[("x", "a b\tc")]), None);
}

#[test]
fn names_are_tokens() {
    for byte in 0..=u8::MAX {
        let Ok(name) = HeaderName::from_bytes(&[b'x', byte, b'y']) else { continue };
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("z"))]);
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(fields::check(Version::HTTP_11, &headers).is_ok(), is_token, "{byte}");
    }
}

#[test]
fn what_may_stand_once_does() {
    for name in ["authorization", "content-type", "range", "content-range", "expect"] {
        assert_eq!(fields_fault(Version::HTTP_11, &[(name, "a"); 2]), Some(Dirty::Repeated), "{name}");
        assert_eq!(fields_fault(Version::HTTP_11, &[(name, "a")]), None, "{name}");
    }
    assert_eq!(fields_fault(Version::HTTP_11, &[("cookie", "a=1"), ("cookie", "b=2"), ("accept", "*/*")]), None);
}

#[test]
fn each_limit_has_its_reason() {
    let headers = map(&[("host", "a"), ("x", "1"), ("x", "2")]);
    let head =
        Head { method: &Method::GET, target: b"/12", version: Version::HTTP_11, authority: None, headers: &headers };
    let exact = Limits { target_bytes: 3, header_bytes: 21, header_count: 3 };
    assert!(check(&head, &exact).is_ok());
    let fault = |limits| check(&head, &limits).map(|_| ()).unwrap_err();
    assert_eq!(fault(Limits { target_bytes: 2, ..exact }).status().as_u16(), 414);
    assert_eq!(fault(Limits { header_bytes: 20, ..exact }), Dirty::HeaderBytes { limit: 20 });
    assert_eq!(fault(Limits { header_count: 2, ..exact }).status().as_u16(), 431);
}

/// How some server might frame a request: which names it takes for which, which of several values it believes, and
/// which header wins.
#[derive(Debug, Clone, Copy)]
struct Lenient {
    dashes_only: bool,
    first: bool,
    length_wins: bool,
}

impl Lenient {
    fn framing(self, fields: &[Field]) -> Framing {
        let value = |wanted: &str| {
            let is = |name: &str| if self.dashes_only { name == wanted } else { name.replace('_', "-") == wanted };
            let mut values = fields.iter().filter(|(name, _)| is(name)).flat_map(|(_, value)| value.split(','));
            if self.first { values.next() } else { values.next_back() }
        };
        let length = value("content-length").and_then(|v| v.trim().trim_start_matches('+').parse().ok());
        let chunked = value("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
        match (length, chunked) {
            (Some(length), false) => Framing::Length(length),
            (Some(length), true) if self.length_wins => Framing::Length(length),
            (_, true) => Framing::Chunked,
            (None, false) => Framing::Unsaid,
        }
    }

    fn all() -> impl Iterator<Item = Lenient> {
        let bit = |n: u8, place: u8| n >> place & 1 == 1;
        (0..8).map(move |n| Lenient { dashes_only: bit(n, 0), first: bit(n, 1), length_wins: bit(n, 2) })
    }
}

proptest! {
    #[test]
    fn what_passes_is_one_request_to_every_server(
        fields in prop::collection::vec((
            prop::sample::select(vec!["content-length", "content_length", "transfer-encoding", "transfer_encoding", "x"]),
            prop::sample::select(vec!["1", "2", "+1", "1,2", "", "chunked", "gzip", "gzip, chunked", "chunked,gzip", "\u{b}chunked"]),
        ), 0..4),
    ) {
        let valid: Vec<Field> = fields.into_iter().filter(|(_, value)| HeaderValue::from_str(value).is_ok()).collect();
        let Ok(ours) = framed(&valid) else { return Ok(()) };
        for server in Lenient::all() {
            prop_assert_eq!(server.framing(&valid), ours, "{:?} {:?}", server, valid);
        }
    }

    #[test]
    fn nothing_panics(
        target in prop::collection::vec(any::<u8>(), 0..30),
        authority in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        method in "[A-Z]{1,8}",
        fields in prop::collection::vec(("[a-z_-]{1,20}", prop::collection::vec(any::<u8>(), 0..20)), 0..6),
        old in any::<bool>(),
    ) {
        let field = |(name, value): &(String, Vec<u8>)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(value).ok()?))
        };
        let headers: HeaderMap = fields.iter().filter_map(field).collect();
        let method: Method = method.parse().unwrap();
        let version = if old { Version::HTTP_11 } else { Version::HTTP_2 };
        let head = Head { method: &method, target: &target, version, authority: authority.as_deref(), headers: &headers };
        let _ = check(&head, &Limits::default());
    }
}

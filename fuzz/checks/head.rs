//! A request's head: what passes is one request to everybody.

use decide::headers;
use decide::hygiene::{self, Framing, Head, Limits};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

/// A line each: the method, the target, the version's digit (or `:authority`, for HTTP/2), then `name:value`.
pub fn check(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, target, last) = (line(), line(), line());
    let Ok(method) = Method::from_bytes(method) else { return };
    let (version, authority) = match last {
        b"0" => (Version::HTTP_10, None),
        b"1" => (Version::HTTP_11, None),
        b"9" => (Version::HTTP_09, None),
        b"" => (Version::HTTP_2, None),
        authority => (Version::HTTP_2, Some(authority)),
    };
    let headers: HeaderMap = lines.filter_map(field).collect();
    let head = Head { method: &method, target, version, authority, headers: &headers };
    let Ok(clean) = hygiene::check(&head, &Limits::default()) else { return };

    let lengths: Vec<_> = headers.get_all("content-length").iter().collect();
    let codings: Vec<_> = headers.get_all("transfer-encoding").iter().collect();
    match clean.framing {
        Framing::Unsaid => assert!(lengths.is_empty() && codings.is_empty()),
        Framing::Length(length) => {
            assert!(lengths.len() == 1 && codings.is_empty());
            assert_eq!(lengths[0].to_str().expect("digits").parse(), Ok(length));
        }
        Framing::Chunked => assert!(lengths.is_empty() && codings.len() == 1 && version == Version::HTTP_11),
    }
    let names = |name: &HeaderName| name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let framing = headers.keys().filter(|name| ["content-length", "transfer-encoding"].contains(&&*names(name)));
    assert!(framing.count() <= 1, "only one name can be taken for framing: {headers:?}");
    assert!(headers.get_all("host").iter().count() <= 1);
    assert!(clean.target.path().starts_with('/') || clean.target.path() == "*");
    let _ = clean.into_owned();

    let mut passed = headers::passed_on(&headers, 0, |_| true);
    headers::join_cookies(&mut passed);
    headers::strip_claims(&mut passed);
    assert!(headers::claims(&passed).is_empty() && passed.get_all("cookie").iter().count() <= 1);
    assert!(["connection", "upgrade", "keep-alive", "proxy-connection"].iter().all(|name| !passed.contains_key(*name)));
    assert_eq!(passed.contains_key("content-length"), headers.contains_key("content-length"));
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(&line[colon + 1..]).ok()?))
}

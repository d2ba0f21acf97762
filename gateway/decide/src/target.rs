//! Request targets (RFC 9112 section 3.2, RFC 3986): one normal form, which is both matched and forwarded, so that no
//! disguise of a path passes a policy.

use std::borrow::Cow;

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// A space, a control byte, or a byte outside ASCII, which must be percent-encoded (RFC 3986 section 2).
    #[error("the target contains a space, a control byte or a byte outside ASCII; percent-encode it")]
    RawByte,
    /// A fragment is never sent (RFC 9110 section 7.1).
    #[error("the target contains a fragment (#); leave it out")]
    Fragment,
    /// A `%` without two hexadecimal digits after it (RFC 3986 section 2.1).
    #[error("the path contains a % without two hexadecimal digits; write %25 for the character itself")]
    Escape,
    /// `\`, `%5C`, `%2F`, an encoded control byte, or UTF-8 longer than it must be (`%C0%AF`): servers differ in whether
    /// these separate or end what stands around them.
    #[error(
        "the path contains a backslash, or an encoded slash, backslash, control byte or overlong character, which \
         servers read differently"
    )]
    Ambiguous,
    /// `..` beyond the first segment (RFC 3986 section 5.2.4 drops it silently; only attacks write it).
    #[error("the path leads above its root")]
    AboveRoot,
    /// `.;x`, `..;x`, or `;x` within the path: some servers drop the parameters first, and then see a dot segment or an
    /// empty one.
    #[error("the path contains a dot or empty segment with parameters, which servers read differently")]
    DotParameters,
    /// Neither a path, nor a URL with the scheme `http` or `https`, nor `*` for OPTIONS.
    #[error("the target is neither a path nor an http or https URL")]
    Form,
}

/// A target in normal form, as it is matched and forwarded.
///
/// The path starts with `/` (or is `*`, for OPTIONS only), has no segment `.`, `..` or empty but for the last, is ASCII,
/// with unreserved characters plain and all others than RFC 3986's `pchar` percent-encoded in upper case. Reserved
/// characters stay as they came, plain or encoded, since the two may differ in meaning (RFC 3986 section 2.2). The query
/// is kept byte for byte.
///
/// Parameters (`;x=y`) are forwarded, but not matched: many servers drop them before they look for what is asked, so
/// that `/admin;x` must go the way of `/admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    text: Cow<'a, str>,
    path_len: usize,
    /// The path without parameters, where it has some.
    bare: Option<String>,
}

impl<'a> Target<'a> {
    /// The asterisk-form, `*` (RFC 9112 section 3.2.4).
    pub(crate) const ASTERISK: Target<'static> = Target { text: Cow::Borrowed("*"), path_len: 1, bare: None };

    /// Reads the origin-form, `/path?query` (RFC 9112 section 3.2.1). Allocates only when the path isn't normal yet.
    pub fn parse(target: &'a [u8]) -> Result<Self, BadTarget> {
        let text = visible(target)?;
        let (path, query) = match text.find('?') {
            Some(end) => text.split_at(end),
            None => (text, ""),
        };
        if is_normal(path) {
            return Ok(Target { text: Cow::Borrowed(text), path_len: path.len(), bare: None });
        }
        let mut normal = normalise(path)?;
        let (path_len, bare) = (normal.len(), without_parameters(&normal));
        normal.push_str(query);
        // The quick look above leaves paths to the slow one that then turn out to be normal.
        let text = if normal == text { Cow::Borrowed(text) } else { Cow::Owned(normal) };
        Ok(Target { text, path_len, bare })
    }

    /// What is matched: the path without parameters.
    pub fn path(&self) -> &str {
        self.bare.as_deref().or_else(|| self.text.get(..self.path_len)).unwrap_or_default()
    }

    /// What follows the `?`, if there is one.
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_len..)?.strip_prefix('?')
    }

    /// What is forwarded: the path, and the query with its `?`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this differs from what the client sent.
    pub fn is_changed(&self) -> bool {
        matches!(self.text, Cow::Owned(_))
    }

    /// The same without the borrow.
    pub fn into_owned(self) -> Target<'static> {
        Target { text: Cow::Owned(self.text.into_owned()), path_len: self.path_len, bare: self.bare }
    }
}

/// The target as text: visible ASCII, without a fragment.
fn visible(target: &[u8]) -> Result<&str, BadTarget> {
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(BadTarget::RawByte);
    }
    if target.contains(&b'#') {
        return Err(BadTarget::Fragment);
    }
    std::str::from_utf8(target).map_err(|_| BadTarget::RawByte)
}

/// A quick look that may say no of a normal path, but never yes of another.
fn is_normal(path: &str) -> bool {
    let plain = path.bytes().all(|byte| !matches!(byte, b'%' | b';') && is_path_byte(byte));
    plain && path.starts_with('/') && !path.contains("//") && !path.contains("/.")
}

/// The normal form of a path, to be matched with patterns that are normal too.
pub fn normalise(path: &str) -> Result<String, BadTarget> {
    if !path.starts_with('/') {
        return Err(BadTarget::Form);
    }
    let decoded = decode(path)?;
    let mut normal = String::with_capacity(decoded.len());
    let mut segments = decoded.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" | "." => {}
            ".." => normal.truncate(normal.rfind('/').ok_or(BadTarget::AboveRoot)?),
            _ if hides_dots(segment, segments.peek().is_none()) => return Err(BadTarget::DotParameters),
            _ => normal.extend(["/", segment]),
        }
    }
    if ["/", "/.", "/.."].iter().any(|end| decoded.ends_with(end)) {
        normal.push('/');
    }
    Ok(normal)
}

/// Whether the segment would be one that normalisation takes away, were it not for its parameters. An empty last one is
/// harmless: `/;x` is the root with parameters.
fn hides_dots(segment: &str, is_last: bool) -> bool {
    match name_of(segment) {
        "." | ".." => true,
        "" => !is_last,
        _ => false,
    }
}

/// The segment without its parameters. An encoded separator counts too: some servers decode first.
fn name_of(segment: &str) -> &str {
    let end = SEPARATORS.iter().filter_map(|separator| segment.find(separator)).min();
    end.and_then(|end| segment.get(..end)).unwrap_or(segment)
}

/// The path without its segments' parameters, if it has any.
fn without_parameters(path: &str) -> Option<String> {
    let has_some = SEPARATORS.iter().any(|separator| path.contains(separator));
    has_some.then(|| path.split('/').map(name_of).collect::<Vec<_>>().join("/"))
}

/// What separates a segment from its parameters, in normal form.
const SEPARATORS: [&str; 2] = [";", "%3B"];

/// Decodes what needs no encoding, and encodes what does (RFC 3986 section 6.2.2).
fn decode(path: &str) -> Result<String, BadTarget> {
    let mut decoded = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    let mut last = 0;
    while let Some(byte) = bytes.next() {
        let (value, was_encoded) = match byte {
            b'%' => (escaped(&mut bytes)?, true),
            plain => (plain, false),
        };
        match value {
            b'\\' => return Err(BadTarget::Ambiguous),
            b'/' if was_encoded => return Err(BadTarget::Ambiguous),
            _ if value.is_ascii_control() || is_overlong(last, value) => return Err(BadTarget::Ambiguous),
            _ if is_unreserved(value) || (!was_encoded && is_path_byte(value)) => decoded.push(char::from(value)),
            _ => decoded.push_str(&format!("%{value:02X}")),
        }
        last = value;
    }
    Ok(decoded)
}

/// Whether these begin a character in more bytes than it needs (RFC 3629 section 3): a careless decoder makes a slash or
/// a dot of it.
fn is_overlong(first: u8, second: u8) -> bool {
    matches!((first, second), (_, 0xC0 | 0xC1) | (0xE0, 0x80..=0x9F) | (0xF0, 0x80..=0x8F))
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, BadTarget> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    let value = digit().and_then(|high| Some(high * 16 + digit()?));
    value.and_then(|value| u8::try_from(value).ok()).ok_or(BadTarget::Escape)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What may stand plainly in a path: RFC 3986 section 3.3, `pchar` and the slash.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@/".contains(&byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn path(target: &str) -> String {
        Target::parse(target.as_bytes()).unwrap().path().to_owned()
    }

    fn fault(target: &str) -> BadTarget {
        Target::parse(target.as_bytes()).unwrap_err()
    }

    #[test]
    fn disguises_are_taken_off() {
        assert_eq!(path("/"), "/");
        assert_eq!(path("/%61dmin"), "/admin");
        assert_eq!(path("//admin///x"), "/admin/x");
        assert_eq!(path("/public/../admin"), "/admin");
        assert_eq!(path("/public/%2e%2E/admin"), "/admin");
        assert_eq!(path("/./admin/."), "/admin/");
        assert_eq!(path("/a/b/.."), "/a/");
        assert_eq!(path("/a/.."), "/");
        assert_eq!(path("/a%c3%a9|"), "/a%C3%A9%7C");
        assert_eq!(path("/%252e%252e/x"), "/%252e%252e/x");
        assert_eq!(path("/.well-known/...;x"), "/.well-known/...");
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        for target in
            ["/a%2fb", "/a%5Cb", "/a\\b", "/a%00", "/%0d%0a", "/%7f", "/%c0%ae", "/%e0%80%af", "/%f0%80%80%af"]
        {
            assert_eq!(fault(target), BadTarget::Ambiguous, "{target}");
        }
        for target in ["/..", "/a/../..", "/%2e%2e/a", "//..", "/./.."] {
            assert_eq!(fault(target), BadTarget::AboveRoot, "{target}");
        }
        for target in ["/a/..;/b", "/.;x", "/a/%2e.%3bx", "/;x/a", "/a/%3b/b", "/..;a%3Bb"] {
            assert_eq!(fault(target), BadTarget::DotParameters, "{target}");
        }
        for target in ["/%", "/%4", "/%4g", "/%+1", "/%%34%31"] {
            assert_eq!(fault(target), BadTarget::Escape, "{target}");
        }
        for target in ["/a b", "/a\r\nb", "/é", "/?é", "/a\0", "/?a\tb"] {
            assert_eq!(fault(target), BadTarget::RawByte, "{target:?}");
        }
        assert_eq!(fault("/a#b"), BadTarget::Fragment);
        assert_eq!(fault("/?a#b"), BadTarget::Fragment);
        assert_eq!(["", "*", "a/b", "?x"].map(fault), [BadTarget::Form; 4]);
    }

    #[test]
    fn parameters_are_forwarded_but_not_matched() {
        for (target, matched) in [
            ("/admin;x=1", "/admin"),
            ("/a;x/b;y;z?q;r", "/a/b"),
            ("/;jsessionid=1", "/"),
            ("/a/;x", "/a/"),
            ("/a%3bx", "/a"),
        ] {
            assert_eq!(path(target), matched, "{target}");
        }
        let target = Target::parse(b"/a;x/b?q;r").unwrap();
        assert_eq!((target.as_str(), target.query(), target.is_changed()), ("/a;x/b?q;r", Some("q;r"), false));
    }

    #[test]
    fn the_query_is_kept() {
        let target = Target::parse(b"/a/../b?x=%zz/../%61?\\").unwrap();
        assert_eq!((target.path(), target.query()), ("/b", Some("x=%zz/../%61?\\")));
        assert_eq!(target.as_str(), "/b?x=%zz/../%61?\\");
        assert!(target.is_changed() && !Target::parse(b"/b?").unwrap().is_changed());
        assert_eq!(Target::parse(b"/b?").unwrap().query(), Some(""));
        assert_eq!(Target::parse(b"/b").unwrap().query(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_come_out_normal(target in tricky()) {
            let Ok(parsed) = Target::parse(&target) else { return Ok(()) };
            let path = parsed.path();
            prop_assert!(path.starts_with('/') && path.bytes().all(is_path_byte_or_escape));
            let segments: Vec<&str> = path.split('/').collect();
            let inner = segments.iter().skip(1).take(segments.len().saturating_sub(2));
            prop_assert!(inner.clone().all(|segment| !segment.is_empty()), "{}", path);
            prop_assert!(segments.iter().all(|segment| !matches!(*segment, "." | "..")), "{}", path);
            prop_assert!(!["%2F", "%5C", "%0", "%1", ";"].iter().any(|part| path.contains(part)), "{}", path);
        }

        #[test]
        fn normalisation_is_idempotent(target in tricky()) {
            let Ok(once) = Target::parse(&target) else { return Ok(()) };
            let twice = Target::parse(once.as_str().as_bytes()).unwrap();
            prop_assert_eq!(twice.as_str(), once.as_str());
            prop_assert_eq!((twice.path(), twice.is_changed()), (once.path(), false));
            prop_assert_eq!(normalise(once.path()).unwrap(), once.path());
        }

        /// Whatever a careless server makes of what is forwarded, it is what was matched, with parameters at most.
        #[test]
        fn no_disguise_passes_a_rule(target in tricky()) {
            let Ok(parsed) = Target::parse(&target) else { return Ok(()) };
            for server in Careless::all() {
                let seen = server.path(parsed.as_str());
                prop_assert_eq!(resolved(&bare(&seen)), resolved(&plain(parsed.path())), "{:?}", server);
            }
        }
    }

    /// How some server might find out what is asked for: in which order it decodes, drops parameters and resolves dots,
    /// and whether it is Windows.
    #[derive(Debug, Clone, Copy)]
    struct Careless {
        decodes_first: bool,
        dots_first: bool,
        backslashes: bool,
    }

    impl Careless {
        fn path(self, target: &str) -> String {
            let mut path = target.split('?').next().unwrap().to_owned();
            if self.decodes_first {
                path = plain(&path);
            }
            if self.dots_first {
                path = resolved(&path);
            }
            path = bare(&path);
            if !self.decodes_first {
                path = plain(&path);
            }
            if self.backslashes {
                path = path.replace('\\', "/");
            }
            resolved(&path)
        }

        fn all() -> impl Iterator<Item = Careless> {
            let bit = |n: u8, place: u8| n >> place & 1 == 1;
            (0..8).map(move |n| Careless { decodes_first: bit(n, 0), dots_first: bit(n, 1), backslashes: bit(n, 2) })
        }
    }

    fn bare(path: &str) -> String {
        path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/")
    }

    /// Percent-decoded; what cannot be is kept.
    fn plain(path: &str) -> String {
        let mut out = String::new();
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) => {
                    out.push(char::from(byte));
                    rest = &after[2..];
                }
                None => {
                    out.push('%');
                    rest = after;
                }
            }
        }
        out + rest
    }

    fn resolved(path: &str) -> String {
        let mut kept: Vec<&str> = Vec::new();
        for segment in path.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(kept.pop()),
                _ => kept.push(segment),
            }
        }
        kept.join("/")
    }

    fn is_path_byte_or_escape(byte: u8) -> bool {
        byte == b'%' || is_path_byte(byte)
    }

    /// Bytes that are made of what matters here, now and then of anything.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            8 => prop::sample::select(vec![
                "/", ".", "..", "%2e", "%2F", "%", "a", "Z", ";", "%3b", "?", "%41", "|", "//", "%5c", "\\", "%c0", "%ae", ";x",
            ])
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(part, 0..14).prop_map(|parts| [b"/".to_vec(), parts.concat()].concat())
    }
}

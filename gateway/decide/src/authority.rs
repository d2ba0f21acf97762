//! Who is asked: the authority of a request (RFC 3986 section 3.2, RFC 9110 section 7.2).

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host name or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A DNS name: lower case, without a final dot, labels of letters, digits, `-` and `_`.
    Name(Cow<'a, str>),
    /// An IPv4 address, or an IPv6 address (in brackets on the wire).
    Address(IpAddr),
}

/// A host, and a port where one is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port, at least 1.
    pub port: Option<u16>,
}

/// A text that isn't an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the authority is not HOST or HOST:PORT")]
pub struct BadAuthority;

impl<'a> Authority<'a> {
    /// Reads `host` or `host:port`. User information is refused (RFC 9110 section 4.2.4), and so is an empty port.
    /// Allocates only when the name has upper-case letters.
    pub fn parse(text: &'a [u8]) -> Result<Self, BadAuthority> {
        let text = std::str::from_utf8(text).map_err(|_| BadAuthority)?;
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(parse_port(port)?)),
            _ => (text, None),
        };
        Ok(Authority { host: Host::parse(host)?, port })
    }

    /// Whether the text is its normal form.
    pub fn is_written(&self, text: &[u8]) -> bool {
        let mut rest = Rest(text);
        write!(rest, "{self}").is_ok() && rest.0.is_empty()
    }

    /// The same without the borrow.
    pub fn into_owned(self) -> Authority<'static> {
        let host = match self.host {
            Host::Name(name) => Host::Name(Cow::Owned(name.into_owned())),
            Host::Address(address) => Host::Address(address),
        };
        Authority { host, port: self.port }
    }
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Result<Self, BadAuthority> {
        if let Some(literal) = text.strip_prefix('[') {
            let literal = literal.strip_suffix(']').ok_or(BadAuthority)?;
            let address = literal.parse::<Ipv6Addr>().map_err(|_| BadAuthority)?;
            return Ok(Host::Address(IpAddr::V6(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if ends_in_number(name) {
            let address = text.parse::<Ipv4Addr>().map_err(|_| BadAuthority)?;
            return Ok(Host::Address(IpAddr::V4(address)));
        }
        match name.len() <= 253 && name.split('.').all(is_label) {
            true if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Ok(Host::Name(Cow::Owned(name.to_ascii_lowercase())))
            }
            true => Ok(Host::Name(Cow::Borrowed(name))),
            false => Err(BadAuthority),
        }
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }
}

fn parse_port(text: &str) -> Result<u16, BadAuthority> {
    // `parse` would take a sign, too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or(BadAuthority)
}

/// Such a name is an IPv4 address or nothing: some parsers take `127.1` or `0x7f.1` for one.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number(last) || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A label as DNS servers and certificates have it; underscores are common in names of machines.
fn is_label(label: &str) -> bool {
    let well = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(well) && !label.starts_with('-') && !label.ends_with('-')
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// What is left of a text, off whose front what is written is taken. Anything else is an error.
struct Rest<'a>(&'a [u8]);

impl Write for Rest<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(part.as_bytes()).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_authorities_have_one_form() {
        for (text, form) in [
            ("Shop.Example.COM", "shop.example.com"),
            ("shop.example.com.:8443", "shop.example.com:8443"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[0:0::1]", "[::1]"),
            ("[::FFFF]:443", "[::ffff]:443"),
            ("a_b", "a_b"),
        ] {
            let authority = Authority::parse(text.as_bytes()).unwrap();
            assert_eq!(authority.to_string(), form);
            assert!(authority.is_written(form.as_bytes()) && !authority.is_written(b""));
            assert_eq!(authority.is_written(text.as_bytes()), text == form);
            assert!(!authority.is_written((form.to_owned() + "0").as_bytes()));
        }
        assert!(matches!(Authority::parse(b"shop:1").unwrap().host, Host::Name(Cow::Borrowed("shop"))));
    }

    #[test]
    fn bad_authorities_are_refused() {
        let bad = [
            "",
            ".",
            "a..b",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:80:80",
            "u@a",
            "a/b",
            "a b",
            "a,b",
            "127.1",
            "0x7f.0x1",
            "1.2.3.4.",
            "256.1.1.1",
            "::1",
            "[::1",
            "[::1%25eth0]",
            "[::1]x",
            "[1.2.3.4]",
            "é",
            "-a",
            "a-",
            "*.a",
            "a%2eb",
            "a\0",
            "a:8 0",
        ];
        for text in bad {
            assert!(Authority::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_form_of_what_passes_is_a_fixed_point(text in "[aA0.:\\[\\]-]{0,10}") {
            let Ok(once) = Authority::parse(text.as_bytes()) else { return Ok(()) };
            let form = once.to_string();
            prop_assert_eq!(Authority::parse(form.as_bytes()).unwrap(), once);
        }

        #[test]
        fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Authority::parse(&text);
        }
    }
}

//! Version 1: a line of text (section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Addresses, Header, Malformed};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, its end included, in bytes.
const LONGEST_LINE: usize = 107;

pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let window = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err(Malformed::TooLong) };
    };
    let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Malformed::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
    let said = line.strip_prefix("PROXY ").ok_or(Malformed::Line)?;
    Ok(Some((Header { addresses: addresses(said)?, extras: Vec::new() }, end + 1)))
}

fn addresses(said: &str) -> Result<Option<Addresses>, Malformed> {
    // What follows UNKNOWN must be ignored.
    if said == "UNKNOWN" || said.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    let words: Vec<&str> = said.split(' ').collect();
    match words.as_slice() {
        ["TCP4", from, to, from_port, to_port] => between::<Ipv4Addr>([from, to], [from_port, to_port]).map(Some),
        ["TCP6", from, to, from_port, to_port] => between::<Ipv6Addr>([from, to], [from_port, to_port]).map(Some),
        _ => Err(Malformed::Line),
    }
}

fn between<Ip: FromStr + Into<IpAddr>>(ips: [&str; 2], ports: [&str; 2]) -> Result<Addresses, Malformed> {
    let [from, to] = ips.map(|ip| ip.parse::<Ip>().map(Into::into).map_err(|_| Malformed::Addresses));
    let [from_port, to_port] = ports.map(port);
    Ok(Addresses { source: SocketAddr::new(from?, from_port?), destination: SocketAddr::new(to?, to_port?) })
}

/// A decimal number without a sign or leading zeros.
fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text == "0" || text.bytes().next().is_some_and(|first| (b'1'..=b'9').contains(&first));
    text.parse().ok().filter(|_| plain).ok_or(Malformed::Addresses)
}
